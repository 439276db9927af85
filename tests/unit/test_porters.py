"""Large envelopes between claim and launch, and between arrival and settle."""

from __future__ import annotations

import threading

import orjson
import pytest
from support.carrying import Bench, FakeIo, Landed
from support.errands import FakePayloads

from huey_patient import porters
from huey_patient.porters import LONGEST_PAUSE, MOST_PARKED, SWEEP_SECONDS, THREADS
from huey_patient.wire import Reason

LARGE = b"x" * 100


@pytest.fixture
def payloads():
    return FakePayloads()


@pytest.fixture
def bench(payloads):
    made = Bench(payloads=payloads)
    yield made
    payloads.open.set()
    made.courier._porters.stop(within=20)
    assert not any(thread.running for thread in made.courier._porters._threads)


def submit(bench: Bench, *ids: str) -> None:
    for id in ids:
        bench.memory.submit(id, bench.payloads.put(id, b"request " + id.encode()))


def pass_a_pause(bench: Bench) -> None:
    """Let every pause pass, and nothing else be due."""
    bench.clock.pass_(LONGEST_PAUSE)
    bench.courier._owner.beat_at = bench.clock()
    bench.turn()


# There


def test_a_request_that_lies_elsewhere_is_fetched_before_it_is_sent(bench):
    sealed = {}
    send = bench.fresh.send
    bench.fresh.send = lambda id, epoch, *, secrets, sealed: (
        given.update({id: sealed}),
        send(id, epoch, secrets=secrets, sealed=sealed),
    )
    given = sealed
    submit(bench, "a")

    bench.turn_until(lambda: bench.fresh.sent)

    assert given == {"a": b"request a"}
    # By the label of the reference, which is that of the request.
    assert bench.fresh.secrets["a"] == b"secrets of ref:a"


def test_what_travels_itself_needs_no_porter(bench):
    bench.submit("a")

    bench.turn()

    assert bench.fresh.sent == ["a"]
    assert bench.payloads.calls == []
    assert bench.courier._porters._threads == []


def test_others_go_on_while_a_store_is_slow(bench):
    bench.payloads.open.clear()
    submit(bench, *"abc")
    bench.submit("small")

    bench.turn()
    assert bench.fresh.sent == ["small"]
    bench.fresh.answer()
    bench.beat()
    assert bench.queued() == {"small": "outcome"}

    bench.payloads.open.set()
    bench.turn_until(lambda: len(bench.fresh.sent) == 4)
    assert sorted(bench.fresh.sent) == ["a", "b", "c", "small"]


def test_a_fetched_request_is_kept_in_memory_until_it_is_sent_and_no_longer(bench):
    submit(bench, "a")

    bench.turn_until(lambda: bench.fresh.sent)

    [flight] = bench.courier._fresh.flights()
    assert flight.cargo is None


def test_while_a_store_fails_it_is_asked_less_and_less_often(bench, caplog):
    bench.payloads.away.add("fetch")
    submit(bench, "a")
    bench.turn_until(lambda: bench.courier._porters.parked)

    pauses = []
    for _ in range(12):
        [(when, _, errand)] = bench.courier._porters._parked
        pauses.append(round(when - bench.clock(), 3))
        bench.clock.now = when
        bench.courier._owner.beat_at = when
        failures = errand.failures
        bench.turn_until(lambda errand=errand, n=failures: errand.failures > n)

    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert pauses[-1] == LONGEST_PAUSE
    assert "Request a waits" in caplog.text
    bench.payloads.away.clear()
    pass_a_pause(bench)
    bench.turn_until(lambda: bench.fresh.sent)
    assert bench.strikes() == {}


def test_requests_that_wait_for_a_failing_store_take_no_places(payloads):
    payloads.away.add("fetch")
    bench = Bench(payloads=payloads, max_connections=2)
    submit(bench, *"abcd")
    bench.submit("small")

    bench.turn_until(lambda: bench.courier._porters.parked == 4 and bench.fresh.sent)

    assert bench.fresh.sent == ["small"]
    bench.courier._porters.stop(within=20)


