"""Server-sent events as they come, and what is left of a stream that broke."""

import asyncio
import gzip
import threading
import zlib

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from support.raw import RawServer, hangs_up, resets, response, says, says_then_waits
from support.sending import send
from support.web import Answer

from huey_patient.errors import (
    ClientError,
    ConnectFailed,
    RequestTimeout,
    ResponseTooLarge,
    StreamInterrupted,
)
from huey_patient.headers import Headers
from huey_patient.io_process import http, journey, receiving
from huey_patient.io_process.decoding import Turns
from huey_patient.io_process.failures import Failure
from huey_patient.request import Request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TWO = b"data: one\n\nevent: tick\ndata: two\n\n"
HALF = TWO + b"data: thr"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(url, **options):
    return Request("POST", url, **{"json": {"stream": True}, "stream": "sse", **options})


def texts(answer):
    return [one.data for one in answer.events()]


def interrupted(script, *, settings=None, **options):
    with RawServer(script) as server:
        with pytest.raises(StreamInterrupted) as caught:
            send(stream(server.url, **options), **(settings or {}))
        assert len(server.requests) == 1
    return caught.value


def test_the_events_of_a_stream_are_those_of_its_response():
    pieces = [chunk(b"data: o"), chunk(b"ne\n"), chunk(b"\nevent: tick\r\ndata: two\r\n\r\n")]
    with RawServer(says(CHUNKED, *pieces, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")) as server:
        answer = send(stream(server.url))

    assert texts(answer) == ["one", "two", "[DONE]"]
    assert [one.event for one in answer.events()] == ["message", "tick", "message"]
    assert answer.status == 200
    assert answer.attempts == 1


def test_a_stream_is_asked_for_unless_the_request_says_what_it_takes(server):
    send(stream(server.url + "/echo"))
    send(stream(server.url + "/echo", headers={"accept": "a/b"}))
    send(stream(server.url + "/echo", stream=None))

    assert [one.header("accept") for one in server.asked] == ["text/event-stream", "a/b", "*/*"]


def test_an_answer_that_is_no_stream_is_an_ordinary_response(server):
    typed = {"Content-Type": "application/json"}
    url = server.answer("/x", Answer(429, b'{"error": "busy"}', typed))

    answer = send(stream(url))

    assert answer.status == 429
    assert answer.json() == {"error": "busy"}


def test_an_answer_that_is_no_stream_has_no_idle_limit(server):
    url = f"{server.url}/hold"

    with pytest.raises(RequestTimeout) as caught:
        send(stream(url, timeout=0.1, idle_timeout=0.01))

    assert caught.value.response is None


def test_a_status_may_be_tried_again_until_the_stream_comes(server, naps):
    typed = {"Content-Type": "text/event-stream; charset=utf-8"}
    url = server.answer("/x", Answer(529), Answer(200, TWO, typed))

    answer = send(stream(url, retry_statuses={529}), naps=naps)

    assert texts(answer) == ["one", "two"]
    assert answer.attempts == 2


def test_a_stream_that_ends_with_its_connection_has_come_to_its_end():
    with RawServer(says(HEAD + b"\r\n" + TWO)) as server:
        assert texts(send(stream(server.url))) == ["one", "two"]


def test_half_an_event_at_the_end_is_none():
    with RawServer(says(HEAD + b"\r\n" + HALF)) as server:
        answer = send(stream(server.url))

    assert texts(answer) == ["one", "two"]
    assert answer.content == HALF


def test_the_deadline_leaves_what_had_come():
    error = interrupted(says_then_waits(CHUNKED, chunk(TWO), chunk(b"data: thr")), timeout=0.3)

    assert error.kind == "timeout"
    assert "no end of the stream within 0.3 s" in error.message
    assert texts(error.response) == ["one", "two"]
    assert error.response.content == HALF
    assert error.response.status == 200
    assert error.response.request_id == error.request_id == "id-1"


@pytest.mark.parametrize("of_the_request", [True, False])
def test_silence_beyond_its_limit_leaves_what_had_come(of_the_request):
    options = {"idle_timeout": 0.2} if of_the_request else {}
    settings = {} if of_the_request else {"stream_idle_timeout": 0.2}

    error = interrupted(says_then_waits(CHUNKED, chunk(HALF)), settings=settings, **options)

    assert error.kind == "timeout"
    assert "silent for 0.2 s" in error.message
    assert texts(error.response) == ["one", "two"]


def test_silence_counts_from_the_last_byte_not_from_the_first(monkeypatch):
    async def run():
        loop = asyncio.get_running_loop()
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now)

        async def wait(seconds):
            nonlocal now
            now += seconds
            for _ in range(3):  # turns of the loop, in which a limit that has passed strikes
                await asyncio.sleep(0)

        async def chunks():
            for _ in range(5):
                await wait(0.9)
                yield b"x"
            await wait(1.1)
            yield b"too late"

        came = []

        async def read():
            async for piece in receiving._lively(chunks(), 1.0):
                came.append(piece)

        with pytest.raises(Failure, match="silent for 1 s"):
            await read()
        return came

    assert asyncio.run(run()) == [b"x"] * 5


def test_a_stream_may_be_silent_before_it_begins(server):
    with pytest.raises(RequestTimeout) as caught:
        send(stream(server.url + "/hold", timeout=0.2, idle_timeout=0.01))

    assert "no answer" in caught.value.message


def test_a_cut_connection_leaves_what_had_come():
    error = interrupted(says(CHUNKED, chunk(TWO), b"ff\r\ndata: thr"))

    assert error.kind == "connection"
    assert texts(error.response) == ["one", "two"]
    assert error.response.attempts == error.attempts == 1


def test_a_stream_shorter_than_its_length_leaves_what_had_come():
    error = interrupted(says(HEAD + b"Content-Length: 999\r\n\r\n" + HALF))

    assert error.kind == "connection"
    assert texts(error.response) == ["one", "two"]


def test_what_came_just_before_the_break_is_not_lost():
    async def run():
        protocol = BaseProtocol(asyncio.get_running_loop())
        stream = aiohttp.StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
        stream.feed_data(TWO)
        stream.feed_data(b"data: thr")
        stream.set_exception(aiohttp.ClientPayloadError())
        answer = journey.Answer(200, Headers())
        with pytest.raises(aiohttp.ClientPayloadError):
            await receiving.receive(stream, answer, limit=1_000, turns=Turns(), idle=1.0)
        return answer.content

    assert asyncio.run(run()) == HALF


def test_a_stream_that_turns_into_garbage_leaves_what_had_come(monkeypatch):
    begun = threading.Event()

    async def receive(*args, **options):
        begun.set()
        await receiving.receive(*args, **options)

    def script(connection, request):
        connection.sendall(CHUNKED)
        begun.wait()  # The head and garbage together are an answer that is not HTTP.
        connection.sendall(chunk(TWO) + b"zz\r\nnonsense")

    monkeypatch.setattr(http, "receive", receive)

    error = interrupted(script)

    assert error.kind == "invalid_response"
    assert error.response.status == 200


def test_a_stream_that_never_said_anything_leaves_an_empty_response():
    error = interrupted(says_then_waits(CHUNKED), timeout=0.2)

    assert error.response.events() == []
    assert error.response.decoded


def test_a_compressed_stream_is_read_as_it_comes():
    coded = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    packer = zlib.compressobj(wbits=31)
    begun = packer.compress(HALF) + packer.flush(zlib.Z_SYNC_FLUSH)

    with RawServer(says(coded, chunk(gzip.compress(TWO)), b"0\r\n\r\n")) as server:
        assert texts(send(stream(server.url))) == ["one", "two"]
    broken = interrupted(says_then_waits(coded, chunk(begun)), idle_timeout=0.2)
    ended = interrupted(says(coded, chunk(begun), b"0\r\n\r\n"))

    assert texts(broken.response) == texts(ended.response) == ["one", "two"]
    assert (broken.kind, ended.kind) == ("timeout", "invalid_response")


def test_a_stream_larger_than_the_limit_is_too_large():
    with RawServer(says(HEAD + b"\r\n" + TWO * 100)) as server:
        with pytest.raises(ResponseTooLarge) as caught:
            send(stream(server.url), max_response_size=1_000)

    assert caught.value.response is None


@pytest.mark.parametrize("fault", [hangs_up, resets])
def test_a_connection_that_breaks_before_the_stream_is_tried_again(fault, naps):
    with RawServer(fault, says(HEAD + b"\r\n" + TWO)) as server:
        answer = send(stream(server.url), naps=naps)

    assert texts(answer) == ["one", "two"]
    assert answer.attempts == 2


def test_a_stream_that_was_not_asked_for_is_no_stream():
    with RawServer(says(HEAD + b"Content-Length: 999\r\n\r\n" + HALF)) as server:
        with pytest.raises(ConnectFailed) as caught:
            send(stream(server.url, stream=None))

    assert caught.value.response is None


def test_a_stream_behind_a_redirect_is_read():
    moved = HEAD.replace(b"200 OK", b"307 Moved") + b"Location: /b\r\nContent-Length: 0\r\n\r\n"
    with RawServer(says(moved, keep=True), says(HEAD + b"\r\n" + TWO)) as server:
        answer = send(stream(server.url + "/a"))

        assert texts(answer) == ["one", "two"]
        assert answer.redirects == (server.url + "/a",)


def test_an_error_after_a_stream_has_ended_is_not_of_that_stream(naps):
    busy = response(TWO, b"Content-Type: text/event-stream", status=b"503 Busy")
    with RawServer(says(busy), hangs_up) as server:
        with pytest.raises(ConnectFailed) as caught:
            send(stream(server.url, retry_statuses={503}, retries=1), naps=naps)

    assert caught.value.response is None


def test_an_error_status_may_come_as_a_stream():
    busy = response(TWO, b"Content-Type: text/event-stream", status=b"400 Bad")
    with RawServer(says(busy)) as server:
        answer = send(stream(server.url))

    assert texts(answer) == ["one", "two"]
    assert type(answer.as_error()) is ClientError
