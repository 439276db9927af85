"""Callbacks as Huey tasks: registered, told, tried again, and refused when they are wrong."""

from __future__ import annotations

import pickle

import pytest
from huey import CancelExecution, MemoryHuey, crontab
from huey.exceptions import RetryTask, TaskException
from support.desk import MARK, URL, Desk

from huey_patient import (
    Abandoned,
    Canceled,
    ConnectFailed,
    Patient,
    RequestError,
    Response,
    UnknownCallback,
)
from huey_patient.keys import generate_key
from huey_patient.wire import Reason


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def heard():
    """What callbacks and hooks were told, in order."""
    return []


@pytest.fixture
def save(desk, heard):
    """A class that hears everything."""

    @desk.patient.callback()
    class Save:
        def on_complete(self, response):
            heard.append(response)
            return response.status

        def on_error(self, error):
            heard.append(error)
            return error.kind

    return Save


# Registering


def test_a_class_and_a_function_stay_what_they_are(desk):
    @desk.patient.callback
    class Save:
        def on_complete(self, response): ...
        def on_error(self, error): ...

    @desk.patient.callback
    def function(outcome):
        return outcome

    assert isinstance(Save, type)
    assert function(5) == 5


def test_a_callback_is_registered_with_huey_under_its_own_name(desk, save):
    name = f"{__name__}.Save"

    assert name in desk.huey._registry._registry
    assert desk.patient._callbacks.name_of(save) == name


def test_a_callback_takes_the_options_of_a_task(desk):
    @desk.patient.callback(retries=3, retry_delay=7, priority=9, name="Other")
    def function(outcome): ...

    task = desk.huey._registry._registry[f"{__name__}.Other"]
    assert (task.default_retries, task.default_retry_delay, task.default_priority) == (3, 7, 9)


class NoError:
    def on_complete(self, response): ...


class NoComplete:
    def on_error(self, error): ...


class NoArgument:
    def on_complete(self): ...
    def on_error(self, error): ...


class TwoArguments:
    def on_complete(self, response): ...
    def on_error(self, error, more): ...


class NeedsMore:
    def __init__(self, more): ...
    def on_complete(self, response): ...
    def on_error(self, error): ...


class Async:
    async def on_complete(self, response): ...
    def on_error(self, error): ...


async def coroutine(outcome): ...


def nothing(): ...


def two(outcome, more): ...


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (NoError, "must define on_error"),
        (NoComplete, "must define on_complete"),
        (NoArgument, "on_complete must take one argument besides self"),
        (TwoArguments, "on_error must take one argument besides self"),
        (NeedsMore, "must be made without arguments"),
        (Async, "must not be async"),
        (coroutine, "must not be async"),
        (nothing, "must take one argument"),
        (two, "must take one argument"),
        (5, "got int"),
        (print, "got builtin_function"),
    ],
)
def test_what_cannot_be_a_callback_is_refused_when_it_is_registered(desk, wrong, complaint):
    before = dict(desk.huey._registry._registry)

    with pytest.raises(TypeError, match=complaint):
        desk.patient.callback(wrong)

    assert desk.huey._registry._registry == before


def test_a_second_callback_of_one_name_is_refused(desk, save):
    with pytest.raises(ValueError, match="same identifier"):
        desk.patient.callback(name="Save")(lambda outcome: None)


# Names


def test_a_callback_is_found_by_its_short_and_its_full_name(desk, save):
    name_of = desk.patient._callbacks.name_of

    assert name_of("Save") == name_of(f"{__name__}.Save") == name_of(save)


def test_two_of_one_short_name_need_the_full_one(desk, save):
    def another(outcome): ...

    another.__module__ = "elsewhere"
    desk.patient.callback(name="Save")(another)

    with pytest.raises(UnknownCallback, match="several"):
        desk.patient.get(URL, callback="Save")
    assert desk.patient._callbacks.name_of("elsewhere.Save") == "elsewhere.Save"


class Unregistered:
    def on_complete(self, response): ...
    def on_error(self, error): ...


@pytest.mark.parametrize("callback", ["Nobody", "os.system", "", Unregistered, lambda outcome: 0])
def test_nobody_can_be_named_who_is_not_registered(desk, save, callback):
    with pytest.raises(UnknownCallback):
        desk.patient.get(URL, callback=callback)

    assert desk.stored() == 0


def test_a_task_of_another_huey_is_refused(desk):
    other = MemoryHuey("other", immediate=False)

    @other.task()
    def elsewhere(response): ...

    with pytest.raises(UnknownCallback, match="another Huey"):
        desk.patient.get(URL, callback=elsewhere)


