"""Servers that misbehave: each ill-behaved answer, and what it ends in."""

import asyncio
import gzip
import socket
import ssl
import threading
import traceback
import zlib

import pytest
from support.raw import (
    RawServer,
    after,
    drips,
    hangs_up,
    resets,
    response,
    says,
    says_for_ever,
    says_then_waits,
)
from support.sending import send, with_client

from huey_patient.errors import (
    ConnectFailed,
    InvalidResponse,
    RequestError,
    RequestTimeout,
    ResponseTooLarge,
    TLSFailed,
)
from huey_patient.request import Request

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
OVERLONG = b"x" * 40_000

NOT_HTTP = {
    "a bad status line": b"HTTP/1.1 OK 200\r\n\r\n",
    "HTTP/0.9": b"hello there\r\n\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two lengths that differ": HEAD + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "a negative length": HEAD + b"Content-Length: -3\r\n\r\nabc",
    "a length that is no number": HEAD + b"Content-Length: many\r\n\r\nabc",
    "a length and chunks": HEAD
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a header line beyond all limits": HEAD + b"X: " + OVERLONG + b"\r\nContent-Length: 0\r\n\r\n",
    "a thousand headers": HEAD + b"X: y\r\n" * 1_000 + b"Content-Length: 0\r\n\r\n",
    "a status of 99": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "a status of 999": b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 20x OK\r\nContent-Length: 0\r\n\r\n",
    "a switch of protocols unasked": (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    ),
    "garbage between chunks": CHUNKED + b"3\r\nabcGARBAGE\r\n0\r\n\r\n",
    "a chunk size that is no number": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "a chunk size beyond all numbers": CHUNKED + b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n",
}

CUT_OFF = {
    "a body shorter than its length": HEAD + b"Content-Length: 10\r\n\r\nabc",
    "a chunk that is not whole": CHUNKED + b"a\r\nabc",
    "chunks without an end": CHUNKED + b"3\r\nabc\r\n",
}


@pytest.mark.parametrize("fault", NOT_HTTP)
def test_an_answer_that_is_not_http_is_an_invalid_response(fault):
    with RawServer(says(NOT_HTTP[fault])) as server:
        with pytest.raises(InvalidResponse) as caught:
            send(Request("GET", server.url))

    assert len(server.requests) == 1
    assert caught.value.kind == "invalid_response"


@pytest.mark.parametrize("fault", CUT_OFF)
def test_a_body_cut_off_is_a_broken_connection_and_not_sent_again(fault):
    with RawServer(says(CUT_OFF[fault])) as server:
        with pytest.raises(ConnectFailed, match="before the body was complete"):
            send(Request("GET", server.url))

    assert len(server.requests) == 1


def test_a_reset_within_the_body_is_a_broken_connection():
    with RawServer(after(resets, HEAD + b"Content-Length: 10\r\n\r\nabc")) as server:
        with pytest.raises(ConnectFailed):
            send(Request("GET", server.url, retries=0))


@pytest.mark.parametrize("script", [hangs_up, resets, says(b"HTTP/1.1 200 OK\r\nX-Half")])
def test_no_answer_at_all_is_a_broken_connection(script):
    with RawServer(script) as server:
        with pytest.raises(ConnectFailed) as caught:
            send(Request("GET", server.url, retries=0))

    assert caught.value.kind == "connection"
    assert caught.value.attempts == 1


def test_a_refused_connection_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(ConnectFailed, match="refused") as caught:
        send(Request("GET", f"http://127.0.0.1:{port}/", retries=0))

    assert caught.value.kind == "connection"


def test_a_connection_that_is_never_made_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        # A full backlog leaves further connections without an answer.
        filled = [socket.socket() for _ in range(8)]
        for one in filled:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        with pytest.raises(RequestTimeout, match="connecting"):
            send(
                Request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", retries=0),
                connection_timeout=0.1,
            )
        for one in filled:
            one.close()


def test_a_name_that_does_not_exist_is_a_failed_connection():
    with pytest.raises(ConnectFailed, match="could not be resolved"):
        send(Request("GET", "http://does-not-exist.invalid/", retries=0))


