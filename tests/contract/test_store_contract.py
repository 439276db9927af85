"""Each sentence of the store's contract, over every backend."""

from __future__ import annotations

import time

import pytest

from huey_patient.stores.base import (
    Beat,
    Counts,
    Fenced,
    Held,
    Lease,
    OwnerSeen,
    Settlement,
)


def settlement(lease: Lease, message: bytes = b"callback", priority=None) -> Settlement:
    return Settlement(id=lease.id, epoch=lease.epoch, message=message, priority=priority)


def ids(leases) -> list[str]:
    return [lease.id for lease in leases]


# submit


def test_a_submitted_request_is_claimed_as_it_was_given(store):
    sealed = bytes(range(256)) * 300

    assert store.submit("a", sealed) == "new"

    store.register("o", b"")
    assert store.claim("o", "fresh", 10) == [Lease(id="a", epoch=1, strikes=0, sealed=sealed)]


def test_submitting_again_changes_nothing(store):
    store.submit("a", b"first")

    assert store.submit("a", b"second") == "duplicate"

    assert store.read("a") == b"first"
    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=0)


def test_submitting_again_what_is_held_is_a_duplicate(store):
    store.submit("a", b"x")
    store.register("o", b"")
    store.claim("o", "fresh", 1)

    assert store.submit("a", b"x") == "duplicate"
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=1)


def test_submitting_again_what_was_answered_says_done(store, queued):
    store.submit("a", b"x")
    store.register("o", b"")
    [lease] = store.claim("o", "fresh", 1)
    store.settle("o", [settlement(lease)])

    assert store.submit("a", b"x") == "done"

    assert store.claim("o", "fresh", 1) == []
    assert queued() == [b"callback"]


def test_submitting_again_what_was_canceled_says_done(store):
    store.submit("a", b"x")
    store.cancel("a", b"canceled")

    assert store.submit("a", b"x") == "done"
    assert store.read("a") is None


def test_a_request_is_not_claimed_before_it_is_due(store):
    store.register("o", b"")

    store.submit("a", b"x", due=time.time() + 3600)

    assert store.claim("o", "fresh", 10) == []
    assert store.counts() == Counts(fresh=0, suspect=0, later=1, held=0)


def test_a_request_that_is_due_in_the_past_is_ready_at_once(store):
    store.register("o", b"")

    store.submit("a", b"x", due=time.time() - 3600)

    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=0)
    assert ids(store.claim("o", "fresh", 10)) == ["a"]


def test_a_request_that_became_due_takes_the_place_it_was_given_at_submit(store):
    store.register("o", b"")
    store.submit("a", b"x", due=time.time() + 0.2)
    store.submit("b", b"x")

    while store.counts().later:
        store.wait(0.05)

    assert ids(store.claim("o", "fresh", 10)) == ["a", "b"]


def test_a_request_that_is_not_due_yet_can_be_canceled(store, queued):
    store.submit("a", b"x", due=time.time() + 3600)

    assert store.cancel("a", b"canceled")

    assert queued() == [b"canceled"]
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


# register, beat


def test_a_registered_owner_is_at_beat_one_and_holds_nothing(store):
    store.register("o", b"info")

    assert store.owners() == [OwnerSeen(id="o", beat=1, held=0, info=b"info")]


def test_registering_again_keeps_the_beat_and_what_is_held(store):
    store.submit("a", b"x")
    store.register("o", b"")
    store.beat("o", b"")
    store.claim("o", "fresh", 1)

    store.register("o", b"again")

    [seen] = store.owners()
    assert (seen.beat, seen.held) == (2, 1)


def test_a_beat_counts_up_replaces_the_info_and_tells_how_many_are_held(store):
    store.submit("a", b"x")
    store.register("o", b"old")
    store.claim("o", "fresh", 1)

    assert store.beat("o", b"new") == Beat(held=1)

    assert store.owners() == [OwnerSeen(id="o", beat=2, held=1, info=b"new")]


