"""A body as it comes: decoded, counted, and no longer than its limit.

What came is where the caller put it also when the rest does not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp

from ..errors import InvalidResponse, RequestTimeout, ResponseTooLarge
from ..headers import Headers
from . import bodies
from .connections import unread
from .decoding import Overlong, Turns
from .failures import Failure
from .journey import Answer

__all__ = ["is_event_stream", "receive"]


def is_event_stream(headers: Headers[str]) -> bool:
    """Whether the Content-Type says server-sent events."""
    media = headers.get("content-type", "").partition(";")[0]
    return media.strip().lower() == "text/event-stream"


async def receive(
    stream: aiohttp.StreamReader,
    answer: Answer,
    *,
    limit: int,
    turns: Turns,
    idle: float | None = None,
) -> None:
    """Read the body of ``answer`` into it.

    A stream is decoded as it comes, any other body when all of it is there.

    Args:
        limit: Bytes that may come, and bytes that they may decode to.
        turns: Where whole bodies are decoded.
        idle: Of a stream: seconds without a byte after which it is given up.

    Raises:
        Failure: It is too large, or not in its coding, or fell silent.
    """
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise Failure(
            ResponseTooLarge,
            f"a response of {int(length)} bytes exceeds the maximum allowed size ({limit})",
        )
    coding = answer.headers.get("content-encoding", "identity")
    decoder = bodies.decoder_for(coding, for_stream=idle is not None)
    known = decoder is not None or coding.strip().lower() in ("identity", "")
    pieces = _raw(stream, limit)
    if idle is not None:
        pieces = _lively(pieces, idle)
        if decoder is not None:
            pieces = _decoded(pieces, decoder)
    async for piece in pieces:
        answer.decoded = known
        if len(answer.content) + len(piece) > limit:
            raise _too_large(limit)
        answer.content += piece
    if idle is None and decoder is not None:
        answer.content = await _whole(answer.content, decoder, limit, turns)


async def _raw(stream: aiohttp.StreamReader, limit: int) -> AsyncIterator[bytes]:
    seen = 0
    try:
        # What lies there, not a chunk of some size: gathering that out of pieces of
        # two bytes takes long, and nobody else gets a turn meanwhile.
        async for chunk in stream.iter_any():
            seen += len(chunk)
            if seen > limit:
                raise _too_large(limit)
            yield chunk
            await asyncio.sleep(0)
    except aiohttp.ClientError:
        # The end of a connection overtakes what came before it when we were busy.
        rest = unread(stream)
        if rest and seen + len(rest) <= limit:
            yield rest
        raise


async def _lively(chunks: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    while True:
        try:
            # Around the wait alone: what the reader does with a chunk is not silence.
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise Failure(RequestTimeout, f"the stream was silent for {seconds:g} s") from None
        if chunk is None:
            return
        yield chunk


async def _decoded(chunks: AsyncIterator[bytes], decoder: bodies.Decoder) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            for piece in decoder.feed(chunk):
                yield piece
                await asyncio.sleep(0)  # One chunk may hold megabytes: let others run.
        decoder.finish()
    except bodies.MalformedBody:
        raise _malformed() from None


async def _whole(coded: bytearray, decoder: bodies.Decoder, limit: int, turns: Turns) -> bytearray:
    try:
        return await turns.decode(coded, decoder, limit)
    except Overlong:
        raise _too_large(limit) from None
    except bodies.MalformedBody:
        raise _malformed() from None


def _malformed() -> Failure:
    return Failure(InvalidResponse, "the body is not in its Content-Encoding")


def _too_large(limit: int) -> Failure:
    return Failure(ResponseTooLarge, f"the body exceeded the maximum allowed size ({limit} bytes)")
