"""Callbacks whose outcome is kept until they have returned."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading

import pytest
from huey import MemoryHuey, SqliteHuey
from huey.exceptions import CancelExecution, RateLimitExceeded, RetryTask, TaskLockedException
from support.desk import URL, Desk

from huey_patient import Patient, Response, StoreUnavailable
from huey_patient.envelope import read_label
from huey_patient.wire import Reason, write_outcome


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


@pytest.fixture
def two_desks(tmp_path):
    """Two processes of one application, as far as the database can tell."""
    filename = str(tmp_path / "huey.db")
    desks = [Desk(SqliteHuey("shared", filename=filename)) for _ in range(2)]
    yield desks
    for desk in desks:
        desk.patient.store.close()
        desk.huey.storage.close()


@pytest.mark.parametrize("settled_as", ["at_least_once", None, "unknown"])
@pytest.mark.parametrize("run_as", ["at_least_once", None])
def test_what_one_process_settles_another_delivers_once(two_desks, heard, settled_as, run_as):
    old, new = two_desks
    save = save_in(old, heard, delivery=None if settled_as == "unknown" else settled_as)
    save_in(new, heard, delivery=run_as)
    result = old.patient.get(URL, callback=save)
    if settled_as == "unknown":
        deploy(old)
    old.answer(result.id)
    assert old.patient.stats()["receipts"] == int(settled_as is not None)

    new.work()

    assert [outcome.request_id for outcome in heard] == [result.id]
    assert nothing_is_kept(old)


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


@pytest.mark.parametrize("store_none", [True, False])
@pytest.mark.parametrize("value", ["a value", None])
def test_a_message_too_many_leaves_the_result_alone(desk, heard, store_none, value):
    @desk.patient.callback(delivery="at_least_once")
    def save(outcome):
        heard.append(outcome)
        return value

    desk.huey.store_none = store_none
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    message = desk.huey.storage.dequeue()
    desk.huey.storage.enqueue(message)
    desk.work()
    desk.huey.storage.enqueue(message)
    desk.work()

    assert len(heard) == 1
    assert result.get(preserve=True) == value
    assert desk.huey.result_count() == int(value is not None or store_none)


def test_a_message_too_many_is_canceled_and_completes_nothing(desk, save):
    signals = []
    desk.huey.signal("complete", "canceled", "error")(lambda signal, task: signals.append(signal))
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    message = desk.huey.storage.dequeue()
    for _ in range(2):
        desk.huey.storage.enqueue(message)

    desk.work()

    assert signals == ["complete", "canceled"]


def test_a_message_too_many_beside_its_run_forgets_nothing(desk, heard):
    @desk.patient.callback(delivery="at_least_once")
    def save(outcome):
        if not heard:
            heard.append(outcome)
            desk.huey.storage.enqueue(message)
            desk.work()
            assert desk.patient.stats()["receipts"] == 1
        else:
            heard.append(outcome)

    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    message = desk.huey.storage.dequeue()
    desk.huey.storage.enqueue(message)

    desk.work()

    assert len(heard) == 1
    assert nothing_is_kept(desk)


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), LookupError("unforeseen")])
def test_a_store_that_fails_before_a_run_costs_a_delivery_and_no_result(
    desk, save, heard, monkeypatch, caplog, trouble
):
    begin = type(desk.patient.store).begin
    troubles = [trouble]

    def fail(*args):
        if troubles:
            raise troubles.pop()
        return begin(*args)

    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    with monkeypatch.context() as away:
        away.setattr(type(desk.patient.store), "begin", fail)
        desk.work()
    assert "delivered once more" in caplog.text
    assert (heard, desk.huey.result_count(), desk.patient.stats()["receipts"]) == ([], 0, 1)

    overdue(desk)
    desk.work()

    assert [outcome.request_id for outcome in heard] == [result.id]


def unavailable(*args, **options):
    raise StoreUnavailable("away")


def overdue(desk):
    """Let the time of all that is kept pass, and the courier see it."""
    store = desk.patient.store
    clock = store._clock
    store._clock = lambda: clock() + 10**6
    try:
        return store.redeliver_due(99, 0.0, 5)
    finally:
        store._clock = clock


# While it runs


@pytest.fixture
def hasty():
    """A desk whose receipts are extended every few milliseconds."""
    return Desk(heartbeat_interval=0.01, orphan_threshold=0.03)


class Extends:
    """Stands for `Store.extend`; a callback can wait for it."""

    def __init__(self, monkeypatch, desk, *troubles):
        self.ids = []
        self._extended = threading.Condition()
        self._troubles = list(troubles)
        store = desk.patient.store
        self._extend = store.extend
        monkeypatch.setattr(store, "extend", self)

    def __call__(self, id, seconds):
        if self._troubles:
            raise self._troubles.pop(0)
        answer = self._extend(id, seconds)
        with self._extended:
            self.ids.append(id)
            self._extended.notify_all()
        return answer

    def wait_for(self, id):
        """Wait until the thread has gone round often enough to have met all that run."""
        with self._extended:
            return self._extended.wait_for(lambda: self.ids.count(id) > 2, 8)


def long_run(desk, extends):
    """A callback that runs until its receipt was extended; a list of whether it was."""
    seen = []

    @desk.patient.callback(delivery="at_least_once")
    def save(outcome):
        seen.append(extends.wait_for(outcome.request_id))

    return save, seen


def test_the_receipt_of_a_long_run_is_extended_for_as_long_as_it_runs(hasty, monkeypatch):
    extends = Extends(monkeypatch, hasty)
    save, seen = long_run(hasty, extends)
    first = hasty.ask_and_answer(save)
    second = hasty.ask_and_answer(save)

    assert seen == [True, True]
    begun = extends.ids.index(second.id)
    assert first.id in extends.ids[:begun]
    assert first.id not in extends.ids[begun:]
    assert nothing_is_kept(hasty)


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), LookupError("unforeseen")])
def test_receipts_are_extended_after_an_extension_that_failed(hasty, monkeypatch, caplog, trouble):
    save, seen = long_run(hasty, Extends(monkeypatch, hasty, trouble))

    hasty.ask_and_answer(save)

    assert seen == [True]
    assert str(trouble) in caplog.text


def test_a_thread_that_ended_is_started_again(hasty, monkeypatch):
    extends = Extends(monkeypatch, hasty, SystemExit())
    save, seen = long_run(hasty, extends)
    ended = threading.Event()

    @hasty.patient.callback(delivery="at_least_once")
    def first(outcome):
        assert receipts._thread.join(8)
        ended.set()

    receipts = hasty.patient._callbacks._deliveries._receipts
    hasty.ask_and_answer(first)
    assert ended.is_set()

    hasty.ask_and_answer(save)

    assert seen == [True]


def test_a_run_without_a_thread_to_extend_it_runs(desk, save, heard, monkeypatch, caplog):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("huey_patient.receipts.NativeThread.start", no_thread)

    desk.ask_and_answer(save)

    assert len(heard) == 1
    assert nothing_is_kept(desk)
    assert "can't start new thread" in caplog.text


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_outcome_whose_worker_is_ended_is_due_at_once_and_never_given_up(desk, end):
    runs = []

    @desk.patient.callback(delivery="at_least_once")
    def save(outcome):
        runs.append(outcome)
        raise end

    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    for _ in range(7):
        with contextlib.suppress(end):
            desk.work()
        assert redeliver(desk) == (1, 0)

    assert len(runs) == 7


def test_what_cannot_be_noted_is_no_failure_of_the_callback(desk, save, monkeypatch, caplog):
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    with monkeypatch.context() as away:
        away.setattr(type(desk.patient.store), "confirm", unavailable)
        desk.work()

    assert "delivered once more" in caplog.text
    assert desk.patient.stats()["receipts"] == 1
    assert result.get() is None


# What Huey runs again


class Odd(Exception):
    delay = "soon"


HOUR = datetime.timedelta(hours=1)


def in_an_hour():
    return datetime.datetime.now() + HOUR


@pytest.mark.parametrize(
    ("raised", "options", "seconds"),
    [
        (lambda: RetryTask(eta=in_an_hour()), {}, 3600),
        (lambda: RetryTask(eta=in_an_hour()), {"retries": 1, "retry_delay": 60}, 3600),
        (lambda: RetryTask(eta=in_an_hour().astimezone(datetime.UTC)), {}, 3600),
        (lambda: RetryTask(eta=datetime.datetime.now() - HOUR), {}, 0),
        (lambda: RetryTask(delay=500), {"retry_delay": 60}, 500),
        (lambda: RetryTask(delay=HOUR), {}, 3600),
        (lambda: RetryTask(delay=0), {"retry_delay": 60}, 0),
        (lambda: RetryTask(), {"retry_delay": 60}, 60),
        (lambda: RetryTask(), {}, 0),
        (lambda: RateLimitExceeded("key", 500), {}, 500),
        (lambda: RateLimitExceeded("key", 500), {"retry_delay": 60}, 60),
        (lambda: RateLimitExceeded("key", 500, retry=False), {"retries": 1}, 500),
        (lambda: TaskLockedException("key"), {"retries": 1, "retry_delay": 60}, 60),
        (lambda: CancelExecution("no", retry=True), {"retry_delay": 60}, 60),
        (lambda: Odd(), {"retries": 1, "retry_delay": 60}, 60),
        (lambda: RuntimeError("not yet"), {"retries": 1, "retry_delay": 60}, 60),
        (lambda: RuntimeError("not yet"), {"retries": 1}, 0),
    ],
)
@pytest.mark.parametrize("utc", [True, False])
def test_a_receipt_waits_as_long_as_huey_does(desk, monkeypatch, utc, raised, options, seconds):
    desk.huey.utc = utc
    postponed = []

    @desk.patient.callback(delivery="at_least_once", **options)
    def save(outcome):
        raise raised()

    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    monkeypatch.setattr(
        type(desk.patient.store), "postpone", lambda store, id, left: postponed.append(left)
    )
    task = desk.huey.dequeue()
    now = desk.huey._get_timestamp()
    desk.huey.execute(task)

    [left] = postponed
    # Ten orphan_threshold come on top; what is allowed for is more than a test may last.
    assert left - 300 == pytest.approx(seconds, abs=30)
    [retry] = desk.huey.scheduled() + desk.huey.pending()
    by_huey = max(0, (retry.eta - now).total_seconds()) if retry.eta else 0
    assert left - 300 == pytest.approx(by_huey, abs=30)


@pytest.mark.parametrize(
    ("raised", "retries"),
    [
        (RuntimeError("never"), 0),
        (Odd(), 0),
        (RateLimitExceeded("key", 5, retry=False), 0),
        (TaskLockedException("key"), 0),
        (CancelExecution("no", retry=False), 1),
        (CancelExecution("no"), 0),
    ],
)
def test_what_huey_does_not_run_again_is_a_dead_letter(desk, raised, retries):
    @desk.patient.callback(delivery="at_least_once", retries=retries)
    def save(outcome):
        raise raised

    desk.ask_and_answer(save)

    assert desk.patient.stats()["dead"] == 1
    assert desk.huey.scheduled() == []


@pytest.mark.parametrize("raised", [RetryTask(eta="soon"), RetryTask(delay="soon")])
def test_a_retry_that_huey_cannot_compute_is_a_dead_letter(desk, raised):
    @desk.patient.callback(delivery="at_least_once")
    def save(outcome):
        raise raised

    # As in a worker, which logs it: Huey has lost this message.
    with pytest.raises((TypeError, ValueError)):
        desk.ask_and_answer(save)

    assert desk.patient.stats()["dead"] == 1


# What Huey does not run


def test_a_revoked_outcome_is_forgotten(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    message = desk.huey.storage.dequeue()
    for _ in range(2):
        desk.huey.storage.enqueue(message)
    result.revoke()

    desk.work()

    assert heard == []
    assert nothing_is_kept(desk)
    assert overdue(desk) == (0, 0)


def test_a_revoked_retry_is_forgotten(desk, heard):
    @desk.patient.callback(delivery="at_least_once", retries=1, retry_delay=60)
    def save(outcome):
        heard.append(outcome)
        raise RuntimeError("not yet")

    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    desk.work()
    [scheduled] = desk.huey.scheduled()
    result.revoke()
    desk.huey.execute(again(desk, scheduled))

    assert len(heard) == 1
    assert nothing_is_kept(desk)


LATER = datetime.timedelta(hours=2)


def test_an_expired_outcome_is_forgotten(desk, heard):
    save = save_in(desk, heard, delivery="at_least_once", expires=3600)
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)

    desk.huey.execute(desk.huey.dequeue(), desk.huey._get_timestamp() + LATER)

    assert heard == []
    assert nothing_is_kept(desk)


def test_a_message_that_expires_beside_its_run_forgets_nothing(desk, heard):
    save = save_in(desk, heard, delivery="at_least_once", expires=3600)
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    desk.patient.store.begin(result.id, 3600.0)

    desk.huey.execute(desk.huey.dequeue(), desk.huey._get_timestamp() + LATER)

    assert desk.patient.stats()["receipts"] == 1


def test_a_message_that_expires_after_its_run_failed_for_good_forgets_nothing(desk, heard):
    save = save_in(desk, heard, delivery="at_least_once", expires=3600)
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    desk.patient.store.give_up(result.id)

    desk.huey.execute(desk.huey.dequeue(), desk.huey._get_timestamp() + LATER)

    assert desk.patient.stats()["dead"] == 1


@pytest.mark.parametrize("when", ["before ours", "after ours"])
def test_what_a_hook_of_the_application_cancels_is_forgotten(desk, save, heard, when):
    def refuse(task):
        raise CancelExecution("not today")

    hooks = desk.huey._pre_execute
    hooks |= {"refuse": refuse} if when == "after ours" else {}
    if when == "before ours":
        ours = dict(hooks)
        hooks.clear()
        hooks |= {"refuse": refuse, **ours}
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)

    desk.work()

    assert heard == []
    assert nothing_is_kept(desk)


@pytest.mark.parametrize("retry", [True, False])
def test_what_a_callback_cancels_itself_is_not_forgotten(desk, retry):
    @desk.patient.callback(delivery="at_least_once", retry_delay=60)
    def save(outcome):
        raise CancelExecution("not now", retry=retry)

    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)

    desk.work()

    assert desk.patient.stats()["receipts"] == int(retry)
    assert desk.patient.stats()["dead"] == int(not retry)


def test_what_cannot_be_forgotten_now_comes_again(desk, save, heard, monkeypatch, caplog):
    result = desk.patient.get(URL, callback=save)
    desk.answer(result.id)
    result.revoke()
    with monkeypatch.context() as away:
        away.setattr(type(desk.patient.store), "begin", unavailable)
        desk.work()

    assert "delivered once more" in caplog.text
    assert desk.patient.stats()["receipts"] == 1


def test_a_revoked_outcome_without_a_receipt_is_left_to_huey(desk, heard):
    result = desk.patient.get(URL, callback=save_in(desk, heard))
    desk.answer(result.id)
    result.revoke()

    desk.work()

    assert heard == []
    assert nothing_is_kept(desk)


def test_in_immediate_mode_nothing_is_kept_and_all_is_delivered(heard):
    huey = MemoryHuey("immediate-kept", immediate=True)
    patient = Patient(huey)

    @patient.callback(delivery="at_least_once")
    def save(outcome):
        heard.append(outcome.kind)

    patient.get("http://127.0.0.1:1/", callback=save, retries=0)

    assert heard == ["connection"]
    assert patient.stats()["receipts"] == 0


# What it was given


@pytest.fixture
def large():
    """A desk whose outcomes lie in a payload store, for as long as they are needed."""
    return Desk(payload_store="huey", payload_store_threshold=1000)


def answer_large(desk, result):
    lease = desk.lease(result.id)
    head, body = write_outcome(
        Response(status=200, url=URL, content=os.urandom(2000), request_id=result.id)
    )
    keyring, references = desk.patient._keyring, desk.patient._references
    sealed = keyring.seal(
        head,
        body,
        purpose="outcome",
        queue=desk.huey.name,
        id=result.id,
        label=read_label(lease.sealed),
    )
    desk.settle(result.id, Reason.OUTCOME, references.stow(result.id, sealed, "outcome"))
    assert desk.huey.result_count() == 1  # Where "huey" keeps it.


@pytest.mark.parametrize("ends", ["returned", "revoked"])
def test_a_large_outcome_is_deleted_with_its_receipt(large, heard, ends):
    result = large.patient.get(URL, callback=save_in(large, heard, delivery="at_least_once"))
    answer_large(large, result)
    if ends == "revoked":
        result.revoke()

    large.work()

    assert len(heard) == int(ends == "returned")
    assert large.huey.result_count() == 0


@pytest.mark.parametrize("known", [True, False])
def test_a_large_outcome_is_there_for_as_long_as_its_receipt(large, heard, monkeypatch, known):
    result = large.patient.get(URL, callback=save_in(large, heard, delivery="at_least_once"))
    if not known:
        deploy(large)
    answer_large(large, result)
    if not known:
        save_in(large, heard)
    with monkeypatch.context() as away:
        away.setattr(type(large.patient.store), "confirm", unavailable)
        large.work()

    assert overdue(large) == (1, 0)
    large.work()

    assert [type(outcome) for outcome in heard] == [Response, Response]
    assert large.huey.result_count() == 0
