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
from typing import Literal

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
from support.receipts import HOUR

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


@dataclass
class Kept:
    """What the model knows of one answer that is kept."""

    message: bytes
    state: Literal["waiting", "running", "dead"] = "waiting"
    overdue: bool = False
    deliveries: int = 1
    lost: int = 0

    def lost_now(self) -> int:
        """How many runs were lost, if it is overdue."""
        return self.lost + (self.state == "running")


#: Zero seconds are over at once, an hour is never over here; None: not kept.
SECONDS = st.sampled_from([0.0, HOUR])


#: The calls that are repeated when their reply is lost: what else each rule is given, and
#: what there must be to make it at all.
REPEATED = {
    "submit_again": ({}, lambda self: self.rows or self.answered),
    "register_again": ({}, lambda self: True),
    "beat": ({}, lambda self: True),
    "claim": (
        {"lane": st.sampled_from(["fresh", "suspect"]), "limit": st.integers(0, 4)},
        lambda self: True,
    ),
    "release": (
        {"strike": st.booleans(), "pause": st.sampled_from([0.0, FAR])},
        lambda self: self.leases,
    ),
    "reap": ({}, lambda self: self.seen),
    "cancel": (
        {"receipt": st.sampled_from([None, 0.0, HOUR])},
        lambda self: self.rows or self.answered,
    ),
    "begin_to_deliver": ({"seconds": SECONDS}, lambda self: self.kept),
    "extend_or_postpone": (
        {"seconds": SECONDS, "state": st.sampled_from(["running", "waiting"])},
        lambda self: self.kept,
    ),
    "confirm": ({}, lambda self: self.kept),
    "give_up": ({}, lambda self: self.kept),
    "revive": ({"seconds": SECONDS}, lambda self: self.dead_letters()),
    "discard": ({}, lambda self: self.dead_letters()),
}


