"""Sending from a test: an `HttpClient` for one request or for several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huey_patient.io_process.http import HttpClient
from huey_patient.request import Request
from huey_patient.response import Response
from huey_patient.settings import Settings

T = TypeVar("T")


class Naps:
    """Stands for `asyncio.sleep`: remembers how long, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def with_client(
    use: Callable[[HttpClient], Awaitable[T]],
    *,
    naps: Naps | None = None,
    **settings: Any,
) -> T:
    """Return what ``use`` makes of a client with ``settings``."""

    async def run() -> T:
        async with HttpClient(Settings(**settings), sleep=naps or Naps()) as client:
            return await use(client)

    return asyncio.run(run())


def send(
    request: Request,
    *,
    request_id: str = "id-1",
    naps: Naps | None = None,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> Response:
    """Send ``request`` with a client of its own; ``options`` are those of `HttpClient.send`."""

    async def use(client: HttpClient) -> Response:
        return await client.send(request, request_id=request_id, **(options or {}))

    return with_client(use, naps=naps, **settings)