def test_they_come_back_only_as_far_as_there_are_places(payloads):
    payloads.away.add("fetch")
    bench = Bench(payloads=payloads, max_connections=2)
    submit(bench, *"abcd")
    bench.turn_until(lambda: bench.courier._porters.parked == 4)

    payloads.away.clear()
    pass_a_pause(bench)
    bench.turn_until(lambda: len(bench.fresh.sent) == 2)
    bench.turn(5)

    assert bench.courier._porters.parked == 2
    assert len(bench.fresh.in_the_air) == 2
    assert bench.courier._seconds_to_wait() > 0  # No spinning while there is no place.
    bench.fresh.answer()
    bench.turn_until(lambda: len(bench.fresh.sent) == 4)
    bench.courier._porters.stop(within=20)


def test_when_very_many_wait_nothing_more_is_claimed(bench, monkeypatch):
    monkeypatch.setattr("huey_patient.courier.MOST_PARKED", 3)
    bench.payloads.away.add("fetch")
    submit(bench, *"abc")
    bench.turn_until(lambda: bench.courier._porters.parked == 3)
    bench.submit("small")

    bench.beat()
    assert bench.fresh.sent == []

    bench.payloads.away.clear()
    pass_a_pause(bench)
    bench.turn_until(lambda: len(bench.fresh.sent) >= 3)
    bench.beat()
    assert "small" in bench.fresh.sent
    assert MOST_PARKED >= 100


def test_a_request_whose_object_is_lost_is_answered_so_and_others_go_on(bench):
    submit(bench, "a", "b")
    del bench.payloads.objects[b"ref:a"]

    bench.turn_until(lambda: bench.fresh.sent)
    bench.fresh.answer()
    bench.turn_until(lambda: not bench.courier.in_flight)

    assert bench.queued() == {"a": "payload_lost", "b": "outcome"}


def test_a_reference_that_does_not_open_is_answered_so(bench):
    submit(bench, "a")
    bench.payloads.broken.add(b"ref:a")

    bench.turn_until(lambda: bench.courier.in_flight == 0 and bench.told)

    assert bench.queued() == {"a": "unreadable"}


def test_a_fault_of_ours_is_like_a_store_that_fails(bench, caplog):
    submit(bench, "a")
    fetch, failed = bench.payloads.fetch, []

    def once(*args):
        if not failed:
            failed.append(1)
            raise RuntimeError("a fault of ours")
        return fetch(*args)

    bench.payloads.fetch = once
    bench.turn_until(lambda: bench.courier._porters.parked)
    pass_a_pause(bench)
    bench.turn_until(lambda: bench.fresh.sent)

    assert "a fault of ours" in caplog.text


def test_what_was_fenced_meanwhile_is_not_sent(bench):
    bench.payloads.open.clear()
    submit(bench, "a")
    bench.turn()
    [flight] = bench.courier._fresh.flights()

    bench.courier._fence("a test says so")
    assert not bench.courier._fresh.holds(flight)
    bench.payloads.open.set()
    bench.beat()
    bench.turn_until(lambda: bench.fresh.sent)

    assert bench.fresh.in_the_air == {"a": 2}


def test_what_was_dropped_while_it_was_parked_counts_no_more(bench):
    bench.payloads.away.add("fetch")
    submit(bench, "a")
    bench.turn_until(lambda: bench.courier._porters.parked)

    bench.memory.cancel("a", b'["a","canceled",""]')
    bench.courier._reconcile()

    assert bench.courier._porters.parked == bench.courier.in_flight == 0


def test_what_was_fenced_meanwhile_is_not_answered_either(bench):
    bench.payloads.open.clear()
    submit(bench, "a")
    bench.turn()
    bench.payloads.objects.clear()
    bench.store.away.add("all")

    bench.courier._fence("a test says so")
    bench.payloads.open.set()
    bench.turn_until(lambda: bench.courier._porters._out == 0)

    assert bench.courier._answered == {}


