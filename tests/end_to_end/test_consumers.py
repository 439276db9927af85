"""The whole way, through each kind of consumer and worker."""

from __future__ import annotations

import signal
import sys

import pytest
from huey.exceptions import TaskException
from support.consumer import GREEN, LIMIT, App, script
from support.gate import Gate

from huey_patient import Patient

EACH_KIND = [
    ("sqlite", "thread"),
    ("sqlite", "process"),
    ("sqlite", "greenlet"),
    ("redis", "thread"),
    ("redis", "process"),
    ("redis", "greenlet"),
    ("redis-priority", "thread"),
    ("redis-expire", "thread"),
    ("postgres", "thread"),
    ("postgres", "process"),
    ("postgres-not-blocking", "greenlet"),
]


@pytest.mark.parametrize(("database", "workers"), EACH_KIND)
def test_two_workers_get_the_answers_of_two_hundred_calls_once_each(
    new_app, gate: Gate, database, workers
):
    app: App = new_app(database, head=GREEN if workers == "greenlet" else "")
    with app.consumer("-w", "2", "-k", workers) as consumer:
        ids = [
            app.patient.get(gate.url(), callback="Tell", callback_args={"n": n}).id
            for n in range(200)
        ]
        gate.wait_for(200)  # All are in flight at once, two workers or not.
        gate.open()

        told = app.answers.collect(ids)
        consumer.send(signal.SIGINT)

        assert consumer.wait() == 0
        assert set(told.values()) == {200}
        assert app.answers.once_each()
        assert {args["n"] for *_, args in app.answers.told} == set(range(200))
        assert gate.sends() == dict.fromkeys(ids, 1)
        assert app.nothing_is_left()
        assert len({pid for pid, *_ in app.answers.told}) == (2 if workers == "process" else 1)


def test_greenlets_that_wait_in_postgres_are_warned_of(new_app):
    app: App = new_app("postgres", head=GREEN)
    with app.consumer("-k", "greenlet") as consumer:
        assert "give PostgresHuey blocking=False" in consumer.log


def test_each_kind_of_callback_gives_its_value_to_the_result(new_app, gate: Gate):
    app: App = new_app(tail=KINDS)
    with app.consumer("-w", "2"):
        module, patient = app.module, app.patient
        given = {
            "class": patient.get(gate.url("/open"), callback=module.Count),
            "name": patient.get(gate.url("/open"), callback="Count"),
            "function": patient.get(gate.url("/open"), callback=module.measure),
            "task": patient.get(gate.url("/open"), callback=module.length),
            "none": patient.get(gate.url("/open")),
        }

        values = {kind: result.get(blocking=True, timeout=LIMIT) for kind, result in given.items()}

        response = values.pop("none")
        assert (response.status, response.text) == (200, "answer to /open")
        assert values == {"class": 15, "name": 15, "function": 15, "task": 15}
        assert response.request_id == given["none"].id


KINDS = """
@patient.callback(retries=1)
class Count:
    def on_complete(self, response):
        return len(response.content)

    def on_error(self, error):
        raise error


@patient.callback()
def measure(outcome):
    return len(outcome.content)


@huey.task()
def length(response):
    return len(response.content)
"""


def test_an_error_fails_a_plain_task_and_reaches_on_error_of_a_class(new_app):
    app: App = new_app(tail=KINDS, retries=0)
    with app.consumer() as consumer:
        refused = "http://127.0.0.1:1/"
        told = app.patient.get(refused, callback="Tell", callback_args={"a": 1})
        failed = app.patient.get(refused, callback=app.module.length)

        assert app.answers.collect([told.id]) == {told.id: "connection"}
        assert app.answers.told[0][-1] == {"a": 1}
        with pytest.raises(TaskException, match="ConnectFailed"):
            failed.get(blocking=True, timeout=LIMIT)
        assert consumer.wait_for("Unhandled exception in task")


def test_a_callback_that_fails_is_tried_again_with_the_same_answer(new_app, gate: Gate):
    app: App = new_app(
        tail="""
@patient.callback(retries=1)
class Second:
    def on_complete(self, response):
        path = os.path.join(os.path.dirname(__file__), "failed")
        if not os.path.exists(path):
            open(path, "w").close()
            raise RuntimeError("the first time")
        tell(response.request_id, response.text, response.callback_args)

    def on_error(self, error):
        raise error
"""
    )
    with app.consumer() as consumer:
        id = app.patient.get(gate.url("/open"), callback="Second").id

        assert app.answers.collect([id]) == {id: "answer to /open"}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert len(gate.asked) == 1
        assert app.nothing_is_left()


def test_a_delayed_request_is_sent_when_it_is_due_and_an_expired_one_never(app: App, gate: Gate):
    delayed = app.patient.get(gate.url("/open"), callback="Tell", delay=0.5)
    expired = app.patient.get(gate.url("/open"), callback="Tell", expires=0)

    with app.consumer():
        told = app.answers.collect([delayed.id, expired.id])

    assert told == {delayed.id: 200, expired.id: "expired"}
    assert gate.sends() == {delayed.id: 1}


