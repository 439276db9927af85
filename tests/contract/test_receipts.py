"""Each sentence of the contract of receipts, over every backend.

Zero seconds are over at once, and an hour is not over before the test is.
"""

from __future__ import annotations

import threading
import time

import pytest
from support.receipts import HOUR, kept, kept_all

from huey_patient.stores.base import Counts, DeadLetter, Settlement

NOTHING = Counts(fresh=0, suspect=0, later=0, held=0)
KEPT = Counts(fresh=0, suspect=0, later=0, held=0, receipts=1)
DEAD = Counts(fresh=0, suspect=0, later=0, held=0, dead=1)

# settle, with a receipt


def test_a_kept_answer_is_on_the_queue_and_is_no_request_any_more(store, queued):
    kept(store)

    assert queued() == [b"a"]
    assert store.counts() == KEPT
    assert store.held() == []
    assert store.read("a") is None
    assert store.claim("o", "fresh", 9) == store.claim("o", "suspect", 9) == []


def test_a_kept_answer_cannot_be_canceled(store, queued):
    kept(store)

    assert not store.cancel("a", b"canceled")

    assert queued() == [b"a"]
    assert store.counts() == KEPT


def test_a_kept_answer_is_answered(store, queued):
    kept(store)

    assert store.submit("a", b"x") == "done"
    again = Settlement(id="a", epoch=1, message=b"m", receipt=0.0)
    assert store.settle("o", [again]) == ["again"]

    assert queued() == [b"a"]
    assert store.counts() == KEPT


def test_a_dead_letter_is_answered(store, queued):
    kept(store)
    store.give_up("a")

    assert store.submit("a", b"x") == "done"
    assert store.settle("o", [Settlement(id="a", epoch=1, message=b"m")]) == ["again"]

    assert queued() == [b"a"]


def test_a_delivered_answer_is_answered(store):
    kept(store)
    store.confirm("a")

    assert store.submit("a", b"x") == "done"
    assert store.settle("o", [Settlement(id="a", epoch=1, message=b"m")]) == ["again"]
    assert store.counts() == NOTHING


def test_one_batch_may_keep_some_messages_and_not_others(store, queued):
    store.register("o", b"")
    for id in "abc":
        store.submit(id, b"x")
    store.claim("o", "fresh", 3)
    batch = [
        Settlement(id=id, epoch=1, message=id.encode(), receipt=HOUR if id == "b" else None)
        for id in "abc"
    ]

    assert store.settle("o", batch) == ["ok"] * 3

    assert queued() == [b"a", b"b", b"c"]
    assert store.counts() == KEPT
    assert [store.begin(id, HOUR) for id in "abc"] == ["gone", "run", "gone"]


# cancel, with a receipt


@pytest.mark.parametrize("state", ["ready", "held"])
def test_a_cancellation_may_be_kept_too(store, queued, state):
    store.register("o", b"")
    store.submit("a", b"x")
    if state == "held":
        store.claim("o", "fresh", 1)

    assert store.cancel("a", b"canceled", receipt=HOUR)
    assert not store.cancel("a", b"canceled", receipt=HOUR)

    assert queued() == [b"canceled"]
    assert store.counts() == KEPT
    assert store.submit("a", b"x") == "done"
    assert store.settle("o", [Settlement(id="a", epoch=1, message=b"m")]) == ["gone"]
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)
    assert store.begin("a", HOUR) == "run"
    assert store.confirm("a")
    assert store.counts() == NOTHING


def test_a_kept_cancellation_is_put_on_the_queue_again_with_its_priority(store, queued):
    store.submit("a", b"x")
    store.cancel("a", b"canceled", 5, receipt=0.0)
    queued()

    assert store.redeliver_due(9, HOUR, 9) == (1, 0)

    assert queued() == [b"canceled"]


def test_a_cancellation_without_a_receipt_is_not_kept(store):
    store.submit("a", b"x")

    assert store.cancel("a", b"canceled")

    assert store.counts() == NOTHING
    assert store.begin("a", HOUR) == "gone"


# begin


def test_the_first_to_begin_runs_and_others_are_told_that_it_is_busy(store):
    kept(store)

    assert store.begin("a", HOUR) == "run"
    assert store.begin("a", HOUR) == "busy"

    assert store.counts() == KEPT