def test_a_beat_of_a_name_that_never_registered_is_fenced(store):
    with pytest.raises(Fenced):
        store.beat("nobody", b"")

    assert store.owners() == []


def test_a_beat_of_a_reaped_owner_is_fenced_and_does_not_revive_it(store):
    store.register("o", b"")
    store.reap("o", 1)

    with pytest.raises(Fenced):
        store.beat("o", b"")

    assert store.owners() == []


def test_a_reaped_name_cannot_register_again(store):
    store.register("o", b"")
    store.reap("o", 1)

    with pytest.raises(Fenced):
        store.register("o", b"")

    assert store.owners() == []


def test_an_owner_that_beats_is_not_silent(store):
    store.register("o", b"")
    [registered] = store.owners()
    store.beat("o", b"")
    [beaten] = store.owners()

    assert 0 <= registered.silent < 60
    assert 0 <= beaten.silent < 60


# claim


def test_claim_takes_the_oldest_first_and_at_most_limit(store):
    store.register("o", b"")
    for id in "abcde":
        store.submit(id, b"x")

    assert ids(store.claim("o", "fresh", 2)) == ["a", "b"]
    assert ids(store.claim("o", "fresh", 2)) == ["c", "d"]
    assert ids(store.claim("o", "fresh", 2)) == ["e"]
    assert store.claim("o", "fresh", 2) == []


def test_a_claim_of_nothing_takes_nothing(store):
    store.register("o", b"")
    store.submit("a", b"x")

    assert store.claim("o", "fresh", 0) == []
    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=0)


def test_a_request_goes_to_one_owner(store):
    store.submit("a", b"x")
    store.register("o", b"")
    store.register("p", b"")

    assert ids(store.claim("o", "fresh", 10)) == ["a"]
    assert store.claim("p", "fresh", 10) == []
    assert store.held() == [Held(id="a", owner="o", epoch=1, strikes=0)]


def test_each_claim_raises_the_epoch_by_one(store):
    store.submit("a", b"x")
    store.register("o", b"")

    epochs = []
    for _ in range(3):
        [lease] = store.claim("o", "fresh", 1)
        epochs.append(lease.epoch)
        store.release("o", [("a", lease.epoch)], strike=False)

    assert epochs == [1, 2, 3]


@pytest.mark.parametrize("lane", ["fresh", "suspect"])
def test_an_owner_that_is_not_registered_is_given_nothing(store, lane):
    store.submit("a", b"x")

    with pytest.raises(Fenced):
        store.claim("o", lane, 1)

    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=0)


def test_a_reaped_owner_is_given_nothing(store):
    store.submit("a", b"x")
    store.register("o", b"")
    store.reap("o", 1)

    with pytest.raises(Fenced):
        store.claim("o", "fresh", 1)

    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=0)


# settle


def test_a_settled_request_is_gone_and_its_message_is_on_the_queue(store, queued):
    store.submit("a", b"x")
    store.register("o", b"")
    [lease] = store.claim("o", "fresh", 1)

    assert store.settle("o", [settlement(lease)]) == ["ok"]

    assert queued() == [b"callback"]
    assert store.read("a") is None
    assert store.held() == []
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)
    assert store.beat("o", b"") == Beat(held=0)


def test_settling_again_says_again_and_enqueues_nothing(store, queued):
    store.submit("a", b"x")
    store.register("o", b"")
    [lease] = store.claim("o", "fresh", 1)

    assert store.settle("o", [settlement(lease), settlement(lease)]) == ["ok", "again"]
    assert store.settle("o", [settlement(lease)]) == ["again"]

    assert queued() == [b"callback"]


