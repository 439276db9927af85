"""Decoding of bodies: bounded steps, one coding."""

import gzip
import itertools
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from huey_patient.io_process import bodies
from huey_patient.io_process.bodies import MalformedBody, decoder_for

TEXT = b"An answer of some length, which may be repeated. " * 100


def bare_deflate(data):
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


def brotli(data):
    return pytest.importorskip("brotlicffi").compress(data)


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate ": bare_deflate,
    "ZSTD": zstandard.compress,
    "br": brotli,
}


def decode(coding, *chunks):
    decoder = decoder_for(coding)
    pieces = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    decoder.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1, 7, 64, 65_536])
def test_a_coding_is_undone_however_it_is_cut(coding, size):
    coded = CODINGS[coding](TEXT)
    chunks = [coded[start : start + size] for start in range(0, len(coded), size)]

    assert decode(coding, *chunks) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_an_empty_text_is_undone_too(coding):
    assert decode(coding, CODINGS[coding](b"")) == b""


@pytest.mark.parametrize("coding", CODINGS)
def test_no_body_at_all_is_an_empty_body(coding):
    assert decode(coding) == b""


@given(st.binary(max_size=5_000), st.lists(st.integers(1, 500), min_size=1))
def test_any_bytes_cut_anywhere_come_back_from_gzip_and_zstd(data, cuts):
    for coding in ("gzip", "zstd"):
        coded = CODINGS.get(coding, zstandard.compress)(data)
        places = itertools.accumulate(cuts, initial=0)
        chunks = [coded[a : b or None] for a, b in itertools.pairwise([*places, 0])]
        assert decode(coding, *chunks) == data


@pytest.mark.parametrize("coding", ["gzip", "ZSTD"])
def test_several_members_are_one_body(coding):
    coded = CODINGS[coding](b"one, ") + CODINGS[coding](b"") + CODINGS[coding](b"two")

    assert decode(coding, coded) == b"one, two"
    assert decode(coding, *(coded[n : n + 1] for n in range(len(coded)))) == b"one, two"


def test_zeros_after_gzip_are_padding():
    assert decode("gzip", gzip.compress(b"x") + b"\0" * 100) == b"x"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_yields_small_pieces_and_can_be_left(coding):
    coded = CODINGS[coding](b"\0" * 50_000_000)
    largest = 2 * 1_048_576 if coding == "ZSTD" else 2 * bodies.STEP_BYTES

    pieces = list(itertools.islice(decoder_for(coding).feed(coded[:65_536]), 5))

    assert all(0 < len(piece) <= largest for piece in pieces)


@pytest.mark.parametrize("coding", ["gzip", "ZSTD"])
def test_more_members_than_any_tool_makes_are_refused(coding):
    decoder = decoder_for(coding)

    with pytest.raises(MalformedBody):
        list(decoder.feed(CODINGS[coding](b"") * 2_000))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_ends_early_is_malformed(coding):
    decoder = decoder_for(coding)
    list(decoder.feed(CODINGS[coding](TEXT)[:-3]))

    with pytest.raises(MalformedBody):
        decoder.finish()


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "ZSTD"])
def test_a_body_in_no_coding_is_malformed(coding):
    with pytest.raises(MalformedBody):
        list(decoder_for(coding).feed(TEXT))


def test_a_window_larger_than_http_allows_is_malformed():
    parameters = zstandard.ZstdCompressionParameters(window_log=24, enable_ldm=True)
    coded = (
        zstandard.ZstdCompressor(compression_params=parameters)
        .compressobj()
        .compress(b"x" * 20_000_000)
    )

    with pytest.raises(MalformedBody):
        list(decoder_for("zstd").feed(coded))


@pytest.mark.parametrize("bits", range(10, 25))
def test_brotli_s_two_largest_windows_are_for_bodies_and_not_for_streams(bits):
    packer = pytest.importorskip("brotlicffi").Compressor(lgwin=bits, quality=5)
    coded = packer.compress(TEXT) + packer.finish()

    for_stream = decoder_for("br", for_stream=True)

    assert decode("br", coded) == TEXT
    if bits > 22:
        with pytest.raises(MalformedBody):
            list(for_stream.feed(coded))
    else:
        assert b"".join(for_stream.feed(coded)) == TEXT


@pytest.mark.parametrize("coding", ["gzip, gzip", "identity", "compress", "", "aes128gcm"])
def test_several_codings_and_unknown_ones_are_not_undone(coding):
    assert decoder_for(coding) is None


def test_what_is_asked_for_is_what_can_be_undone():
    asked = bodies.ACCEPT_ENCODING.split(", ")

    assert {"gzip", "deflate", "zstd"} <= set(asked)
    assert all(decoder_for(coding) for coding in asked)
