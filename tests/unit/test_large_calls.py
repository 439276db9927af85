"""Large requests and outcomes, from the caller's and the callback's side."""

from __future__ import annotations

import os
from typing import Any

import pytest
from huey import MemoryHuey
from support.desk import URL, Desk
from support.web import Answer, WebServer

from huey_patient import ConfigurationError, Patient, PayloadLost, StoreUnavailable
from huey_patient.envelope import read_label
from huey_patient.keys import generate_key
from huey_patient.payloads import PayloadStore
from huey_patient.response import Response
from huey_patient.wire import Reason, read_submission, write_outcome

LARGE = os.urandom(2000)


class Shelf(PayloadStore):
    """A payload store that a test can look into, and switch off."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False
        self.steps: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        self._step("put")
        self.objects[key] = data

    def get(self, key: str) -> bytes | None:
        self._step("get")
        return self.objects.get(key)

    def delete(self, key: str) -> None:
        self._step("delete")
        self.objects.pop(key, None)

    def sweep(self, older_than: float) -> int:
        return 0

    def _step(self, name: str) -> None:
        if self.away:
            raise OSError("away")
        self.steps.append(name)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(params=[True, False], ids=["with-a-key", "without-a-key"])
def desk(request: pytest.FixtureRequest, shelf: Shelf) -> Desk:
    key = generate_key() if request.param else None
    made = Desk(payload_store_threshold=1000, encryption_key=key)
    made.patient.register_payload_store("shelf", shelf)
    return made


@pytest.fixture
def heard() -> list[Any]:
    return []


@pytest.fixture
def save(desk: Desk, heard: list[Any]) -> type:
    @desk.patient.callback(retries=2, retry_delay=0)
    class Save:
        def on_complete(self, response):
            heard.append(response)

        def on_error(self, error):
            heard.append(error)

    return Save


def request_of(desk: Desk, id: str) -> bytes:
    """The sealed request as the I/O process gets it."""
    return desk.patient._references.fetch(id, desk.lease(id).sealed, "request")


def answer(desk: Desk, id: str, content: bytes = LARGE) -> bytes:
    """Answer a request, as courier and porters do; what went into the message."""
    sealed = request_of(desk, id)
    refs, keyring = desk.patient._references, desk.patient._keyring
    given = read_submission(
        *keyring.unseal(
            sealed, purpose="request", queue=desk.huey.name, id=id, max_body_bytes=10**6
        )
    )
    response = Response(
        status=200,
        url=given.request.url,
        request_id=id,
        content=content,
        callback_args=given.callback_args,
    )
    head, body = write_outcome(response)
    outcome = keyring.seal(
        head, body, purpose="outcome", queue=desk.huey.name, id=id, label=read_label(sealed)
    )
    stowed = refs.stow(id, outcome, "outcome")
    desk.settle(id, Reason.OUTCOME, stowed)
    refs.discard(id, desk.lease(id).sealed, "request")
    return stowed


# Submitting


def test_a_large_request_lies_in_the_payload_store_and_its_reference_in_the_store(
    desk: Desk, shelf: Shelf
) -> None:
    id = desk.patient.post(URL, body=LARGE).id

    stored = desk.patient.store.read(id)
    assert desk.patient._references.is_reference(stored)
    assert len(stored) < 1000
    assert list(shelf.objects.values()) == [request_of(desk, id)]


def test_a_small_one_needs_no_payload_store(desk: Desk, shelf: Shelf) -> None:
    shelf.away = True

    id = desk.patient.post(URL, body=b"x").id

    assert not desk.patient._references.is_reference(desk.patient.store.read(id))


def test_the_object_is_written_before_the_request_is_stored(desk: Desk, shelf: Shelf) -> None:
    submit = desk.patient.store.submit
    desk.patient.store.submit = lambda *args, **options: (
        shelf.steps.append("submit"),
        submit(*args, **options),
    )[1]

    desk.patient.post(URL, body=LARGE)

    assert shelf.steps == ["put", "submit"]


def test_when_it_cannot_be_written_nothing_is_stored_and_the_caller_knows(
    desk: Desk, shelf: Shelf
) -> None:
    shelf.away = True

    with pytest.raises(StoreUnavailable, match="'shelf' failed"):
        desk.patient.post(URL, body=LARGE)

    assert desk.stored() == 0


def test_submitting_an_id_again_leaves_one_object(desk: Desk, shelf: Shelf) -> None:
    for _ in range(3):
        desk.patient.post(URL, body=LARGE, id="mine")

    assert desk.stored() == 1
    assert len(shelf.objects) == 1
    assert request_of(desk, "mine")


def test_submitting_an_id_that_was_answered_leaves_none(
    desk: Desk, shelf: Shelf, save: type
) -> None:
    desk.patient.post(URL, body=LARGE, id="mine", callback=save)
    answer(desk, "mine", b"small")
    desk.work()

    desk.patient.post(URL, body=LARGE, id="mine", callback=save)

    assert shelf.objects == {}


def test_canceling_deletes_the_object_and_the_callback_knows_what_was_asked(
    desk: Desk, shelf: Shelf, save: type, heard: list[Any]
) -> None:
    id = desk.patient.post(URL, body=LARGE, callback=save, callback_args={"n": 1}).id

    assert desk.patient.cancel(id)
    assert shelf.objects == {}
    shelf.away = True
    desk.work()

    [error] = heard
    assert error.kind == "canceled"
    assert (error.method, error.url, error.callback_args["n"]) == ("POST", URL, 1)


def test_a_request_that_was_answered_meanwhile_keeps_nothing_from_being_canceled(
    desk: Desk, shelf: Shelf
) -> None:
    assert not desk.patient.cancel("nobody")
    assert shelf.steps == []


# Answering


def test_a_large_outcome_comes_whole_and_its_object_goes(
    desk: Desk, shelf: Shelf, save: type, heard: list[Any]
) -> None:
    id = desk.patient.post(URL, body=LARGE, callback=save, callback_args={"n": 1}).id
    stowed = answer(desk, id)
    assert desk.patient._references.is_reference(stowed)
    assert len(shelf.objects) == 1

    desk.work()

    [response] = heard
    assert response.content == LARGE
    assert response.callback_args["n"] == 1
    assert shelf.objects == {}


def test_a_callback_that_is_tried_again_finds_its_payload(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.patient.callback(retries=2, retry_delay=0)
    def stubborn(outcome):
        heard.append((outcome.content, len(shelf.objects)))
        if len(heard) < 3:
            raise RuntimeError("not yet")

    id = desk.patient.get(URL, callback=stubborn).id
    answer(desk, id)

    assert desk.work() == 3

    assert heard == [(LARGE, 1)] * 3
    assert shelf.objects == {}


def test_the_object_goes_when_the_callback_has_run_out_of_retries(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.patient.callback(retries=1, retry_delay=0)
    def hopeless(outcome):
        heard.append(len(shelf.objects))
        raise RuntimeError("never")

    answer(desk, desk.patient.get(URL, callback=hopeless).id)

    assert desk.work() == 2
    assert heard == [1, 1]
    assert shelf.objects == {}


def test_a_plain_task_and_no_callback_at_all_are_given_it_and_it_goes(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.huey.task(retries=1, retry_delay=0)
    def plain(response):
        heard.append(response.content)
        if len(heard) < 2:
            raise RuntimeError("not yet")

    answer(desk, desk.patient.get(URL, callback=plain).id)
    result = desk.patient.get(URL)
    answer(desk, result.id)
    desk.work()

    assert heard == [LARGE] * 2
    assert shelf.objects == {}
    assert result.get().content == LARGE  # The value in Huey's results is whole.


def test_an_outcome_that_is_lost_is_an_error_that_says_so(
    desk: Desk, shelf: Shelf, save: type, heard: list[Any]
) -> None:
    id = desk.patient.post(URL, body=LARGE, callback=save, callback_args={"n": 1}).id
    answer(desk, id)
    shelf.objects.clear()

    desk.work()

    [error] = heard
    assert type(error) is PayloadLost
    assert error.kind == "payload"
    assert (error.request_id, error.url, error.callback_args["n"]) == (id, URL, 1)
    assert error.confidential == desk.patient._keyring.seals


def test_a_request_that_is_lost_is_an_error_that_says_so(
    desk: Desk, shelf: Shelf, save: type, heard: list[Any]
) -> None:
    id = desk.patient.post(URL, body=LARGE, callback=save, callback_args={"n": 1}).id
    shelf.objects.clear()
    desk.settle(id, Reason.PAYLOAD_LOST, desk.lease(id).sealed)

    desk.work()

    [error] = heard
    assert type(error) is PayloadLost
    assert (error.method, error.url, error.callback_args["n"]) == ("POST", URL, 1)


def run_what_was_put_off(desk: Desk) -> None:
    """Run what is in Huey's schedule, as if its time had come."""
    waiting = desk.huey.scheduled()
    desk.huey.storage.flush_schedule()
    for task in waiting:
        task.eta = None
        desk.huey.execute(desk.huey.deserialize_task(desk.huey.serialize_task(task)))