def test_a_holder_that_was_overtaken_is_stale(store, queued):
    store.submit("a", b"x")
    store.register("late", b"")
    store.register("o", b"")
    [late] = store.claim("late", "fresh", 1)
    store.reap("late", 1)
    [current] = store.claim("o", "suspect", 1)

    assert store.settle("late", [settlement(late, b"late")]) == ["stale"]
    assert store.settle("o", [settlement(current, b"current")]) == ["ok"]
    assert store.settle("late", [settlement(late, b"late")]) == ["gone"]

    assert queued() == [b"current"]


def test_a_reaped_request_nobody_claimed_since_may_be_settled(store, queued):
    store.submit("a", b"x")
    store.register("o", b"")
    [lease] = store.claim("o", "fresh", 1)
    store.reap("o", 1)

    assert store.settle("o", [settlement(lease)]) == ["ok"]

    assert queued() == [b"callback"]
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


def test_a_released_request_nobody_claimed_since_may_be_settled(store, queued):
    store.submit("a", b"x")
    store.register("o", b"")
    [lease] = store.claim("o", "fresh", 1)
    store.release("o", [("a", 1)], strike=False)

    assert store.settle("o", [settlement(lease)]) == ["ok"]

    assert store.claim("o", "fresh", 1) == []
    assert queued() == [b"callback"]


def test_an_epoch_may_be_settled_under_the_new_name_of_its_owner(store, queued):
    store.submit("a", b"x")
    store.register("old", b"")
    store.register("new", b"")
    [lease] = store.claim("old", "fresh", 1)

    assert store.settle("new", [settlement(lease)]) == ["ok"]

    assert queued() == [b"callback"]
    assert store.beat("old", b"") == Beat(held=0)
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


def test_settling_what_was_never_there_says_gone(store, queued):
    assert store.settle("o", [Settlement(id="a", epoch=1, message=b"m")]) == ["gone"]

    assert queued() == []


def test_settling_nothing_answers_nothing(store):
    assert store.settle("o", []) == []


def test_a_batch_is_answered_in_order_and_only_ok_is_enqueued(store, queued):
    store.register("o", b"")
    store.register("p", b"")
    for id in "abcd":
        store.submit(id, b"x")
    a, b, c, d = store.claim("o", "fresh", 4)
    store.settle("o", [settlement(a, b"a")])
    store.release("o", [("b", 1)], strike=False)
    store.claim("p", "fresh", 1)
    store.cancel("c", b"canceled")

    batch = [settlement(lease, lease.id.encode()) for lease in (a, b, c, d)]

    assert store.settle("o", batch) == ["again", "stale", "gone", "ok"]
    assert queued() == [b"a", b"canceled", b"d"]


def test_a_batch_is_answered_in_order_whoever_holds_its_requests(store, queued):
    for id in "abcd":
        store.submit(id, b"x")
    for owner, count in (("p", 1), ("o", 1), ("p", 1), ("late", 1)):
        store.register(owner, b"")
        store.claim(owner, "fresh", count)
    store.release("late", [("d", 1)], strike=False)
    store.claim("p", "fresh", 1)
    epochs = [("d", 2), ("d", 1), ("a", 1), ("b", 1), ("c", 1), ("a", 1)]
    batch = [Settlement(id=id, epoch=epoch, message=id.encode()) for id, epoch in epochs]

    assert store.settle("o", batch) == ["ok", "gone", "ok", "ok", "ok", "again"]
    assert queued() == [b"d", b"a", b"b", b"c"]


def test_messages_of_one_batch_keep_their_order(store, queued):
    store.register("o", b"")
    for n in range(20):
        store.submit(f"r{n:02}", b"x")
    leases = store.claim("o", "fresh", 20)

    store.settle("o", [settlement(lease, lease.id.encode()) for lease in leases])

    assert queued() == [f"r{n:02}".encode() for n in range(20)]


