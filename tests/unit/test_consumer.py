"""The consumer's loop: a courier that is gone is replaced, whatever stands in the way."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from huey import MemoryHuey

from huey_patient import consumer
from huey_patient.consumer import PatientConsumer


class Courier:
    """Runs once it could be started; or even if only its bell could not."""

    def __init__(self, *refusals: Exception, bell: bool = True) -> None:
        self.refusals = list(refusals)
        self.bell = bell
        self.running = False
        self.quieted = False

    def start(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        assert not self.running, "it was started twice"
        self.running = True
        if not self.bell:
            raise RuntimeError("can't start new thread")

    def quiet(self) -> None:
        self.quieted = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(consumer, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    return clock


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_consumer(made: list[Courier | Exception]) -> PatientConsumer:
    """One whose courier is gone, and that gets one of ``made`` each time it asks."""

    def make(consumer: PatientConsumer) -> Courier:
        result = made.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    made_by: Callable[[PatientConsumer], Courier] = make
    consumer = PatientConsumer(
        MemoryHuey(uuid.uuid4().hex), make_courier=made_by, check=lambda: None
    )
    consumer.courier = Courier()
    consumer._stop_flag_timeout = 0  # of Huey: how long each turn of the loop waits
    return consumer


def test_a_courier_that_cannot_be_made_is_tried_again_after_a_pause(clock: Clock, caplog) -> None:
    last = Courier()
    made: list[Courier | Exception] = [OSError(24, "Too many open files"), last]
    consumer = new_consumer(made)

    consumer.loop()
    consumer.loop()
    assert made == [last]  # not at once
    clock.now += 1.0
    consumer.loop()

    assert consumer.courier is last
    assert last.running
    assert "Too many open files" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_one_that_cannot_be_started_is_started_again_with_the_processes_it_has(
    clock: Clock,
) -> None:
    only = Courier(RuntimeError("can't start new thread"))
    consumer = new_consumer([only])

    consumer.loop()
    assert not only.running
    clock.now += 1.0
    consumer.loop()

    assert consumer.courier is only
    assert only.running


def test_one_that_runs_is_not_started_again(clock: Clock) -> None:
    only = Courier(bell=False)
    consumer = new_consumer([only])

    consumer.loop()
    clock.now += 1.0
    consumer.loop()

    assert consumer.courier is only


def test_a_quiet_consumer_gets_a_quiet_courier(clock: Clock) -> None:
    last = Courier()
    consumer = new_consumer([last])

    consumer.quiet()
    consumer.loop()

    assert last.quieted
