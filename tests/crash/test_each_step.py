"""A consumer, or its I/O process, is killed at each step that a call takes.

The application's module brings the failpoints: at the step that is asked for, the
process that takes it kills itself.  Another consumer, without failpoints, then
answers what is left.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.consumer import App
from support.gate import Gate

#: Steps of the consumer, and how often a call can have been sent by the end.
CONSUMER = {
    "registered": 1,
    "about to claim": 1,
    "claimed": 1,
    "handed over": 2,
    "beaten": 2,
    "answer arrived": 2,
    "about to settle": 2,
    "settled": 2,
}
#: Steps of the I/O process.
IO_PROCESS = {"opened": 2, "about to seal": 2, "sealed": 2}

FAILPOINTS = '''
import signal, sys
from pathlib import Path

from huey_patient.io_process.handle import IoProcess

STEP = Path(__file__).with_name("step").read_text()
KILLED = Path(__file__).with_name("killed")


def at(step, happens=True):
    """Be killed at ``step``, once."""
    if step == STEP and happens and not KILLED.exists():
        KILLED.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def watch(owner, name, before=None, after=None, when=lambda given, result: True):
    original = getattr(owner, name)

    def watched(*args, **options):
        at(before, when(args, None) if before else False)
        result = original(*args, **options)
        at(after, when(args, result) if after else False)
        return result

    setattr(owner, name, watched)


if "huey_consumer" in sys.argv[0]:
    store = type(patient.store)
    handed = []
    watch(store, "register", after="registered")
    watch(store, "claim", before="about to claim")
    watch(store, "claim", after="claimed", when=lambda given, leases: leases)
    watch(store, "beat", after="beaten", when=lambda given, beat: handed)
    watch(store, "settle", before="about to settle")
    watch(store, "settle", after="settled")
    watch(IoProcess, "send", after="sent", when=lambda given, none: handed.append(1))
    watch(IoProcess, "flush", after="handed over", when=lambda given, none: handed)
    watch(
        IoProcess, "take_outcomes", after="answer arrived", when=lambda given, outcomes: outcomes
    )
'''

#: For the I/O process, which imports this and nothing else of the application.
CIPHERS = """
import multiprocessing, os, signal
from pathlib import Path

STEP = Path(__file__).with_name("step").read_text()
KILLED = Path(__file__).with_name("killed")
IN_IO_PROCESS = multiprocessing.current_process().name.startswith("I/O process")


def at(step):
    if IN_IO_PROCESS and step == STEP and not KILLED.exists():
        KILLED.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def seal(text):
    at("about to seal")
    sealed = text[::-1]
    at("sealed")
    return sealed


def unseal(text):
    at("opened")
    return text[::-1]
"""


@pytest.fixture
def new_app(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch):
    """Makes an application with a failpoint."""
    opened = []

    def make(database: str, step: str, **options: object) -> App:
        if database == "redis":
            options |= {"database": "redis", "place": request.getfixturevalue("redis_server").port}
        (tmp_path / "step").write_text(step)
        short = {"heartbeat_interval": 0.2, "orphan_threshold": 1.0}
        opened.append(App(tmp_path, **short, **options).__enter__())
        return opened[0]

    yield make
    for app in opened:
        app.__exit__(None, None, None)


@pytest.mark.parametrize("database", ["sqlite", "redis"])
@pytest.mark.parametrize("step", CONSUMER)
def test_a_consumer_that_is_killed_at_any_step_loses_and_repeats_no_answer(new_app, database, step):
    app = new_app(database, step, tail=FAILPOINTS)
    with Gate() as gate:
        # Without workers: Huey itself loses the callbacks that they are in.
        with app.consumer("-w", "0", ready=False) as consumer:
            ids = [app.patient.get(gate.url("/open"), callback="Tell").id for _ in range(5)]
            assert consumer.wait() == -signal.SIGKILL

        told = app.answers
        with app.consumer("-w", "2") as consumer:
            assert set(told.collect(ids).values()) == {200}
            consumer.send(signal.SIGINT)
            assert consumer.wait() == 0
        assert max(gate.sends().values()) <= CONSUMER[step]

    assert told.once_each()
    assert app.nothing_is_left()


@pytest.mark.parametrize("step", IO_PROCESS)
def test_an_io_process_that_is_killed_at_any_step_loses_and_repeats_no_answer(
    new_app, tmp_path, step
):
    (tmp_path / "failing_ciphers.py").write_text(CIPHERS)
    names = {"encryption": "failing_ciphers:seal", "decryption": "failing_ciphers:unseal"}
    app = new_app("sqlite", step, **names)
    with Gate() as gate, app.consumer("-w", "2") as consumer:
        ids = [app.patient.get(gate.url("/open"), callback="Tell").id for _ in range(5)]

        assert set(app.answers.collect(ids).values()) == {200}

        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "exit code -9" in consumer.log
        assert max(gate.sends().values()) <= IO_PROCESS[step]
    assert app.answers.once_each()
    assert app.nothing_is_left()
