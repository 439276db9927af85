"""Requests in this process's memory, for MemoryHuey, immediate mode and tests.

It keeps the whole contract but one word: what it holds ends with the process.
All state is guarded by one lock, so every call happens at one moment.
"""

from __future__ import annotations

import heapq
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    Store,
    SubmitAnswer,
)
from .sharing import kind_of_thread, native_lock, tell_after_fork

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Request:
    place: int
    sealed: bytes
    epoch: int = 0
    strikes: int = 0
    owner: str | None = None

    @property
    def lane(self) -> Lane:
        return "suspect" if self.strikes else "fresh"


@dataclass(slots=True)
class _Owner:
    info: bytes
    beat: int = 1
    held: set[str] = field(default_factory=set)


class _Lane:
    """Ids in the order of their places; each operation costs log n."""

    def __init__(self) -> None:
        self._places: dict[str, float] = {}
        # An id that was removed stays in the heap until it comes up.
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, id: str, place: float) -> None:
        self._places[id] = place
        heapq.heappush(self._heap, (place, id))

    def remove(self, id: str) -> None:
        self._places.pop(id, None)

    def pop(self, up_to: float) -> str | None:
        """Remove and return the first id, if its place is not above ``up_to``."""
        while self._heap and self._heap[0][0] <= up_to:
            place, id = heapq.heappop(self._heap)
            if self._places.get(id) == place:
                del self._places[id]
                return id
        return None


class _Shelf:
    """What is held for one `MemoryStorage`, by all its stores together."""

    def __init__(self) -> None:
        self.changed = threading.Condition(native_lock())
        self.rings = 0  # Grows whenever something may have become ready.
        self.last_place = 0
        self.requests: dict[str, _Request] = {}
        self.ready: dict[Lane, _Lane] = {"fresh": _Lane(), "suspect": _Lane()}
        self.later = _Lane()
        self.owners: dict[str, _Owner] = {}
        self.held = 0
        # Oldest first; the value is (epoch, when) or just when.
        self.tombs: dict[str, tuple[int, float]] = {}
        self.reaped: dict[str, float] = {}

    def ring(self) -> None:
        self.rings += 1
        self.changed.notify_all()

    def put_back(self, id: str, *, strike: bool) -> None:
        request = self.requests[id]
        self.take_away(id)
        request.strikes += strike
        self.ready[request.lane].add(id, request.place)

    def take_away(self, id: str) -> None:
        """Remove ``id`` from wherever it is, its request apart."""
        request = self.requests[id]
        if request.owner is not None:
            self.owners[request.owner].held.discard(id)
            self.held -= 1
            request.owner = None
        self.ready[request.lane].remove(id)
        self.later.remove(id)


# Kept per storage and not per store, so that the store of a web view and the
# store of a consumer in one process see the same requests.
_shelves: weakref.WeakKeyDictionary[Any, _Shelf] = weakref.WeakKeyDictionary()


class MemoryStore(Store):
    """The store of a `MemoryStorage`."""

    def __init__(self, storage: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._shelf = _shelves.setdefault(storage, _Shelf())
        self._rings_seen = 0
        tell_after_fork(self)

    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        with self._shelf.changed:
            shelf = self._shelf
            self._forget_old()
            if id in shelf.tombs:
                return "done"
            if id in shelf.requests:
                return "duplicate"
            shelf.last_place += 1
            shelf.requests[id] = _Request(shelf.last_place, sealed)
            if due is not None and due > self._clock():
                shelf.later.add(id, due)
            else:
                shelf.ready["fresh"].add(id, shelf.last_place)
                shelf.ring()
            return "new"

    def register(self, owner: str, info: bytes) -> None:
        with self._shelf.changed:
            self._forget_old()
            if owner in self._shelf.reaped:
                raise Fenced(owner)
            self._shelf.owners.setdefault(owner, _Owner(info)).info = info

    def beat(self, owner: str, info: bytes) -> Beat:
        with self._shelf.changed:
            living = self._living(owner)
            living.beat += 1
            living.info = info
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
            epoch, _ = self._shelf.tombs.get(one.id, (None, 0.0))
            return "again" if epoch == one.epoch else "gone"
        if request.epoch != one.epoch:
            return "stale"
        self._answer(one.id, one.epoch, one.message, one.priority)
        return "ok"

    def release(self, owner: str, leases: Sequence[tuple[str, int]], *, strike: bool) -> int:
        with self._shelf.changed:
            released = 0
            for id, epoch in leases:
                request = self._shelf.requests.get(id)
                if request is None or (request.owner, request.epoch) != (owner, epoch):
                    continue
                self._shelf.put_back(id, strike=strike)
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

    def cancel(self, id: str, message: bytes, priority: float | None = None) -> bool:
        with self._shelf.changed:
            if id not in self._shelf.requests:
                return False
            # No claim has this epoch, so every later settlement is "gone".
            self._answer(id, -1, message, priority)
            return True

    def read(self, id: str) -> bytes | None:
        with self._shelf.changed:
            request = self._shelf.requests.get(id)
            return None if request is None else request.sealed

    def counts(self) -> Counts:
        with self._shelf.changed:
            self._bring_due()
            return Counts(
                fresh=len(self._shelf.ready["fresh"]),
                suspect=len(self._shelf.ready["suspect"]),
                later=len(self._shelf.later),
                held=self._shelf.held,
            )

    def owners(self) -> list[OwnerSeen]:
        with self._shelf.changed:
            return [
                OwnerSeen(id=id, beat=one.beat, held=len(one.held), info=one.info)
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
        if kind_of_thread():
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

    def close(self) -> None:
        """Nothing to close; what is held stays."""

    def forget_parent(self) -> None:
        # The state may have been copied in the middle of a change.  It is of no
        # use in a child anyway: nobody there carries requests, and the parent
        # never learns of what a child stores.  Only the lock must not hang.
        self._shelf.changed = threading.Condition(native_lock())

    def _living(self, owner: str) -> _Owner:
        living = self._shelf.owners.get(owner)
        if living is None:
            raise Fenced(owner)
        return living

    def _bring_due(self) -> None:
        now = self._clock()
        while (id := self._shelf.later.pop(now)) is not None:
            self._shelf.ready["fresh"].add(id, self._shelf.requests[id].place)

    def _answer(self, id: str, epoch: int, message: bytes, priority: float | None) -> None:
        # First what may fail (a subclass may refuse); then nothing is half done.
        self._storage.enqueue(message, priority)
        self._shelf.take_away(id)
        del self._shelf.requests[id]
        self._shelf.tombs[id] = (epoch, self._clock())

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


def _lease(id: str, request: _Request) -> Lease:
    return Lease(id=id, epoch=request.epoch, strikes=request.strikes, sealed=request.sealed)