def test_a_canceled_call_in_flight_is_answered_once_and_dropped(new_app, gate: Gate):
    app: App = new_app(heartbeat_interval=0.2, orphan_threshold=5.0)
    with app.consumer() as consumer:
        canceled = app.patient.get(gate.url(), callback="Tell")
        kept = app.patient.get(gate.url(), callback="Tell")
        gate.wait_for(2)

        assert app.patient.cancel(canceled.id)
        assert app.answers.collect([canceled.id]) == {canceled.id: "canceled"}
        assert not app.patient.cancel(canceled.id)
        gate.open()

        assert app.answers.collect([kept.id]) == {kept.id: 200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert app.answers.once_each()
        assert app.nothing_is_left()


def test_a_call_from_inside_a_callback_and_from_inside_a_task_go_out(new_app, gate: Gate):
    app: App = new_app(
        tail=f"""
@patient.callback()
class Ask:
    def on_complete(self, response):
        patient.get({gate.url("/open/second")!r}, callback=Tell, id=response.request_id + ".2")

    def on_error(self, error):
        raise error


@huey.task()
def begin():
    patient.get({gate.url("/open/first")!r}, callback=Ask, id="call")
"""
    )
    with app.consumer("-k", "process", "-w", "2"):
        app.module.begin()

        assert app.answers.collect(["call.2"]) == {"call.2": 200}


def test_the_command_attaches_the_patient_that_plugin_names(new_app, gate: Gate):
    app: App = new_app()
    command = [script("huey_patient"), "consumer", f"{app.name}.huey", "-w", "2"]
    with app.run(*command, "--plugin", f"{app.name}.patient") as consumer:
        id = app.patient.get(gate.url("/open"), callback="Tell").id

        app.answers.collect([id])
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "started with 2 thread" in consumer.log


def test_the_bare_plugin_is_configured_by_environment_variables(new_app, gate: Gate):
    app: App = new_app(attach=False, environ={"HUEY_PATIENT_USER_AGENT": "from-the-environment"})
    command = [sys.executable, "-m", "huey_patient", "consumer", f"{app.name}.huey"]
    with app.run(*command, "--plugin", "huey_patient") as consumer:
        app.patient = Patient(app.huey)  # as the web application would have
        result = app.patient.get(gate.url("/open"))

        assert result.get(blocking=True, timeout=LIMIT).status == 200
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0


def test_a_script_without_a_main_guard_is_run_once(app: App, gate: Gate):
    (app.folder / "script.py").write_text(
        f"import logging, {app.name}\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "print('the script runs')\n"
        f"{app.name}.huey.create_consumer(workers=2).run()\n"
        "print('the script ends')\n"
    )
    with app.run(sys.executable, "script.py") as consumer:
        id = app.patient.get(gate.url("/open"), callback="Tell").id

        app.answers.collect([id])
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert consumer.log.count("the script runs") == 1
        assert consumer.log.count("the script ends") == 1


def test_a_consumer_that_ends_by_an_exception_leaves_nothing_behind(app: App):
    (app.folder / "script.py").write_text(
        f"import time, {app.name}\n"
        f"consumer = {app.name}.huey.create_consumer()\n"
        "consumer.start()\n"
        "while not consumer.courier.io: time.sleep(0.01)  # until it is ready\n"
        "raise RuntimeError('the end')\n"
    )
    with app.run(sys.executable, "script.py", ready=False) as consumer:
        assert consumer.wait() == 1
        assert "RuntimeError: the end" in consumer.log
    # The end of the block fails when the I/O process outlives it.


def test_the_processes_tell_of_themselves_while_they_run(app: App, gate: Gate):
    with app.consumer("-w", "3"):
        id = app.patient.get(gate.url(), callback="Tell").id
        gate.wait_for(1)

        [process] = app.patient.processes()
        [flight] = app.patient.in_flight()
        stats = app.patient.stats()
        gate.open()
        app.answers.collect([id])

    assert (process["workers"], process["worker_type"], process["held"]) == (3, "thread", 1)
    assert (flight["id"], flight["owner"], flight["epoch"]) == (id, process["id"], 1)
    assert (stats["fresh"], stats["held"], stats["processes"]) == (0, 1, 1)


def test_workers_that_are_replaced_all_the_time_answer_each_once(app: App, gate: Gate):
    # Each replacement is forked from a process in which the courier is at work.
    with app.consumer("-w", "2", "-k", "process", "-M", "2", "-c", "0.1") as consumer:
        ids = [app.patient.get(gate.url("/open"), callback="Tell").id for _ in range(30)]

        app.answers.collect(ids)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert app.answers.once_each()
        assert app.nothing_is_left()
        assert len({pid for pid, *_ in app.answers.told}) >= 15