def test_a_suspect_that_lies_elsewhere_is_fetched_for_its_own_process(bench):
    submit(bench, "a")
    bench.turn_until(lambda: bench.fresh.sent)
    bench.fresh.die()
    bench.turn()
    bench.beat()

    bench.turn_until(lambda: bench.suspects.sent)

    assert bench.suspects.sent == ["a"]
    assert bench.payloads.times("fetch") == 2


def test_what_may_not_be_sent_again_is_not_fetched_again(bench):
    submit(bench, "a")
    bench.once.add(b"ref:a")
    bench.turn_until(lambda: bench.fresh.sent)
    bench.fresh.die()
    bench.turn()
    bench.beat()

    bench.turn_until(lambda: bench.told)

    assert bench.queued() == {"a": "interrupted"}
    assert bench.payloads.times("fetch") == 1


# And back


def say(bench: Bench, id: str, sealed: bytes = LARGE, reason: str = "outcome") -> None:
    epoch = bench.fresh.in_the_air.pop(id)
    bench.fresh.say(Landed(id, epoch, reason=Reason(reason), sealed=sealed))


def envelopes(bench: Bench) -> dict[str, str]:
    """What is on Huey's queue: id -> the envelope in the message."""
    found = {}
    while (message := bench.storage.dequeue()) is not None:
        id, _, envelope = orjson.loads(message)
        found[id] = envelope
    return found


def test_a_large_outcome_is_stowed_before_its_message_is_queued(bench):
    bench.payloads.open.clear()
    bench.submit("a")
    bench.turn()
    say(bench, "a")

    bench.turn(3)
    assert envelopes(bench) == {}
    bench.payloads.open.set()
    bench.turn_until(lambda: bench.told)

    assert envelopes(bench) == {"a": "ref:outcome-a"}
    assert bench.payloads.objects == {b"ref:outcome-a": LARGE}


def test_a_small_outcome_is_settled_at_once(bench):
    bench.submit("a")
    bench.turn()
    bench.fresh.answer()
    bench.turn()

    assert bench.told == ["a"]
    assert bench.payloads.calls == []


def test_an_outcome_is_kept_while_its_store_fails_and_settled_once(bench):
    bench.payloads.away.add("stow")
    bench.submit("a")
    bench.turn()
    say(bench, "a")
    bench.turn_until(lambda: bench.courier._porters._due)
    for _ in range(3):
        n = bench.payloads.times("stow")
        pass_a_pause(bench)
        bench.turn_until(
            lambda n=n: bench.payloads.times("stow") > n and bench.courier._porters._due
        )
    assert bench.courier.in_flight == 1
    assert envelopes(bench) == {}

    bench.payloads.away.clear()
    pass_a_pause(bench)
    bench.turn_until(lambda: bench.told)

    assert bench.told == ["a"]
    assert envelopes(bench) == {"a": "ref:outcome-a"}


def test_an_outcome_that_cannot_be_stowed_takes_a_place(payloads):
    payloads.away.add("stow")
    bench = Bench(payloads=payloads, max_connections=1)
    bench.submit("a", "b")
    bench.turn()
    say(bench, "a")

    bench.turn_until(lambda: bench.courier._porters._due)
    bench.beat()

    assert bench.fresh.sent == ["a"]
    bench.courier._porters.stop(within=20)


def test_a_death_leaves_an_outcome_that_is_being_stowed(bench):
    bench.payloads.open.clear()
    bench.submit("a")
    bench.turn()
    say(bench, "a")
    bench.turn()

    bench.fresh.die()
    bench.turn()
    bench.payloads.open.set()
    bench.turn_until(lambda: bench.told)

    assert envelopes(bench) == {"a": "ref:outcome-a"}
    assert bench.strikes() == {}


def test_at_the_end_an_outcome_that_could_not_be_stowed_goes_in_as_it_is(bench):
    bench.payloads.away.add("stow")
    bench.submit("a")
    submit(bench, "b")
    bench.turn_until(lambda: len(bench.fresh.sent) == 2)
    say(bench, "a")
    bench.turn_until(lambda: bench.courier._porters._due)

    bench.courier._hand_back()

    assert envelopes(bench) == {"a": LARGE.decode()}
    assert bench.strikes() == {"b": 0}


