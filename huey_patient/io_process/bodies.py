"""Bodies of responses: decoded once, piece by piece, never beyond their limit.

aiohttp's own decoding is off.  It would decode whatever chain of codings a
server names, in steps that only it bounds; here one coding is undone, each step
yields a small piece, and who feeds counts the pieces and stops.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import zstandard

__all__ = ["ACCEPT_ENCODING", "STEP_BYTES", "Decoder", "MalformedBody", "decoder_for"]

#: Decoded bytes that one step yields at most (zstd: see `_ZstdMember`).
STEP_BYTES = 65_536
#: Members (gzip) or frames (zstd) of one body.  Each costs work though it may
#: decode to nothing; tools that write many make one per 64 KiB or more.
_MAX_MEMBERS = 1_024
#: As RFC 8878 recommends; what needs a larger window is not meant for HTTP.
_MAX_WINDOW_BYTES = 8 * 1_048_576


class MalformedBody(Exception):
    """The body is not in the coding that its header names."""


class _Member(Protocol):
    """One self-contained stretch of coded data."""

    finished: bool

    def step(self, data: memoryview) -> tuple[bytes, memoryview]:
        """Decode some of ``data``: what came of it, and what of ``data`` is left."""


class Decoder:
    """Undoes one coding.  Feed it what arrives; `finish` after the last."""

    def __init__(self, begin: Callable[[memoryview], _Member]) -> None:
        self._begin = begin
        self._member: _Member | None = None
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to, in pieces; stop asking to stop decoding.

        Raises:
            MalformedBody: It is not in that coding.
        """
        left = memoryview(data)
        more = True
        while more:
            member = self._member or self._next_member(left)
            if member is None:
                return
            try:
                piece, rest = member.step(left)
            except Exception as reason:
                # Each codec has an error class of its own; brotli has two packages.
                raise MalformedBody from reason
            if member.finished:
                self._member = None
            # A step that gives nothing and takes nothing waits for more input.
            more = bool(rest) or bool(piece)
            left = rest
            if piece:
                yield piece

    def finish(self) -> None:
        """Check that the body was complete.

        Raises:
            MalformedBody: It was cut off, or is empty but for padding.
        """
        if self._member is not None:
            raise MalformedBody

    def _next_member(self, data: memoryview) -> _Member | None:
        if self._members:
            data = data[len(data) - len(bytes(data).lstrip(b"\0")) :]  # tools pad with zeros
        if not data:
            return None
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise MalformedBody
        self._member = self._begin(data)
        return self._member


class _ZlibMember:
    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)
        self.finished = False

    def step(self, data: memoryview) -> tuple[bytes, memoryview]:
        piece = self._inflate.decompress(data, STEP_BYTES)
        self.finished = self._inflate.eof
        rest = self._inflate.unused_data if self.finished else self._inflate.unconsumed_tail
        # A slice of what came, not zlib's copy of it.
        return piece, data[len(data) - len(rest) :]


class _ZstdMember:
    #: zstandard has no limit on what one call yields.  Four bytes may stand for
    #: a block of 128 KiB, so this many yield at most 2 MiB.
    _SLICE_BYTES = 64

    def __init__(self) -> None:
        # One for each body: these objects are not thread-safe.
        self._frame = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
        self.finished = False

    def step(self, data: memoryview) -> tuple[bytes, memoryview]:
        taken = data[: self._SLICE_BYTES]
        piece = self._frame.decompress(taken) if taken else b""
        self.finished = self._frame.eof
        unused = len(self._frame.unused_data) if self.finished else 0
        return piece, data[len(taken) - unused :]


class _BrotliMember:
    #: How windows of 8 and 16 MiB begin (RFC 7932, section 9.1).  A decoder fills its
    #: window ahead of what is taken from it; 4 MiB are the encoder's own default.
    _LARGE_WINDOWS = (0x0D, 0x0F)

    def __init__(self) -> None:
        self._stream = _brotli.Decompressor()
        self.finished = False

    @classmethod
    def of_a_stream(cls, data: memoryview) -> _BrotliMember:
        if data[0] & 0x0F in cls._LARGE_WINDOWS:
            raise MalformedBody
        return cls()

    def step(self, data: memoryview) -> tuple[bytes, memoryview]:
        if not data and self._stream.can_accept_more_data():
            return b"", data
        piece: bytes = self._stream.process(bytes(data), output_buffer_limit=STEP_BYTES)
        self.finished = self._stream.is_finished()
        return piece, data[len(data) :]


def _optional_brotli() -> Any:
    """The brotli package, or its twin over cffi, or None.  Older ones have no limit."""
    for name in ("brotli", "brotlicffi"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(module.Decompressor, "can_accept_more_data"):
            return module
    return None


_brotli = _optional_brotli()


def _inflate_member(data: memoryview) -> _ZlibMember:
    # "deflate" means zlib's format, but some servers send it bare.  The low half
    # of zlib's first byte is 8; bare data begin so only with odd padding.
    return _ZlibMember(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)


_CODINGS: dict[str, Callable[[memoryview], _Member]] = {
    "gzip": lambda data: _ZlibMember(16 + zlib.MAX_WBITS),
    "x-gzip": lambda data: _ZlibMember(16 + zlib.MAX_WBITS),
    "deflate": _inflate_member,
    "zstd": lambda data: _ZstdMember(),
}
if _brotli is not None:
    _CODINGS["br"] = lambda data: _BrotliMember()

#: What we ask for, unless the request says itself what it takes.
ACCEPT_ENCODING = ", ".join(name for name in _CODINGS if name != "x-gzip")


def decoder_for(coding: str, *, for_stream: bool = False) -> Decoder | None:
    """Return what undoes ``coding``; None when it is several codings, or an unknown one.

    Args:
        coding: The Content-Encoding, in any case.
        for_stream: Whether it lives as long as a stream does, beside many others:
            then brotli's largest windows are refused.
    """
    name = coding.strip().lower()
    begin = _CODINGS.get(name)
    if name == "br" and for_stream and begin is not None:
        begin = _BrotliMember.of_a_stream
    return None if begin is None else Decoder(begin)