def test_priorities_go_where_huey_reads_them(backend, store, queued):
    if not backend.storage.priority:
        # A list has no priorities, as in Huey itself; the message must not be lost.
        expected = [b"low", b"high", b"none"]
    else:
        expected = [b"high", b"low", b"none"]
    store.register("o", b"")
    for id in "abc":
        store.submit(id, b"x")
    a, b, c = store.claim("o", "fresh", 3)

    store.settle(
        "o", [settlement(a, b"low", 1), settlement(b, b"high", 7.5), settlement(c, b"none")]
    )

    assert queued() == expected


# release


def test_a_released_request_keeps_its_place(store):
    store.register("o", b"")
    for id in "abc":
        store.submit(id, b"x")
    store.claim("o", "fresh", 2)

    assert store.release("o", [("b", 1), ("a", 1)], strike=False) == 2

    assert store.counts() == Counts(fresh=3, suspect=0, later=0, held=0)
    assert ids(store.claim("o", "fresh", 3)) == ["a", "b", "c"]


def test_a_release_with_a_strike_makes_a_request_suspect(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)

    assert store.release("o", [("a", 1)], strike=True) == 1

    assert store.counts() == Counts(fresh=0, suspect=1, later=0, held=0)
    assert store.claim("o", "fresh", 1) == []
    assert store.claim("o", "suspect", 1) == [Lease(id="a", epoch=2, strikes=1, sealed=b"x")]


