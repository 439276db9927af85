"""A web server in a thread: well-behaved, programmable, and it counts.

    with WebServer() as server:
        server.answer("/once", Answer(503), Answer(200, b"ok"))
        ...
        assert server.hits("/once") == 2

Routes that are always there:

    /echo               what was asked, as JSON: method, target, headers, body
    /status/<number>    that status
    /redirect           to ?to=, with ?status= (302)
    /hold               answers when `release` is called
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Answer:
    """One answer of a programmed path."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    target: str  #: Path and query, exactly as sent.
    headers: tuple[tuple[str, str], ...]
    body: bytes
    peer: Any  #: Address of the client: equal means the same connection.

    def header(self, name: str) -> str | None:
        """The value of one header, in any spelling; None when it was not sent."""
        return dict(self.lower()).get(name.lower())

    def lower(self) -> list[tuple[str, str]]:
        """The headers, their names in lower case."""
        return [(name.lower(), value) for name, value in self.headers]


class WebServer:
    """Listens on 127.0.0.1, or ``host``; with ``tls`` it speaks https."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.asked: list[Asked] = []  #: Every request, oldest first.
        self.arrived = threading.Semaphore(0)  #: One for each request that came to /hold.
        self.left = threading.Semaphore(0)  #: One for each client that /hold lost.
        self._tls = tls
        self._host = host
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="web server", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> WebServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def answer(self, path: str, *answers: Answer) -> str:
        """Answer ``path`` with ``answers`` in turn, the last for ever; return its URL."""
        self._answers[path] = list(answers)
        return self.url + path

    def hits(self, path: str | None = None) -> int:
        """How many requests came; to ``path`` when it is given."""
        return sum(path in (None, one.path) for one in self.asked)

    def hits_by_id(self) -> dict[str | None, int]:
        """How many requests came with each X-Request-Id."""
        counted: dict[str | None, int] = defaultdict(int)
        for one in self.asked:
            counted[one.header("x-request-id")] += 1
        return dict(counted)

    def release(self) -> None:
        """Let everything at /hold be answered, now and from now on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._ready.set()  # Whoever waits for the start must not wait for ever.

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=64 * 1_048_576)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A client that goes away must end the handler of /hold.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, self._host, 0, ssl_context=self._tls)
        await site.start()
        self.port: int = runner.addresses[0][1]
        self._ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(
            method=request.method,
            path=request.path,
            target=request.raw_path,
            headers=tuple((n.decode(), v.decode("latin-1")) for n, v in request.raw_headers),
            body=await request.read(),
            peer=request.transport and request.transport.get_extra_info("peername"),
        )
        self.asked.append(asked)
        if programmed := self._answers.get(request.path):
            answer = programmed.pop(0) if len(programmed) > 1 else programmed[0]
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        if request.path == "/echo":
            return web.json_response(_described(asked))
        if request.path == "/redirect":
            headers = {"Location": request.query["to"]} if "to" in request.query else {}
            return web.Response(status=int(request.query.get("status", 302)), headers=headers)
        if request.path.startswith("/status/"):
            return web.Response(status=int(request.path.removeprefix("/status/")), body=b"body")
        if request.path == "/hold":
            return await self._hold()
        return web.Response(status=404)

    async def _hold(self) -> web.StreamResponse:
        self.arrived.release()
        try:
            await self._released.wait()
        except asyncio.CancelledError:
            self.left.release()
            raise
        return web.Response(body=b"released")


def _described(asked: Asked) -> dict[str, Any]:
    return {
        "method": asked.method,
        "target": asked.target,
        "headers": asked.lower(),
        "body": asked.body.decode("latin-1"),
    }
