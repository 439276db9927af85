"""Processes that die, stop or cannot start: every request is answered, once."""

from __future__ import annotations

import functools
import os
import re
import signal

import pytest
from huey.exceptions import TaskException
from support.consumer import GREEN, LIMIT, WORKERS, App, parent_of, watched
from support.gate import Gate

from huey_patient import secret

#: A consumer that another one takes for dead after a second.
SHORT = {"heartbeat_interval": 0.2, "orphan_threshold": 1.0}

#: Seconds that an I/O process may outlive its consumer, as is promised.
OUTLIVES = 5.0


@pytest.mark.parametrize("workers", ["thread", "process", "greenlet"])
def test_a_killed_io_process_takes_none_of_its_hundred_calls_along(new_app, gate: Gate, workers):
    app: App = new_app(head=GREEN if workers == "greenlet" else "")
    with app.consumer("-w", "2", "-k", workers) as consumer:
        io = consumer.wait_until_ready()
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(100)]
        gate.wait_for(100)

        os.kill(io, signal.SIGKILL)
        gate.open()

        assert set(app.answers.collect(ids).values()) == {200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "exit code -9" in consumer.log
        assert app.answers.once_each()
        assert app.nothing_is_left()
        assert max(gate.sends().values()) <= 2


def test_an_io_process_that_stands_still_is_noticed_and_replaced(app: App, gate: Gate):
    with app.consumer() as consumer:
        io = consumer.wait_until_ready()
        id = app.patient.get(gate.url(), callback="Tell").id
        gate.wait_for(1)

        with watched(io) as ended:
            os.kill(io, signal.SIGSTOP)
            gate.open()
            assert ended()

        assert app.answers.collect([id]) == {id: 200}
        assert "did not answer for 5 s" in consumer.log


#: A cipher that does not seal the answer to one call.
SEALING = """
def seal(text):
    if b"answer to /poison" in text:
        raise RuntimeError(f"no key for {text!r}")
    return text[::-1]


def unseal(text):
    return text[::-1]


patient = Patient(huey, encryption=seal, decryption=unseal)
patient.callback(Tell)
"""


def test_a_cipher_that_fails_takes_no_other_call_along(new_app, gate: Gate):
    app: App = new_app(attach=False, tail=SEALING)
    with app.consumer() as consumer:
        innocent = app.patient.get(gate.url("/held"), callback="Tell").id
        quick = app.patient.get(gate.url("/open"), callback="Tell").id
        other = app.patient.get(gate.url("/poison"), callback="Tell").id
        gate.wait_for(3)
        gate.open()

        assert app.answers.collect([innocent, quick]) == {innocent: 200, quick: 200}
        consumer.wait_for(f"outcome of request {other} cannot be sealed")
        assert app.patient.cancel(other)
        assert app.answers.collect([other]) == {other: "canceled"}

        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "no key for" not in consumer.log
    assert set(gate.sends().values()) == {1}
    assert app.nothing_is_left()


@pytest.mark.parametrize(
    ("workers", "start_method"),
    [*((workers, "forkserver") for workers in WORKERS), ("thread", "spawn"), ("process", "spawn")],
)
def test_an_io_process_that_stands_still_ends_with_its_killed_consumer(
    new_app, workers, start_method
):
    app: App = new_app(head=WORKERS[workers], start_method=start_method)
    with app.consumer("-w", "2", "-k", workers) as consumer:
        io = consumer.wait_until_ready()
        with watched(io) as ended, watched(parent_of(io)) as parent_ended:
            os.kill(io, signal.SIGSTOP)
            consumer.send(signal.SIGKILL)

            assert ended(OUTLIVES)
            assert parent_ended(OUTLIVES)  # the fork server


@pytest.mark.parametrize(
    ("database", "workers"),
    [("sqlite", "thread"), ("sqlite", "process"), ("sqlite", "greenlet"), ("redis", "thread")],
)
def test_the_next_consumer_answers_the_calls_of_one_that_was_killed(
    new_app, gate: Gate, database, workers
):
    app: App = new_app(database, head=GREEN if workers == "greenlet" else "", **SHORT)
    options = ("-w", "2", "-k", workers)
    with app.consumer(*options) as consumer:
        io = consumer.wait_until_ready()
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(20)]
        gate.wait_for(20)

        with watched(io) as ended:
            consumer.send(signal.SIGKILL)
            assert consumer.wait() == -signal.SIGKILL
            # Nobody else was killed: worker processes may live, and hold the pipe.
            assert ended(OUTLIVES)

    gate.open()
    with app.consumer(*options) as consumer:
        assert set(app.answers.collect(ids).values()) == {200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "its 20 requests are ready again" in consumer.log
    assert app.answers.once_each()
    assert app.nothing_is_left()


def test_a_living_consumer_takes_over_from_one_that_was_killed(new_app, gate: Gate):
    app: App = new_app(**SHORT)
    with app.consumer() as first:
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)
        with app.consumer() as second:
            first.send(signal.SIGKILL)
            gate.open()

            app.answers.collect(ids)
            second.send(signal.SIGINT)
            assert second.wait() == 0
    assert app.answers.once_each()
    assert app.nothing_is_left()


