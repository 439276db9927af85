"""One store in many threads, in forked children, and under gevent."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
from support.backends import BACKENDS

from huey_patient.stores.base import Settlement


def in_threads(count, work):
    """Run ``work(n)`` in ``count`` threads at once; raise what one of them raised."""
    together, failures = threading.Barrier(count), []

    def run(n):
        together.wait()
        try:
            work(n)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def in_a_child(work) -> int:
    """Run ``work`` in a forked child and return its exit status."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads.  Huey's consumer does just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return status


def test_many_threads_claim_and_settle_each_request_once(store, queued):
    for n in range(60):
        store.submit(f"r{n:02}", b"x")

    def work(n):
        owner = f"o{n}"
        store.register(owner, b"")
        while leases := store.claim(owner, "fresh", 3):
            answers = [Settlement(id=x.id, epoch=x.epoch, message=x.id.encode()) for x in leases]
            assert store.settle(owner, answers) == ["ok"] * len(leases)

    # Memory and SQLite have one writer at a time, so all find something or the end.
    in_threads(4, work)
    work("last")

    assert sorted(queued()) == [f"r{n:02}".encode() for n in range(60)]


def test_many_threads_submit_one_id_and_it_is_stored_once(store):
    answers = []

    in_threads(6, lambda n: answers.append(store.submit("a", b"x")))

    assert sorted(answers) == ["duplicate"] * 5 + ["new"]
    assert store.counts().fresh == 1


def test_settling_two_ways_at_once_enqueues_one_message(store, queued):
    store.register("o", b"")
    for round in range(10):
        store.submit(f"r{round}", b"x")
        store.claim("o", "fresh", 1)
        one = Settlement(id=f"r{round}", epoch=1, message=f"r{round}".encode())

        in_threads(
            3,
            lambda n, one=one: (
                store.cancel(one.id, one.message) if n == 2 else store.settle("o", [one])
            ),
        )

    assert sorted(queued()) == sorted(f"r{round}".encode() for round in range(10))
    assert store.counts().held == 0


def test_threads_that_end_leave_no_open_connection(store):
    store.submit("a", b"x")

    in_threads(3, lambda n: store.read("a"))
    gc.collect()  # A connection left open would warn here, and a warning is an error.

    connections = getattr(getattr(store, "_link", None), "_connections", ())
    assert len(connections) <= 1


def test_a_forked_child_can_use_the_store_and_the_parent_goes_on(backend, store):
    store.submit("a", b"x")
    in_memory = backend.kind == "memory"

    def child():
        assert in_memory or store.read("a") == b"x"
        assert store.submit("b", b"from the child") == "new"

    assert in_a_child(child) == 0

    assert store.read("a") == b"x"
    assert store.submit("b", b"x") == ("new" if in_memory else "duplicate")


def test_a_child_forked_while_a_thread_is_in_a_call_does_not_hang(store):
    stop = threading.Event()

    def busy():
        n = 0
        while not stop.is_set():
            store.submit(f"busy{n}", b"x")
            n += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        statuses = [in_a_child(lambda: store.submit("child", b"x")) for _ in range(5)]
    finally:
        stop.set()
        thread.join()

    assert statuses == [0] * 5


def test_a_child_that_ends_does_not_harm_the_connections_of_the_parent(store):
    store.submit("a", b"x")
    store.register("o", b"")

    def child():
        store.read("a")
        store.close()
        gc.collect()

    assert in_a_child(child) == 0

    assert [lease.id for lease in store.claim("o", "fresh", 1)] == ["a"]
    assert [one.id for one in store.held("o")] == ["a"]


# wait


def test_wait_is_ended_by_a_submit_of_another_store(backend, store):
    woken = []
    store.wait(0)
    waiter = threading.Thread(target=lambda: woken.append(store.wait(30)))
    waiter.start()

    started = time.monotonic()
    backend.another().submit("a", b"x")
    waiter.join()

    assert woken == [True]
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("how", ["release", "reap"])
def test_wait_is_ended_by_what_comes_back(backend, store, how):
    store.submit("a", b"x")
    store.register("o", b"")
    store.claim("o", "fresh", 1)
    while store.wait(0):
        pass
    other = backend.another()

    if how == "release":
        other.release("o", [("a", 1)], strike=False)
    else:
        other.reap("o", 1)

    assert store.wait(30)
    other.close()


def test_wait_is_ended_by_what_this_very_thread_gave_back(store):
    store.submit("a", b"x")
    store.register("o", b"")
    store.claim("o", "fresh", 1)
    while store.wait(0):
        pass

    store.release("o", [("a", 1)], strike=False)

    assert store.wait(30)


UNDER_GEVENT = Path(__file__).with_name("under_gevent.py")


@pytest.mark.parametrize("kind", BACKENDS)
def test_greenlets_and_a_native_thread_share_a_store(kind, request, tmp_path):
    resource, _ = BACKENDS[kind]
    server = resource and request.getfixturevalue(resource)
    where = str(getattr(server, "port", tmp_path))

    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(UNDER_GEVENT), kind, where],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.stderr == ""
    assert done.stdout == "60 answered\n"
