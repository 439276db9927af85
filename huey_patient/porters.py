"""The porters: threads beside the courier that carry large envelopes.

    claim  --reference-->  fetch  --envelope-->  launch
    settle <--reference--  stow   <--envelope--  arrival

A payload store may take seconds, and the courier must beat meanwhile; the I/O
process has no stores.  So the courier sends *errands*: it goes on with whatever
needs none, and a request joins the others when its errand is done.

All state belongs to the courier's own thread, as there.  A thread here takes an
errand from a queue, does it, puts it among those done and rings the courier's
pipe.  It opens no envelope: what it calls does.

What fails is tried again, after pauses that grow for each errand by itself, so
one dead store holds up no other.  A request that waits so takes no place away
from others, for it holds a reference in memory and nothing more; an outcome
does, since it holds all of itself: when many cannot be stowed, nothing more is
claimed.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from .errors import EnvelopeError, PayloadLost, StoreUnavailable
from .lines import Flight, Line
from .native import NativeThread, WakePipe, original
from .wire import Reason

__all__ = ["MOST_PARKED", "Payloads", "Porters"]

log = logging.getLogger("huey.patient")

#: Errands at once.  An object store answers in some 30 ms, so eight of them move
#: a hundred large calls a second, both ways.
THREADS = 8
#: Pauses of one errand while its store fails, doubling.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
#: Requests that may wait for a failing store beside the places of `max_connections`.
MOST_PARKED = 1_000
#: Seconds between two sweeps, and before the first: a consumer that was away for
#: long shall work off what waits before anything is swept.
SWEEP_SECONDS = 3_600.0


class Payloads(Protocol):
    """Knows references; see `references.References`."""

    def takes(self, sealed: bytes) -> bool: ...
    def is_reference(self, sealed: bytes) -> bool: ...
    def fetch(self, id: str, sealed: bytes, purpose: str) -> bytes: ...
    def stow(self, id: str, sealed: bytes, purpose: str) -> bytes: ...
    def discard(self, id: str, sealed: bytes, purpose: str) -> None: ...
    def sweep(self, older_than: float) -> None: ...


@dataclass(slots=True, eq=False)
class _Errand:
    """Something to do elsewhere, for a flight or for nobody."""

    work: Callable[[], Any]
    line: Line | None = None
    flight: Flight | None = None
    failures: int = 0
    result: Any = field(default=None, repr=False)
    error: Exception | None = None

    @property
    def is_fetch(self) -> bool:
        return self.flight is not None and self.flight.waits

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return self.line is None or self.flight is None or self.line.holds(self.flight)


class Porters:
    """Does errands for one courier, which calls all of this on its own thread."""

    def __init__(
        self,
        payloads: Payloads | None,
        wake: WakePipe,
        *,
        keep: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._payloads = payloads
        self._wake = wake
        self._keep = keep
        self._clock = clock
        self._sweep_at = clock() + SWEEP_SECONDS
        self._queue: Any = original("queue", "SimpleQueue")()
        self._done: deque[_Errand] = deque()
        self._threads: list[NativeThread] = []
        self._out = 0  # errands in the queue or in a thread's hands
        self._numbers = itertools.count()
        # (when, number, errand): those to be done, and failed fetches apart from
        # them, for they may go on only when there is a place for what they bring.
        self._due: list[tuple[float, int, _Errand]] = []
        self._parked: list[tuple[float, int, _Errand]] = []

    def board(self, line: Line, flight: Flight) -> None:
        """Have a request fetched, if it lies elsewhere; call it before it boards."""
        payloads, lease = self._payloads, flight.lease
        if payloads is None or flight.answer or not payloads.is_reference(lease.sealed):
            return
        flight.waits = True
        work = lambda: payloads.fetch(lease.id, lease.sealed, "request")  # noqa: E731
        self._ask(_Errand(work, line, flight))

    def land(self, line: Line, flight: Flight) -> bool:
        """Have an outcome stowed, if it is large; whether it must be waited for."""
        assert flight.answer is not None
        payloads, lease = self._payloads, flight.lease
        reason, sealed = flight.answer
        if reason is not Reason.OUTCOME:
            # Its own envelope came back, and is stowed already if it was large.
            flight.answer = reason, lease.sealed
            return False
        if payloads is None or not payloads.takes(sealed):
            return False
        work = lambda: payloads.stow(lease.id, sealed, "outcome")  # noqa: E731
        self._ask(_Errand(work, line, flight))
        return True

    def settled(self, flight: Flight, *, taken: bool) -> None:
        """Have the object deleted that nobody needs any more: of the request, or of
        an outcome that was not ``taken``."""
        payloads, id = self._payloads, flight.lease.id
        assert flight.answer is not None
        reason, answer = flight.answer
        if taken:
            purpose, sealed = "request", flight.lease.sealed
        elif reason is Reason.OUTCOME:
            purpose, sealed = "outcome", answer
        else:
            return
        if payloads is not None and payloads.is_reference(sealed):
            self._ask(_Errand(lambda: payloads.discard(id, sealed, purpose)))

    @property
    def parked(self) -> int:
        """How many requests wait for a store that fails."""
        if any(not one.wanted for _, _, one in self._parked):
            self._parked = [entry for entry in self._parked if entry[2].wanted]
            heapq.heapify(self._parked)
        return len(self._parked)

    def take_in(self) -> list[tuple[Line, Flight]]:
        """Note what was done; return the flights that can be settled now."""
        answered = []
        while self._done:
            errand = self._done.popleft()
            self._out -= 1
            if errand.line is None or errand.flight is None:
                if errand.error is not None:
                    log.error("A payload store was not tidied.", exc_info=errand.error)
            elif errand.wanted and self._is_answered(errand.line, errand.flight, errand):
                answered.append((errand.line, errand.flight))
        return answered

    def _is_answered(self, line: Line, flight: Flight, errand: _Errand) -> bool:
        """Hand over what an errand brought; whether that settles its flight."""
        if errand.error is None and errand.is_fetch:
            line.load(flight, errand.result)
            return False
        if errand.error is None:
            flight.answer = Reason.OUTCOME, errand.result
            return True
        if errand.is_fetch and isinstance(errand.error, (PayloadLost, EnvelopeError)):
            lost = isinstance(errand.error, PayloadLost)
            reason = Reason.PAYLOAD_LOST if lost else Reason.UNREADABLE
            flight.answer = reason, flight.lease.sealed
            return True
        self._postpone(flight, errand, errand.error)
        return False

    def _postpone(self, flight: Flight, errand: _Errand, reason: Exception) -> None:
        pause = min(FIRST_PAUSE * 2.0 ** min(errand.failures, 10), LONGEST_PAUSE)
        errand.failures, errand.error = errand.failures + 1, None
        if not isinstance(reason, StoreUnavailable):
            log.error("Request %s: a fault of ours", flight.lease.id, exc_info=reason)
        # Of a store that is away, one line for all that wait for it.
        alone = not self._parked and not any(one.failures for _, _, one in self._due)
        level = logging.WARNING if alone else logging.DEBUG
        log.log(level, "Request %s waits for its payload: %s", flight.lease.id, reason)
        where = self._parked if errand.is_fetch else self._due
        heapq.heappush(where, (self._clock() + pause, next(self._numbers), errand))

    def tend(self, room: int) -> None:
        """Send out what is due, while there are hands; ``room`` is for parked requests."""
        now = self._clock()
        if self._payloads is not None and now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            payloads, keep = self._payloads, self._keep
            self._ask(_Errand(lambda: payloads.sweep(keep)))
        while self._out < THREADS and self._due and self._due[0][0] <= now:
            self._send(heapq.heappop(self._due)[2])
        while self._out < THREADS and room > 0 and self._parked and self._parked[0][0] <= now:
            self._send(heapq.heappop(self._parked)[2])
            room -= 1

    def seconds_to_wait(self, room: int) -> float | None:
        """Until `tend` finds something to do; None when nothing is to come."""
        if self._out >= THREADS:
            return None  # the next one that is done rings
        heaps = (self._due, self._parked if room > 0 else [])
        moments = [heap[0][0] for heap in heaps if heap]
        return max(0.0, min(moments) - self._clock()) if moments else None

    def stop(self, *, within: float) -> None:
        """End the threads, and give what is out already so many seconds."""
        for _, _, errand in self._due:
            if errand.flight is None:
                self._queue.put(errand)
        self._due.clear()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + within
        while any(one.running for one in self._threads) and time.monotonic() < deadline:
            original("time", "sleep")(0.01)

    def _ask(self, errand: _Errand) -> None:
        heapq.heappush(self._due, (self._clock(), next(self._numbers), errand))

    def _send(self, errand: _Errand) -> None:
        if not errand.wanted:
            return
        self._out += 1
        if len(self._threads) < min(self._out, THREADS):
            thread = NativeThread(self._work, name=f"huey-patient-porter-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        self._queue.put(errand)

    def _work(self) -> None:
        while (errand := self._queue.get()) is not None:
            try:
                errand.result = errand.work()
            except Exception as reason:
                errand.error = reason
            self._done.append(errand)
            self._wake.ring()