def test_a_run_that_is_overdue_is_busy_until_it_was_put_on_the_queue_again(store):
    kept(store)

    assert store.begin("a", 0.0) == "run"
    assert store.begin("a", HOUR) == "busy"
    assert store.redeliver_due(9, HOUR, 9) == (1, 0)
    assert store.begin("a", HOUR) == "run"
    assert store.begin("a", HOUR) == "busy"


def test_a_waiting_answer_may_be_begun_after_its_time(store):
    kept(store, receipt=0.0)

    assert store.begin("a", HOUR) == "run"


def test_what_was_never_kept_is_gone(store):
    store.submit("a", b"x")

    assert store.begin("a", HOUR) == "gone"
    assert store.begin("b", HOUR) == "gone"


def test_what_was_confirmed_or_given_up_is_gone(store):
    kept_all(store, "ab")
    store.confirm("a")
    store.give_up("b")

    assert [store.begin(id, HOUR) for id in "ab"] == ["gone", "gone"]


def test_of_many_that_begin_at_once_one_runs(store):
    kept(store)
    answers = []

    threads = [
        threading.Thread(target=lambda: answers.append(store.begin("a", HOUR))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == ["busy"] * 4 + ["run"]


# extend, postpone


def test_a_running_answer_that_is_extended_stays_busy(store):
    kept(store)
    store.begin("a", 0.0)

    assert store.extend("a", HOUR)

    assert store.begin("a", HOUR) == "busy"
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)


def test_only_a_running_answer_is_extended(store):
    kept_all(store, "abcd", receipt=0.0)
    store.begin("b", HOUR)
    store.confirm("b")
    store.give_up("c")
    store.begin("d", 0.0)
    assert store.redeliver_due(9, HOUR, 9) == (2, 0)

    assert not any(store.extend(id, HOUR) for id in "abcde")


def test_a_postponed_answer_waits_for_its_next_run(store, queued):
    kept(store)
    store.begin("a", HOUR)
    queued()

    assert store.postpone("a", HOUR)

    assert store.counts() == KEPT
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)
    assert queued() == []
    assert store.begin("a", HOUR) == "run"


def test_a_postponed_answer_that_does_not_run_in_time_is_delivered_again(store, queued):
    kept(store)
    store.begin("a", HOUR)
    store.postpone("a", 0.0)
    queued()

    assert store.redeliver_due(9, HOUR, 9) == (1, 0)

    assert queued() == [b"a"]


def test_only_a_running_answer_is_postponed(store):
    kept_all(store, "abc")
    store.confirm("b")
    store.give_up("c")

    assert not any(store.postpone(id, 0.0) for id in "abcd")

    assert store.redeliver_due(9, HOUR, 9) == (0, 0)


# confirm, give_up


def test_a_confirmed_answer_is_forgotten_once(store, queued):
    kept(store, receipt=0.0)
    store.begin("a", 0.0)
    queued()

    assert store.confirm("a")
    assert not store.confirm("a")

    assert store.counts() == NOTHING
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)
    assert queued() == []


def test_an_answer_that_was_put_on_the_queue_again_can_be_confirmed(store):
    kept(store)
    store.begin("a", 0.0)
    store.redeliver_due(9, HOUR, 9)

    assert store.confirm("a")

    assert store.begin("a", HOUR) == "gone"
    assert store.counts() == NOTHING


def test_an_answer_that_was_given_up_can_be_confirmed(store):
    kept(store)
    store.begin("a", 0.0)
    assert store.redeliver_due(9, HOUR, 1) == (0, 1)

    assert store.confirm("a")

    assert store.dead_letters() == []
    assert store.counts() == NOTHING


def test_what_was_never_kept_cannot_be_confirmed(store):
    store.submit("a", b"x")

    assert not store.confirm("a")
    assert not store.confirm("b")

    assert store.read("a") == b"x"


@pytest.mark.parametrize("running", [True, False])
def test_giving_up_makes_a_dead_letter_once(store, queued, running):
    kept(store, receipt=0.0)
    if running:
        store.begin("a", HOUR)
    queued()
    before = time.time()

    assert store.give_up("a")
    assert not store.give_up("a")

    assert store.counts() == DEAD
    [letter] = store.dead_letters()
    assert (letter.id, letter.deliveries) == ("a", 1)
    assert abs(letter.since - before) < 60
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)
    assert queued() == []


def test_what_was_never_kept_cannot_be_given_up(store):
    store.submit("a", b"x")

    assert not store.give_up("a")
    assert not store.give_up("b")

    assert store.counts().fresh == 1


# redeliver_due


