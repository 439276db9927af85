"""``delivery="at_least_once"``: an outcome is kept until its callback has returned."""

from __future__ import annotations

import signal

import pytest
from support.consumer import App
from support.gate import Gate

#: A consumer that another one takes for dead after a second.
SHORT = {"heartbeat_interval": 0.2, "orphan_threshold": 1.0}

#: Hangs in its first run, which the test ends with its consumer; then returns.
HANGING = """
import pathlib, threading

def hang_once():
    first = pathlib.Path(__file__).with_name("first")
    if not first.exists():
        first.touch()
        tell("hanging")
        threading.Event().wait()

@patient.callback(delivery="at_least_once")
class Hang:
    def on_complete(self, response):
        hang_once()
        tell(response.request_id, response.status, response.callback_args)

    def on_error(self, error):
        hang_once()
        tell(error.request_id, error.kind, error.callback_args)
"""

FAILING = """
@patient.callback(delivery="at_least_once", retries=1)
def fail(outcome):
    tell(outcome.request_id, "run", outcome.callback_args)
    raise LookupError("no such document")
"""


@pytest.mark.parametrize("database", ["sqlite", "redis"])
@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_consumer_killed_inside_a_callback_loses_nothing(new_app, gate: Gate, database, workers):
    app: App = new_app(database, tail=HANGING, **SHORT)
    gate.open()
    with app.consumer("-k", workers) as consumer:
        id = app.patient.get(gate.url(), callback="Hang", callback_args={"n": 1}).id
        assert app.answers.next()[0] == "hanging"
        consumer.send(signal.SIGKILL)
        assert consumer.wait() == -signal.SIGKILL
    assert app.patient.stats()["receipts"] == 1

    with app.consumer("-k", workers) as consumer:
        assert app.answers.collect([id]) == {id: 200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert app.patient.stats()["receipts"] == 0
    assert app.nothing_is_left()


def test_a_consumer_killed_inside_the_callback_of_a_cancellation_loses_nothing(new_app):
    app: App = new_app(tail=HANGING, **SHORT)
    id = app.patient.get("http://127.0.0.1:1/", callback="Hang").id
    assert app.patient.cancel(id)
    with app.consumer() as consumer:
        assert app.answers.next()[0] == "hanging"
        consumer.send(signal.SIGKILL)
        assert consumer.wait() == -signal.SIGKILL

    with app.consumer() as consumer:
        assert app.answers.collect([id]) == {id: "canceled"}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert app.patient.stats()["receipts"] == 0
    assert app.nothing_is_left()


def test_a_callback_that_was_revoked_never_comes_back(new_app, gate: Gate):
    app: App = new_app(tail=HANGING, **SHORT)
    gate.open()
    revoked = app.patient.get(gate.url(), callback="Hang")
    revoked.revoke()
    with app.consumer() as consumer:
        consumer.wait_for("was revoked, not executing")
        consumer.wait_for("is not delivered: revoked")
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert app.patient.stats()["receipts"] == 0
    assert app.nothing_is_left()


def test_a_callback_that_fails_for_good_is_a_dead_letter_and_can_be_sent_again(new_app, gate: Gate):
    app: App = new_app(tail=FAILING)
    gate.open()
    with app.consumer() as consumer:
        id = app.patient.get(gate.url(), callback="fail").id
        runs = [app.answers.next() for _ in range(2)]
        consumer.wait_for("is a dead letter now")

        assert [run[:2] for run in runs] == [[id, "run"]] * 2
        assert [letter.id for letter in app.patient.dead_letters()] == [id]

        assert app.patient.redeliver(id)
        assert [app.answers.next()[:2] for _ in range(2)] == [[id, "run"]] * 2
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert app.patient.discard(id)
    assert app.patient.dead_letters() == []