def test_a_consumer_that_stood_still_too_long_answers_nothing_twice(new_app, gate: Gate):
    app: App = new_app(**SHORT)
    with app.consumer() as first:
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)
        with app.consumer() as second:
            first.send(signal.SIGSTOP)
            second.wait_for("its 10 requests are ready again")
            gate.open()
            app.answers.collect(ids)

            first.send(signal.SIGCONT)
            first.wait_for("begins anew")
            later = app.patient.get(gate.url(), callback="Tell").id
            app.answers.collect([later])
            for consumer in (first, second):
                consumer.send(signal.SIGINT)
                assert consumer.wait() == 0
    assert app.answers.once_each()
    assert app.nothing_is_left()


#: A cipher that does harm in the I/O process which opens a request of that path, and
#: cannot be imported there at all while there is a file called "broken".
CIPHER = """
import multiprocessing, os, signal, stat

IN_CHILD = multiprocessing.current_process().name.startswith("I/O process")
if IN_CHILD and os.path.exists(os.path.join(os.path.dirname(__file__), "broken")):
    raise ImportError("broken on purpose")


def write(data):
    for fd in range(3, 100):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, data)
        except OSError:
            pass


def half():
    write(b"HP\\x01\\x08\\x00\\x00\\x01\\x00half")
    os.kill(os.getpid(), signal.SIGSTOP)


HARM = {
    b"/poison": lambda: os._exit(66),
    b"/exit": lambda: os._exit(0),
    b"/abort": lambda: os.kill(os.getpid(), signal.SIGABRT),
    b"/garbage": lambda: write(b"HTTP/1.1 200 OK"),
    b"/half": half,
}


def encrypt(data):
    return bytes(byte ^ 0x5A for byte in data)


def decrypt(data):
    data = encrypt(data)
    for path in HARM if IN_CHILD else ():
        if path in data:
            HARM[path]()
    return data
"""


@pytest.fixture
def new_ciphered(new_app, tmp_path):
    """Makes an application whose ciphers are those of `CIPHER`."""
    (tmp_path / "patient_test_cipher.py").write_text(CIPHER)
    names = {
        "encryption": "patient_test_cipher:encrypt",
        "decryption": "patient_test_cipher:decrypt",
    }
    return functools.partial(new_app, **names)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/exit", "exit code 0"),
        ("/abort", "exit code -6"),
        ("/garbage", "broke the protocol"),
        ("/half", "broke off inside a frame|did not answer for 5 s"),
    ],
)
def test_however_an_io_process_fails_it_is_replaced(new_ciphered, gate: Gate, path, said):
    app: App = new_ciphered(max_attempts=1)
    with app.consumer() as consumer:
        innocent = app.patient.get(gate.url(), callback="Tell", id="innocent").id
        gate.wait_for(1)
        harmful = app.patient.get(gate.url(path), callback="Tell").id

        told = app.answers.collect([innocent, harmful])

        # Nobody knows which of them it was; one lost process is all they are allowed.
        assert told == {innocent: "abandoned", harmful: "abandoned"}
        assert re.search(f"I/O process, PID .*({said})", consumer.log)
        gate.open()
        later = app.patient.get(gate.url(), callback="Tell").id
        assert app.answers.collect([later]) == {later: 200}


