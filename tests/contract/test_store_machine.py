"""Any sequence of calls, over every backend, beside a model of what must happen.

After each step Huey's real queue, the counts and what is held are compared with
the model; at the end everything is answered, and each accepted request must
have been answered exactly once.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.backends import BACKENDS, open_backend

from huey_patient.stores.base import Counts, Fenced, Held, Lease, Settlement

FAR = 10.0**6
CANCELED = -1


@dataclass
class Row:
    """What the model knows of one request that is not answered."""

    place: int
    sealed: bytes
    later: bool = False
    epoch: int = 0
    strikes: int = 0
    owner: str | None = None

    @property
    def lane(self) -> str:
        if self.owner is not None:
            return "held"
        if self.later:
            return "later"
        return "suspect" if self.strikes else "fresh"


class StoreMachine(RuleBasedStateMachine):
    """One store, and beside it the model."""

    opened = None  #: Opens an empty backend.

    @initialize()
    def begin(self):
        self.backend = self.opened()
        self.store = self.backend.store
        self.numbers = itertools.count(1)
        self.rows: dict[str, Row] = {}
        self.answered: dict[str, int] = {}
        self.beats: dict[str, int] = {}
        self.reaped: set[str] = set()
        self.seen: list[tuple[str, int]] = []
        self.leases: list[tuple[str, Lease]] = []
        self.expected: list[bytes] = []
        self.messages: list[bytes] = []

    # What the model expects.

    def ready(self, lane):
        return sorted((r.place, id) for id, r in self.rows.items() if r.lane == lane)

    def held_by(self, owner):
        return [id for id, row in self.rows.items() if row.owner == owner]

    def some_owner(self, data, *, living=False):
        names = sorted(self.beats) + ([] if living else sorted(self.reaped))
        return data.draw(st.sampled_from([*names, *([] if living else ["stranger"])]))

    def answer_of(self, id, epoch):
        if id in self.rows:
            return "ok" if self.rows[id].epoch == epoch else "stale"
        return "again" if self.answered.get(id) == epoch else "gone"

    def answer(self, id, epoch, message):
        del self.rows[id]
        self.answered[id] = epoch
        self.expected.append(message)

    def put_back(self, id, strike):
        self.rows[id].owner = None
        self.rows[id].strikes += strike

    # Rules.

    @rule(later=st.booleans(), size=st.integers(0, 300))
    def submit(self, later, size):
        n = next(self.numbers)
        id, sealed = f"r{n}", bytes([n % 256]) * size

        due = time.time() + FAR if later else None
        assert self.store.submit(id, sealed, due=due) == "new"

        self.rows[id] = Row(n, sealed, later)

    @precondition(lambda self: self.rows or self.answered)
    @rule(data=st.data())
    def submit_again(self, data):
        id = data.draw(st.sampled_from(sorted({*self.rows, *self.answered})))

        answer = self.store.submit(id, b"other")

        assert answer == ("duplicate" if id in self.rows else "done")

    @rule()
    def register(self):
        name = f"o{next(self.numbers)}"
        self.store.register(name, name.encode())
        self.beats[name] = 1

    @rule(data=st.data())
    def register_again(self, data):
        name = self.some_owner(data)
        if name in self.reaped:
            with pytest.raises(Fenced):
                self.store.register(name, b"")
        else:
            self.store.register(name, b"")
            self.beats.setdefault(name, 1)

    @rule(data=st.data())
    def beat(self, data):
        name = self.some_owner(data)
        if name in self.beats:
            assert self.store.beat(name, b"").held == len(self.held_by(name))
            self.beats[name] += 1
        else:
            with pytest.raises(Fenced):
                self.store.beat(name, b"")

    @rule(data=st.data(), lane=st.sampled_from(["fresh", "suspect"]), limit=st.integers(0, 4))
    def claim(self, data, lane, limit):
        name = self.some_owner(data)
        if name in self.beats:
            self.claim_as(name, lane, limit)
        else:
            with pytest.raises(Fenced):
                self.store.claim(name, lane, limit)

    def claim_as(self, name, lane, limit):
        expected = []
        for _, id in self.ready(lane)[:limit]:
            row = self.rows[id]
            row.owner, row.epoch = name, row.epoch + 1
            expected.append(Lease(id=id, epoch=row.epoch, strikes=row.strikes, sealed=row.sealed))
        assert self.store.claim(name, lane, limit) == expected
        self.leases += [(name, lease) for lease in expected]
        return expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), times=st.integers(1, 2))
    def settle(self, data, times):
        chosen = data.draw(
            st.lists(st.sampled_from(range(len(self.leases))), min_size=1, max_size=3)
        )
        owner = self.leases[chosen[0]][0]
        for _ in range(times):
            self.settle_as(owner, [self.leases[i][1] for i in chosen])

    def settle_as(self, owner, leases):
        batch, expected = [], []
        for lease in leases:
            message = f"{lease.id}@{lease.epoch}".encode()
            batch.append(Settlement(id=lease.id, epoch=lease.epoch, message=message))
            expected.append(self.answer_of(lease.id, lease.epoch))
            if expected[-1] == "ok":
                self.answer(lease.id, lease.epoch, message)
        assert self.store.settle(owner, batch) == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), strike=st.booleans())
    def release(self, data, strike):
        holder, lease = data.draw(st.sampled_from(self.leases))
        owner = data.draw(st.sampled_from([holder, self.some_owner(data)]))
        row = self.rows.get(lease.id)
        holds = row is not None and (row.owner, row.epoch) == (owner, lease.epoch)

        released = self.store.release(owner, [(lease.id, lease.epoch)], strike=strike)

        assert released == int(holds)
        if holds:
            self.put_back(lease.id, strike)

    @rule()
    def observe(self):
        seen = [(owner.id, owner.beat) for owner in self.store.owners()]
        assert dict(seen) == self.beats
        self.seen += seen

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def reap(self, data):
        name, beat = data.draw(st.sampled_from(self.seen))
        self.reap_as(name, beat)

    def reap_as(self, name, beat):
        wins = self.beats.get(name) == beat

        assert self.store.reap(name, beat) == wins

        if wins:
            for id in self.held_by(name):
                self.put_back(id, True)
            del self.beats[name]
            self.reaped.add(name)

    @precondition(lambda self: self.rows or self.answered)
    @rule(data=st.data())
    def cancel(self, data):
        id = data.draw(st.sampled_from(sorted({*self.rows, *self.answered})))
        message = f"{id} canceled".encode()

        assert self.store.cancel(id, message) == (id in self.rows)

        if id in self.rows:
            self.answer(id, CANCELED, message)

    @rule(by_reap=st.booleans())
    def zombie(self, by_reap):
        """A holder loses its request, another takes it, and the first one wakes.

        The plain rules find this order too seldom to be relied upon.
        """
        late, now = f"o{next(self.numbers)}", f"o{next(self.numbers)}"
        for name in (late, now):
            self.store.register(name, b"")
            self.beats[name] = 1
        self.submit(False, 3)
        lost = self.claim_as(late, "fresh", 99)
        if by_reap:
            self.reap_as(late, 1)
        else:
            leases = [(lease.id, lease.epoch) for lease in lost]
            assert self.store.release(late, leases, strike=True) == len(lost)
            for lease in lost:
                self.put_back(lease.id, True)
        self.claim_as(now, "suspect", 99)
        self.settle_as(late, lost)

    # What holds after each step.

    @invariant()
    def the_queue_is_as_expected(self):
        queued = self.backend.queued()
        assert queued == self.expected
        self.messages += queued
        self.expected = []

    @invariant()
    def the_counts_are_as_expected(self):
        lanes = Counter(row.lane for row in self.rows.values())
        expected = {lane: lanes[lane] for lane in ("fresh", "suspect", "later", "held")}
        assert self.store.counts() == Counts(**expected)

    @invariant()
    def everything_held_is_held_by_a_registered_owner(self):
        held = {one.id: one for one in self.store.held()}
        assert held == {
            id: Held(id=id, owner=row.owner, epoch=row.epoch, strikes=row.strikes)
            for id, row in self.rows.items()
            if row.owner is not None
        }
        assert {one.owner for one in held.values()} <= set(self.beats)

    def teardown(self):
        if not hasattr(self, "backend"):
            return
        try:
            self.answer_everything()
        finally:
            self.backend.close()

    def answer_everything(self):
        for name, beat in list(self.beats.items()):
            self.reap_as(name, beat)
        self.store.register("last", b"")
        self.beats["last"] = 1
        for lane in ("fresh", "suspect"):
            self.settle_as("last", self.claim_as("last", lane, 500))
        for id in list(self.rows):
            assert self.store.cancel(id, f"{id} canceled".encode())
            self.answer(id, CANCELED, f"{id} canceled".encode())

        self.the_queue_is_as_expected()
        self.the_counts_are_as_expected()
        answered = Counter(message.split(b"@")[0].split(b" ")[0] for message in self.messages)
        assert answered == Counter(id.encode() for id in self.answered)


@pytest.mark.parametrize("kind", BACKENDS)
def test_every_accepted_request_is_answered_exactly_once(kind, request):
    resource, _ = BACKENDS[kind]
    opened = resource and request.getfixturevalue(resource)

    class Machine(StoreMachine):
        def opened(self):
            return open_backend(kind, opened)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # Shrinking takes minutes, and 30 steps can be read as they are.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
