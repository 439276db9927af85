"""Whole bodies, decoded one at a time.

What a body decodes to is bounded by its limit, but what a decoder needs besides is
not: a window of 16 MB, filled at once, is within the rules of brotli.  A hundred
of them side by side would be more than the machine has, so bodies wait coded, which
is no longer than their limit, and take turns.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from . import bodies

__all__ = ["Overlong", "Turns", "whole"]

#: Coded bytes given to a decoder at once; zlib copies what it does not take.
_SLICE_BYTES = 65_536


class Overlong(Exception):
    """The body decodes to more than its limit."""


class Turns:
    """The thread in which bodies are decoded; none before the first body.

    One: they would wait for each other anyway, for the core that decoding keeps
    busy, and the loop needs another.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoding")

    async def decode(self, coded: bytearray, decoder: bodies.Decoder, limit: int) -> bytearray:
        """Return what `whole` does, when it is the turn of this body."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, whole, coded, decoder, limit)

    def close(self) -> None:
        """Drop what has not begun; what has is bounded, and ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def whole(coded: bytearray, decoder: bodies.Decoder, limit: int) -> bytearray:
    """Return what ``coded`` decodes to.

    Raises:
        Overlong: That is more than ``limit`` bytes.
        MalformedBody: It is not in that coding, or was cut off.
    """
    decoded = bytearray()
    for start in range(0, len(coded), _SLICE_BYTES):
        for piece in decoder.feed(bytes(coded[start : start + _SLICE_BYTES])):
            if len(decoded) + len(piece) > limit:
                raise Overlong
            decoded += piece
    decoder.finish()
    return decoded