@pytest.mark.parametrize("running", [True, False])
def test_an_overdue_answer_is_put_on_the_queue_again_and_waits(store, queued, running):
    kept(store, receipt=0.0)
    if running:
        store.begin("a", 0.0)
    assert queued() == [b"a"]

    assert store.redeliver_due(9, HOUR, 9) == (1, 0)
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)

    assert queued() == [b"a"]
    assert store.counts() == KEPT
    assert not store.extend("a", HOUR)
    assert store.begin("a", HOUR) == "run"


def test_an_answer_that_is_not_due_is_left_alone(store, queued):
    kept_all(store, "ab")
    store.begin("b", HOUR)
    queued()

    assert store.redeliver_due(9, HOUR, 1) == (0, 0)

    assert queued() == []
    assert store.begin("b", HOUR) == "busy"


def test_the_longest_overdue_go_first_and_no_more_than_limit(store, queued):
    kept_all(store, "abcd", receipt=0.0)
    store.begin("b", 0.0)
    store.begin("a", 0.0)
    queued()

    assert store.redeliver_due(0, HOUR, 9) == (0, 0)
    assert store.redeliver_due(3, HOUR, 9) == (3, 0)
    assert queued() == [b"c", b"d", b"b"]
    assert store.redeliver_due(3, HOUR, 9) == (1, 0)
    assert queued() == [b"a"]


def lose(store, id="a"):
    """A worker begins and is lost."""
    assert store.begin(id, 0.0) == "run"


def test_an_answer_whose_runs_were_lost_often_enough_becomes_a_dead_letter(store, queued):
    kept(store)

    for _ in range(2):
        lose(store)
        assert store.redeliver_due(9, HOUR, 3) == (1, 0)
    lose(store)
    assert store.redeliver_due(9, HOUR, 3) == (0, 1)
    assert store.redeliver_due(9, HOUR, 3) == (0, 0)

    assert queued() == [b"a"] * 3
    assert store.counts() == DEAD
    assert [(one.id, one.deliveries) for one in store.dead_letters()] == [("a", 3)]


def test_an_answer_that_nobody_begins_never_becomes_a_dead_letter(store, queued):
    kept(store, receipt=0.0)

    for _ in range(5):
        assert store.redeliver_due(9, 0.0, 1) == (1, 0)

    assert queued() == [b"a"] * 6
    assert store.counts() == KEPT


def test_only_lost_runs_count_towards_a_dead_letter(store, queued):
    kept(store, receipt=0.0)
    store.redeliver_due(9, HOUR, 2)
    lose(store)
    assert store.redeliver_due(9, HOUR, 2) == (1, 0)
    store.begin("a", HOUR)
    store.postpone("a", 0.0)
    assert store.redeliver_due(9, 0.0, 2) == (1, 0)
    store.redeliver_due(9, HOUR, 2)
    lose(store)

    assert store.redeliver_due(9, HOUR, 2) == (0, 1)

    assert [(one.id, one.deliveries) for one in store.dead_letters()] == [("a", 5)]


def goes_before(store, queued, id, *, overdue):
    """Whether ``id`` is longer overdue than what is overdue for so many seconds."""
    other = f"other {overdue}"
    kept(store, other, receipt=-overdue)
    queued()
    store.redeliver_due(1, HOUR, 9)
    first = queued()
    store.confirm(other)
    return first == [id.encode()]


# In these, time that is up already shows how long an answer would have waited.


@pytest.mark.parametrize(("times", "waits"), [(1, 2), (2, 4), (3, 8), (8, 256), (11, 256)])
def test_what_waited_in_vain_waits_twice_as_long_up_to_a_limit(store, queued, times, waits):
    for id, less in (("a", 0.5), ("b", -0.5)):
        kept(store, id, receipt=-HOUR)
        for _ in range(times):
            assert store.redeliver_due(1, -HOUR, 1) == (1, 0)

        assert goes_before(store, queued, id, overdue=(waits - less) * HOUR) == (less > 0)
        store.confirm(id)


def test_what_was_lost_with_its_worker_waits_no_longer_than_before(store, queued):
    for id, less in (("a", 0.5), ("b", -0.5)):
        kept(store, id)
        for _ in range(3):
            store.begin(id, -HOUR)
            assert store.redeliver_due(1, -HOUR, 9) == (1, 0)

        assert goes_before(store, queued, id, overdue=(1 - less) * HOUR) == (less > 0)
        store.confirm(id)