@pytest.mark.parametrize("callback", [5, ["Save"], b"Save"])
def test_what_cannot_name_a_callback_is_a_type_error(desk, save, callback):
    with pytest.raises(TypeError):
        desk.patient.get(URL, callback=callback)

    assert desk.stored() == 0


# Being told


def test_a_class_is_told_of_a_response_and_of_an_error(desk, save, heard):
    complete = desk.ask_and_answer(save, callback_args={"a": 1})
    failed = desk.ask_and_answer(save, ConnectFailed("refused"), callback_args={"b": 2})

    response, error = heard
    assert isinstance(response, Response)
    assert (response.request_id, response.callback_args) == (complete.id, {"a": 1})
    assert isinstance(error, ConnectFailed)
    assert (error.request_id, error.url, error.callback_args) == (failed.id, URL, {"b": 2})
    assert (complete.get(), failed.get()) == (200, "connection")


def test_each_outcome_meets_a_new_instance(desk, heard):
    @desk.patient.callback
    class Stateful:
        def __init__(self):
            self.seen = 0

        def on_complete(self, response):
            self.seen += 1
            heard.append(self.seen)

        def on_error(self, error): ...

    desk.ask_and_answer(Stateful)
    desk.ask_and_answer(Stateful)

    assert heard == [1, 1]


def test_a_function_is_told_of_both(desk, heard):
    desk.patient.callback(heard_by := lambda outcome: heard.append(outcome))

    desk.ask_and_answer(heard_by)
    desk.ask_and_answer(heard_by, ConnectFailed("refused"))

    assert [type(one) for one in heard] == [Response, ConnectFailed]


def test_with_context_the_task_comes_along(desk, heard):
    @desk.patient.callback(context=True)
    def function(outcome, task):
        heard.append(task.id)

    @desk.patient.callback(context=True)
    class Both:
        def on_complete(self, response, task):
            heard.append(task.id)

        def on_error(self, error, task):
            heard.append(task.id)

    ids = [
        desk.ask_and_answer(function).id,
        desk.ask_and_answer(Both).id,
        desk.ask_and_answer(Both, ConnectFailed("refused")).id,
    ]

    assert heard == ids


def test_a_class_with_context_must_take_the_task(desk):
    with pytest.raises(TypeError, match="one argument besides self and task"):

        @desk.patient.callback(context=True)
        class NoTask:
            def on_complete(self, response): ...
            def on_error(self, error): ...


def test_a_plain_task_is_called_with_the_response_and_failed_by_an_error(desk, heard):
    @desk.huey.task()
    def plain(response):
        heard.append(response)
        return response.status

    complete = desk.ask_and_answer(plain)
    failed = desk.ask_and_answer(plain, ConnectFailed("refused"))

    assert complete.get() == 200
    with pytest.raises(TaskException, match="ConnectFailed"):
        failed.get()
    assert len(heard) == 1


def test_a_plain_task_with_context_gets_its_task_too(desk, heard):
    @desk.huey.task(context=True)
    def plain(response, task=None):
        heard.append((response.status, task.id))

    result = desk.ask_and_answer(plain)

    assert heard == [(200, result.id)]


def test_a_plain_task_can_still_be_called_by_the_application(desk, heard):
    @desk.huey.task()
    def plain(value):
        heard.append(value)

    plain(5)
    plain((MARK, "outcome"))
    desk.work()

    assert heard == [5, (MARK, "outcome")]


def test_without_a_callback_the_response_is_the_result(desk):
    result = desk.ask_and_answer(None)

    assert result.get().request_id == result.id


def test_without_a_callback_an_error_is_the_result(desk):
    result = desk.ask_and_answer(None, ConnectFailed("refused"))

    with pytest.raises(TaskException, match="ConnectFailed"):
        result.get()


def test_a_callback_that_the_application_calls_as_a_task_says_what_it_is(desk, save):
    task = desk.huey._registry._registry[f"{__name__}.Save"]
    result = desk.huey.enqueue(task(args=(5,)))
    desk.work()

    with pytest.raises(TaskException, match="runs when a request is answered"):
        result.get()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.ABANDONED, Abandoned),
        (Reason.CANCELED, Canceled),
        (Reason.UNREADABLE, RequestError),
        (Reason.UNSEALED, RequestError),
    ],
)
def test_what_no_io_process_decided_names_the_request_too(desk, save, heard, reason, kind):
    result = desk.patient.post(URL, callback=save, callback_args={"a": 1})
    desk.settle(result.id, reason, desk.lease(result.id).sealed)
    desk.work()

    [error] = heard
    assert type(error) is kind
    assert (error.request_id, error.method, error.url) == (result.id, "POST", URL)
    assert error.callback_args == {"a": 1}


