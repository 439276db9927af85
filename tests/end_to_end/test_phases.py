"""A consumer that stops while a call stands in any phase gives it back, whole and once."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.consumer import LIMIT, App
from support.gate import Gate
from support.halting import Halt
from support.outage import locked, refusing, silent
from support.stalling import PHASES, Stalling, Unanswering
from support.web import Answer, WebServer

from huey_patient.io_process.exchange import BIG_BYTES

each_stop = pytest.mark.parametrize(
    "sign", [signal.SIGINT, signal.SIGTERM], ids=["graceful", "at once"]
)


def is_back_without_a_strike(app: App) -> bool:
    """Whether the one request of ``app`` is ready again, and nothing else is there."""
    counts = app.patient.store.counts()
    lanes = (counts.fresh, counts.suspect, counts.later, counts.held)
    return lanes == (1, 0, 0, 0) and app.huey.pending_count() == 0


def messages_of_the_settled(app: App, id: str) -> int:
    """How many messages the one request of ``app`` has, waiting or run, now that it is settled."""
    assert app.patient.store.submit(id, b"once more") == "done"
    counts = app.patient.store.counts()
    assert counts.fresh + counts.suspect + counts.later + counts.held == 0
    assert app.answers.once_each()
    return app.huey.pending_count() + len(app.answers.told)


@each_stop
@pytest.mark.parametrize("phase", PHASES)
def test_a_call_in_any_phase_goes_back_without_a_strike(new_app, phase, sign):
    app: App = new_app(shutdown_timeout=0.3)
    with Stalling(phase) as server, app.consumer() as consumer:
        id = app.patient.get(server.url, callback="Tell").id
        assert server.reached.wait(LIMIT)

        consumer.send(sign)

        assert consumer.wait() == 0
        assert is_back_without_a_strike(app)

    assert app.patient.cancel(id)  # whole: it opens, and can be answered


def test_a_name_that_is_being_looked_up_stops_nobody(new_app):
    app: App = new_app(shutdown_timeout=0.3)
    with app.consumer() as consumer:
        # However the look-up ends, and whenever: one request, one place.
        app.patient.get("http://no-such-host.invalid/", callback="Tell", retries=10)
        consumer.send(signal.SIGINT)

        assert consumer.wait() == 0

    assert app.answers.once_each()
    waiting = app.patient.stats()["fresh"] + app.huey.pending_count()
    assert waiting + len(app.answers.told) == 1
    assert app.patient.stats()["suspect"] == app.patient.stats()["held"] == 0


@each_stop
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_a_call_whose_connection_is_being_made_goes_back_without_a_strike(new_app, sign):
    app: App = new_app(shutdown_timeout=0.3)
    with Unanswering() as server, app.consumer() as consumer:
        id = app.patient.get(server.url, callback="Tell").id
        server.wait_for(consumer.wait_until_ready())

        consumer.send(sign)

        assert consumer.wait() == 0
        assert is_back_without_a_strike(app)

    assert app.patient.cancel(id)


#: Ciphers of the application's own; the I/O process halts where it seals an outcome.
CIPHER = """
import multiprocessing

IN_CHILD = multiprocessing.current_process().name.startswith("I/O process")


def decrypt(data):
    return bytes(byte ^ 0x5A for byte in data)


def encrypt(data):
    if IN_CHILD:
        halt()
    return decrypt(data)
"""

#: Small outcomes are sealed on the loop of the I/O process, which answers no ping
#: meanwhile; large ones in a thread.
each_size = pytest.mark.parametrize("size", [10, BIG_BYTES], ids=["on the loop", "in a thread"])


@pytest.fixture
def halt() -> Iterator[Halt]:
    """A point at which another process stands still."""
    with Halt() as made:
        yield made


@pytest.fixture
def new_halting(new_app, halt: Halt, tmp_path: Path):
    """Makes an application whose outcomes halt where they are sealed."""
    (tmp_path / "patient_test_halting.py").write_text(halt.source + CIPHER)
    names = {
        "encryption": "patient_test_halting:encrypt",
        "decryption": "patient_test_halting:decrypt",
    }
    return functools.partial(new_app, **names)


@each_stop
@each_size
def test_a_call_whose_outcome_is_being_sealed_goes_back_without_a_strike(
    new_halting, halt: Halt, size, sign
):
    app: App = new_halting(shutdown_timeout=0.3)
    with WebServer() as server, app.consumer() as consumer:
        url = server.answer("/", Answer(body=b"x" * size))
        id = app.patient.get(url, callback="Tell").id
        halt.wait_for()

        consumer.send(sign)

        assert consumer.wait() == 0
        assert is_back_without_a_strike(app)

    assert app.patient.cancel(id)


@each_size
def test_an_outcome_that_is_sealed_before_the_end_is_settled(new_halting, halt: Halt, size):
    app: App = new_halting()
    with WebServer() as server:
        with app.consumer() as consumer:
            url = server.answer("/", Answer(body=b"x" * size))
            id = app.patient.get(url, callback="Tell").id
            halt.wait_for()

            consumer.send(signal.SIGINT)
            consumer.wait_for("1 calls in flight")
            halt.go()

            assert consumer.wait() == 0
        assert messages_of_the_settled(app, id) == 1
        assert server.hits_by_id() == {id: 1}


#: The consumer halts where it makes the message of an outcome that is about to be settled.
SERIALIZER = """
import sys


class Halting(type(huey.serializer)):
    def serialize(self, data):
        if "huey_consumer" in sys.argv[0]:
            halt()
        return super().serialize(data)


huey.serializer = Halting()
"""


@each_stop
@pytest.mark.parametrize(
    ("database", "outage"), [("sqlite", locked), ("redis", silent), ("redis", refusing)]
)
def test_an_outcome_is_settled_when_the_database_is_back_before_the_end(
    new_app, gate: Gate, halt: Halt, database, outage, sign
):
    app: App = new_app(database, tail=halt.source + SERIALIZER)
    with app.consumer() as consumer:
        id = app.patient.get(gate.url("/open"), callback="Tell").id
        halt.wait_for()

        with outage(app):
            halt.go()
            consumer.send(sign)
            consumer.wait_for("Shutting down")

        assert consumer.wait() == 0
    # A worker that has begun is not waited for at once, and its run is Huey's to lose.
    expected = {1} if sign == signal.SIGINT else {0, 1}
    assert messages_of_the_settled(app, id) in expected
    assert gate.sends() == {id: 1}


@each_stop
@pytest.mark.parametrize(("database", "outage"), [("sqlite", locked), ("redis", refusing)])
def test_an_outcome_that_the_database_never_took_is_got_again_by_the_next_consumer(
    new_app, gate: Gate, halt: Halt, database, outage, sign
):
    app: App = new_app(
        database,
        tail=halt.source + SERIALIZER,
        shutdown_timeout=0.3,
        heartbeat_interval=0.2,
        orphan_threshold=1.0,
    )
    with app.consumer() as first:
        id = app.patient.get(gate.url("/open"), callback="Tell").id
        halt.wait_for()

        with outage(app):
            halt.go()
            first.send(sign)

            assert first.wait() == 0
            assert "another consumer" in first.log  # takes over, it says
    assert app.patient.stats()["held"] == 1

    with app.consumer() as second:
        assert app.answers.collect([id]) == {id: 200}
        second.send(signal.SIGINT)
        assert second.wait() == 0
        assert "its 1 requests are ready again" in second.log
    assert app.answers.once_each()
    assert app.nothing_is_left()
    assert gate.sends() == {id: 2}
