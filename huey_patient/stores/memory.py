"""Requests in this process's memory, for MemoryHuey, immediate mode and tests.

It keeps the whole contract but one word: what it holds ends with the process.
All state is guarded by one lock, so every call happens at one moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigurationError
from .base import (
    TOMBSTONE_SECONDS,
    Beat,
    Counts,
    Fenced,
    Held,
    Lane,
    Lease,
    OwnerSeen,
    SettleAnswer,
    Settlement,
    SubmitAnswer,
)
from .memory_receipts import MemoryReceipts
from .memory_shelf import Owner, Request, shelf_of
from .sharing import gevent_has_patched, native_lock, tell_after_fork

__all__ = ["MemoryStore"]


class MemoryStore(MemoryReceipts):
    """The store of a `MemoryStorage`."""

    def __init__(self, storage: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._shelf = shelf_of(storage)
        self._rings_seen = 0
        tell_after_fork(self)

    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        with self._shelf.changed:
            shelf = self._shelf
            self._forget_old()
            if id in shelf.tombs or id in shelf.answers or id in shelf.dead:
                return "done"
            if id in shelf.requests:
                return "duplicate"
            shelf.last_place += 1
            shelf.requests[id] = Request(shelf.last_place, sealed)
            if due is not None and due > self._clock():
                shelf.later.add(id, due)
            else:
                shelf.ready["fresh"].add(id, shelf.last_place)
                shelf.ring()
            return "new"

    def submit_within(
        self, connection: Any, id: str, sealed: bytes, *, due: float | None = None
    ) -> SubmitAnswer:
        raise ConfigurationError(
            "MemoryHuey has no transactions to store a request in; SqliteHuey and PostgresHuey do"
        )

    def register(self, owner: str, info: bytes) -> None:
        with self._shelf.changed:
            self._forget_old()
            if owner in self._shelf.reaped:
                raise Fenced(owner)
            living = self._shelf.owners.setdefault(owner, Owner(info))
            living.info, living.beat_at = info, self._clock()

    def beat(self, owner: str, info: bytes) -> Beat:
        with self._shelf.changed:
            living = self._living(owner)
            living.beat += 1
            living.info, living.beat_at = info, self._clock()
            return Beat(held=len(living.held))

    def claim(self, owner: str, lane: Lane, limit: int) -> list[Lease]:
        with self._shelf.changed:
            living = self._living(owner)
            self._bring_due()
            leases: list[Lease] = []
            while len(leases) < limit:
                id = self._shelf.ready[lane].pop(float("inf"))
                if id is None:
                    break
                request = self._shelf.requests[id]
                request.owner = owner
                request.epoch += 1
                living.held.add(id)
                self._shelf.held += 1
                leases.append(_lease(id, request))
            if len(self._shelf.ready[lane]):
                self._shelf.ring()  # Another consumer may take the rest.
            return leases

    def settle(self, owner: str, settlements: Sequence[Settlement]) -> list[SettleAnswer]:
        with self._shelf.changed:
            return [self._settle(one) for one in settlements]

    def _settle(self, one: Settlement) -> SettleAnswer:
        request = self._shelf.requests.get(one.id)
        if request is None:
            self._forget_old()
            return "again" if self._answered_at(one.id) == one.epoch else "gone"
        if request.epoch != one.epoch:
            return "stale"
        self._answer(one)
        return "ok"

    def _answered_at(self, id: str) -> int | None:
        """The epoch at which ``id`` was answered, as far as it is known."""
        kept = self._shelf.answers.get(id) or self._shelf.dead.get(id)
        epoch, _ = self._shelf.tombs.get(id, (None, 0.0))
        return kept.epoch if kept else epoch

    def release(
        self,
        owner: str,
        leases: Sequence[tuple[str, int]],
        *,
        strike: bool,
        pause: float = 0.0,
    ) -> int:
        with self._shelf.changed:
            due = self._clock() + pause if pause else None
            released = 0
            for id, epoch in leases:
                request = self._shelf.requests.get(id)
                if request is None or (request.owner, request.epoch) != (owner, epoch):
                    continue
                self._shelf.put_back(id, strike=strike, due=due)
                released += 1
            if released:
                self._shelf.ring()
            return released

    def reap(self, owner: str, beat_seen: int) -> bool:
        with self._shelf.changed:
            silent = self._shelf.owners.get(owner)
            if silent is None or silent.beat != beat_seen:
                return False
            for id in list(silent.held):
                self._shelf.put_back(id, strike=True)
            del self._shelf.owners[owner]
            self._shelf.reaped[owner] = self._clock()
            self._shelf.ring()
            return True

    def cancel(
        self,
        id: str,
        message: bytes,
        priority: float | None = None,
        *,
        receipt: float | None = None,
    ) -> bool:
        with self._shelf.changed:
            if id not in self._shelf.requests:
                return False
            # No claim has this epoch, so every later settlement is "gone".
            self._answer(
                Settlement(id=id, epoch=-1, message=message, priority=priority, receipt=receipt)
            )
            return True

    def read(self, id: str) -> bytes | None:
        with self._shelf.changed:
            request = self._shelf.requests.get(id)
            return None if request is None else request.sealed

    def ids(self, after: str = "", limit: int = 500) -> tuple[list[str], str]:
        with self._shelf.changed:
            found = sorted(id for id in self._shelf.requests if id > after)[:limit]
            return found, found[-1] if len(found) == limit else ""

    def reseal(self, id: str, old: bytes, new: bytes) -> bool:
        with self._shelf.changed:
            request = self._shelf.requests.get(id)
            if request is None or request.sealed != old:
                return False
            request.sealed = new
            return True

    def counts(self) -> Counts:
        with self._shelf.changed:
            self._bring_due()
            return Counts(
                fresh=len(self._shelf.ready["fresh"]),
                suspect=len(self._shelf.ready["suspect"]),
                later=len(self._shelf.later),
                held=self._shelf.held,
                receipts=len(self._shelf.answers),
                dead=len(self._shelf.dead),
            )

    def owners(self) -> list[OwnerSeen]:
        with self._shelf.changed:
            now = self._clock()
            return [
                OwnerSeen(
                    id=id,
                    beat=one.beat,
                    held=len(one.held),
                    info=one.info,
                    silent=max(now - one.beat_at, 0.0),
                )
                for id, one in self._shelf.owners.items()
            ]

    def held(self, owner: str | None = None) -> list[Held]:
        with self._shelf.changed:
            names = [owner] if owner is not None else list(self._shelf.owners)
            return [
                Held(id=id, owner=name, epoch=request.epoch, strikes=request.strikes)
                for name in names
                if name in self._shelf.owners
                for id in self._shelf.owners[name].held
                for request in [self._shelf.requests[id]]
            ]

    def wait(self, timeout: float) -> bool:
        if gevent_has_patched():
            return self._wait_by_looking(timeout)
        with self._shelf.changed:
            rung = self._shelf.changed.wait_for(self._has_rung, max(timeout, 0.0))
            self._rings_seen = self._shelf.rings
            return rung

    def _wait_by_looking(self, timeout: float) -> bool:
        # Under gevent a condition does not reach from a greenlet to a native thread.
        deadline = time.monotonic() + timeout
        while not self._has_rung():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(0.02, left))
        self._rings_seen = self._shelf.rings
        return True

    def _has_rung(self) -> bool:
        return self._shelf.rings != self._rings_seen

    def check(self) -> list[str]:
        return [
            "Requests are kept in memory and end with this process; "
            "use SqliteHuey, RedisHuey or PostgresHuey to keep them longer."
        ]

    def close(self) -> None:
        """Nothing to close; what is held stays."""

    def forget_parent(self) -> None:
        # The state may have been copied in the middle of a change.  It is of no
        # use in a child anyway: nobody there carries requests, and the parent
        # never learns of what a child stores.  Only the lock must not hang.
        self._shelf.changed = threading.Condition(native_lock())

    def _living(self, owner: str) -> Owner:
        living = self._shelf.owners.get(owner)
        if living is None:
            raise Fenced(owner)
        return living

    def _bring_due(self) -> None:
        now = self._clock()
        while (id := self._shelf.later.pop(now)) is not None:
            request = self._shelf.requests[id]
            self._shelf.ready[request.lane].add(id, request.place)

    def _answer(self, one: Settlement) -> None:
        # First what may fail (a subclass may refuse); then nothing is half done.
        self._storage.enqueue(one.message, one.priority)
        self._shelf.take_away(one.id)
        del self._shelf.requests[one.id]
        self._shelf.tombs[one.id] = (one.epoch, self._clock())
        if one.receipt is not None:
            self._keep(one, self._clock() + one.receipt)

    def _forget_old(self) -> None:
        oldest = self._clock() - TOMBSTONE_SECONDS
        while self._shelf.tombs:
            id, (_, at) = next(iter(self._shelf.tombs.items()))
            if at > oldest:
                break
            del self._shelf.tombs[id]
        while self._shelf.reaped:
            owner, at = next(iter(self._shelf.reaped.items()))
            if at > oldest:
                break
            del self._shelf.reaped[owner]


def _lease(id: str, request: Request) -> Lease:
    return Lease(id=id, epoch=request.epoch, strikes=request.strikes, sealed=request.sealed)
