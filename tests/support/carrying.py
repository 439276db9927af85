"""A courier without processes: a clock that is set, an I/O process that is told
what to do, and a store that can be away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from huey.storage import MemoryStorage

from huey_patient.courier import Courier, Ports
from huey_patient.errors import StoreUnavailable
from huey_patient.porters import Payloads
from huey_patient.settings import Settings
from huey_patient.stores.base import Settlement
from huey_patient.stores.memory import MemoryStore
from huey_patient.wire import Reason


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Landed:
    """What an I/O process says of a request."""

    id: str
    epoch: int
    reason: Reason = Reason.OUTCOME
    sealed: bytes = b"outcome"


class FakeIo:
    """Does what the test says, and remembers what it was told (see `lines.Io`)."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.counters: dict[str, Any] = {}
        self.in_the_air: dict[str, int] = {}
        self.sent: list[str] = []
        self.secrets: dict[str, bytes] = {}
        self.canceled: list[str] = []
        self.starts = self.stops = self.aborts = 0
        self._outcomes: list[Landed] = []
        self._death: Literal["failed", "left"] | None = None

    def answer(self, *ids: str) -> None:
        """Have these requests answered, or all that are in the air."""
        for id in ids or list(self.in_the_air):
            self._outcomes.append(Landed(id, self.in_the_air.pop(id)))

    def say(self, *landed: Landed) -> None:
        """Say anything about any request."""
        self._outcomes += landed

    def die(self, how: Literal["failed", "left"] = "failed") -> None:
        """Die, with all that is in the air; a successor is ready at once."""
        self.in_the_air.clear()
        self._death = how

    def start(self) -> None:
        self.starts += 1
        self.ready = True

    def stop(self) -> None:
        self.stops += 1
        self.ready = False
        self.in_the_air.clear()

    def tend(self) -> None:
        pass

    def take_death(self) -> Literal["failed", "left"] | None:
        death, self._death = self._death, None
        return death

    def take_outcomes(self) -> Sequence[Landed]:
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def send(self, id: str, epoch: int, *, secrets: bytes, sealed: bytes) -> None:
        self.in_the_air[id] = epoch
        self.sent.append(id)
        self.secrets[id] = secrets

    def cancel(self, id: str) -> None:
        self.canceled.append(id)
        self.in_the_air.pop(id, None)

    def abort(self) -> None:
        self.aborts += 1
        self.in_the_air.clear()

    def flush(self) -> None:
        pass

    def fds(self) -> Sequence[tuple[int, bool]]:
        return ()

    def seconds_to_start(self) -> float | None:
        return None


class Flaky:
    """A store of which single methods can be away, or lose their replies."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.away: set[str] = set()  #: Methods that fail before they do anything.
        self.mute: set[str] = set()  #: Methods that fail after they have done it, once.
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self.away or "all" in self.away:
                raise StoreUnavailable("away")
            result = found(*args, **options)
            if name in self.mute:
                self.mute.discard(name)
                raise StoreUnavailable("the reply was lost")
            return result

        return call


class Bench:
    """A courier with everything around it, and no thread unless it is started."""

    def __init__(self, *, payloads: Payloads | None = None, **settings: Any) -> None:
        self.payloads = payloads
        self.clock = Clock()
        self.storage = MemoryStorage("bench")
        self.memory = MemoryStore(self.storage, clock=self.clock)
        self.store = Flaky(self.memory)
        self.settings = Settings(**{"heartbeat_interval": 5, "orphan_threshold": 30, **settings})
        self.once: set[bytes] = set()  #: Sealed requests that may be sent at most once.
        self.newer: set[bytes] = set()  #: Sealed requests of a newer version.
        self.told: list[str] = []  #: Ids of which `Ports.settled` was told.
        self.fresh, self.suspects = FakeIo(), FakeIo(ready=False)
        self.courier = self.another()

    def another(self, *, fresh: FakeIo | None = None) -> Courier:
        """A courier on the same store."""
        ports = Ports(
            settlement=_settlement,
            secrets=lambda sealed: b"secrets of " + sealed,
            once=self.once.__contains__,
            is_newer=self.newer.__contains__,
            settled=self.told.extend,
            info=lambda: b"{}",
            payloads=self.payloads,
        )
        return Courier(
            self.store,  # type: ignore[arg-type]
            self.settings,
            ports,
            fresh=fresh or self.fresh,
            suspects=self.suspects,
            clock=self.clock,
        )

    def submit(self, *ids: str) -> None:
        for id in ids:
            self.memory.submit(id, id.encode())

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.courier._turn()

    def turn_until(self, done: Callable[[], object]) -> None:
        """Turn whenever the courier is rung, until the porters have brought what is due."""
        self.turn()
        while not done():
            self.courier._wait()
            self.turn()

    def beat(self) -> None:
        """Let the next beat come, and everything else that is due by then."""
        self.clock.pass_(self.settings.heartbeat_interval)
        self.turn()

    def pass_a_pause(self) -> None:
        """Let the pause pass that a store gets which was away."""
        self.clock.pass_(6)
        self.turn()

    def queued(self) -> dict[str, str]:
        """Take what is on Huey's queue: id -> reason; fails when one is there twice."""
        found: dict[str, str] = {}
        while (message := self.storage.dequeue()) is not None:
            id, reason, _ = orjson.loads(message)
            assert id not in found
            found[id] = reason
        return found

    def strikes(self) -> dict[str, int]:
        """Strikes of everything that is ready; takes it all."""
        self.memory.register("the test", b"")
        leases = [
            lease
            for lane in ("fresh", "suspect")
            for lease in self.memory.claim("the test", lane, 1000)  # type: ignore[arg-type]
        ]
        return {lease.id: lease.strikes for lease in leases}


def _settlement(id: str, epoch: int, reason: Reason, envelope: bytes) -> Settlement:
    message = orjson.dumps([id, str(reason), envelope.decode()])
    return Settlement(id=id, epoch=epoch, message=message)
