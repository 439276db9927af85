"""Each example runs the way its own docstring says."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from support.programs import EXAMPLES, Program, environment
from support.servers import Server
from support.web import Answer, WebServer

from huey_patient.keys import generate_key

Call = Callable[..., str]
Consume = Callable[..., Program]


def test_a_first_request_prints_its_answers(call: Call, consume: Consume) -> None:
    consume("first_request.huey")

    said = call("first_request.py")

    assert [line.split()[:2] for line in said.splitlines()[1:]] == [
        ["200", f"/{number}"] for number in range(5)
    ]


def test_a_callback_is_retried_while_its_database_is_locked(
    call: Call, consume: Consume, tmp_path: Path
) -> None:
    lock = sqlite3.connect(tmp_path / "prices.db", isolation_level=None)
    lock.execute("begin exclusive")
    consumer = consume("callback_retries.huey", "-w", "2")

    call("callback_retries.py", "chair")
    consumer.wait_for("database is locked")
    lock.execute("commit")
    consumer.wait_for("SavePrice")
    consumer.wait_for("executed in")

    assert lock.execute("select * from price").fetchall() == [("chair", 0.05)]
    lock.close()


def test_the_callback_tests_of_an_application_pass(tmp_path: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_callback_retries.py")]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_view_submits_and_the_report_is_there_later(
    consume: Consume, tmp_path: Path, env: dict[str, str]
) -> None:
    serve = [sys.executable, str(EXAMPLES / "wsgi_view.py"), "0"]
    with Program(serve, cwd=tmp_path, env=env) as web:
        url = web.wait_for("http://").split()[-1] + "/reports"

        ordered = fetched(url, b"")
        before = fetched(f"{url}/{ordered['id']}")
        consume("wsgi_view.huey")
        while (after := fetched(f"{url}/{ordered['id']}")) == before:
            pass

    assert before == ordered
    assert after == {"status": 200, "report": {"path": "/report", "waited": 0.05}}


def test_a_sealed_request_leaves_nothing_readable_in_redis(
    call: Call, consume: Consume, redis_server: Server, env: dict[str, str]
) -> None:
    env["PATIENT_KEY"] = generate_key()
    env["REDIS_URL"] = f"redis://127.0.0.1:{redis_server.port}/7"
    with redis.Redis.from_url(env["REDIS_URL"]) as database:
        call("sealed_redis.py", "jane.doe@example.com")
        waiting = everything(database)
        consumer = consume("sealed_redis.huey", "-w", "4")
        consumer.wait_for("jane.doe@example.com was checked: HTTP 200")
        consumer.wait_for("executed in")
        consumer.end()
        answered = everything(database)

    assert b"patient.checks.blob" in waiting
    for stored in (waiting, answered):
        for part in (b"jane.doe", b"/v1/checks", b"application/json", b"waited"):
            assert part not in stored


def test_a_chat_completion_is_retried_and_keeps_its_key_secret(
    call: Call,
    consume: Consume,
    server: WebServer,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "It is long."}}]}
    typed = {"Content-Type": "application/json"}
    server.answer(
        "/v1/chat/completions",
        Answer(529, headers={"retry-after-ms": "1"}),
        Answer(200, json.dumps(answer).encode(), typed),
    )
    env["OPENAI_BASE_URL"] = f"{server.url}/v1"

    call("chat_completion.py", "7", typed="A long text")
    env["OPENAI_API_KEY"] = "sk-canary"
    consumer = consume("chat_completion.huey", "-w", "2")
    consumer.wait_for("7: It is long.")

    first, second = server.asked
    assert first.header("authorization") == second.header("authorization") == "Bearer sk-canary"
    assert first.header("idempotency-key") == second.header("idempotency-key")
    assert json.loads(second.body)["messages"][1]["content"] == "A long text"
    consumer.end()
    assert "sk-canary" not in consumer.read_all()
    assert all(b"sk-canary" not in file.read_bytes() for file in tmp_path.glob("chat.db*"))


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_the_reading_order_names_every_file(file: Path) -> None:
    assert f"``{file.name}``" in (EXAMPLES / "README.rst").read_text()


def fetched(url: str, body: bytes | None = None) -> dict[str, object]:
    with urllib.request.urlopen(url, data=body) as response:
        found: dict[str, object] = json.load(response)
    return found


def everything(database: redis.Redis) -> bytes:
    """All keys and all they hold, as the server would write them to disk."""
    keys = sorted(database.scan_iter())
    return b"\n".join(part for key in keys for part in (key, *contents(database, key)))


def contents(database: redis.Redis, key: bytes) -> list[bytes]:
    match database.type(key):
        case b"string":
            return [database.get(key)]
        case b"hash":
            return [part for pair in database.hgetall(key).items() for part in pair]
        case b"list":
            return database.lrange(key, 0, -1)
        case b"set":
            return list(database.smembers(key))
        case b"zset":
            return database.zrange(key, 0, -1)
        case kind:
            raise AssertionError(f"a key of type {kind!r}")
