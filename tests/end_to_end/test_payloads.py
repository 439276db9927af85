"""Large calls through real consumers: out to a payload store, back, and nothing left."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.consumer import GREEN, App
from support.gate import Gate
from support.payloads import S3
from support.web import Answer, WebServer

from huey_patient.keys import generate_key
from huey_patient.payloads import payload_store_for
from huey_patient.payloads.in_fsspec import FsspecPayloads

#: Readable wherever it is not sealed: bytes around it that nothing compresses.
CANARY = b"canary-7d1f-in-a-large-body"
OUT, BACK = (os.urandom(150_000) + CANARY + os.urandom(150_000) for _ in range(2))
SIZE = len(OUT)

#: A callback that says what it got, and what lay in ``FOLDER`` meanwhile.
TAIL = """
import hashlib, pathlib
failures = iter(range({failures}))

@patient.callback(retries=3, retry_delay=0)
def digest(outcome):
    lying = [path.read_bytes() for path in pathlib.Path({folder!r}).glob("*")]
    readable = any({canary!r} in one for one in lying)
    if next(failures, None) is not None:
        raise RuntimeError("once more")
    found = getattr(outcome, "content", None)
    words = hashlib.sha256(found).hexdigest() if found is not None else outcome.kind
    tell(outcome.request_id, words, {{"lying": len(lying), "readable": readable}})
"""

DIGEST = hashlib.sha256(BACK).hexdigest()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as started:
        started.answer("/large", Answer(200, BACK))
        yield started


def tail(folder: Path, *, failures: int = 0, more: str = "") -> str:
    return TAIL.format(folder=str(folder), failures=failures, canary=CANARY) + more


def submit(app: App, server: WebServer, **options: Any) -> str:
    headers = {"Content-Type": "application/octet-stream"}
    url = f"{server.url}/large"
    return app.patient.post(url, body=OUT, headers=headers, callback="digest", **options).id


def lying(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


@pytest.mark.parametrize("sealed", [True, False], ids=["with-a-key", "without-a-key"])
@pytest.mark.parametrize("database", ["sqlite", "redis"])
def test_a_large_call_lies_in_files_and_nothing_of_it_can_be_read(
    new_app, server: WebServer, tmp_path: Path, database: str, sealed: bool
) -> None:
    folder = tmp_path / "payloads"
    app: App = new_app(
        database,
        tail=tail(folder),
        payload_store=f"file://{folder}",
        encryption_key=generate_key() if sealed else None,
    )
    id = submit(app, server)
    [request] = lying(folder)
    assert len(request) > SIZE
    assert len(app.patient.store.read(id)) < 1000

    with app.consumer("-w", "2") as consumer:
        assert app.answers.collect([id]) == {id: DIGEST}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    [(_, _, _, seen)] = app.answers.told
    [asked] = server.asked
    assert asked.body == OUT
    assert seen["lying"] >= 1  # the outcome, and the request unless it was gone already
    # The same search finds it when nothing is sealed.
    assert (CANARY in request) == seen["readable"] == (not sealed)
    assert lying(folder) == []
    assert app.nothing_is_left()


@pytest.mark.parametrize("database", ["sqlite", "redis"])
@pytest.mark.parametrize("workers", ["thread", "process", "greenlet"])
def test_a_retried_callback_finds_its_payload_in_huey_s_storage(
    new_app, server: WebServer, tmp_path: Path, database: str, workers: str
) -> None:
    app: App = new_app(
        database,
        head=GREEN if workers == "greenlet" else "",
        tail=tail(tmp_path / "none", failures=2),
        payload_store="huey",
        encryption_key=generate_key(),
    )

    with app.consumer("-k", workers, "-w", "1") as consumer:
        ids = [submit(app, server) for _ in range(5)]
        assert app.answers.collect(ids) == dict.fromkeys(ids, DIGEST)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    names = [str(name) for name in app.huey.storage.result_items()]
    assert [name for name in names if "payload" in name] == []
    assert app.nothing_is_left()


@pytest.mark.parametrize("workers", ["thread", "process", "greenlet"])
def test_a_large_call_goes_through_s3(
    new_app, server: WebServer, s3_server: S3, tmp_path: Path, workers: str
) -> None:
    url = f"s3://{s3_server.bucket}/{tmp_path.name}"
    register = (
        "from huey_patient import FsspecPayloads\n"
        f"patient.register_payload_store('s3', FsspecPayloads({url!r}, **{s3_server.options!r}))\n"
    )
    app: App = new_app(
        head=GREEN if workers == "greenlet" else "",
        tail=tail(tmp_path / "none", failures=1, more=register),
        encryption_key=generate_key(),
    )

    with app.consumer("-k", workers, "-w", "2") as consumer:
        ids = [submit(app, server) for _ in range(5)]
        assert app.answers.collect(ids) == dict.fromkeys(ids, DIGEST)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert FsspecPayloads(url, **s3_server.options).sweep(-60.0) == 0  # Nothing is left there.
    assert app.nothing_is_left()


def test_a_killed_consumer_leaves_the_object_for_its_successor(
    new_app, gate: Gate, tmp_path: Path
) -> None:
    folder = tmp_path / "payloads"
    app: App = new_app(
        tail=tail(folder),
        payload_store=f"file://{folder}",
        heartbeat_interval=0.2,
        orphan_threshold=1.0,
    )
    id = app.patient.post(gate.url("/large"), body=OUT, callback="digest").id
    with app.consumer() as consumer:
        gate.wait_for(1)
        consumer.send(signal.SIGKILL)
        consumer.wait()
    assert len(lying(folder)) == 1

    gate.open()
    with app.consumer() as consumer:
        app.answers.collect([id])
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert gate.sends() == {id: 2}
    assert lying(folder) == []


#: A store of the application's own, which cannot be read while a file is there.
MOODY = """
from huey_patient.payloads.in_files import FilePayloads

