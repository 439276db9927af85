"""Heads of answers, and what else comes around a body: counted, and what may be in them."""

import pytest
from support.raw import (
    RawServer,
    after,
    response,
    says,
    says_for_ever,
    says_then_waits,
)
from support.sending import send, with_client

from huey_patient.errors import InvalidResponse
from huey_patient.io_process.arriving import MAX_FRUITLESS_BYTES
from huey_patient.request import Request

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n"
LINE = 30_000


def lines(count, value=b"x"):
    return [b"X-%d: " % n + value * LINE for n in range(count)]


def test_a_head_within_the_limit_is_taken():
    with RawServer(says(response(b"body", *lines(4)))) as server:
        received = send(Request("GET", server.url))

    assert received.content == b"body"
    assert len(received.headers["x-3"]) == LINE


def test_a_head_beyond_the_limit_is_an_invalid_response():
    with RawServer(says(response(b"body", *lines(5)))) as server:
        with pytest.raises(InvalidResponse, match="head of the answer is too long"):
            send(Request("GET", server.url))


def test_interim_heads_count_with_the_final_one():
    interim = HINTS + b"\r\n".join(lines(2)) + b"\r\n\r\n"
    with RawServer(says(interim + interim + response(b"", *lines(1)))) as server:
        with pytest.raises(InvalidResponse, match="head of the answer is too long"):
            send(Request("GET", server.url))


@pytest.mark.parametrize("together", [True, False])
def test_some_interim_answers_are_passed_over_and_more_are_not(together):
    def interim(count):
        parts = [b"HTTP/1.1 102 Processing\r\n\r\n"] * count + [response(b"done")]
        return says(b"".join(parts)) if together else says(*parts)

    with RawServer(interim(16), interim(17)) as server:
        assert send(Request("GET", server.url)).content == b"done"
        with pytest.raises(InvalidResponse):
            send(Request("GET", server.url))


@pytest.mark.parametrize(
    ("begun", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", HINTS + b"Link: </a>\r\n\r\n"),
        (b"", b"\r\n" * 1_000),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"X-Trailer: " + b"x" * LINE + b"\r\n"),
        (CHUNKED + b"1\r\na\r\n1;", b"x" * 1_000),
    ],
    ids=["100", "103", "empty lines", "trailers", "an extension of a chunk"],
)
def test_what_has_no_end_and_no_meaning_is_an_invalid_response(begun, part):
    with RawServer(says_for_ever(begun, part)) as server:
        with pytest.raises(InvalidResponse):
            send(Request("GET", server.url))
        assert server.closed.acquire(timeout=10)


def test_a_body_may_be_as_long_as_it_likes_in_chunks_of_any_size():
    one_by_one = b"1\r\na\r\n" * MAX_FRUITLESS_BYTES + b"0\r\n\r\n"
    with RawServer(says(CHUNKED, one_by_one)) as server:
        assert send(Request("GET", server.url)).content == b"a" * MAX_FRUITLESS_BYTES


def test_each_response_of_a_connection_is_counted_by_itself():
    interim = HINTS + b"X: y\r\n\r\n"
    answer = says(interim * 10 + response(b"", *lines(3)), keep=True)
    with RawServer(answer) as server:

        async def use(client):
            for n in range(3):
                await client.send(Request("GET", server.url), request_id=str(n))

        with_client(use)

        assert server.connections == 1


def test_a_flood_of_answers_nobody_asked_for_is_not_read_on():
    # The first of them in one packet with the answer: later ones could meet the next request.
    flood = says_for_ever(response(b"own") + response(b"stray") * 300, response(b"stray") * 1_000)
    with RawServer(flood, says(response(b"next"))) as server:

        async def use(client):
            first = await client.send(Request("GET", server.url), request_id="a")
            return first, await client.send(Request("GET", server.url), request_id="b")

        first, second = with_client(use)

        assert first.content == b"own"
        assert second.content == b"next"
        assert server.closed.acquire(timeout=10)


@pytest.mark.parametrize("character", [b"\x01", b"\x08", b"\x0b", b"\x1b", b"\x1f"])
def test_a_control_character_in_a_header_is_an_invalid_response(character):
    with RawServer(says(response(b"", b"X: a" + character + b"b"))) as server:
        with pytest.raises(InvalidResponse, match="control character"):
            send(Request("GET", server.url))


def test_a_tab_in_a_header_is_none_of_the_forbidden_characters():
    with RawServer(says(response(b"", b"X: a\tb"))) as server:
        assert send(Request("GET", server.url)).headers["x"] == "a\tb"


@pytest.mark.parametrize("reason", ["interim", "head"])
def test_the_answer_of_a_proxy_to_connect_is_counted_too(reason):
    answers = {
        "interim": says_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "head": says_then_waits(OK + b"X: " + b"\r\nX: ".join([b"x" * 8_000] * 20)),
    }
    with RawServer(answers[reason]) as proxy:
        with pytest.raises(InvalidResponse):
            send(Request("GET", "https://a.test/"), proxy_url=proxy.url)
        assert proxy.closed.acquire(timeout=10)


def test_what_came_before_the_end_counts_also_when_the_reader_was_busy():
    body = b"x" * 900_000
    with RawServer(after(says(body), OK + b"\r\n")) as server:
        assert send(Request("GET", server.url)).content == body


def test_a_plain_connection_reads_less_at_once_than_asyncio_would(server):
    async def use(client):
        await client.send(Request("GET", server.url + "/echo"), request_id="x")
        [[(protocol, _)]] = client._session.connector._conns.values()
        return protocol.transport.max_size

    assert with_client(use) == 65_536