class Remembering:
    """Draws for a rule; after `rewind`, the same once more."""

    def __init__(self, data):
        self._data = data
        self._drawn = []
        self._at = 0

    def draw(self, strategy):
        if self._at == len(self._drawn):
            self._drawn.append(self._data.draw(strategy))
        self._at += 1
        return self._drawn[self._at - 1]

    def rewind(self):
        self._at = 0


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
        self.kept: dict[str, Kept] = {}
        self.resent: Counter[bytes] = Counter()
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
    @rule(
        data=st.data(),
        times=st.integers(1, 2),
        receipt=st.sampled_from([None, 0.0, HOUR]),
    )
    def settle(self, data, times, receipt):
        chosen = data.draw(
            st.lists(st.sampled_from(range(len(self.leases))), min_size=1, max_size=3)
        )
        owner = self.leases[chosen[0]][0]
        for _ in range(times):
            self.settle_as(owner, [self.leases[i][1] for i in chosen], receipt)

    def settle_as(self, owner, leases, receipt=None):
        batch, expected = [], []
        for lease in leases:
            message = f"{lease.id}@{lease.epoch}".encode()
            batch.append(
                Settlement(id=lease.id, epoch=lease.epoch, message=message, receipt=receipt)
            )
            expected.append(self.answer_of(lease.id, lease.epoch))
            if expected[-1] == "ok":
                self.answer(lease.id, lease.epoch, message)
                if receipt is not None:
                    self.kept[lease.id] = Kept(message, overdue=not receipt)
        assert self.store.settle(owner, batch) == expected

    # Rules of the answers that are kept.

    def some_answer(self, data):
        return data.draw(st.sampled_from(sorted({*self.rows, *self.answered, *self.kept})))

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), seconds=SECONDS)
    def begin_to_deliver(self, data, seconds):
        id = self.some_answer(data)
        answer = self.kept.get(id)
        if answer is None or answer.state == "dead":
            assert self.store.begin(id, seconds) == "gone"
        elif answer.state == "running":
            assert self.store.begin(id, seconds) == "busy"
        else:
            assert self.store.begin(id, seconds) == "run"
            answer.state, answer.overdue = "running", not seconds

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), seconds=SECONDS, state=st.sampled_from(["running", "waiting"]))
    def extend_or_postpone(self, data, seconds, state):
        id = self.some_answer(data)
        answer = self.kept.get(id)
        renew = self.store.extend if state == "running" else self.store.postpone
        runs = answer is not None and answer.state == "running"

        assert renew(id, seconds) == runs

        if runs:
            answer.state, answer.overdue = state, not seconds

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def confirm(self, data):
        id = self.some_answer(data)

        assert self.store.confirm(id) == (id in self.kept)

        self.kept.pop(id, None)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def give_up(self, data):
        id = self.some_answer(data)
        answer = self.kept.get(id)
        alive = answer is not None and answer.state != "dead"

        assert self.store.give_up(id) == alive

        if alive:
            answer.state, answer.overdue = "dead", False

    @precondition(lambda self: self.kept)
    @rule(limit=st.integers(1, 4), seconds=SECONDS, most=st.integers(1, 4))
    def redeliver(self, limit, seconds, most):
        overdue = {id for id, answer in self.kept.items() if answer.overdue}

        queued, dead = self.store.redeliver_due(limit, seconds, most)

        # Which of them were the longest overdue, the model does not know.
        given_up = {one.id for one in self.store.dead_letters(999)} - self.dead_letters()
        messages = self.backend.queued()
        again = {message.split(b"@")[0].decode() for message in messages}
        assert (len(messages), len(given_up)) == (len(again), dead) == (queued, dead)
        assert queued + dead == min(limit, len(overdue))
        assert again | given_up <= overdue
        for id in given_up:
            assert self.kept[id].state == "running"
            assert self.kept[id].lost_now() >= most
            self.kept[id].state, self.kept[id].overdue = "dead", False
        for id in again:
            assert self.kept[id].state == "waiting" or self.kept[id].lost_now() < most
            self.kept[id].lost = self.kept[id].lost_now()
            self.deliver_again(id, seconds)
        assert sorted(messages) == sorted(self.kept[id].message for id in again)

    def deliver_again(self, id, seconds):
        answer = self.kept[id]
        answer.state, answer.overdue = "waiting", not seconds
        answer.deliveries += 1
        self.resent[answer.message] += 1

    @precondition(lambda self: self.dead_letters())
    @rule(data=st.data(), seconds=SECONDS)
    def revive(self, data, seconds):
        id = self.some_answer(data)
        letter = self.kept.get(id)
        dead = letter is not None and letter.state == "dead"

        assert self.store.revive(id, seconds) == dead

        if dead:
            letter.deliveries = letter.lost = 0
            self.deliver_again(id, seconds)
            assert self.backend.queued() == [letter.message]

    @precondition(lambda self: self.dead_letters())
    @rule(data=st.data())
    def discard(self, data):
        id = self.some_answer(data)
        dead = id in self.dead_letters()

        assert self.store.discard(id) == dead

        if dead:
            del self.kept[id]

    def dead_letters(self):
        return {id for id, answer in self.kept.items() if answer.state == "dead"}

    @rule(times=st.integers(1, 4), most=st.integers(1, 4))
    def killer(self, times, most):
        """A callback takes its workers down, one after the other, until it is given up.

        The plain rules find this order too seldom to be relied upon.
        """
        id = self.kept_by_a_new_owner()
        for _ in range(times):
            assert self.store.begin(id, 0.0) == "run"
            self.kept[id].state, self.kept[id].overdue = "running", True
            self.redeliver(99, HOUR, most)
            if self.kept[id].state == "dead":
                break
        assert (self.kept[id].state == "dead") == (times >= most)

    @rule()
    def late_worker(self):
        """A worker is lost, its message is sent again, and then it wakes and ends.

        The plain rules find this order too seldom to be relied upon.
        """
        id = self.kept_by_a_new_owner()
        assert self.store.begin(id, 0.0) == "run"
        self.kept[id].state, self.kept[id].overdue = "running", True
        for _ in range(2):  # The second time there is nothing to do.
            self.redeliver(99, HOUR, 5)
        assert not self.store.extend(id, HOUR)
        assert self.store.begin(id, HOUR) == "run"
        assert self.store.begin(id, HOUR) == "busy"
        assert self.store.confirm(id)
        assert not self.store.confirm(id)
        del self.kept[id]

    def kept_by_a_new_owner(self):
        owner = f"o{next(self.numbers)}"
        self.store.register(owner, b"")
        self.beats[owner] = 1
        self.submit(False, 3)
        *_, lease = self.claim_as(owner, "fresh", 99)
        self.settle_as(owner, [lease], HOUR)
        self.the_queue_is_as_expected()
        return lease.id

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), strike=st.booleans(), pause=st.sampled_from([0.0, FAR]))
    def release(self, data, strike, pause):
        holder, lease = data.draw(st.sampled_from(self.leases))
        owner = data.draw(st.sampled_from([holder, self.some_owner(data)]))
        row = self.rows.get(lease.id)
        holds = row is not None and (row.owner, row.epoch) == (owner, lease.epoch)

        released = self.store.release(owner, [(lease.id, lease.epoch)], strike=strike, pause=pause)

        assert released == int(holds)
        if holds:
            self.put_back(lease.id, strike)
            self.rows[lease.id].later = bool(pause)

    @rule()
    def observe(self):
        # In an order of our own: that of a table may differ when a case is played again.
        seen = sorted((owner.id, owner.beat) for owner in self.store.owners())
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
    @rule(data=st.data(), receipt=st.sampled_from([None, 0.0, HOUR]))
    def cancel(self, data, receipt):
        id = data.draw(st.sampled_from(sorted({*self.rows, *self.answered})))
        message = f"{id}@canceled".encode()

        assert self.store.cancel(id, message, receipt=receipt) == (id in self.rows)

        if id in self.rows:
            self.answer(id, CANCELED, message)
            if receipt is not None:
                self.kept[id] = Kept(message, overdue=not receipt)

    @rule(data=st.data())
    def replies_lost(self, data):
        """The store does as it was asked, its reply is lost, and the caller asks again.

        What the second call answers is what the model says of a call that comes later.
        """
        self.register()
        owner = list(self.beats)[-1]
        for receipt in (HOUR, None):
            self.submit(False, 3)
            leases = self.claim_as(owner, "fresh", 99)
            if receipt:
                self.settle_as(owner, leases, receipt)
        self.observe()
        for call in data.draw(st.permutations(list(REPEATED))):
            self.the_queue_is_as_expected()
            arguments, can_be = REPEATED[call]
            if can_be(self):
                given = {name: data.draw(strategy) for name, strategy in arguments.items()}
                draws = Remembering(data)
                for _ in range(2):
                    draws.rewind()
                    getattr(self, call)(draws, **given)

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
        dead = len(self.dead_letters())
        expected |= {"receipts": len(self.kept) - dead, "dead": dead}
        assert self.store.counts() == Counts(**expected)

    @invariant()
    def dead_letters_are_as_expected(self):
        assert {one.id: one.deliveries for one in self.store.dead_letters(999)} == {
            id: self.kept[id].deliveries for id in self.dead_letters()
        }

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
            assert self.store.cancel(id, f"{id}@canceled".encode())
            self.answer(id, CANCELED, f"{id}@canceled".encode())

        for id in list(self.kept):
            assert self.store.confirm(id)
            del self.kept[id]

        self.the_queue_is_as_expected()
        self.the_counts_are_as_expected()
        answered = Counter(message.split(b"@")[0] for message in self.messages)
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