def test_a_request_that_nobody_can_open_still_ends_in_on_error(save, desk, heard):
    result = desk.patient.get(URL, callback=save)
    sealed = desk.lease(result.id).sealed
    desk.settle(result.id, Reason.UNREADABLE, sealed[:-10] + bytes(10))
    desk.work()

    [error] = heard
    assert (error.kind, error.request_id, error.callback_args) == ("unknown", result.id, {})


def test_a_request_whose_label_is_damaged_fails_its_result(desk, save):
    result = desk.patient.get(URL, callback=save)
    desk.lease(result.id)
    desk.settle(result.id, Reason.UNREADABLE, b"garbage")
    desk.work()

    with pytest.raises(TaskException, match="EnvelopeError"):
        result.get()


# Hooks


def test_hooks_run_before_the_callback_in_the_order_they_were_added(desk, save, heard):
    patient = desk.patient
    patient.after_completion(lambda response: heard.append("first"))
    patient.after_completion(lambda response: heard.append("second"))
    patient.after_error(lambda error: heard.append(error.kind))

    desk.ask_and_answer(save)
    desk.ask_and_answer(save, ConnectFailed("refused"))

    assert heard[:2] == ["first", "second"]
    assert isinstance(heard[2], Response)
    assert heard[3] == "connection"
    assert isinstance(heard[4], ConnectFailed)


def test_hooks_see_plain_tasks_and_calls_without_a_callback(desk, heard):
    desk.patient.after_completion(lambda response: heard.append(response.request_id))

    @desk.huey.task()
    def plain(response): ...

    ids = [desk.ask_and_answer(plain).id, desk.ask_and_answer(None).id]

    assert heard == ids


def test_a_hook_that_fails_stops_neither_the_others_nor_the_callback(desk, save, heard, caplog):
    @desk.patient.after_completion
    def broken(response):
        raise RuntimeError("broken on purpose")

    desk.patient.after_completion(lambda response: heard.append("second"))

    result = desk.ask_and_answer(save)

    assert heard[0] == "second"
    assert result.get() == 200
    assert "broken failed" in caplog.text


def test_a_hook_stays_the_function_that_it_is_and_must_be_one(desk):
    def hook(response): ...

    assert desk.patient.after_completion(hook) is hook
    assert desk.patient.after_error(hook) is hook
    assert desk.patient.on_retries_exhausted(hook) is hook
    for add in ("after_completion", "after_error", "on_retries_exhausted"):
        with pytest.raises(TypeError, match="callable, got str"):
            getattr(desk.patient, add)("hook")


# Failing, and being tried again


@pytest.fixture
def failing(desk, heard):
    """Registers a class that hears everything and fails with ``reason`` each time."""

    def make(reason=None, **options):
        class Failing:
            def on_complete(self, response):
                heard.append(response)
                raise reason or RuntimeError("not yet")

            on_error = on_complete

        desk.patient.callback(**options)(Failing)
        return Failing

    return make


@pytest.fixture
def exhausted(desk):
    """What ``on_retries_exhausted`` was called with."""
    told = []
    desk.patient.on_retries_exhausted(told.append)
    return told


def test_a_callback_that_is_tried_again_finds_the_same_answer(desk, failing, heard):
    result = desk.patient.get(URL, callback=failing(retries=2), callback_args={"a": [1]})
    desk.answer(result.id, content=b"body")

    assert desk.work() == 3
    assert [(one.content, one.callback_args) for one in heard] == [(b"body", {"a": [1]})] * 3
    assert len({id(one) for one in heard}) == 3


def test_a_plain_task_that_is_tried_again_finds_the_same_answer(desk, heard):
    @desk.huey.task(retries=1)
    def plain(response):
        heard.append(response.content)
        raise RuntimeError("not yet")

    result = desk.patient.get(URL, callback=plain)
    desk.answer(result.id, content=b"body")
    desk.huey.execute(desk.huey.dequeue())

    [again] = desk.huey.pending()
    assert again.args[0] == MARK  # The envelope, not what was in it.
    assert desk.work() == 1
    assert heard == [b"body", b"body"]