class Moody(FilePayloads):
    def get(self, key):
        if pathlib.Path({away!r}).exists():
            raise TimeoutError("the store is away")
        return super().get(key)

patient.register_payload_store("moody", Moody({folder!r}))
"""


def test_a_payload_store_that_is_away_holds_up_nobody_else_and_loses_nothing(
    new_app, server: WebServer, gate: Gate, tmp_path: Path
) -> None:
    folder, away = tmp_path / "payloads", tmp_path / "away"
    more = MOODY.format(folder=str(folder), away=str(away))
    app: App = new_app(tail=tail(folder, more=more), max_connections=4)
    large = [submit(app, server) for _ in range(6)]  # more than there are places
    away.touch()
    gate.open()

    with app.consumer() as consumer:
        consumer.wait_for("waits for its payload")
        small = [app.patient.get(gate.url("/"), callback="Tell").id for _ in range(3)]
        assert app.answers.collect(small) == dict.fromkeys(small, 200)
        away.unlink()
        assert app.answers.collect(large) == dict.fromkeys(large, DIGEST)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert lying(folder) == []


def test_damaged_and_missing_objects_end_in_error_callbacks(
    new_app, server: WebServer, tmp_path: Path
) -> None:
    folder = tmp_path / "payloads"
    app: App = new_app(tail=tail(folder), payload_store=f"file://{folder}")
    ids = [submit(app, server, callback_args={"n": n}) for n in range(3)]
    missing, damaged, _ = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])

    with app.consumer():
        told = app.answers.collect(ids)

    assert [told[id] for id in ids] == ["payload", "payload", DIGEST]
    assert server.hits("/large") == 1


#: Submits a large request, and is killed at the moment when it would be stored.
DYING = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import {module} as app
app.patient.store.submit = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
app.patient.post("http://127.0.0.1:1/", body=b"x" * 300_000)
"""


def test_killed_between_payload_and_submit_leaves_an_object_for_the_sweep(
    new_app, tmp_path: Path
) -> None:
    folder = tmp_path / "payloads"
    app: App = new_app(payload_store=f"file://{folder}", payload_store_threshold=100)
    script = DYING.format(folder=str(tmp_path), module=app.name)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=40)

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert app.nothing_is_left()
    assert len(lying(folder)) == 1
    store = payload_store_for(app.huey, f"file://{folder}")
    assert store.sweep(app.patient.settings.payload_store_keep) == 0
    assert store.sweep(-60.0) == 1
    assert lying(folder) == []
