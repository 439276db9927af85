"""Signals: every request is answered, or back in the store without a strike."""

from __future__ import annotations

import signal
import sys

import pytest
from support.consumer import WORKERS, App, children_of
from support.gate import Gate


def test_a_graceful_stop_settles_what_completes_meanwhile(app: App, gate: Gate):
    with app.consumer() as consumer:
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)

        consumer.send(signal.SIGINT)
        consumer.wait_for("10 calls in flight have 25 s to end")
        waiting = app.patient.get(gate.url(), callback="Tell").id
        gate.open()

        assert consumer.wait() == 0
    assert app.patient.pending_count() == 1  # nothing was claimed after the signal
    assert app.huey.pending_count() + len(app.answers.told) <= 10
    with app.consumer():
        app.answers.collect([*ids, waiting])
    assert app.answers.once_each()
    assert gate.sends() == dict.fromkeys([*ids, waiting], 1)


def test_what_does_not_complete_in_time_goes_back_without_a_strike(new_app, gate: Gate):
    app: App = new_app(shutdown_timeout=0.3)
    with app.consumer() as consumer:
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)

        consumer.send(signal.SIGINT)

        assert consumer.wait() == 0
        assert "10 requests in flight go back to the store" in consumer.log
    counts = app.patient.store.counts()
    assert (counts.fresh, counts.suspect, counts.held) == (10, 0, 0)
    assert app.patient.processes() == []
    gate.open()
    with app.consumer():
        app.answers.collect(ids)
    assert gate.sends() == dict.fromkeys(ids, 2)


def test_the_interrupt_signal_gives_back_at_once(app: App, gate: Gate):
    with app.consumer("-w", "2") as consumer:
        app.patient.get(gate.url(), callback="Tell")
        gate.wait_for(1)

        consumer.send(signal.SIGTERM)

        assert consumer.wait() == 0
    counts = app.patient.store.counts()
    assert (counts.fresh, counts.suspect, counts.held) == (1, 0, 0)


def test_the_other_graceful_signal_swaps_the_two(app: App, gate: Gate):
    with app.consumer("-g", "TERM") as consumer:
        app.patient.get(gate.url(), callback="Tell")
        gate.wait_for(1)

        consumer.send(signal.SIGTERM)
        consumer.wait_for("1 calls in flight")
        gate.open()

        assert consumer.wait() == 0
    assert app.patient.stats()["fresh"] == 0


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_at_once_costs_no_call_anything(
    new_app, gate: Gate, workers, sign
):
    app: App = new_app(head=WORKERS[workers])
    options = ("-w", "2", "-k", workers)
    with app.consumer(*options) as consumer:
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)

        consumer.send_to_all(sign)
        if sign != signal.SIGTERM:
            consumer.wait_for("10 calls in flight have 25 s to end")
            gate.open()
        if sign == signal.SIGHUP:
            consumer.wait_until_ready(times=2)
            consumer.send(signal.SIGINT)

        assert consumer.wait() == 0
        assert "I/O process, PID" not in consumer.log  # nor did it die
    # The end of the block fails when anything outlives the consumer.
    counts = app.patient.store.counts()
    unsettled = 10 if sign == signal.SIGTERM else 0
    assert (counts.fresh, counts.suspect, counts.held) == (unsettled, 0, 0)
    gate.open()
    with app.consumer(*options):
        app.answers.collect(ids)
    assert app.answers.once_each()
    assert gate.sends() == dict.fromkeys(ids, 2 if unsettled else 1)


def test_the_second_interrupt_leaves_at_once(new_app, gate: Gate):
    # With as much time as this, only who leaves at once leaves within the test's limit.
    app: App = new_app(shutdown_timeout=300, heartbeat_interval=0.2, orphan_threshold=1.0)
    with app.consumer() as consumer:
        id = app.patient.get(gate.url(), callback="Tell").id
        gate.wait_for(1)

        consumer.send(signal.SIGINT)
        consumer.wait_for("All workers have stopped")
        consumer.send(signal.SIGINT)

        assert consumer.wait() == 0
    gate.open()
    with app.consumer():
        app.answers.collect([id])
    assert app.answers.once_each()


def test_a_second_interrupt_ends_a_worker_that_is_busy(new_app, gate: Gate):
    app: App = new_app(
        tail="""
@huey.task()
def busy():
    tell("busy", "begun", {})
    import threading
    threading.Event().wait()
"""
    )
    with app.consumer("-k", "process") as consumer:
        app.patient.get(gate.url(), callback="Tell")
        app.module.busy()
        gate.wait_for(1)
        app.answers.collect(["busy"])

        consumer.send(signal.SIGINT)
        consumer.wait_for("Shutting down gracefully")
        consumer.send(signal.SIGINT)

        assert consumer.wait() == 0
    counts = app.patient.store.counts()
    assert (counts.fresh, counts.suspect, counts.held) == (1, 0, 0)


def test_quiet_claims_nothing_more_and_the_rest_goes_on(app: App, gate: Gate):
    with app.consumer() as consumer:
        id = app.patient.get(gate.url(), callback="Tell").id
        gate.wait_for(1)

        consumer.send(signal.SIGTSTP)
        consumer.wait_for("Quiet: no more requests")
        waiting = app.patient.get(gate.url(), callback="Tell").id
        app.module.plain("word")
        gate.open()

        assert app.answers.collect([id, "word"]) == {id: 200, "word": "task"}
        assert app.patient.pending_count() == 1
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
    assert waiting not in gate.sends()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_restart_in_place_goes_on_with_the_rest(new_app, gate: Gate, workers):
    app: App = new_app(head=WORKERS[workers], shutdown_timeout=0.3)
    with app.consumer("-w", "2", "-k", workers) as consumer:
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(3)]
        gate.wait_for(3)

        consumer.send(signal.SIGHUP)
        consumer.wait_for("Consumer will restart")
        consumer.wait_until_ready(times=2)
        gate.open()

        app.answers.collect(ids)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert app.answers.once_each()
        assert app.nothing_is_left()
        assert "suspect" not in consumer.log  # nothing got a strike


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_restarts_in_place_leave_no_dead_processes_behind(new_app, start_method):
    app: App = new_app(start_method=start_method)
    with app.consumer() as consumer:
        before = children_of(consumer.pid)
        for restart in range(1, 4):
            consumer.send(signal.SIGHUP)
            consumer.wait_until_ready(times=1 + restart)

        after = children_of(consumer.pid)

        assert len(after) == len(before)
        assert "Z" not in after.values()
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0


def test_a_consumer_that_runs_as_a_module_restarts_too(app: App, gate: Gate):
    command = [sys.executable, "-m", "huey_patient", "consumer", f"{app.name}.huey", "-w", "2"]
    with app.run(*command) as consumer:
        consumer.send(signal.SIGHUP)
        consumer.wait_until_ready(times=2)
        id = app.patient.get(gate.url("/open"), callback="Tell").id

        app.answers.collect([id])
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert consumer.log.count("started with 2 thread") == 2