def test_a_callback_whose_payload_store_is_away_is_put_off_without_costing_a_retry(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.patient.callback()
    def once(outcome):
        heard.append(outcome.content)

    answer(desk, desk.patient.get(URL, callback=once).id)
    shelf.away = True
    desk.work()
    for _ in range(3):
        run_what_was_put_off(desk)
    assert heard == []

    shelf.away = False
    run_what_was_put_off(desk)

    assert heard == [LARGE]
    assert shelf.objects == {}


def test_the_pause_is_spent_in_the_schedule(desk: Desk, shelf: Shelf, save: type) -> None:
    answer(desk, desk.patient.get(URL, callback=save).id)
    shelf.away = True

    desk.work()

    [waiting] = desk.huey.scheduled()
    assert waiting.retries == 2


def test_a_callback_that_this_consumer_does_not_know_finds_its_payload_later(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.patient.callback(name="Later")
    def later(outcome):
        heard.append(outcome.content)

    registry = desk.huey._registry._registry
    id = desk.patient.get(URL, callback=later).id
    name = desk.patient._callbacks.name_of(later)
    known = registry.pop(name)
    answer(desk, id)
    desk.work()
    assert len(shelf.objects) == 1

    registry[name] = known
    run_what_was_put_off(desk)

    assert heard == [LARGE]
    assert shelf.objects == {}


# Registering


def test_a_payload_store_needs_a_name_and_must_be_one(desk: Desk) -> None:
    for name in ("", " ", None, 7):
        with pytest.raises(ConfigurationError, match="needs a name"):
            desk.patient.register_payload_store(name, "huey")
    with pytest.raises(ConfigurationError, match="payload store is"):
        desk.patient.register_payload_store("x", "nonsense")


def test_the_setting_is_a_store_called_default() -> None:
    desk = Desk(payload_store="huey", payload_store_threshold=1000)

    id = desk.patient.post(URL, body=LARGE).id

    [name] = [name for name in desk.huey.storage._results if "payload" in name]
    assert desk.huey.storage._results[name] == request_of(desk, id)


def test_after_a_move_what_was_written_before_is_still_read(
    desk: Desk, shelf: Shelf, save: type, heard: list[Any]
) -> None:
    before = desk.patient.post(URL, body=LARGE, callback=save).id
    new = Shelf()
    desk.patient.register_payload_store("new", new)
    after = desk.patient.post(URL, body=LARGE, callback=save).id

    answer(desk, before)
    answer(desk, after)
    desk.work()

    assert [one.content for one in heard] == [LARGE, LARGE]
    assert shelf.objects == new.objects == {}
    assert new.steps.count("put") == 3  # its own request, and both outcomes


def test_the_io_process_is_told_of_no_payload_store() -> None:
    patient = Patient(MemoryHuey("told", immediate=False), payload_store="memory://secret@x")

    assert patient._keyring.for_child(patient.settings).payload_store is None
    assert "secret@x" not in repr(patient.settings)
    assert "payload_store" not in patient.settings.as_dict()


# At least once


def test_an_outcome_with_a_receipt_is_kept_until_its_receipt_is_gone(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.patient.callback(delivery="at_least_once")
    def careful(outcome):
        heard.append(outcome.content)

    id = desk.patient.get(URL, callback=careful).id
    answer(desk, id)
    store = desk.patient.store
    order: list[str] = []
    confirm, delete = store.confirm, shelf.delete
    store.confirm = lambda id: (order.append("confirm"), confirm(id))[1]
    shelf.delete = lambda key: (order.append("delete"), delete(key))[1]

    desk.work()

    assert heard == [LARGE]
    assert order == ["confirm", "delete"]


def test_it_stays_when_the_receipt_could_not_be_taken_away(
    desk: Desk, shelf: Shelf, heard: list[Any]
) -> None:
    @desk.patient.callback(delivery="at_least_once")
    def careful(outcome):
        heard.append(outcome.content)

    answer(desk, desk.patient.get(URL, callback=careful).id)

    def away(id: str) -> bool:
        raise StoreUnavailable("away")

    desk.patient.store.confirm = away
    desk.work()

    assert heard == [LARGE]
    assert len(shelf.objects) == 1


def test_a_dead_letter_keeps_its_payload(desk: Desk, shelf: Shelf, heard: list[Any]) -> None:
    @desk.patient.callback(delivery="at_least_once")
    def failing(outcome):
        heard.append(outcome.content)
        if len(heard) < 2:
            raise RuntimeError("for good")

    id = desk.patient.get(URL, callback=failing).id
    answer(desk, id)
    desk.work()
    assert [letter.id for letter in desk.patient.dead_letters()] == [id]
    assert len(shelf.objects) == 1

    assert desk.patient.redeliver(id)
    desk.work()

    assert heard == [LARGE, LARGE]
    assert shelf.objects == {}


# In immediate mode


def at_once(shelf: Shelf, **settings: Any) -> Patient:
    huey = MemoryHuey("at-once", immediate=True)
    patient = Patient(huey, payload_store_threshold=1000, **settings)
    patient.register_payload_store("shelf", shelf)
    return patient


def test_immediate_mode_goes_the_same_way(shelf: Shelf, heard: list[Any]) -> None:
    patient = at_once(shelf, encryption_key=generate_key())
    sizes: list[int] = []

    @patient.callback
    def keep(response):
        sizes.append(len(shelf.objects))
        heard.append(response.content)

    with WebServer() as server:
        server.answer("/large", Answer(200, LARGE))
        patient.post(f"{server.url}/large", body=LARGE, callback=keep)
        assert server.asked[0].body == LARGE

    assert heard == [LARGE]
    assert sizes == [1]  # The request's went with its settling.
    assert shelf.steps == ["put", "get", "put", "delete", "get", "delete"]
    assert shelf.objects == {}


def test_in_immediate_mode_a_lost_request_ends_as_such(shelf: Shelf, heard: list[Any]) -> None:
    patient = at_once(shelf)

    @patient.callback
    def keep(outcome):
        heard.append(outcome)

    shelf.get = lambda key: None
    patient.post(URL, body=LARGE, callback=keep, callback_args={"n": 1})

    [error] = heard
    assert type(error) is PayloadLost
    assert error.callback_args["n"] == 1
    assert shelf.objects == {}


def test_in_immediate_mode_a_store_that_is_away_is_the_caller_s_to_see(shelf: Shelf) -> None:
    patient = at_once(shelf)
    shelf.away = True

    with pytest.raises(StoreUnavailable):
        patient.post(URL, body=LARGE)
