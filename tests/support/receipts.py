"""Answers that are kept, as a test needs them."""

from __future__ import annotations

from collections.abc import Iterable

from huey_patient.stores.base import Settlement

#: Seconds that are not over before a test is.
HOUR = 3600.0


def kept(store, id="a", *, receipt=HOUR, message=None, priority=None) -> None:
    """Submit a request and answer it with a message that is kept, by default its id."""
    store.register("o", b"")
    store.submit(id, b"x")
    [lease] = store.claim("o", "fresh", 1)
    message = id.encode() if message is None else message
    settlement = Settlement(
        id=id, epoch=lease.epoch, message=message, priority=priority, receipt=receipt
    )
    assert store.settle("o", [settlement]) == ["ok"]


def kept_all(store, ids: Iterable[str], *, receipt=HOUR) -> None:
    """The same for several, one after the other."""
    for id in ids:
        kept(store, id, receipt=receipt)
