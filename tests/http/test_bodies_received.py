"""Bodies of answers: decoded, and within their limits."""

import gzip
import zlib

import brotlicffi
import pytest
import zstandard
from support.raw import RawServer, response, says, says_for_ever
from support.sending import send
from support.web import Answer

from huey_patient.errors import InvalidResponse, ResponseTooLarge
from huey_patient.request import Request

MIB = 1_048_576
COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "br": brotlicffi.compress,
}
TEXT = b"some text " * 1_000


def answer(server, body, coding):
    return server.answer("/x", Answer(body=body, headers={"Content-Encoding": coding}))


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_coding_that_we_asked_for_is_undone(server, coding):
    received = send(Request("GET", answer(server, COMPRESS[coding](TEXT), coding)))

    assert received.content == TEXT
    assert received.decoded
    assert coding in server.asked[0].header("accept-encoding").split(", ")


@pytest.mark.parametrize("coding", ["gzip, gzip", "compress", "gzip;q=1"])
def test_a_coding_that_we_do_not_undo_is_handed_over_and_marked(server, coding):
    received = send(Request("GET", answer(server, b"coded", coding)))

    assert received.content == b"coded"
    assert not received.decoded


def test_identity_is_no_coding(server):
    received = send(Request("GET", answer(server, b"plain", "identity")))

    assert received.content == b"plain"
    assert received.decoded


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_body_in_no_coding_though_it_says_so_is_an_invalid_response(server, coding):
    with pytest.raises(InvalidResponse, match="Content-Encoding"):
        send(Request("GET", answer(server, b"plain text", coding)))


def test_a_coded_body_that_ends_early_is_an_invalid_response(server):
    with pytest.raises(InvalidResponse):
        send(Request("GET", answer(server, gzip.compress(TEXT)[:-5], "gzip")))


def test_an_empty_body_is_empty_in_any_coding(server):
    received = send(Request("GET", answer(server, b"", "gzip")))

    assert received.content == b""
    assert received.decoded


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_exactly_at_the_limit_is_accepted(chunked):
    body = b"x" * 1_000
    whole = response(body)
    if chunked:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = head + b"3e8\r\n" + body + b"\r\n0\r\n\r\n"
    with RawServer(says(whole)) as server:
        assert send(Request("GET", server.url), max_response_size=1_000).content == body


def test_the_default_limit_is_one_mebibyte(server):
    server.answer("/fits", Answer(body=b"x" * MIB))
    server.answer("/not", Answer(body=b"x" * (MIB + 1)))

    assert len(send(Request("GET", server.url + "/fits")).content) == MIB
    with pytest.raises(ResponseTooLarge):
        send(Request("GET", server.url + "/not"))


def test_a_length_over_the_limit_is_refused_before_reading():
    # Were the body waited for, this would end in a timeout: it never comes.
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000001\r\n\r\n"
    with RawServer(says_for_ever(head, b"")) as server:
        with pytest.raises(ResponseTooLarge, match="10000001 bytes exceeds the maximum"):
            send(Request("GET", server.url))


def test_a_body_without_a_length_ends_at_the_limit():
    with RawServer(says_for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000)) as server:
        with pytest.raises(ResponseTooLarge, match="exceeded the maximum"):
            send(Request("GET", server.url), max_response_size=5_000)


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_bomb_ends_at_the_limit(server, coding):
    bomb = COMPRESS[coding](b"\0" * (100 * MIB))
    assert len(bomb) < MIB / 4

    with pytest.raises(ResponseTooLarge):
        send(Request("GET", answer(server, bomb, coding)))


def test_coded_bytes_have_a_limit_though_they_decode_to_nothing():
    empty_blocks = b"\0\0\0\xff\xff" * 10_000  # of deflate
    begun = zlib.compressobj().compress(b"") or b"\x78\x9c"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n"
    with RawServer(says_for_ever(head + begun, empty_blocks)) as server:
        with pytest.raises(ResponseTooLarge):
            send(Request("GET", server.url), max_response_size=100_000)


def test_a_flood_of_empty_gzip_members_is_an_invalid_response():
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    with RawServer(says(head, gzip.compress(b"") * 2_000)) as server:
        with pytest.raises(InvalidResponse):
            send(Request("GET", server.url))