def test_a_suspect_released_without_a_strike_stays_suspect(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    store.release("o", [("a", 1)], strike=True)
    store.claim("o", "suspect", 1)

    store.release("o", [("a", 2)], strike=False)

    assert store.claim("o", "suspect", 1) == [Lease(id="a", epoch=3, strikes=1, sealed=b"x")]


def test_a_lease_of_another_owner_is_left_alone(store):
    store.register("o", b"")
    store.register("p", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)

    assert store.release("p", [("a", 1)], strike=True) == 0

    assert store.held() == [Held(id="a", owner="o", epoch=1, strikes=0)]


def test_a_lease_of_another_epoch_is_left_alone(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    store.release("o", [("a", 1)], strike=False)
    store.claim("o", "fresh", 1)

    assert store.release("o", [("a", 1)], strike=True) == 0

    assert store.held() == [Held(id="a", owner="o", epoch=2, strikes=0)]


def test_a_release_can_be_repeated(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)

    assert store.release("o", [("a", 1)], strike=True) == 1
    assert store.release("o", [("a", 1)], strike=True) == 0

    assert ids(store.claim("o", "suspect", 2)) == ["a"]


def test_a_request_that_is_put_off_waits_out_its_pause(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)

    assert store.release("o", [("a", 1)], strike=False, pause=3600.0) == 1

    assert store.claim("o", "fresh", 1) == []
    assert store.counts() == Counts(fresh=0, suspect=0, later=1, held=0)


@pytest.mark.parametrize(("strike", "lane"), [(False, "fresh"), (True, "suspect")])
def test_after_its_pause_a_request_is_in_its_lane_and_its_place(store, strike, lane):
    store.register("o", b"")
    for id in "ab":
        store.submit(id, b"x")
    store.claim("o", "fresh", 2)
    store.release("o", [("b", 1)], strike=strike)
    store.release("o", [("a", 1)], strike=strike, pause=0.2)

    while store.counts().later:
        store.wait(0.05)
    store.claim("o", "fresh", 0)  # brings what is due

    assert ids(store.claim("o", lane, 2)) == ["a", "b"]


def test_an_answer_may_come_while_its_request_is_put_off(store, queued):
    store.register("o", b"")
    store.submit("a", b"x")
    [lease] = store.claim("o", "fresh", 1)
    store.release("o", [("a", 1)], strike=False, pause=3600.0)

    assert store.settle("o", [settlement(lease)]) == ["ok"]

    assert queued() == [b"callback"]
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


# reap


def test_reaping_frees_all_with_a_strike_each_and_each_at_its_place(store):
    store.register("o", b"")
    store.register("p", b"")
    for id in "abc":
        store.submit(id, b"x")
    store.claim("o", "fresh", 3)

    assert store.reap("o", 1)

    assert store.counts() == Counts(fresh=0, suspect=3, later=0, held=0)
    leases = store.claim("p", "suspect", 10)
    assert [(lease.id, lease.epoch, lease.strikes) for lease in leases] == [
        ("a", 2, 1),
        ("b", 2, 1),
        ("c", 2, 1),
    ]


def test_an_owner_that_has_beaten_since_is_not_harmed(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    store.beat("o", b"")

    assert not store.reap("o", 1)

    assert store.held("o") == [Held(id="a", owner="o", epoch=1, strikes=0)]
    assert store.beat("o", b"") == Beat(held=1)


def test_of_two_sweepers_one_wins(backend, store):
    store.register("o", b"")

    assert store.reap("o", 1)
    assert not store.reap("o", 1)
    assert not backend.another().reap("o", 1)


def test_reaping_nobody_is_false(store):
    assert not store.reap("nobody", 1)


def test_reaping_one_owner_leaves_the_others(store):
    store.register("o", b"")
    store.register("p", b"")
    store.submit("a", b"x")
    store.submit("b", b"x")
    store.claim("o", "fresh", 1)
    store.claim("p", "fresh", 1)

    store.reap("o", 1)

    assert [seen.id for seen in store.owners()] == ["p"]
    assert store.held() == [Held(id="b", owner="p", epoch=1, strikes=0)]


# cancel


def test_canceling_a_ready_request_answers_it_once(store, queued):
    store.register("o", b"")
    store.submit("a", b"x")

    assert store.cancel("a", b"canceled")
    assert not store.cancel("a", b"canceled")

    assert queued() == [b"canceled"]
    assert store.claim("o", "fresh", 1) == []
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


def test_the_holder_of_a_canceled_request_is_told_gone(store, queued):
    store.register("o", b"")
    store.submit("a", b"x")
    [lease] = store.claim("o", "fresh", 1)

    assert store.cancel("a", b"canceled")

    assert store.beat("o", b"") == Beat(held=0)
    assert store.settle("o", [settlement(lease)]) == ["gone"]
    assert queued() == [b"canceled"]
    assert store.held() == []


def test_canceling_a_suspect_answers_it(store, queued):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    store.release("o", [("a", 1)], strike=True)

    assert store.cancel("a", b"canceled")

    assert queued() == [b"canceled"]
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


def test_canceling_what_is_not_there_is_false(store, queued):
    assert not store.cancel("a", b"canceled")

    assert queued() == []


# looking


def test_held_can_be_asked_for_one_owner(store):
    store.register("o", b"")
    store.register("p", b"")
    store.submit("a", b"x")
    store.submit("b", b"x")
    store.claim("o", "fresh", 1)
    store.claim("p", "fresh", 1)

    assert store.held("p") == [Held(id="b", owner="p", epoch=1, strikes=0)]
    assert store.held("nobody") == []
    assert {one.id for one in store.held()} == {"a", "b"}


def test_reading_what_is_not_there_is_none(store):
    assert store.read("a") is None


# wait


def test_wait_ends_without_anything_ready(store):
    assert not store.wait(0.01)
    assert not store.wait(0)


def test_wait_says_so_when_something_was_submitted_before(store):
    store.wait(0)
    store.submit("a", b"x")

    assert store.wait(30)


def test_a_second_store_sees_what_the_first_one_did(backend, store):
    other = backend.another()
    store.submit("a", b"x")
    other.register("o", b"")

    assert ids(other.claim("o", "fresh", 1)) == ["a"]

    assert store.held("o") == [Held(id="a", owner="o", epoch=1, strikes=0)]
    other.close()


def test_a_closed_store_opens_again(store):
    store.submit("a", b"x")

    store.close()
    store.close()

    assert store.read("a") == b"x"