def test_one_call_redelivers_some_and_gives_up_others(store, queued):
    kept(store)
    lose(store)
    store.redeliver_due(9, HOUR, 9)
    lose(store)
    kept(store, "b", receipt=0.0)
    queued()

    assert store.redeliver_due(9, HOUR, 2) == (1, 1)

    assert queued() == [b"b"]
    assert [(one.id, one.deliveries) for one in store.dead_letters()] == [("a", 2)]


def test_a_redelivered_message_keeps_its_priority(backend, store, queued):
    kept(store, receipt=0.0, message=b"low", priority=1)
    kept(store, "b", receipt=0.0, message=b"high", priority=7.5)
    queued()

    store.redeliver_due(9, HOUR, 9)

    # A list has no priorities, as in Huey itself.
    priorities = backend.storage.priority
    assert queued() == ([b"high", b"low"] if priorities else [b"low", b"high"])


def test_a_message_is_redelivered_beside_the_same_one_on_the_queue(store, queued):
    kept(store, receipt=0.0)

    store.redeliver_due(9, 0.0, 9)
    store.redeliver_due(9, 0.0, 9)

    assert queued() == [b"a"] * 3


def test_callers_at_once_redeliver_each_answer_once(backend, store, queued):
    ids = [f"r{n:02}" for n in range(30)]
    kept_all(store, ids, receipt=0.0)
    queued()
    counts = []

    def redeliver():
        other = backend.another()
        while (done := other.redeliver_due(4, HOUR, 9)[0]) > 0:
            counts.append(done)
        other.close()

    threads = [threading.Thread(target=redeliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who finds all that is due in others' hands stops early.
    counts.append(store.redeliver_due(99, HOUR, 9)[0])

    assert sum(counts) == 30
    assert sorted(queued()) == [id.encode() for id in ids]


# dead letters


def test_dead_letters_are_listed_oldest_first_and_no_more_than_limit(store):
    kept_all(store, "abc", receipt=0.0)
    for id in "cab":
        store.give_up(id)

    assert [letter.id for letter in store.dead_letters()] == ["c", "a", "b"]
    assert [letter.id for letter in store.dead_letters(2)] == ["c", "a"]
    assert store.dead_letters(0) == []


def test_a_revived_dead_letter_is_delivered_as_for_the_first_time(store, queued):
    kept(store)
    lose(store)
    store.redeliver_due(9, HOUR, 9)
    lose(store)
    assert store.redeliver_due(9, HOUR, 2) == (0, 1)
    queued()

    assert store.revive("a", HOUR)

    assert queued() == [b"a"]
    assert store.counts() == KEPT
    assert store.dead_letters() == []
    lose(store)
    assert store.redeliver_due(9, HOUR, 2) == (1, 0)
    lose(store)
    assert store.redeliver_due(9, HOUR, 2) == (0, 1)
    assert queued() == [b"a"]
    assert [(one.id, one.deliveries) for one in store.dead_letters()] == [("a", 2)]


def test_a_revived_dead_letter_waits(store, queued):
    kept(store)
    store.begin("a", HOUR)
    store.give_up("a")

    assert store.revive("a", HOUR)

    assert store.redeliver_due(9, HOUR, 9) == (0, 0)
    assert store.begin("a", HOUR) == "run"


def test_only_a_dead_letter_is_revived(store, queued):
    kept_all(store, "abc")
    store.begin("b", HOUR)
    store.confirm("c")
    queued()

    assert not any(store.revive(id, HOUR) for id in "abcd")

    assert queued() == []
    assert store.begin("b", HOUR) == "busy"


def test_reviving_twice_is_reviving_once(store, queued):
    kept(store)
    store.give_up("a")
    queued()

    assert store.revive("a", HOUR)
    assert not store.revive("a", HOUR)

    assert queued() == [b"a"]


def test_a_discarded_dead_letter_is_forgotten(store):
    kept(store)
    store.give_up("a")

    assert store.discard("a")
    assert not store.discard("a")

    assert store.dead_letters() == []
    assert store.counts() == NOTHING
    assert store.submit("a", b"x") == "done"


def test_only_a_dead_letter_is_discarded(store):
    kept_all(store, "ab")
    store.begin("b", HOUR)

    assert not any(store.discard(id) for id in "abc")

    assert store.counts().receipts == 2


def test_a_dead_letter_is_what_it_says():
    assert repr(DeadLetter(id="a", deliveries=5, since=1.5)) == (
        "DeadLetter(id='a', deliveries=5, since=1.5)"
    )
