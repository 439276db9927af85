"""A PgBouncer stands before PostgreSQL, and what is killed beside it takes no call along."""

from __future__ import annotations

import os
import signal

import pytest
from support.consumer import App, watched
from support.gate import Gate


@pytest.fixture
def app(new_app) -> App:
    """An application behind it, whose consumers are taken for dead after a second."""
    return new_app("pgbouncer", heartbeat_interval=0.2, orphan_threshold=1.0)


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_calls_are_answered_once_each_though_the_io_process_is_killed(
    app: App, gate: Gate, workers
):
    with app.consumer("-w", "2", "-k", workers) as consumer:
        io = consumer.wait_until_ready()
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(50)]
        gate.wait_for(50)

        os.kill(io, signal.SIGKILL)
        gate.open()

        assert set(app.answers.collect(ids).values()) == {200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "exit code -9" in consumer.log
        assert "Error" not in consumer.log
    assert app.answers.once_each()
    assert app.nothing_is_left()


def test_the_next_consumer_answers_the_calls_of_one_that_was_killed(app: App, gate: Gate):
    with app.consumer("-w", "2") as consumer:
        io = consumer.wait_until_ready()
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(20)]
        gate.wait_for(20)

        with watched(io) as ended:
            consumer.send(signal.SIGKILL)
            assert consumer.wait() == -signal.SIGKILL
            assert ended()

    gate.open()
    with app.consumer("-w", "2") as consumer:
        assert set(app.answers.collect(ids).values()) == {200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "its 20 requests are ready again" in consumer.log
        assert "Error" not in consumer.log
    assert app.answers.once_each()
    assert app.nothing_is_left()