def test_the_last_failure_of_an_error_callback_is_told_once(desk, failing, exhausted):
    result = desk.ask_and_answer(failing(retries=2), ConnectFailed("refused"))

    [error] = exhausted
    assert isinstance(error, ConnectFailed)
    assert error.request_id == result.id


def test_the_failure_of_a_response_callback_is_not_told(desk, failing, exhausted, heard):
    desk.ask_and_answer(failing())

    assert len(heard) == 1
    assert exhausted == []


def test_a_callback_that_succeeds_at_last_is_not_told_of(desk, exhausted):
    tries = []

    @desk.patient.callback(retries=1)
    def second(outcome):
        tries.append(outcome)
        if len(tries) == 1:
            raise RuntimeError("the first time")

    desk.ask_and_answer(second, ConnectFailed("refused"))

    assert len(tries) == 2
    assert exhausted == []


def test_a_plain_task_runs_out_of_retries_by_the_error_itself(desk, exhausted):
    @desk.huey.task(retries=1)
    def plain(response): ...

    desk.ask_and_answer(plain, ConnectFailed("refused"))

    assert [type(error) for error in exhausted] == [ConnectFailed]


@pytest.mark.parametrize(
    ("reason", "retries", "told"),
    [
        (CancelExecution(retry=False), 3, 1),  # never again, whatever retries say
        (CancelExecution(), 0, 1),
        (RetryTask(delay=3600), 0, 0),  # again, whatever retries say
        (CancelExecution(retry=True), 0, 0),
    ],
    ids=["cancel-for-good", "cancel-the-last", "retry-later", "cancel-with-retry"],
)
def test_what_a_callback_says_of_its_own_retries_counts(
    desk, failing, exhausted, heard, reason, retries, told
):
    result = desk.patient.get(URL, callback=failing(reason, retries=retries))
    desk.answer(result.id, ConnectFailed("refused"))
    desk.huey.execute(desk.huey.dequeue())

    assert len(heard) == 1
    assert len(exhausted) == told


def test_a_hook_of_the_last_failure_that_fails_hides_nothing(desk, failing, caplog):
    @desk.patient.on_retries_exhausted
    def broken(error):
        raise RuntimeError("broken on purpose")

    result = desk.ask_and_answer(failing(), ConnectFailed("refused"))

    assert "broken failed" in caplog.text
    with pytest.raises(TaskException, match="not yet"):
        result.get()


def test_a_revoked_callback_does_not_run(desk, save, heard):
    result = desk.patient.get(URL, callback=save)
    result.revoke()
    desk.answer(result.id)
    desk.work()

    assert heard == []
    assert result.is_revoked() is False  # Huey forgets it once it took effect.


# A consumer that does not know the callback


def test_an_outcome_for_an_unknown_callback_is_kept_and_delivered_late(desk, save, heard, caplog):
    result = desk.patient.get(URL, callback=save)
    registry = desk.huey._registry._registry
    known = registry.pop(f"{__name__}.Save")
    desk.answer(result.id)
    assert "No callback" in caplog.text
    desk.work()
    assert heard == []
    [task] = desk.huey.scheduled()
    assert task.name == "UndeliveredOutcome"
    assert task.retries == 9

    registry[f"{__name__}.Save"] = known  # The new code has come.
    desk.huey.storage.flush_schedule()
    desk.huey.execute(_again(desk, task))

    assert [response.request_id for response in heard] == [result.id]
    assert result.get() == 200


def test_an_outcome_for_an_unknown_plain_task_is_delivered_late_too(desk, heard):
    @desk.huey.task(name="plain")
    def plain(response):
        heard.append(response.request_id)

    result = desk.patient.get(URL, callback=plain)
    registry = desk.huey._registry._registry
    known = registry.pop(f"{__name__}.plain")
    desk.answer(result.id)
    desk.work()
    registry[f"{__name__}.plain"] = known
    [task] = desk.huey.scheduled()
    desk.huey.execute(_again(desk, task))

    assert heard == [result.id]


def test_an_outcome_whose_callback_never_comes_is_a_dead_letter_and_can_be_sent_again(
    desk, save, heard
):
    result = desk.patient.get(URL, callback=save)
    registry = desk.huey._registry._registry
    known = registry.pop(f"{__name__}.Save")
    desk.answer(result.id)
    tries = desk.work()
    while scheduled := desk.huey.scheduled():
        desk.huey.storage.flush_schedule()
        desk.huey.execute(_again(desk, *scheduled))
        tries += 1
    assert tries == 11
    assert [letter.id for letter in desk.patient.dead_letters()] == [result.id]

    registry[f"{__name__}.Save"] = known  # Found out, and put right.
    assert desk.patient.redeliver(result.id)
    desk.work()

    assert [response.request_id for response in heard] == [result.id]
    assert desk.patient.dead_letters() == []
    assert desk.patient.stats()["receipts"] == 0


