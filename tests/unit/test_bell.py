"""The courier's ear: each asking is heard once, however fast they follow each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from huey_patient.bell import Bell
from huey_patient.errors import StoreUnavailable
from huey_patient.native import WakePipe

LIMIT = 20.0


class RingingStore:
    """A store whose `wait` answers what the test lets it answer."""

    def __init__(self) -> None:
        self.rings = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self.failures = 0

    def wait(self, timeout: float) -> bool:
        self.asked.release()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        return self.rings.acquire(timeout=timeout)


@pytest.fixture
def store() -> RingingStore:
    return RingingStore()


@pytest.fixture
def wake() -> WakePipe:
    return WakePipe()


@pytest.fixture
def bell(store: RingingStore, wake: WakePipe) -> Iterator[Bell]:
    bell = Bell(store, wake)  # type: ignore[arg-type]
    bell.start()
    yield bell
    bell.stop()
    assert bell._thread.join(LIMIT)


def test_every_asking_is_heard(bell: Bell, store: RingingStore, wake: WakePipe):
    for _ in range(3000):
        bell.listen(True)
        store.rings.release()

        assert wake.wait(LIMIT)
        assert bell.take()
        assert not bell.take()


def test_nothing_is_asked_of_the_store_until_a_stroke_is_wanted(bell: Bell, store: RingingStore):
    assert not store.asked.acquire(timeout=0)

    bell.listen(True)

    assert store.asked.acquire(timeout=LIMIT)


def test_who_wants_no_stroke_any_more_leaves_it_to_others(
    bell: Bell, store: RingingStore, wake: WakePipe
):
    bell.listen(True)
    assert store.asked.acquire(timeout=LIMIT)
    bell.listen(False)
    store.rings.release()  # the wait that is going on may still take this one
    assert wake.wait(LIMIT)
    bell.take()

    store.rings.release()
    bell.listen(True)

    assert wake.wait(LIMIT)
    assert bell.take()


def test_a_store_that_is_away_is_asked_again(bell: Bell, store: RingingStore, wake: WakePipe):
    store.failures = 1
    store.rings.release()

    bell.listen(True)

    assert wake.wait(LIMIT)
    assert bell.take()
