"""Callbacks whose outcome is kept until they have returned."""

from __future__ import annotations

import pytest
from support.desk import URL, Desk

from huey_patient.wire import Reason


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def heard():
    """What callbacks were given."""
    return []


def save_in(desk, heard, **options):
    """A callback of ``desk`` that writes down what it was given."""

    @desk.patient.callback(name="save", **options)
    def save(outcome):
        heard.append(outcome)

    return save


@pytest.fixture
def save(desk, heard):
    return save_in(desk, heard, delivery="at_least_once")


def deploy(desk, name="save"):
    """Take a callback away, as the end of a process does, before another one has it."""
    callbacks = desk.patient._callbacks
    [full] = [known for known in callbacks._by_target.values() if known.endswith(f".{name}")]
    for target, known in list(callbacks._by_target.items()):
        if known == full:
            del callbacks._by_target[target]
    callbacks._with_receipt.discard(full)
    del desk.huey._registry._registry[full]


def lost(desk, id):
    """A worker takes the message of a request off the queue and is killed in its run."""
    assert desk.huey.dequeue().id == id
    assert desk.patient.store.begin(id, 0.0) == "run"


def redeliver(desk):
    """What the courier does, without waiting for the time to pass."""
    return desk.patient.store.redeliver_due(99, 0.0, 5)


def nothing_is_kept(desk):
    stats = desk.patient.stats()
    return (stats["receipts"], stats["dead"]) == (0, 0)


# What is kept, and what is not


def test_an_outcome_is_kept_until_its_callback_has_returned(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    assert desk.patient.stats()["receipts"] == 1

    desk.work()

    assert [outcome.request_id for outcome in heard] == [result.id]
    assert nothing_is_kept(desk)


def test_a_cancellation_is_kept_too(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    assert desk.patient.cancel(result.id)
    assert desk.patient.stats()["receipts"] == 1
    lost(desk, result.id)
    assert redeliver(desk) == (1, 0)

    desk.work()

    assert [outcome.kind for outcome in heard] == ["canceled"]
    assert nothing_is_kept(desk)


@pytest.mark.parametrize("reason", [Reason.ABANDONED, Reason.INTERRUPTED])
def test_what_no_io_process_decided_is_kept_too(desk, save, heard, reason):
    result = desk.patient.get(URL, callback=save)
    desk.settle(result.id, reason, desk.lease(result.id).sealed)
    assert desk.patient.stats()["receipts"] == 1

    desk.work()

    assert len(heard) == 1
    assert nothing_is_kept(desk)


def test_a_cancellation_of_another_callback_is_not_kept(desk, heard):
    result = desk.patient.get(URL, callback=save_in(desk, heard))

    desk.patient.cancel(result.id)

    assert nothing_is_kept(desk)
    desk.work()
    assert [outcome.kind for outcome in heard] == ["canceled"]


# What was answered before a deployment, and is delivered after it


def test_outcomes_of_a_time_without_receipts_are_delivered(desk, heard):
    result = desk.patient.get(URL, callback=save_in(desk, heard))
    desk.answer(result.id)
    deploy(desk)
    save_in(desk, heard, delivery="at_least_once")

    desk.work()

    assert [outcome.request_id for outcome in heard] == [result.id]


def test_retries_of_a_time_without_receipts_are_delivered(desk, heard):
    @desk.patient.callback(name="save", retries=1, retry_delay=60)
    def fails(outcome):
        raise RuntimeError("not yet")

    result = desk.patient.get(URL, callback=fails)
    desk.answer(result.id)
    desk.work()
    [scheduled] = desk.huey.scheduled()
    deploy(desk)
    save_in(desk, heard, delivery="at_least_once")

    desk.huey.execute(again(desk, scheduled))

    assert [outcome.request_id for outcome in heard] == [result.id]


def test_outcomes_of_a_time_with_receipts_are_delivered_once(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    deploy(desk)
    save_in(desk, heard)

    desk.work()

    assert [outcome.request_id for outcome in heard] == [result.id]
    assert nothing_is_kept(desk)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("known_at", ["the first run", "a retry"])
def test_a_callback_that_was_unknown_is_run_once_under_its_receipt(desk, heard, kept, known_at):
    delivery = "at_least_once" if kept else None
    result = desk.patient.get(URL, callback=save_in(desk, heard, delivery=delivery))
    deploy(desk)
    desk.answer(result.id)
    assert desk.patient.stats()["receipts"] == 1
    if known_at == "a retry":
        desk.work()
        [scheduled] = desk.huey.scheduled()
        desk.huey.enqueue(again(desk, scheduled))
    save_in(desk, heard, delivery=delivery)
    assert desk.huey.pending()[0].name == "UndeliveredOutcome"

    desk.work()

    assert [outcome.request_id for outcome in heard] == [result.id]
    assert nothing_is_kept(desk)


@pytest.mark.parametrize("kept", [True, False])
def test_a_callback_that_was_unknown_and_fails_is_a_dead_letter(desk, heard, kept):
    result = desk.patient.get(URL, callback=save_in(desk, heard))
    deploy(desk)
    desk.answer(result.id)

    @desk.patient.callback(name="save", delivery="at_least_once" if kept else None)
    def fails(outcome):
        heard.append(outcome)
        raise RuntimeError("never")

    runs = 0
    desk.work()
    while scheduled := desk.huey.scheduled():
        desk.huey.storage.flush_schedule()
        desk.huey.execute(again(desk, *scheduled))
        runs += 1

    assert (len(heard), runs) == (11, 10)  # As often as an unknown one is tried.
    assert [letter.id for letter in desk.patient.dead_letters()] == [result.id]


def test_a_plain_task_that_was_unknown_runs_under_its_receipt(desk, heard):
    def registered():
        @desk.huey.task(name="plain")
        def plain(response):
            heard.append(desk.patient.stats()["receipts"])

        return plain

    result = desk.patient.get(URL, callback=registered())
    registry = desk.huey._registry._registry
    known = registry.pop(f"{__name__}.plain")
    desk.answer(result.id)
    registry[f"{__name__}.plain"] = known

    desk.work()

    assert heard == [1]
    assert nothing_is_kept(desk)


def again(desk, task):
    """``task`` as the scheduler puts it on the queue when its time has come."""
    task.eta = None
    return desk.huey.deserialize_task(desk.huey.serialize_task(task))


# Messages too many


def test_a_message_too_many_does_nothing(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    message = desk.huey.storage.dequeue()
    for _ in range(3):
        desk.huey.storage.enqueue(message)

    desk.work()

    assert len(heard) == 1


def test_a_message_too_many_does_nothing_for_a_callback_that_was_unknown(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    deploy(desk)
    desk.answer(result.id)
    save_in(desk, heard)
    message = desk.huey.storage.dequeue()
    for _ in range(3):
        desk.huey.storage.enqueue(message)

    desk.work()

    assert len(heard) == 1
