"""Immediate mode: everything that production does, in the calling thread."""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid

import pytest
from huey import MemoryHuey, SqliteHuey
from huey.exceptions import TaskException
from support.gate import Gate
from support.raw import RawServer, says

from huey_patient import EnvelopeError, Patient, StreamInterrupted, secret
from huey_patient.keys import generate_key


@pytest.fixture(scope="module")
def url():
    """The URL of a server that answers at once."""
    with Gate() as gate:
        yield gate.url("/open")


@pytest.fixture
def refused():
    """The URL of a port that nobody listens on."""
    return "http://127.0.0.1:1/"


@pytest.fixture
def new_patient():
    def make(**settings):
        return Patient(MemoryHuey(uuid.uuid4().hex, immediate=True), retries=0, **settings)

    return make


@pytest.fixture
def patient(new_patient):
    return new_patient()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def save(patient, heard):
    @patient.callback
    class Save:
        def on_complete(self, response):
            heard.append(response)
            return response.text

        def on_error(self, error):
            heard.append(error)
            return error.kind

    return Save


def test_the_callback_has_run_when_the_call_returns(patient, save, url, heard):
    result = patient.post(url, body="body", callback=save, callback_args={"a": 1})

    [response] = heard
    assert (response.status, response.text) == (200, "answer to /open")
    assert (response.request_id, response.callback_args) == (result.id, {"a": 1})
    assert result.get() == "answer to /open"
    assert patient.pending_count() == 0
    assert patient.in_flight() == []


def test_the_callback_runs_in_the_calling_thread(patient, url):
    threads = []
    patient.callback(where := lambda outcome: threads.append(threading.current_thread()))

    patient.get(url, callback=where)

    assert threads == [threading.current_thread()]


def test_an_error_runs_on_error_once(patient, save, refused, heard):
    result = patient.get(refused, callback=save, callback_args={"a": 1})

    [error] = heard
    assert (error.kind, error.request_id, error.callback_args) == (
        "connection",
        result.id,
        {"a": 1},
    )


def test_an_exception_in_on_complete_does_not_run_on_error(patient, url, heard):
    @patient.callback
    class Failing:
        def on_complete(self, response):
            raise RuntimeError("in the callback")

        def on_error(self, error):
            heard.append(error)

    result = patient.get(url, callback=Failing)

    assert heard == []
    with pytest.raises(TaskException, match="in the callback"):
        result.get()


def test_a_callback_with_retries_is_tried_again(patient, url, heard):
    @patient.callback(retries=2)
    def third(outcome):
        heard.append(outcome.text)
        if len(heard) < 3:
            raise RuntimeError("not yet")
        return "done"

    assert patient.get(url, callback=third).get() == "done"
    assert heard == ["answer to /open"] * 3


def test_a_plain_task_and_no_callback_at_all_work_too(patient, url):
    @patient.huey.task()
    def plain(response):
        return response.status

    assert patient.get(url, callback=plain).get() == 200
    assert patient.get(url).get().text == "answer to /open"


def test_errors_fail_plain_tasks_and_results(patient, refused):
    @patient.huey.task()
    def plain(response):
        raise AssertionError("not called")

    for result in (patient.get(refused, callback=plain), patient.get(refused)):
        with pytest.raises(TaskException, match="ConnectFailed"):
            result.get()


def test_it_works_inside_a_running_event_loop(patient, save, url, heard):
    async def view():
        return patient.get(url, callback=save).get()

    assert asyncio.run(view()) == "answer to /open"
    assert len(heard) == 1


def test_a_fault_inside_a_running_loop_is_raised_to_the_caller(new_patient, url):
    patient = new_patient(ca_file="/nowhere/ca.pem")

    async def view():
        patient.get(url)

    with pytest.raises(Exception) as outside:
        patient.get(url)
    with pytest.raises(type(outside.value)):
        asyncio.run(view())


def test_a_callback_may_ask_again_and_be_answered_before_it_goes_on(patient, url, heard):
    @patient.callback
    def second(outcome):
        heard.append("second")
        return 2

    @patient.callback
    def first(outcome):
        heard.append("first begins")
        value = patient.get(url, callback=second).get()
        heard.append("first ends")
        return value

    assert patient.get(url, callback=first).get() == 2
    assert heard == ["first begins", "second", "first ends"]


def test_a_callback_may_ask_again_inside_a_running_loop(patient, url):
    @patient.callback
    def first(outcome):
        return patient.get(url).get().status

    async def view():
        return patient.get(url, callback=first).get()

    assert asyncio.run(view()) == 200


def test_refusals_are_those_of_production(patient, save, heard):
    for options in ({"callback_args": {"a": {1}}}, {"callback": "Nobody"}, {"timeout": 0}):
        with pytest.raises((TypeError, ValueError)):
            patient.get("http://example.com/", **{"callback": save, **options})

    assert heard == []


