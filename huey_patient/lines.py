"""What is in the air: the two lines of the courier, and who may be sent when.

Fresh requests go to the one I/O process, as many as there is room for.
Requests whose process died under them are *suspects*: one of them may have
killed it.  They go to a second process, started for them and ended after them:
a few together at first, more with each that comes back, and one by one when
they have lost two processes.  So a request that kills its host takes no fresh
ones along, and few suspects.

Decisions only: this module knows no store, no clock and no thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .stores.base import Lane, Lease
from .wire import Reason

__all__ = ["Arrival", "Flight", "Io", "Line"]

#: Suspects that go out together at first: few enough to be sent one by one
#: afterwards, should one of them have killed its process again.
FIRST_SUSPECTS = 8
#: Lost processes from which on a suspect is sent alone.
ALONE_FROM_STRIKES = 2


class Arrival(Protocol):
    """How a request ended, as an I/O process tells it."""

    @property
    def id(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def reason(self) -> Reason: ...
    @property
    def sealed(self) -> bytes: ...


class Io(Protocol):
    """An I/O process and its successors; see `io_process.handle.IoProcess`."""

    ready: bool
    counters: dict[str, Any]

    def start(self) -> None: ...
    def tend(self) -> None: ...
    def take_death(self) -> Literal["failed", "left"] | None: ...
    def take_outcomes(self) -> Sequence[Arrival]: ...
    def send(self, id: str, epoch: int, *, secrets: bytes, sealed: bytes) -> None: ...
    def cancel(self, id: str) -> None: ...
    def abort(self) -> None: ...
    def flush(self) -> None: ...
    def fds(self) -> Sequence[tuple[int, bool]]: ...
    def seconds_to_start(self) -> float | None: ...
    def stop(self) -> None: ...


@dataclass(slots=True, eq=False)
class Flight:
    """A request in our hands."""

    lease: Lease
    owner: str  #: The name under which we claimed it.
    sent: bool = False
    #: Whether what is to be sent lies elsewhere and is not here yet.
    waits: bool = False
    #: What is sent in place of the lease's envelope, which refers to it.
    cargo: bytes | None = field(default=None, repr=False)
    answer: tuple[Reason, bytes] | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str, int]:
        """What the store wants to hear when the request is given back."""
        return self.lease.id, self.lease.epoch


class Line:
    """One lane of the store and the I/O process that serves it."""

    def __init__(self, lane: Lane, io: Io) -> None:
        self.lane: Lane = lane
        self.io = io
        self.hungry = True  #: Whether the store may have something for this line.
        self._flights: dict[str, Flight] = {}
        self._unsent: deque[Flight] = deque()
        self._window = FIRST_SUSPECTS

    def __len__(self) -> int:
        return len(self._flights)

    def flights(self) -> Iterable[Flight]:
        """Everything in the air, in the order it was claimed."""
        return self._flights.values()

    def room(self, credit: int) -> int:
        """How many more this line may hold when the courier may hold ``credit`` more."""
        if self.lane == "suspect":
            return min(credit, self._window - len(self._flights))
        return credit

    def board(self, flight: Flight) -> None:
        """Take in a request; `launchable` says when it may be sent."""
        self._flights[flight.lease.id] = flight
        if flight.answer is None and not flight.waits:
            self._unsent.append(flight)

    def load(self, flight: Flight, cargo: bytes) -> None:
        """Note that what a waiting request refers to has come; now it may be sent."""
        flight.waits, flight.cargo = False, cargo
        self._unsent.append(flight)

    def holds(self, flight: Flight) -> bool:
        """Whether this very flight is still ours."""
        return self._flights.get(flight.lease.id) is flight

    def launchable(self) -> list[Flight]:
        """Take the requests that may be sent now, marked as sent."""
        if not self.io.ready:
            return []
        launched: list[Flight] = []
        in_the_air = sum(flight.sent and flight.answer is None for flight in self.flights())
        while self._unsent and self._may_launch(self._unsent[0], in_the_air + len(launched)):
            flight = self._unsent.popleft()
            if self.holds(flight):
                flight.sent = True
                launched.append(flight)
        return launched

    def _may_launch(self, flight: Flight, in_the_air: int) -> bool:
        if in_the_air == 0 or self.lane == "fresh":
            return True
        if flight.lease.strikes >= ALONE_FROM_STRIKES:
            return False
        return not any(
            other.lease.strikes >= ALONE_FROM_STRIKES
            for other in self.flights()
            if other.sent and other.answer is None
        )

    def land(self, arrival: Arrival) -> Flight | None:
        """Note the answer of a request in the air; None when nobody waits for it."""
        flight = self._flights.get(arrival.id)
        if flight is None or flight.answer or flight.lease.epoch != arrival.epoch:
            return None
        flight.answer = arrival.reason, arrival.sealed
        self._window += 1
        return flight

    def crash(self) -> list[Flight]:
        """Take out the requests that were in the process when it died.

        Those not sent yet stay, for its successor; those answered stay answered.
        """
        lost = [flight for flight in self.flights() if flight.sent and flight.answer is None]
        for flight in lost:
            self.drop(flight)
        self._window = FIRST_SUSPECTS
        return lost

    def drop(self, flight: Flight) -> None:
        """Forget a request."""
        if self.holds(flight):
            del self._flights[flight.lease.id]

    def ground(self) -> list[Flight]:
        """Stop all sends, and take out every request that has no answer yet."""
        self.io.abort()
        grounded = [flight for flight in self.flights() if flight.answer is None]
        for flight in grounded:
            self.drop(flight)
        self._unsent.clear()
        return grounded
