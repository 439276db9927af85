"""The courier: one thread in the consumer that carries sealed bytes.

    store  --claim-->   courier  --pipe-->  I/O process
    store  <--settle--  courier  <--pipe--  I/O process

It opens no envelope and performs no HTTP.  Everything it knows is held twice:
here for speed, in the store for good; so losing this thread, or the whole
consumer, costs time and never a request.

All state belongs to the courier's own thread.  Other threads only set a flag
and ring the wake pipe, so there is no lock that a fork could copy while it is
held, or that a greenlet and a thread could share.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from .bell import Bell
from .errors import StoreUnavailable
from .lines import Flight, Io, Line
from .native import NativeThread, WakePipe, original
from .owner import Owner, Watch
from .porters import MOST_PARKED, Payloads, Porters
from .receipts import MOST_DELIVERIES, waiting_seconds
from .returns import Returns
from .settings import Settings
from .stores.base import Fenced, Settlement, Store
from .wire import Reason

__all__ = ["Courier", "Ports"]

log = logging.getLogger("huey.patient")

#: Messages in one settling step: one round trip, or one fsync, for all of them.
SETTLE_BATCH = 64
#: Bytes of outcomes in one settling step, if there is more than one: SQLite keeps
#: everybody else from writing until the disk has all of it.
SETTLE_BYTES = 2_097_152
#: Messages put on the queue again in one step.
REDELIVER_BATCH = 64
#: Requests in one claim.
CLAIM_BATCH = 128
#: Seconds without suspects after which their I/O process is ended.
SUSPECT_IDLE_SECONDS = 30.0
#: Pauses while the store does not answer, doubling.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: The longest wait; whatever needs the courier sooner wakes it.
LONGEST_WAIT = 0.5
#: Seconds for giving requests back at the end; what remains, another consumer reaps.
HAND_BACK_SECONDS = 2.0
#: Seconds at the end for objects to be deleted; what remains, the sweep finds.
PORTERS_END_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the courier needs of those who may open envelopes or know Huey."""

    #: Makes the answer for Huey's queue of an id, an epoch, a reason and an envelope.
    settlement: Callable[[str, int, Reason, bytes], Settlement]
    #: Resolves the secrets that a sealed request names; returns them as JSON.
    secrets: Callable[[bytes], bytes]
    #: Whether a sealed request must be sent at most once.
    once: Callable[[bytes], bool]
    #: Whether a sealed request is of a version that only a newer consumer can open.
    is_newer: Callable[[bytes], bool]
    #: Told the ids whose messages were put on Huey's queue.
    settled: Callable[[list[str]], None]
    #: What the consumer says of itself, for `Patient.processes`.
    info: Callable[[], bytes]
    #: Knows the envelopes that lie outside of the database; None: there are none.
    payloads: Payloads | None = None


def _up_to_bytes(batch: list[tuple[Line, Flight]]) -> list[tuple[Line, Flight]]:
    """As many of ``batch`` as `SETTLE_BYTES` allow, and one at least."""
    size = 0
    for n, (_, flight) in enumerate(batch):
        assert flight.answer is not None
        size += len(flight.answer[1])
        if n and size > SETTLE_BYTES:
            return batch[:n]
    return batch


