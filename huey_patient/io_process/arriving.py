"""What a server sends before it means anything, bounded.

aiohttp bounds a line of a head and the number of its headers, but neither the
head nor what may stand around it: interim answers, empty lines, extensions of
chunks, trailers.  All of that costs memory and time on the loop that everybody
shares, so bytes that nothing comes of are counted here, and parsed a few KB at a
time.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp.client_exceptions import ClientConnectionError
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import _EXC_SENTINEL, set_exception
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from .failures import BrokenHead, GarbledBody, OverlongHead

__all__ = ["MAX_FRUITLESS_BYTES", "PIECE_BYTES", "ArrivingResponse"]

#: Bytes of a whole head, with the interim ones before it, and of what stands
#: between two pieces of a body.  Four times the longest line that we take.
MAX_FRUITLESS_BYTES = 131_072
#: Interim answers before the final one.  A service that says "still processing"
#: does it a few times.
_MAX_INTERIM = 16
#: Bytes parsed at once: at 25 bytes for the shortest answer, that is a few
#: milliseconds at most before the results are looked at.
PIECE_BYTES = 8_192
#: Bytes taken from a socket at once.  asyncio takes 256 KB, which lie about for
#: each connection whose reader is busy.
_READ_BYTES = 65_536


class ArrivingResponse(ResponseHandler):
    """The protocol of one connection, over all responses that it brings."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._begin()
        self._held = b""  # Read, and not parsed because the reader is busy.

    def _begin(self) -> None:
        self._body: StreamReader | None = None  # None until the final head was parsed.
        self._interim = 0
        self._fruitless = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a transport; plain ones of asyncio are told to read less at once."""
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        super().connection_made(transport)

    def set_response_params(self, **options: Any) -> None:
        """Expect another response: its head is counted anew."""
        self._begin()
        super().set_response_params(**options)

    @property
    def should_close(self) -> bool:
        """Whether the connection may not be used again."""
        return super().should_close or bool(self._held)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a head that was parsed; called by aiohttp's own ``data_received``."""
        message, body = data
        if self._interim > _MAX_INTERIM:
            return  # Refused, whatever follows in the same piece.
        if 100 <= message.code <= 199 and message.code != 101:
            self._interim += 1
        else:
            self._body, self._fruitless = body, 0
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse ``data`` in pieces, as far as the reader keeps up."""
        if self._parser is None or self._upgraded:
            super().data_received(data)
            return
        if not data:
            super().data_received(data)  # The parser goes on with what it kept itself.
        waiting, self._held = self._held + data, b""
        for start in range(0, len(waiting), PIECE_BYTES):
            if not self.is_connected():
                return
            if self._reading_paused:
                self._held = waiting[start:]
                return
            if self._body is not None and self._body.is_eof():
                # Nobody asked for more: it must not be taken for the next answer.
                self._hang_up()
                return
            self._parse(waiting[start : start + PIECE_BYTES])

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let what came before the end count, whether or not the reader is busy."""
        held, self._held = self._held, b""
        if held:
            super().data_received(held)
        super().connection_lost(exc)
        if self._body is not None and not self._body.is_eof() and self._body.exception() is None:
            # It turned into garbage: aiohttp closes the connection for that and does
            # not tell the reader, who would wait for the deadline.
            set_exception(self._body, GarbledBody())

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _EXC_SENTINEL) -> None:
        """Tell a connection that broke in a head from one that broke before it: what a
        server has begun to answer it has acted on."""
        if self._body is None and self._fruitless and isinstance(exc, ClientConnectionError):
            exc = BrokenHead()
        super().set_exception(exc, exc_cause)

    def _parse(self, piece: bytes) -> None:
        before = self._grown()
        super().data_received(piece)
        if self._grown() == before:
            self._fruitless += len(piece)
        elif self._body is not None:
            self._fruitless = 0
        if self._fruitless > MAX_FRUITLESS_BYTES or self._interim > _MAX_INTERIM:
            self._refuse()

    def _grown(self) -> int:
        return 0 if self._body is None else self._body.total_bytes

    def _refuse(self) -> None:
        if self._body is None:
            self.set_exception(OverlongHead())
        elif not self._body.is_eof():
            set_exception(self._body, GarbledBody())
        self._hang_up()

    def _hang_up(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()
