"""The courier, turn by turn, between a store and I/O processes that misbehave."""

from __future__ import annotations

import threading

import pytest
from support.carrying import Bench, FakeIo, Landed

from huey_patient.courier import LONGEST_PAUSE, SETTLE_BATCH, SETTLE_BYTES, SUSPECT_IDLE_SECONDS
from huey_patient.errors import StoreUnavailable
from huey_patient.returns import LONGEST_PAUSE as LONGEST_PUT_OFF
from huey_patient.wire import Reason


@pytest.fixture
def bench():
    return Bench()


# The way of one request


def test_a_request_is_claimed_sent_and_settled(bench):
    bench.submit("a")

    bench.turn()
    assert bench.fresh.in_the_air == {"a": 1}
    assert bench.fresh.secrets["a"] == b"secrets of a"
    bench.fresh.answer()
    bench.turn()

    assert bench.queued() == {"a": "outcome"}
    assert bench.told == ["a"]
    assert bench.courier.in_flight == 0
    assert bench.memory.counts().held == 0


def test_nothing_is_claimed_before_the_io_process_is_ready(bench):
    bench.fresh.ready = False
    bench.submit("a")

    bench.turn()
    assert bench.memory.counts().fresh == 1
    bench.fresh.ready = True
    bench.turn()

    assert bench.fresh.sent == ["a"]


def test_no_more_is_claimed_than_there_is_room_for():
    bench = Bench(max_connections=3)
    bench.submit(*map(str, range(10)))

    bench.turn(3)
    assert len(bench.fresh.in_the_air) == bench.courier.in_flight == 3
    bench.fresh.answer("0", "1")
    bench.turn(2)

    assert bench.fresh.sent == ["0", "1", "2", "3", "4"]
    assert bench.memory.counts().held == 3


def test_room_is_shared_with_the_suspects():
    bench = Bench(max_connections=3)
    bench.submit("a", "b", "c", "d")
    bench.turn()
    bench.fresh.die()
    for _ in range(10):
        bench.clock.pass_(1)
        bench.turn()
        assert len(bench.fresh.in_the_air) + len(bench.suspects.in_the_air) <= 3
        assert bench.memory.counts().held <= 3
        bench.fresh.answer()
        bench.suspects.answer()
    assert bench.queued() == dict.fromkeys("abcd", "outcome")


def test_answers_that_came_together_are_settled_in_few_steps(bench):
    bench.submit(*map(str, range(SETTLE_BATCH + 10)))
    bench.turn(2)
    bench.fresh.answer()
    bench.store.calls.clear()

    bench.turn()

    assert bench.store.calls.count("settle") == 2
    assert len(bench.queued()) == SETTLE_BATCH + 10