@pytest.mark.parametrize(
    "script",
    [
        says_then_waits(b""),
        says_then_waits(HEAD + b"X-Slow: "),
        says_then_waits(HEAD + b"Content-Length: 10\r\n\r\nabc"),
    ],
    ids=["silence", "half a head", "half a body"],
)
def test_a_server_that_never_comes_to_an_end_meets_the_deadline(script):
    with RawServer(script) as server:
        with pytest.raises(RequestTimeout):
            send(Request("GET", server.url, timeout=0.2))
        assert server.closed.acquire(timeout=10)


@pytest.mark.parametrize(
    "script",
    [
        drips(HEAD + b"X: ", b"x"),
        drips(HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
        drips(CHUNKED, b"1\r\nx\r\n"),
    ],
    ids=["a head", "a body", "chunks"],
)
def test_an_answer_that_drips_byte_by_byte_meets_the_deadline(script):
    with RawServer(script) as server:
        with pytest.raises(RequestTimeout):
            send(Request("GET", server.url, timeout=0.3))
        assert server.closed.acquire(timeout=10)


def test_a_server_that_does_not_read_meets_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(RequestTimeout):
            send(Request("POST", url, body=b"x" * 20_000_000, timeout=0.2))


@pytest.mark.parametrize(
    "head",
    [HEAD + b"Content-Length: 0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"],
    ids=["beyond its length", "on 204"],
)
def test_bytes_after_an_answer_reach_no_other_request(head):
    stray = b"HTTP/1.1 200 OK\r\nX-Stray: yes\r\nContent-Length: 0\r\n\r\n"
    with RawServer(says(head + stray, keep=True), says(response(b"own"))) as server:

        async def use(client):
            outcomes = await asyncio.gather(
                client.send(Request("GET", server.url), request_id="a"), return_exceptions=True
            )
            outcomes.append(await client.send(Request("GET", server.url), request_id="b"))
            return outcomes

        first, second = with_client(use)

    # The first is answered or an error, as the packets fall; the second is its own.
    assert isinstance(first, RequestError) or first.content == b""
    assert second.content == b"own"


def test_an_endless_body_ends_at_the_limit_and_is_not_drained():
    with RawServer(says_for_ever(HEAD + b"\r\n", b"x" * 10_000)) as server:
        with pytest.raises(ResponseTooLarge):
            send(Request("GET", server.url), max_response_size=100_000)
        assert server.closed.acquire(timeout=10)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_length_that_is_smaller_than_the_coded_body_is_an_invalid_response(coding):
    coded = {"gzip": gzip.compress, "deflate": zlib.compress}[coding](b"some text" * 100)
    whole = response(coded, b"Content-Encoding: " + coding.encode())
    short = whole.replace(b"Content-Length: %d" % len(coded), b"Content-Length: %d" % 10)
    with RawServer(says(short)) as server:
        with pytest.raises(InvalidResponse):  # of what is there, or of what comes after it
            send(Request("GET", server.url))


def test_an_answer_before_a_large_body_was_read_is_the_answer():
    head = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    said = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            with connection:
                said.append(connection.recv(1_000))
                connection.sendall(head + b"big")
                # Reading on: closing over unread bytes would reset the answer away.
                while connection.recv(65_536):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        received = send(Request("POST", url, body=b"x" * 10_000_000))
        thread.join()

    assert received.status == 413
    assert received.content == b"big"


def test_a_name_that_a_server_does_not_know_is_a_tls_failure(server_context, ca_file):
    context = server_context("localhost")
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with RawServer(says(b""), tls=context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(TLSFailed) as caught:
            send(Request("GET", url), ca_file=ca_file)

    assert caught.value.attempts == 1
    assert server.requests == []


def test_a_body_that_turns_into_garbage_is_an_invalid_response_at_once():
    # More than is read at once, so that the garbage comes after the head was handled.
    chunks = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with RawServer(says_then_waits(CHUNKED, chunks * 64, b"zz\r\n")) as server:
        with pytest.raises(InvalidResponse):
            send(Request("GET", server.url), max_response_size=100_000_000)


def test_no_message_repeats_what_the_server_or_the_query_said():
    canary = "-".join(("CANARY", "1"))  # not as it stands in this line of a traceback
    bad = f"HTTP/1.1 {canary}\r\n{canary}\r\n\r\n{canary}".encode()
    with RawServer(says(bad)) as server:
        with pytest.raises(InvalidResponse) as caught:
            send(Request("GET", f"{server.url}/?q={canary}"))

    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert canary not in told
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
