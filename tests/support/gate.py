"""A slow server: it holds every answer until the test opens the gate.

with Gate() as gate:
    ...submit gate.url("/a")...
    gate.wait_for(1)    # the call is in flight now
    gate.open()
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType

#: Seconds until a call that never comes counts as lost.
LIMIT = 40.0


class Gate:
    """Listens on 127.0.0.1.  ``/open...`` is answered at once, the rest when the gate is open."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  #: (X-Request-Id, target) of each call, in order.
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)

    def __enter__(self) -> Gate:
        self._thread.start()
        assert self._started.wait(LIMIT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def url(self, target: str = "/") -> str:
        """The URL of ``target`` here."""
        return f"http://127.0.0.1:{self.port}{target}"

    def wait_for(self, calls: int) -> None:
        """Wait until so many calls have come in all."""
        with self._news:
            self._news.wait_for(lambda: len(self.asked) >= calls, LIMIT)
            assert len(self.asked) >= calls, f"{len(self.asked)} calls came, not {calls}"

    def open(self) -> None:
        """Answer all calls, now and from now on."""
        self._loop.call_soon_threadsafe(self._opened.set)

    def shut(self) -> None:
        """Hold what comes from now on."""
        self._loop.call_soon_threadsafe(self._opened.clear)

    def sends(self) -> Counter[str]:
        """How often each request was sent."""
        return Counter(id for id, _ in self.asked)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._opened, self._stop = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await self._head(reader):
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                await reader.readexactly(int(headers.get("content-length", 0)))
                target = lines[0].split(" ")[1]
                with self._news:
                    self.asked.append((headers.get("x-request-id", ""), target))
                    self._news.notify_all()
                if not target.startswith("/open"):
                    await self._opened.wait()
                body = f"answer to {target}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client was killed, which is what these tests do, or the test is over.
        finally:
            writer.close()

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