def test_large_answers_are_settled_in_small_steps(bench):
    bench.submit("a", "b", "c")
    bench.turn()
    large = b"x" * (SETTLE_BYTES // 2)
    bench.fresh.say(*(Landed(id, 1, sealed=large) for id in ("a", "b", "c")))
    bench.store.calls.clear()

    bench.turn()

    assert bench.store.calls.count("settle") == 2
    assert set(bench.queued()) == {"a", "b", "c"}


def test_an_answer_of_an_older_epoch_or_of_nobody_is_ignored(bench):
    bench.submit("a")
    bench.turn()

    bench.fresh.say(Landed("a", 0), Landed("a", 2), Landed("unknown", 1))
    bench.turn()
    assert bench.queued() == {}
    bench.fresh.say(Landed("a", 1), Landed("a", 1))
    bench.turn()

    assert bench.queued() == {"a": "outcome"}


def test_a_request_that_could_not_be_opened_is_answered_as_such(bench):
    bench.submit("a")
    bench.turn()

    bench.fresh.say(Landed("a", 1, reason=Reason.UNREADABLE, sealed=b"a"))
    bench.turn()

    assert bench.queued() == {"a": "unreadable"}


def test_a_request_of_a_newer_version_is_left_to_a_newer_consumer(bench, caplog):
    bench.newer.add(b"a")
    bench.submit("a", "b")

    bench.turn(2)
    assert bench.fresh.sent == ["b"]
    assert bench.memory.counts().later == 1  # and nobody's
    assert "newer version of huey_patient" in caplog.text

    newer = FakeIo()
    bench.newer.clear()
    courier = bench.another(fresh=newer)
    bench.clock.pass_(3)
    courier._turn()
    assert newer.in_the_air == {"a": 2}
    newer.answer()
    courier._turn()

    assert bench.queued() == {"a": "outcome"}


def test_requests_of_a_newer_version_take_no_room_from_others():
    bench = Bench(max_connections=2)
    bench.newer.update(str(n).encode() for n in range(300))
    bench.submit(*map(str, range(302)))

    bench.turn_until(lambda: bench.fresh.sent)

    assert bench.fresh.sent == ["300", "301"]
    assert bench.memory.counts().later == 300


def test_a_request_of_a_newer_version_is_looked_at_less_and_less_often(bench):
    bench.newer.add(b"a")
    bench.submit("a")
    claims = 0

    for _ in range(20):
        bench.turn()
        assert bench.memory.counts().later == 1
        claims += bench.store.calls.count("release")
        bench.store.calls.clear()
        bench.clock.pass_(60)

    assert claims < 12
    bench.clock.pass_(LONGEST_PUT_OFF)
    bench.turn()
    assert bench.store.calls.count("release") == 1


# The I/O process dies


def test_what_was_in_a_process_that_left_is_sent_again_without_a_strike(bench):
    bench.submit("a")
    bench.turn()

    bench.fresh.die("left")
    bench.turn()
    bench.clock.pass_(1)
    bench.turn()

    assert bench.fresh.in_the_air == {"a": 2}
    assert bench.memory.held()[0].strikes == 0


def test_what_was_in_a_process_that_died_is_sent_again_as_suspect(bench):
    bench.submit("a", "b")
    bench.turn()
    bench.fresh.answer("a")
    bench.fresh.die()
    bench.turn()
    assert bench.queued() == {"a": "outcome"}  # Its answer had come before the death.
    assert bench.memory.counts().suspect == 1

    bench.clock.pass_(1)
    bench.turn(2)
    assert bench.suspects.starts == 1
    assert bench.suspects.in_the_air == {"b": 2}
    bench.suspects.answer()
    bench.turn()

    assert bench.queued() == {"b": "outcome"}


def test_a_request_that_loses_every_process_ends_as_abandoned(bench):
    bench.submit("poison")
    bench.turn()
    bench.fresh.die()
    for _ in range(20):
        bench.clock.pass_(1)
        bench.turn()
        if bench.suspects.in_the_air:
            bench.suspects.die()

    assert bench.queued() == {"poison": "abandoned"}
    assert len(bench.fresh.sent) + len(bench.suspects.sent) == 3
    assert bench.memory.counts().held == 0


def test_a_poison_among_suspects_takes_none_of_them_along(bench):
    bench.submit("poison", *map(str, range(20)))
    bench.turn()
    bench.fresh.die()
    for _ in range(60):
        bench.clock.pass_(1)
        bench.turn()
        if "poison" in bench.suspects.in_the_air:
            bench.suspects.die()
        else:
            bench.suspects.answer()

    queued = bench.queued()
    assert queued.pop("poison") == "abandoned"
    assert queued == dict.fromkeys(map(str, range(20)), "outcome")


def test_fresh_requests_go_on_while_suspects_are_tried(bench):
    bench.submit("poison")
    bench.turn()
    bench.fresh.die()
    bench.turn()
    bench.submit("fresh")
    bench.clock.pass_(1)
    bench.turn(2)

    assert bench.fresh.in_the_air == {"fresh": 1}
    assert bench.suspects.in_the_air == {"poison": 2}


def test_the_process_for_suspects_ends_when_there_have_been_none_for_a_while(bench):
    bench.submit("a")
    bench.turn()
    bench.fresh.die()
    for _ in range(3):
        bench.clock.pass_(1)
        bench.turn()
    bench.suspects.answer()
    bench.turn()
    assert bench.suspects.ready

    bench.clock.pass_(SUSPECT_IDLE_SECONDS + 1)
    bench.turn()

    assert not bench.suspects.ready
    assert bench.fresh.stops == 0


def test_a_request_that_may_be_sent_once_is_not_sent_to_a_second_process(bench):
    bench.once.add(b"once")
    bench.submit("once")
    bench.turn()
    assert bench.fresh.sent == ["once"]
    bench.fresh.die()
    for _ in range(3):
        bench.clock.pass_(1)
        bench.turn()

    assert bench.queued() == {"once": "interrupted"}
    assert bench.suspects.sent == []


# The store is away


@pytest.mark.parametrize("lost", ["away", "mute"])
def test_an_outcome_is_kept_while_the_store_is_away_and_settled_once(bench, lost):
    bench.submit("a")
    bench.turn()
    bench.fresh.answer()
    getattr(bench.store, lost).add("settle")
    bench.turn()
    assert bench.courier.in_flight == 1

    bench.store.away.clear()
    bench.pass_a_pause()

    assert bench.queued() == {"a": "outcome"}
    assert bench.courier.in_flight == 0
    assert bench.fresh.sent == ["a"]


def test_a_courier_whose_store_is_away_waits_and_does_not_turn_in_circles(bench):
    bench.turn()
    bench.store.away.add("all")
    bench.beat()

    for _ in range(20):
        bench.clock.pass_(1)
        bench.turn()
        assert bench.courier._seconds_to_wait() > 0


def test_a_store_that_is_away_is_asked_less_and_less_often(bench):
    bench.turn()
    bench.store.away.add("all")
    bench.store.calls.clear()
    for _ in range(200):
        bench.clock.pass_(0.05)
        bench.turn()

    assert 4 <= len(bench.store.calls) <= 10  # 0.1, 0.2, 0.4 ... s in ten seconds
    bench.store.away.clear()
    bench.submit("a")
    bench.clock.pass_(LONGEST_PAUSE)
    bench.turn()
    assert bench.fresh.sent == ["a"]


def test_a_courier_that_starts_without_its_store_waits_for_it(bench):
    bench.store.away.add("all")
    bench.submit("a")
    bench.turn(3)
    assert bench.fresh.sent == []

    bench.store.away.clear()
    bench.pass_a_pause()

    assert bench.fresh.sent == ["a"]


def test_a_claim_whose_reply_was_lost_is_found_at_the_beat(bench):
    bench.submit("ghost")
    bench.store.mute.add("claim")
    bench.turn()
    assert bench.memory.counts().held == 1  # The store thinks that we have it.
    assert bench.courier.in_flight == 0

    bench.pass_a_pause()
    bench.beat()
    bench.turn()

    assert bench.fresh.in_the_air == {"ghost": 2}
    bench.fresh.answer()
    bench.turn()
    assert bench.queued() == {"ghost": "outcome"}


def test_a_release_whose_reply_was_lost_strikes_once(bench):
    bench.submit("a")
    bench.turn()
    bench.courier.quiet()
    bench.fresh.die()
    bench.store.mute.add("release")
    bench.turn()
    bench.pass_a_pause()

    assert bench.store.calls.count("release") == 2
    assert bench.strikes() == {"a": 1}


# Out of touch, and fenced


def test_an_owner_without_a_confirmed_beat_stops_sending_in_time(bench):
    bench.submit("a")
    bench.turn()
    [owner] = bench.memory.owners()
    bench.store.away.add("all")
    bench.clock.pass_(21)  # Two thirds of 30 s, and one.

    bench.turn()
    assert bench.fresh.aborts == 1
    assert bench.fresh.in_the_air == {}

    bench.store.away.clear()
    bench.pass_a_pause()
    bench.turn()
    assert bench.fresh.in_the_air == {"a": 2}
    assert owner.id not in {held.owner for held in bench.memory.held()}
    assert bench.strikes() == {}  # Given back without a strike; held again.


def test_a_fenced_owner_drops_what_it_holds_and_begins_anew(bench):
    bench.submit("a", "b")
    bench.turn()
    [owner] = bench.memory.owners()
    assert bench.memory.reap(owner.id, owner.beat)
    bench.memory.register("other", b"")
    [taken] = bench.memory.claim("other", "suspect", 1)

    bench.beat()  # Learns of it.
    bench.turn()
    assert bench.fresh.aborts == 1
    assert {seen.id for seen in bench.memory.owners()}.isdisjoint({owner.id})
    assert len(bench.memory.owners()) == 2

    bench.clock.pass_(1)
    bench.turn(3)
    bench.suspects.answer()
    bench.turn()
    left = {"a", "b"} - {taken.id}
    assert set(bench.queued()) == left


def test_an_answer_that_came_before_the_fence_may_still_be_settled(bench):
    bench.submit("a")
    bench.turn()
    [owner] = bench.memory.owners()
    bench.store.away.add("settle")
    bench.fresh.answer()
    bench.turn()
    bench.memory.reap(owner.id, owner.beat)
    bench.store.away.clear()

    bench.pass_a_pause()
    bench.turn()

    assert bench.queued() == {"a": "outcome"}
    assert bench.memory.counts().suspect == 0
    assert bench.suspects.sent == []


def test_an_answer_that_comes_after_somebody_else_took_over_is_dropped(bench):
    bench.submit("a")
    bench.turn()
    [owner] = bench.memory.owners()
    bench.memory.reap(owner.id, owner.beat)
    bench.memory.register("other", b"")
    bench.memory.claim("other", "suspect", 1)

    bench.fresh.answer()
    bench.turn()

    assert bench.queued() == {}
    assert bench.courier.in_flight == 0
    assert [held.owner for held in bench.memory.held()] == ["other"]


def test_a_consumer_that_fell_silent_is_reaped_and_its_requests_sent(bench):
    bench.memory.register("silent", b"")
    bench.submit("a")
    bench.memory.claim("silent", "fresh", 1)
    for _ in range(9):
        bench.beat()
    bench.turn()

    assert bench.suspects.in_the_air == {"a": 2}


# Canceled


def test_a_request_that_was_canceled_is_dropped_at_the_next_beat(bench):
    bench.submit("a", "b")
    bench.turn()
    assert bench.memory.cancel("a", b'["a", "canceled", ""]')

    bench.beat()

    assert bench.fresh.canceled == ["a"]
    assert bench.courier.in_flight == 1
    bench.fresh.answer()
    bench.turn()
    assert bench.queued() == {"a": "canceled", "b": "outcome"}


def test_an_answer_to_a_request_that_was_canceled_is_dropped(bench):
    bench.submit("a")
    bench.turn()
    bench.memory.cancel("a", b'["a", "canceled", ""]')
    bench.fresh.answer()
    bench.turn()

    assert bench.queued() == {"a": "canceled"}
    assert bench.courier.in_flight == 0
    assert bench.told == []


# Quiet, and the end


def test_a_quiet_courier_claims_nothing_and_settles_what_it_has(bench):
    bench.submit("a")
    bench.turn()
    bench.courier.quiet()
    bench.submit("b")
    bench.fresh.answer()
    bench.turn(2)

    assert bench.queued() == {"a": "outcome"}
    assert bench.memory.counts().fresh == 1


def test_a_drain_ends_when_nothing_is_left(bench):
    bench.submit("a")
    bench.turn()
    bench.courier.stop(within=25)
    assert not bench.courier._finished()
    bench.fresh.answer()
    bench.turn()

    assert bench.courier._finished()


def test_a_drain_goes_on_beating(bench):
    bench.submit("a")
    bench.turn()
    bench.courier.stop(within=25)
    bench.beat()

    assert bench.memory.owners()[0].beat == 2


def test_a_second_stop_shortens_the_time(bench):
    bench.submit("a")
    bench.turn()
    bench.courier.stop(within=25)
    bench.courier.stop(within=0)

    assert bench.courier._finished()


def test_what_is_left_at_the_end_goes_back_without_a_strike(bench):
    bench.submit("answered", "in the air")
    bench.turn()
    bench.fresh.answer("answered")
    bench.courier._hear(bench.courier._fresh)

    bench.courier.stop(within=0)
    bench.courier._hand_back()

    assert bench.queued() == {"answered": "outcome"}
    assert bench.fresh.aborts == 1
    assert bench.memory.owners() == []
    assert bench.strikes() == {"in the air": 0}


def test_what_was_claimed_in_a_reply_that_never_came_goes_back_at_the_end_too(bench):
    bench.turn()
    bench.submit("ghost")
    bench.store.mute.add("claim")
    bench.clock.pass_(1)
    bench.turn()
    assert bench.memory.counts().held == 1

    bench.courier.stop(within=0)
    bench.courier._hand_back()

    assert bench.strikes() == {"ghost": 0}
    assert bench.courier._owner.id not in [owner.id for owner in bench.memory.owners()]


def test_a_request_that_lost_its_process_just_before_the_end_keeps_its_strike(bench):
    bench.submit("a")
    bench.turn()
    bench.store.away.add("release")
    bench.fresh.die()
    bench.turn()
    bench.store.away.clear()

    bench.courier.stop(within=0)
    bench.courier._hand_back()

    assert bench.strikes() == {"a": 1}


# With its thread


def test_the_thread_carries_and_ends_when_told(bench):
    released = threading.Event()
    settled = bench.told.extend

    class Quick(FakeIo):
        def flush(self):
            self.answer()

    io = Quick()
    courier = bench.another(fresh=io)
    object.__setattr__(
        courier._ports, "settled", lambda ids: (settled(ids), released.set() if ids else None)
    )
    bench.submit("a")
    courier.start()
    try:
        courier._wake.ring()
        assert released.wait(10)
    finally:
        courier.stop(within=0)
        assert courier.join(10)

    assert bench.queued() == {"a": "outcome"}
    assert not courier.running
    assert io.stops == bench.suspects.stops == 1
    assert bench.memory.owners() == []


def test_a_submit_wakes_the_courier(bench):
    sent = threading.Event()

    class Waiting(FakeIo):
        def send(self, id, epoch, *, secrets, sealed):
            super().send(id, epoch, secrets=secrets, sealed=sealed)
            sent.set()

    bench.store.poll_interval = 3600.0  # Nothing but the bell brings the claim.
    listening = threading.Event()
    wait = bench.memory.wait
    bench.memory.wait = lambda timeout: (listening.set(), wait(timeout))[1]
    courier = bench.another(fresh=Waiting())
    courier.start()
    try:
        assert listening.wait(10)
        bench.submit("a")
        assert sent.wait(10)
    finally:
        courier.stop(within=0)
        assert courier.join(10)


def test_a_fault_of_ours_ends_the_thread_and_both_processes(bench, caplog):
    class Broken(FakeIo):
        def tend(self):
            raise RuntimeError("a fault of ours")

    io = Broken()
    courier = bench.another(fresh=io)
    courier.start()

    assert courier.join(10)
    assert not courier.running
    assert io.stops == bench.suspects.stops == 1
    assert "The courier failed" in caplog.text


def test_a_fault_of_ours_gives_back_what_it_can(bench, caplog):
    class Broken(FakeIo):
        def take_outcomes(self):
            if self.in_the_air:
                raise RuntimeError("a fault of ours")
            return super().take_outcomes()

    courier = bench.another(fresh=Broken())
    bench.submit("a")
    courier.start()

    assert courier.join(10)
    assert "The courier failed" in caplog.text
    assert bench.strikes() == {"a": 0}


def test_the_end_does_not_wait_for_ever_for_a_store_that_is_away(bench, caplog, monkeypatch):
    monkeypatch.setattr("huey_patient.courier.FIRST_PAUSE", 0.0)
    bench.submit("a")
    bench.turn()
    bench.store.away.add("all")

    def passing(*_, **__):
        bench.clock.pass_(1)
        raise StoreUnavailable("away")

    bench.store.release = passing
    bench.courier._hand_back()

    assert "another consumer will take over" in caplog.text
    assert bench.memory.counts().held == 1


def test_a_ring_that_comes_during_a_turn_ends_the_next_wait(bench: Bench):
    bench.turn()
    bench.courier.quiet()

    bench.turn()

    assert bench.courier._wake.hush() == 1
