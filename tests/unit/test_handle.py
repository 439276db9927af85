"""The parent's side of a real I/O process, at a clock that the test sets."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from support.carrying import Clock

from huey_patient.io_process.handle import PONG_SECONDS, ChildConfig, IoProcess
from huey_patient.settings import Settings

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def io(clock):
    config = ChildConfig(queue="q", settings=Settings(), parent_pid=os.getpid(), preprocessors={})
    io = IoProcess(config, name="I/O process", clock=clock)
    io.start()
    hear(io, lambda: io.ready)
    yield io
    io.stop()


def hear(io, done):
    """Tend whenever there is something to hear, at one moment of the clock."""
    while not done():
        poller = select.poll()
        for fd, _ in io.fds():
            poller.register(fd, select.POLLIN)
        assert poller.poll(20_000)
        io.tend()


def stop(io):
    """Stop it in the middle of whatever it does."""
    os.kill(io.pid, signal.SIGSTOP)
    while Path(f"/proc/{io.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        os.sched_yield()


def tend(io, clock, seconds):
    """Tend a few times a second, as a courier does; whether and how it died."""
    for _ in range(int(seconds / 0.25)):
        clock.pass_(0.25)
        io.tend()
        if death := io.take_death():
            return death
    return None


def test_a_process_that_stands_still_is_replaced(io, clock, caplog):
    stop(io)

    assert tend(io, clock, PONG_SECONDS + 3) == "failed"

    assert "did not answer for 5 s" in caplog.text
    tend(io, clock, 1)
    hear(io, lambda: io.ready)


def test_time_in_which_the_courier_did_not_listen_counts_for_nobody(io, clock):
    stop(io)
    assert tend(io, clock, 2) is None

    clock.pass_(100 * PONG_SECONDS)  # A database held the courier up.
    io.tend()

    assert io.take_death() is None
    assert tend(io, clock, PONG_SECONDS) == "failed"  # Now it is its own fault.


def test_a_ping_goes_out_at_once(io, clock):
    before = io.counters
    clock.pass_(1.5)

    io.tend()

    # Nobody flushes: the courier may be busy with its store.
    hear(io, lambda: io.counters is not before)


def test_one_that_takes_what_it_is_sent_lives_however_long_that_takes(io, clock):
    stop(io)
    for n in range(40):
        io.send(f"r{n}", 1, secrets=b"", sealed=bytes(1_000_000))
    io.flush()
    assert tend(io, clock, PONG_SECONDS - 0.5) is None

    # It takes a part of it, and no PING is answered yet: those wait behind.
    [(pipe, writing), _] = io.fds()
    assert writing
    os.kill(io.pid, signal.SIGCONT)
    poller = select.poll()
    poller.register(pipe, select.POLLOUT)
    assert poller.poll(20_000)
    stop(io)
    io.flush()

    assert tend(io, clock, PONG_SECONDS - 0.5) is None


def test_one_that_left_for_want_of_its_consumer_is_not_to_blame(clock, caplog):
    settings = Settings(heartbeat_interval=0.1, orphan_threshold=0.5)
    config = ChildConfig(queue="q", settings=settings, parent_pid=os.getpid(), preprocessors={})
    io = IoProcess(config, name="I/O process", clock=clock)
    io.start()
    deaths = []

    hear(io, lambda: deaths.append(io.take_death()) or deaths[-1])  # It is never pinged.

    assert deaths[-1] == "left"
    io.stop()


def test_a_dead_process_is_seen_at_once(io, caplog):
    os.kill(io.pid, signal.SIGKILL)
    deaths = []

    hear(io, lambda: deaths.append(io.take_death()) or deaths[-1])

    assert deaths[-1] == "failed"
    assert "exit code -9" in caplog.text
