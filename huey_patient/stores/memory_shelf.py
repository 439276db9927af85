"""What a `MemoryStorage` has beside its queue: requests, owners, answers that are kept.

Everything here is changed under one lock, `Shelf.changed`, and each method is
called with it held.
"""

from __future__ import annotations

import heapq
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from .base import Lane
from .sharing import native_lock

__all__ = ["Answer", "Owner", "Request", "Row", "Shelf", "shelf_of"]


@dataclass(slots=True)
class Request:
    place: int
    sealed: bytes
    epoch: int = 0
    strikes: int = 0
    owner: str | None = None

    @property
    def lane(self) -> Lane:
        return "suspect" if self.strikes else "fresh"


@dataclass(slots=True)
class Owner:
    info: bytes
    beat: int = 1
    beat_at: float = 0.0
    held: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Answer:
    """One that is kept until it is delivered, or given up."""

    epoch: int
    message: bytes
    priority: float | None
    due: float  #: Of a dead letter: since when it is one.
    running: bool = False
    deliveries: int = 1
    lost: int = 0  #: Deliveries that were begun, and their workers lost.


class Row:
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


class Shelf:
    """What is held for one `MemoryStorage`, by all its stores together."""

    def __init__(self) -> None:
        self.changed = threading.Condition(native_lock())
        self.rings = 0  # Grows whenever something may have become ready.
        self.last_place = 0
        self.requests: dict[str, Request] = {}
        self.ready: dict[Lane, Row] = {"fresh": Row(), "suspect": Row()}
        self.later = Row()
        self.owners: dict[str, Owner] = {}
        self.held = 0
        # Oldest first; the value is (epoch, when) or just when.
        self.tombs: dict[str, tuple[int, float]] = {}
        self.reaped: dict[str, float] = {}
        self.answers: dict[str, Answer] = {}
        self.answers_due = Row()
        self.dead: dict[str, Answer] = {}

    def ring(self) -> None:
        self.rings += 1
        self.changed.notify_all()

    def put_back(self, id: str, *, strike: bool, due: float | None = None) -> None:
        request = self.requests[id]
        self.take_away(id)
        request.strikes += strike
        if due is None:
            self.ready[request.lane].add(id, request.place)
        else:
            self.later.add(id, due)

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
_shelves: weakref.WeakKeyDictionary[Any, Shelf] = weakref.WeakKeyDictionary()


def shelf_of(storage: Any) -> Shelf:
    """The one shelf of ``storage``."""
    return _shelves.setdefault(storage, Shelf())