class Courier:
    """Carries until it is told to stop; `start` makes its thread."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        ports: Ports,
        *,
        fresh: Io,
        suspects: Io,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._ports = ports
        self._clock = clock
        self._fresh = Line("fresh", fresh)
        self._suspects = Line("suspect", suspects)
        self._lines = (self._fresh, self._suspects)
        self._answered: dict[str, tuple[Line, Flight]] = {}
        self._returns = Returns(store)
        threshold = settings.orphan_threshold
        self._owner = Owner(store, info=ports.info, orphan_threshold=threshold, clock=clock)
        self._watch = Watch(store, orphan_threshold=threshold, clock=clock)
        self._wake = WakePipe()
        self._bell = Bell(store, self._wake)
        self._porters = Porters(
            ports.payloads, self._wake, keep=settings.payload_store_keep, clock=clock
        )
        self._beat_due = self._poll_due = self._retry_at = self._suspects_idle_at = 0.0
        self._pause = 0.0
        self._quiet = False
        self._stop_at: float | None = None
        self._thread = NativeThread(self._run, name="huey-patient-courier")

    @property
    def running(self) -> bool:
        """Whether the courier's thread lives."""
        return self._thread.running

    @property
    def in_flight(self) -> int:
        """How many requests it holds."""
        return sum(len(line) for line in self._lines)

    @property
    def io(self) -> dict[str, Any]:
        """What the I/O process last said of itself."""
        return self._fresh.io.counters

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()
        self._bell.start()

    def quiet(self) -> None:
        """Claim nothing more; what is in flight goes on and is settled."""
        self._quiet = True
        self._wake.ring()

    def stop(self, *, within: float) -> None:
        """Claim nothing more, settle what completes ``within`` seconds, and give
        the rest back.  Returns at once; `join` waits.  A second call shortens
        the time."""
        self._quiet = True
        self._stop_at = self._clock() + within
        self._wake.ring()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread; whether it has ended."""
        return self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._finished():
                self._turn()
                self._wait()
            self._hand_back()
        except Exception:
            log.exception("The courier failed; the consumer starts another one.")
            self._try_to_hand_back()
        finally:
            self._bell.stop()
            self._porters.stop(within=PORTERS_END_SECONDS)
            for line in self._lines:
                line.io.stop()

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        nothing_left = not self.in_flight and not self._returns
        return nothing_left or self._clock() >= self._stop_at

    # One turn: hear the processes, then the store, then send.

    def _turn(self) -> None:
        for line in self._lines:
            self._hear(line)
        if self._owner.out_of_touch:
            self._fence("the store has not confirmed that it lives")
        for line, flight in self._porters.take_in():
            self._answered[flight.lease.id] = line, flight
        self._with_store()
        self._porters.tend(self._credit())
        self._launch()

    def _hear(self, line: Line) -> None:
        line.io.tend()
        for arrival in line.io.take_outcomes():
            if (flight := line.land(arrival)) and not self._porters.land(line, flight):
                self._answered[flight.lease.id] = line, flight
        if death := line.io.take_death():
            lost = line.crash()
            self._returns.add(lost, strike=death == "failed")
            if lost:
                log.warning(
                    "%d requests were in the I/O process and will be sent again.", len(lost)
                )

    def _launch(self) -> None:
        for line in self._lines:
            for flight in line.launchable():
                lease = flight.lease
                secrets = self._ports.secrets(lease.sealed)
                sealed, flight.cargo = flight.cargo or lease.sealed, None
                line.io.send(lease.id, lease.epoch, secrets=secrets, sealed=sealed)
            line.io.flush()

    def _with_store(self) -> None:
        if self._clock() < self._retry_at:
            return
        try:
            self._keep_alive()
            self._give_back()
            # A connection that has become free is used again before the answer
            # that it brought is settled: settling takes longer than claiming.
            self._claim()
            self._launch()
            self._settle()
        except StoreUnavailable as reason:
            if not self._pause:
                log.warning("The store does not answer (%s); outcomes are kept meanwhile.", reason)
            self._pause = min(max(FIRST_PAUSE, self._pause * 2), LONGEST_PAUSE)
            self._retry_at = self._clock() + self._pause
        except Fenced:
            self._fence("other consumers took it for dead")
        else:
            if self._pause:
                log.info("The store answers again.")
            self._pause = 0.0

    def _keep_alive(self) -> None:
        now = self._clock()
        if not self._owner.registered:
            self._owner.register()
            self._beat_due = now + self._settings.heartbeat_interval
            # What an earlier name of ours has brought home, before it is claimed anew.
            self._settle()
        elif now >= self._beat_due:
            beat = self._owner.beat()
            self._beat_due = now + self._settings.heartbeat_interval
            if beat.held != len(self._known()):
                self._reconcile()
            if self._watch.look(self._owner.id):
                self._suspects.hungry = True
            self._redeliver()
        if now >= self._poll_due:
            self._poll_due = now + self._store.poll_interval
            self._fresh.hungry = self._suspects.hungry = True

    def _redeliver(self) -> None:
        """Put messages on the queue again whose worker was lost."""
        again, dead = self._store.redeliver_due(
            REDELIVER_BATCH, waiting_seconds(self._settings), MOST_DELIVERIES
        )
        if again:
            log.warning("%d outcomes are overdue, and on the queue again.", again)
        if dead:
            log.error("%d outcomes took their workers down too often: dead letters.", dead)

    def _known(self) -> dict[str, int]:
        """What we believe to hold under our present name: id -> epoch."""
        flights = [flight for line in self._lines for flight in line.flights()]
        flights += self._returns.flights()
        return {f.lease.id: f.lease.epoch for f in flights if f.owner == self._owner.id}

    def _reconcile(self) -> None:
        """Bring our books in line with the store's, after a lost reply or a cancel."""
        held = {one.id: one.epoch for one in self._store.held(self._owner.id)}
        known = self._known()
        ghosts = [(id, epoch) for id, epoch in held.items() if known.get(id) != epoch]
        if ghosts:
            log.info("%d requests were claimed in a reply that never came.", len(ghosts))
            self._store.release(self._owner.id, ghosts, strike=False)
        for line in self._lines:
            for flight in list(line.flights()):
                mine = flight.owner == self._owner.id and flight.answer is None
                if mine and held.get(flight.lease.id) != flight.lease.epoch:
                    line.io.cancel(flight.lease.id)
                    line.drop(flight)

    def _give_back(self) -> None:
        if self._returns.give_back():
            self._suspects.hungry = True

    def _settle(self) -> None:
        while self._answered:
            owner = next(iter(self._answered.values()))[1].owner
            batch = [pair for pair in self._answered.values() if pair[1].owner == owner]
            batch = _up_to_bytes(batch[:SETTLE_BATCH])
            answers = self._store.settle(owner, [self._settlement(flight) for _, flight in batch])
            done: list[str] = []
            for (line, flight), answer in zip(batch, answers, strict=True):
                del self._answered[flight.lease.id]
                line.drop(flight)
                self._porters.settled(flight, taken=answer in ("ok", "again"))
                if answer == "ok":
                    done.append(flight.lease.id)
                elif answer in ("stale", "gone"):
                    log.info(
                        "The outcome of request %s came too late (%s).", flight.lease.id, answer
                    )
            self._ports.settled(done)

    def _settlement(self, flight: Flight) -> Settlement:
        assert flight.answer is not None
        return self._ports.settlement(*flight.key, *flight.answer)

    def _claim(self) -> None:
        if self._quiet:
            self._bell.listen(False)
            return
        self._tend_suspects()
        for line in self._lines:
            while line.hungry and line.io.ready and (room := self._room(line)) > 0:
                limit = min(room, CLAIM_BATCH)
                leases = self._store.claim(self._owner.id, line.lane, limit)
                line.hungry = len(leases) == limit
                for flight in [Flight(lease, self._owner.id) for lease in leases]:
                    if self._ports.is_newer(flight.lease.sealed):
                        self._put_off(flight)
                    else:
                        self._board(line, flight)
                if self._returns:
                    self._give_back()  # so that those put off leave their room to others
                    break  # there may be many, and other things to do
        self._bell.listen(not self._fresh.hungry and self._room(self._fresh) > 0)

    def _board(self, line: Line, flight: Flight) -> None:
        lease = flight.lease
        if lease.epoch > 1 and self._ports.once(lease.sealed):
            # Whoever had it before us may have sent it.
            flight.answer = Reason.INTERRUPTED, lease.sealed
        elif lease.strikes >= self._settings.max_attempts:
            flight.answer = Reason.ABANDONED, lease.sealed
        if flight.answer:
            self._answered[lease.id] = line, flight
        self._porters.board(line, flight)
        line.board(flight)

    def _put_off(self, flight: Flight) -> None:
        """Leave a request to a consumer that can open it: answering it would lose it."""
        first = not self._returns
        pause = self._returns.put_off(flight)
        if first:  # one line for all that were claimed with it
            log.warning(
                "Request %s is of a newer version of huey_patient: it waits for a consumer that "
                "can open it, and is looked at again in %.0f s.",
                flight.lease.id,
                pause,
            )

    def _tend_suspects(self) -> None:
        """Have an I/O process for suspects while there are any."""
        line = self._suspects
        if len(line):
            self._suspects_idle_at = self._clock() + SUSPECT_IDLE_SECONDS
        if line.io.ready:
            if self._clock() >= self._suspects_idle_at:
                line.io.stop()
        elif line.hungry:
            if self._store.counts().suspect:
                self._suspects_idle_at = self._clock() + SUSPECT_IDLE_SECONDS
                if line.io.seconds_to_start() is None:
                    line.io.start()
            line.hungry = False

    def _room(self, line: Line) -> int:
        # Those who wait for a store that fails hold a place only when they are many.
        parked_out = self._porters.parked >= MOST_PARKED
        return 0 if parked_out else line.room(self._credit())

    def _credit(self) -> int:
        # An answer that is not settled yet holds memory, and no connection.
        connections = self._settings.max_connections
        unsettled = min(len(self._answered), connections)
        places = connections + unsettled + self._porters.parked
        return places - self.in_flight - len(self._returns)

    def _fence(self, why: str) -> None:
        """Stop sending, and go on under a new name.

        Answers that are here already may still be settled: the store takes
        them as long as nobody has claimed the request again.
        """
        log.warning("This consumer stops all calls and begins anew: %s.", why)
        for line in self._lines:
            self._returns.add(line.ground(), strike=False)
        self._owner.registered = False

    def _wait(self) -> None:
        poller = original("select", "poll")()
        poller.register(self._wake.fileno(), select.POLLIN)
        for line in self._lines:
            for fd, writing in line.io.fds():
                poller.register(fd, select.POLLIN | (select.POLLOUT if writing else 0))
        poller.poll(self._seconds_to_wait() * 1000)
        # Before anything is looked at that a ring may have been about: who rings
        # sets first, so a ring that is silenced here has been seen below.
        self._wake.hush()
        if self._bell.take():
            self._fresh.hungry = True

    def _seconds_to_wait(self) -> float:
        now = self._clock()
        if now >= self._retry_at and not self._quiet:
            for line in self._lines:
                if line.hungry and line.io.ready and self._room(line) > 0:
                    return 0.0
        # While the store is away, nothing that it is needed for is due.
        moments = [self._retry_at] if now < self._retry_at else [self._beat_due, self._poll_due]
        if self._stop_at is not None:
            moments.append(self._stop_at)
        pauses = [line.io.seconds_to_start() for line in self._lines]
        pauses.append(self._porters.seconds_to_wait(self._credit()))
        known = [pause for pause in pauses if pause is not None]
        return max(0.0, min([LONGEST_WAIT, *known, *(moment - now for moment in moments)]))

    def _hand_back(self) -> None:
        """Give back what is left, without a strike, and sign off."""
        deadline = self._clock() + HAND_BACK_SECONDS
        for line in self._lines:
            self._returns.add(line.ground(), strike=False)
            line.io.flush()
            # An outcome that could not be stowed goes in as it is: better a large
            # message than a second call.
            for flight in line.flights():
                self._answered.setdefault(flight.lease.id, (line, flight))
        if self._returns:
            log.info("%d requests in flight go back to the store.", len(self._returns))
        while self._clock() < deadline:
            try:
                self._settle()
                self._give_back()
                self._reconcile()
                self._sign_off()
            except StoreUnavailable:
                original("time", "sleep")(FIRST_PAUSE)
            else:
                return
        log.warning("The store does not answer; another consumer will take over what is left.")

    def _try_to_hand_back(self) -> None:
        """After a fault of ours; what is still held then is found when this owner falls silent."""
        try:
            self._hand_back()
        except Exception:
            log.exception("Not all of what the courier held could be given back.")

    def _sign_off(self) -> None:
        for seen in self._store.owners():
            if seen.id == self._owner.id and seen.held == 0:
                self._store.reap(seen.id, seen.beat)