def test_a_request_that_could_not_be_opened_is_answered_by_its_reference(bench):
    submit(bench, "a")
    bench.turn_until(lambda: bench.fresh.sent)
    say(bench, "a", b"request a", reason="unreadable")

    bench.turn_until(lambda: bench.told)

    assert envelopes(bench) == {"a": "ref:a"}


# What nobody needs any more


def test_the_object_of_a_request_goes_when_it_has_been_answered(bench):
    submit(bench, "a")
    bench.turn_until(lambda: bench.fresh.sent)
    assert bench.payloads.objects
    bench.store.away.add("settle")
    bench.fresh.answer()
    bench.turn(3)
    assert bench.payloads.times("discard") == 0

    bench.store.away.clear()
    bench.pass_a_pause()
    bench.turn_until(lambda: not bench.payloads.objects)

    assert bench.told == ["a"]


def test_it_goes_too_when_the_reply_of_the_settling_was_lost(bench):
    submit(bench, "a")
    bench.turn_until(lambda: bench.fresh.sent)
    bench.store.mute.add("settle")
    bench.fresh.answer()

    bench.turn()
    bench.pass_a_pause()
    bench.turn_until(lambda: not bench.payloads.objects)

    assert bench.queued() == {"a": "outcome"}


def test_the_object_stays_when_somebody_else_holds_the_request(bench):
    submit(bench, "a")
    bench.turn_until(lambda: bench.fresh.sent)
    [owner] = bench.memory.owners()
    bench.memory.reap(owner.id, owner.beat)
    bench.memory.register("other", b"")
    assert bench.memory.claim("other", "suspect", 1)
    say(bench, "a")

    bench.turn_until(lambda: bench.payloads.times("discard"))
    bench.courier._porters.stop(within=20)

    # The outcome that came too late is deleted, and not the request.
    assert bench.payloads.objects == {b"ref:a": b"request a"}


def test_a_discard_that_fails_costs_nothing(bench, caplog):
    bench.payloads.away.add("discard")
    submit(bench, "a")
    bench.turn_until(lambda: bench.fresh.sent)
    bench.fresh.answer()

    bench.turn_until(lambda: "not tidied" in caplog.text)

    assert bench.told == ["a"]


def test_old_objects_are_swept_every_hour_and_not_at_the_start(bench):
    bench.turn()
    assert bench.payloads.swept == []

    for hour in (1, 2):
        bench.clock.pass_(SWEEP_SECONDS)
        bench.courier._owner.beat_at = bench.clock()
        bench.turn_until(lambda hour=hour: len(bench.payloads.swept) == hour)

    assert bench.payloads.swept == [bench.settings.payload_store_keep] * 2


# The threads


def test_no_more_threads_than_errands_and_never_more_than_eight(bench):
    bench.payloads.open.clear()
    submit(bench, "a", "b")
    bench.turn()
    assert len(bench.courier._porters._threads) == 2
    submit(bench, *map(str, range(40)))
    bench.beat()
    assert len(bench.courier._porters._threads) == THREADS

    bench.payloads.open.set()
    bench.turn_until(lambda: len(bench.fresh.sent) == 42)


def test_the_end_of_the_courier_is_the_end_of_its_porters(payloads):
    bench = Bench(payloads=payloads)
    submit(bench, "a")

    class Quick(FakeIo):
        def flush(self):
            self.answer()

    answered = threading.Event()
    courier = bench.another(fresh=Quick())
    object.__setattr__(courier._ports, "settled", lambda ids: ids and answered.set())
    courier.start()
    assert answered.wait(20)
    courier.stop(within=0)

    assert courier.join(20)
    assert not any(thread.running for thread in courier._porters._threads)
    assert payloads.objects == {}  # The last errand was done.


def test_a_courier_without_payloads_takes_everything_as_it_comes():
    bench = Bench()
    bench.memory.submit("a", b"ref:a")
    bench.turn()
    say(bench, "a")
    bench.turn()

    assert bench.told == ["a"]
    assert porters.Porters(None, bench.courier._wake, keep=1.0).seconds_to_wait(1) is None
