"""The same way without a process, for ``huey.immediate``.

Seal, store, claim, send, settle, unseal, callback: everything that production
does but the courier, the pipe and the I/O process, in the calling thread.  A
test of an application's callbacks so meets the checks that production makes.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from huey import Huey
from huey.storage import MemoryStorage

from .envelope import Keyring
from .errors import PayloadLost
from .io_process.exchange import Exchange
from .io_process.http import HttpClient
from .io_process.preprocessors import Preprocessors
from .references import References
from .settings import Settings
from .stores.base import Lease, Settlement, Store
from .wire import Reason

__all__ = ["perform_all"]

_OWNER = "immediate"


def perform_all(
    huey: Huey,
    store: Store,
    storage: MemoryStorage,
    settings: Settings,
    keyring: Keyring,
    *,
    settlement: Callable[[str, int, Reason, bytes], Settlement],
    secrets: Callable[[bytes], bytes],
    references: References,
    preprocessors: Mapping[str, str],
) -> None:
    """Perform every request that is ready, and run its callback, before returning.

    A callback that submits another request has it performed before its own
    call returns, as tasks called in immediate mode do.

    Args:
        storage: Of ``store``; not Huey's, which may be a real one.
    """
    store.register(_OWNER, b"")

    async def perform(lease: Lease) -> tuple[Reason, bytes]:
        async with HttpClient(settings) as client:
            exchange = Exchange(
                client,
                keyring,
                settings,
                queue=huey.name,
                preprocessors=Preprocessors(preprocessors),
            )
            try:
                sealed = references.fetch(lease.id, lease.sealed, "request")
            except PayloadLost:
                return Reason.PAYLOAD_LOST, lease.sealed
            return await exchange.answer(lease.id, sealed, secrets(sealed))

    for lease in store.claim(_OWNER, "fresh", 1_000):
        reason, envelope = _run(perform(lease))
        if reason is Reason.OUTCOME:
            envelope = references.stow(lease.id, envelope, "outcome")
        else:
            envelope = lease.sealed
        answer = settlement(lease.id, lease.epoch, reason, envelope)
        # Nothing is lost between here and the callback: no receipt is needed.
        store.settle(_OWNER, [dataclasses.replace(answer, receipt=None)])
        references.discard(lease.id, lease.sealed, "request")
        # Each before the next is sent, so that callbacks see the order of calls.
        while (queued := storage.dequeue()) is not None:
            huey.execute(huey.deserialize_task(queued))


def _run(work: Coroutine[Any, Any, tuple[Reason, bytes]]) -> tuple[Reason, bytes]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    # This thread's loop is running: the call goes to a thread of its own, and
    # blocks this one, as immediate mode is meant to.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
