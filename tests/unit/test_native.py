"""Native threads and the wake pipe, also where gevent has replaced the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from huey_patient.native import NativeThread, WakePipe, original


def test_a_native_thread_runs_its_target_under_its_name():
    names = []
    thread = NativeThread(lambda: names.append(threading.current_thread().name), name="mine")

    thread.start()

    assert thread.join(10)
    assert names == ["mine"]
    assert not thread.running


def test_joining_a_thread_that_goes_on_says_so():
    go = threading.Event()
    thread = NativeThread(go.wait, name="long")
    thread.start()

    assert not thread.join(0)
    assert thread.running
    go.set()
    assert thread.join(10)


def test_a_thread_that_dies_is_not_running_any_more(capsys):
    def die() -> None:
        raise SystemExit

    thread = NativeThread(die, name="dying")
    thread.start()

    assert thread.join(10)
    assert not thread.running


def test_a_thread_that_cannot_be_started_does_not_run(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    thread = NativeThread(lambda: None, name="none")

    with pytest.raises(RuntimeError, match="can't start"):
        thread.start()

    assert not thread.running


def test_a_ring_before_the_wait_is_not_lost():
    pipe = WakePipe()
    pipe.ring()

    assert pipe.wait(10)
    assert not pipe.wait(0)


def test_each_ring_ends_one_wait():
    pipe = WakePipe()
    pipe.ring(2)

    assert pipe.wait(0)
    assert pipe.wait(0)
    assert not pipe.wait(0)


def test_hushing_takes_back_what_was_rung():
    pipe = WakePipe()
    pipe.ring(3)

    assert pipe.hush(2) == 2
    assert pipe.hush() == 1
    assert pipe.hush() == 0


def test_a_pipe_full_of_rings_takes_more_without_blocking():
    pipe = WakePipe()
    for _ in range(40):
        pipe.ring(65_536)

    assert pipe.wait(0)


def test_a_ring_ends_the_wait_of_another_thread():
    pipe, heard = WakePipe(), []
    thread = NativeThread(lambda: heard.append(pipe.wait(10)), name="waiting")
    thread.start()

    pipe.ring()

    assert thread.join(10)
    assert heard == [True]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_can_ring():
    pipe = WakePipe()
    child = os.fork()
    if child == 0:
        pipe.ring()
        os._exit(0)
    os.waitpid(child, 0)

    assert pipe.wait(10)


def test_descriptors_are_closed_with_the_pipe():
    pipe = WakePipe()
    fd = pipe.fileno()
    before = os.fstat(fd).st_ino

    del pipe

    try:
        assert os.fstat(fd).st_ino != before
    except OSError:
        pass  # Closed, and given to nobody else since.


def test_without_gevent_the_original_is_what_stands_there():
    assert original("time", "sleep") is time.sleep


GREEN = """
from gevent import monkey
monkey.patch_all()
import sys, threading, time, gevent
from huey_patient.native import NativeThread, WakePipe, original

assert original("time", "sleep") is not time.sleep

blocked, go = WakePipe(), WakePipe()

def block():
    blocked.ring()
    poller = original("select", "poll")()
    poller.register(go.fileno(), 1)
    poller.poll(20_000)

turns = []
greenlet = gevent.spawn(lambda: [(turns.append(1), gevent.sleep(0)) for _ in range(100)])
thread = NativeThread(block, name="native")
thread.start()
assert blocked.wait(20)
greenlet.join(20)       # a greenlet that blocked like this would stop all others
assert len(turns) == 100 and thread.running
# Imported by both at once, this could stop both for ever.
assert "gevent.resolver.thread" in sys.modules and "encodings.idna" in sys.modules
go.ring()
assert thread.join(20)
print("done")
"""


def test_under_gevent_a_blocked_native_thread_stops_no_greenlet():
    ran = subprocess.run([sys.executable, "-c", GREEN], capture_output=True, text=True, timeout=50)

    assert ran.stdout == "done\n", ran.stderr