def test_a_request_that_kills_its_host_ends_abandoned_and_takes_nobody_along(
    new_ciphered, gate: Gate
):
    app: App = new_ciphered()
    with app.consumer("-w", "2") as consumer:
        ids = [app.patient.get(gate.url(f"/{n}"), callback="Tell").id for n in range(20)]
        gate.wait_for(20)
        poison = app.patient.get(gate.url("/poison"), callback="Tell").id
        late = [app.patient.get(gate.url(f"/late{n}"), callback="Tell").id for n in range(5)]
        gate.open()

        told = app.answers.collect([*ids, poison, *late])

        assert told.pop(poison) == "abandoned"
        assert set(told.values()) == {200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "exit code 66" in consumer.log
        assert app.answers.once_each()
        assert app.nothing_is_left()
        assert poison not in gate.sends()


def test_an_io_process_that_cannot_start_stops_no_task_and_is_tried_again(new_ciphered, gate: Gate):
    app: App = new_ciphered()
    broken = app.folder / "broken"
    broken.touch()
    with app.consumer(ready=False) as consumer:
        consumer.wait_for("a new one in 0.1 s")
        consumer.wait_for("a new one in 0.2 s")
        id = app.patient.get(gate.url("/open"), callback="Tell").id
        app.module.plain("word")

        assert app.answers.collect(["word"]) == {"word": "task"}
        assert app.patient.stats()["held"] == 0  # nothing is claimed while nobody can send
        broken.unlink()

        assert app.answers.collect([id]) == {id: 200}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_courier_that_dies_is_noticed_and_replaced(new_app, gate: Gate, workers):
    app: App = new_app(
        head=WORKERS[workers],
        tail="""
def once():
    path = os.path.join(os.path.dirname(__file__), "raised")
    if not os.path.exists(path):
        open(path, "w").close()
        raise SystemExit("the courier's thread ends here")
    return "value"


patient.register_secret("key", once)
""",
        **SHORT,
    )
    with app.consumer("-w", "2", "-k", workers) as consumer:
        consumer.wait_until_ready()
        headers = {"X-Key": secret("key")}
        id = app.patient.get(gate.url("/open"), callback="Tell", headers=headers).id

        assert app.answers.collect([id]) == {id: 200}
        assert "The courier is gone" in consumer.log
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert app.nothing_is_left()


def test_workers_that_are_killed_while_calls_come_and_go_take_none_along(new_app, gate: Gate):
    # Not in a callback: that is a task like any other, which Huey runs at most once.
    app: App = new_app(
        tail="""
@huey.task()
def die():
    os.kill(os.getpid(), 9)
"""
    )
    with app.consumer("-w", "2", "-k", "process", "-c", "0.1") as consumer:
        ids = []
        for _ in range(6):
            ids += [app.patient.get(gate.url("/open"), callback="Tell").id for _ in range(10)]
            app.module.die()

        app.answers.collect(ids)
        consumer.wait_for("died, restarting", times=6)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
    assert app.answers.once_each()
    assert app.nothing_is_left()
    assert gate.sends() == dict.fromkeys(ids, 1)


DAMAGED = {"garbage": b"garbage", "no-label": b"HP\x01\x01" + bytes(60)}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_request_is_answered_and_stops_nobody(app: App, gate: Gate, kind):
    app.patient.store.submit("damaged", DAMAGED[kind])
    with app.consumer() as consumer:
        id = app.patient.get(gate.url("/open"), callback="Tell").id

        assert app.answers.collect([id]) == {id: 200}
        with pytest.raises(TaskException, match="EnvelopeError"):
            app.huey.result("damaged", blocking=True, timeout=LIMIT)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "The courier failed" not in consumer.log