def _again(desk, task):
    """``task`` as the scheduler puts it on the queue when its time has come."""
    task.eta = None
    return desk.huey.deserialize_task(desk.huey.serialize_task(task))


# What stands on Huey's queue


@pytest.fixture
def sealed():
    return Desk(encryption_key=generate_key())


CANARY = "canary-4f0c"


def _seen_in_the_message(desk) -> bytes:
    @desk.patient.callback
    def Save(outcome): ...

    result = desk.patient.post(
        f"http://example.com/{CANARY}",
        headers={"X-Own": CANARY},
        body=CANARY,
        callback=Save,
        callback_args={CANARY: CANARY},
    )
    desk.answer(result.id, content=CANARY.encode())
    [message] = desk.huey.storage.enqueued_items()
    return message


def test_with_a_key_a_message_shows_nothing_but_its_callback(sealed):
    message = _seen_in_the_message(sealed)

    assert CANARY.encode() not in message
    assert b"Save" in message


def test_without_a_key_the_same_message_shows_all(desk):
    assert _seen_in_the_message(desk).count(CANARY.encode()) >= 3


def test_with_a_key_the_text_of_an_error_names_no_url(sealed, desk):
    for which, shown in ((sealed, False), (desk, True)):
        result = which.ask_and_answer(None, ConnectFailed("refused"))
        with pytest.raises(TaskException) as caught:
            result.get()
        assert ("example.com" in str(caught.value.metadata)) is shown


def test_a_message_moved_to_another_request_is_refused(sealed):
    save = []
    sealed.patient.callback(kept := lambda outcome: save.append(outcome))
    first = sealed.patient.get(URL, callback=kept)
    sealed.answer(first.id)
    task = sealed.huey.dequeue()
    task.id = "another"
    sealed.huey.execute(task)

    assert save == []
    with pytest.raises(TaskException, match="EnvelopeError"):
        sealed.huey.result("another")


@pytest.mark.parametrize("envelope", [b"", b"garbage", "text", None, 5, ["list"]])
def test_a_forged_message_ends_as_a_failed_task(desk, save, heard, envelope):
    task = desk.huey._registry._registry[f"{__name__}.Save"]
    result = desk.huey.enqueue(task(args=(MARK, "outcome", envelope)))
    desk.work()

    assert heard == []
    with pytest.raises(TaskException):
        result.get()


def test_values_that_huey_stores_are_sealed_and_open_again(sealed):
    result = sealed.patient.get(URL)
    sealed.answer(result.id, content=CANARY.encode())
    sealed.work()

    [stored] = sealed.huey.storage._results.values()
    assert CANARY.encode() not in stored
    response = result.get(preserve=True)
    assert response.content == CANARY.encode()
    assert pickle.loads(pickle.dumps(response)) == response


def test_a_response_handed_to_another_task_is_sealed_on_its_way(sealed, heard):
    @sealed.huey.task()
    def next_(response):
        heard.append(response.content)

    @sealed.patient.callback
    def hand_on(response):
        next_(response)

    result = sealed.patient.get(URL, callback=hand_on)
    sealed.answer(result.id, content=CANARY.encode())
    sealed.huey.execute(sealed.huey.dequeue())

    [message] = sealed.huey.storage.enqueued_items()
    assert CANARY.encode() not in message
    sealed.work()
    assert heard == [CANARY.encode()]


def test_a_callback_that_expires_before_it_runs_does_not_run(desk, heard):
    @desk.patient.callback(expires=0.000001)
    def late(outcome):
        heard.append(outcome)

    desk.ask_and_answer(late)

    assert heard == []


def test_periodic_tasks_and_others_of_the_application_are_left_alone(desk, heard):
    @desk.huey.periodic_task(crontab())
    def periodic():
        heard.append("periodic")

    periodic()
    desk.work()

    assert heard == ["periodic"]


def test_the_names_of_one_patient_mean_nothing_to_another(desk, save):
    other = Patient(MemoryHuey("other", immediate=False))

    with pytest.raises(UnknownCallback):
        other.get(URL, callback=save)