def test_hooks_run(patient, save, url, refused, heard):
    patient.after_completion(lambda response: heard.append("completed"))
    patient.after_error(lambda error: heard.append("failed"))

    patient.get(url, callback=save)
    patient.get(refused, callback=save)

    assert [heard[0], heard[2]] == ["completed", "failed"]


def test_secrets_are_resolved_and_stay_out_of_the_answer(patient, save, url, heard):
    patient.register_secret("key", lambda: "s3cr3t")

    patient.get(url, params={"key": secret("key")}, callback=save)

    [response] = heard
    assert "s3cr3t" in response.text  # the server repeats its URL
    assert "s3cr3t" not in response.url


def test_a_secret_that_is_missing_is_an_error_of_the_request(patient, save, url, heard):
    patient.get(url, headers={"X-Key": secret("nobody")}, callback=save)

    assert [error.kind for error in heard] == ["configuration"]


def test_an_expired_request_is_not_sent(patient, save, url, heard):
    patient.get(url, callback=save, expires=0)

    assert [error.kind for error in heard] == ["expired"]


def test_a_delayed_request_waits_as_delayed_tasks_do(patient, save, url, heard):
    patient.get(url, callback=save, delay=3600)

    assert heard == []
    assert patient.pending_count() == 1


# Sealed


@pytest.fixture
def sealed(new_patient):
    return new_patient(encryption_key=generate_key())


def test_with_a_key_results_are_sealed_and_open(sealed, url):
    result = sealed.get(url)

    [stored] = sealed.huey.storage._results.values()
    assert b"answer to" not in stored
    assert result.get().text == "answer to /open"


def test_with_a_key_what_is_stored_meanwhile_is_sealed(sealed, url):
    seen = []
    store = sealed.store
    submit = store.submit

    def look(id, envelope, **options):
        seen.append(envelope)
        return submit(id, envelope, **options)

    store.submit = look
    sealed.post(url, body="canary-body", callback_args={"a": "canary-args"})

    assert b"canary" not in seen[0]
    assert b"127.0.0.1" not in seen[0]


def test_a_cipher_that_fails_is_raised_to_the_caller(url):
    def encrypt(data):
        raise RuntimeError("no seal")

    huey = MemoryHuey(uuid.uuid4().hex, immediate=True)
    patient = Patient(huey, encryption=encrypt, decryption=bytes)

    with pytest.raises((RuntimeError, EnvelopeError)):
        patient.get(url)


# Beside a real storage


def test_a_real_storage_holds_the_result_and_never_the_request(tmp_path, url):
    huey = SqliteHuey("q", filename=str(tmp_path / "huey.db"), immediate=False)
    patient = Patient(huey)
    waiting = patient.get("http://example.com/", callback_args={"a": 1})
    real = patient.store
    huey.immediate_use_memory = False
    huey.immediate = True

    result = patient.get(url)
    assert result.get(preserve=True).status == 200
    assert result.id in huey.all_results()
    assert real.read(result.id) is None
    assert real.counts().fresh == 1  # What a running application waits for is left alone.

    huey.immediate = False
    assert patient.store.read(waiting.id) is not None
    real.close()
    patient.store.close()
    huey.storage.close()


def test_it_can_be_switched_on_and_off(url):
    huey = MemoryHuey(uuid.uuid4().hex, immediate=False)
    patient = Patient(huey, retries=0)
    patient.get(url)
    assert patient.pending_count() == 1

    huey.immediate = True
    assert patient.get(url).get().status == 200
    huey.immediate = False
    patient.get(url)
    assert patient.pending_count() == 1


def test_no_consumer_runs_in_immediate_mode(patient):
    consumer = patient.huey.create_consumer()

    with pytest.raises(Exception, match="immediate"):
        consumer.start()
    assert consumer.courier is None


def test_a_stream_is_read_and_half_a_stream_is_told(patient, save, heard):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    stream = b"data: one\n\ndata: two\n\n"
    whole, half = says(head % len(stream) + stream), says(head % 99 + stream)

    with RawServer(whole, half) as server:
        for id in ("whole", "half"):
            patient.get(server.url, stream="sse", callback=save, id=id, callback_args={"id": id})

    response, error = heard
    assert type(error) is StreamInterrupted
    assert error.kind == "connection"
    for one in (response, error.response):
        assert [event.data for event in one.events()] == ["one", "two"]
    assert error.response.callback_args == {"id": "half"}


@pytest.fixture
def restless():
    """Threads that take turns all the time, so that they meet everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_that_call_at_the_same_time_each_have_a_store_of_their_own(patient):
    stores: list[set[object]] = []  # kept alive, so that no two look alike
    failures: list[Exception] = []
    together = threading.Barrier(4)

    def look() -> None:
        together.wait()
        try:
            stores.append({patient.store._storage for _ in range(3000)})
        except KeyError as reason:
            failures.append(reason)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [len(seen) for seen in stores] == [1, 1, 1, 1]
    assert len(set.union(*stores)) == 4
