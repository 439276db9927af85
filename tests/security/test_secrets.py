"""S1: a secret value is nowhere but on its way to the server.

A canary stands for it, and everything that can be looked at is searched: the
database before and after, the log with everything in it, the environments and
command lines of all processes, and what callbacks see, tracebacks with the
variables of their frames included.  Nothing is sealed here: there is no key.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import traceback
import uuid
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from huey import MemoryHuey
from support.consumer import App
from support.desk import Desk
from support.raw import RawServer, Script, response, says
from support.web import Answer, WebServer

from huey_patient import Patient, RequestError, secret
from huey_patient.wire import Reason

HALF_A_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: a\n\n"
)

#: Reads the canary from a file: what a process is started with does not hold it.
TAIL = """
from pathlib import Path
import traceback

HERE = Path(__file__).parent
patient.register_secret("key", lambda: (HERE / "canary").read_text(), hosts=["127.0.0.1"])
patient.register_preprocessor("failing", "failing_signature:sign")


@patient.callback()
def look(outcome):
    seen = [repr(outcome), str(outcome), repr(vars(outcome) if hasattr(outcome, "kind") else "")]
    if isinstance(outcome, Exception):
        try:
            raise outcome
        except Exception as error:
            told = traceback.TracebackException.from_exception(error, capture_locals=True)
            seen += told.format()
    tell(outcome.request_id, [getattr(outcome, "kind", "response"), *seen], {})
"""
SIGNATURE = """
def sign(outgoing):
    raise ValueError(outgoing.headers["X-Key"] + outgoing.url + outgoing.body.decode())
"""


@pytest.fixture
def canary(tmp_path: Path) -> str:
    text = f"{uuid.uuid4().hex}/+%1 x"  # the beginning stays the same in every encoding
    (tmp_path / "canary").write_text(text)
    (tmp_path / "failing_signature.py").write_text(SIGNATURE)
    return text


def places() -> dict[str, dict[str, object]]:
    """A secret in every place that takes one."""
    return {
        "headers": {"X-Key": secret("key", prefix="Bearer ")},
        "params": {"key": secret("key", suffix="/+ä")},
        "json": {"deep": [secret("key")]},
    }


@pytest.fixture
def garbled() -> RawServer:
    with RawServer(says(b"HTTP/1.1 nonsense\r\n\r\n")) as started:
        yield started


@pytest.fixture
def cut() -> RawServer:
    with RawServer(says(HALF_A_STREAM)) as started:
        yield started


@pytest.fixture
def parrot(canary: str) -> RawServer:
    with RawServer(repeats(canary)) as started:
        yield started


def repeats(value: str) -> Script:
    """A server that repeats a secret in its Location, and then may hang up."""
    locations = {
        "/plain": f"/end/200/{value.replace(' ', '+')}",
        "/quoted": f"/end/200?next={quote(value, safe='')}",
        "/within": f"/end/200?a=1&next=%2Fx%3Fy%3D{quote(quote_plus(value))}&b=2",
    }
    locations |= {name + "/cut": to.replace("/200", "/cut") for name, to in locations.items()}

    def script(connection: socket.socket, request: bytes) -> bool:
        path = request.split(b" ")[1].decode().partition("?")[0]
        if path in locations:
            there = b"Location: " + locations[path].encode()
            connection.sendall(response(b"", there, status=b"307 Over there"))
        elif path.startswith("/end/200"):
            connection.sendall(response(b"fine"))
        return not path.startswith("/end/cut")

    return script


def cases(
    server: WebServer, garbled: RawServer, cut: RawServer, parrot: RawServer
) -> list[tuple[str, str, dict]]:
    """How each call is to end, and how it is made."""
    ok = server.answer("/ok", Answer(200, b"fine"))
    large = server.answer("/large", Answer(200, b"x" * 2_000_000))
    return [
        ("response", ok, {}),
        ("http_error", f"{server.url}/status/404", {"raise_error_responses": True}),
        ("timeout", f"{server.url}/hold", {"timeout": 0.3}),
        ("connection", "http://127.0.0.1:1/", {"retries": 0}),
        ("ssl", f"https://127.0.0.1:{server.port}/", {}),
        ("response_too_large", large, {}),
        ("redirect", f"{server.url}/redirect?to=/redirect%3Fto%3D/ok&status=307", {}),
        ("blocked", "http://127.0.0.1:9/", {}),
        ("invalid_response", garbled.url, {}),
        ("connection", cut.url, {"stream": "sse"}),
        ("configuration", f"http://localhost:{server.port}/", {}),
        ("configuration", ok, {"preprocessors": "failing"}),
        ("expired", ok, {"expires": 0}),
        *[("response", f"{parrot.url}/{how}", {}) for how in ("plain", "quoted", "within")],
        ("connection", f"{parrot.url}/plain/cut", {"retries": 0}),
        ("connection", f"{parrot.url}/within/cut", {"retries": 0}),
    ]


def stored(folder: Path) -> bytes:
    """Everything in the database, and in files beside it."""
    # Not read in this process: closing a file drops the locks that SQLite holds on it.
    payloads = [path for path in folder.glob("payloads/**/*") if path.is_file()]
    files = [*folder.glob("app.db*"), *payloads]
    return subprocess.run(["cat", *files], capture_output=True, check=True).stdout


def processes_of(consumer: int) -> bytes:
    """What a consumer, its fork server and its I/O processes were started with."""
    family = {consumer}
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int(
                (process / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            pass  # It has ended.
    while born := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= born
    assert len(family) >= 3
    return b"".join(
        Path(f"/proc/{pid}/{name}").read_bytes()
        for pid in family
        for name in ("cmdline", "environ")
    )


@pytest.mark.parametrize("outside", [False, True], ids=["database", "payload files"])
def test_s1_a_canary_is_found_nowhere_whatever_becomes_of_the_call(
    tmp_path: Path,
    canary: str,
    server: WebServer,
    garbled: RawServer,
    cut: RawServer,
    parrot: RawServer,
    outside: bool,
) -> None:
    settings: dict[str, object] = {"deny_ports": (9,), "max_redirects": 1}
    if outside:
        payloads = f"file://{tmp_path}/payloads"
        settings |= {"payload_store": payloads, "payload_store_threshold": 1}
    with App(tmp_path, tail=TAIL, **settings) as app:
        made = {"callback": app.module.look, **places()}
        held = app.patient.post(f"{server.url}/hold", timeout=50, **made)
        wanted = {}
        for kind, url, options in cases(server, garbled, cut, parrot):
            wanted[app.patient.post(url, **made, **options).id] = kind
        plain = app.patient.post("http://127.0.0.1:1/", callback=app.module.plain, **places())
        waiting = stored(tmp_path)
        with app.consumer("-w", "2", "-v") as consumer:
            told = app.answers.collect(wanted)
            consumer.wait_for(f"Unhandled exception in task {plain.id}")
            for _ in ("the one held", "the one that timed out"):
                assert server.arrived.acquire(timeout=30)
            environs = processes_of(consumer.pid)
            assert app.patient.cancel(held.id)
            told |= app.answers.collect([held.id])
            log = consumer.log

    assert {id: seen[0] for id, seen in told.items()} == {**wanted, held.id: "canceled"}
    sent = next(one for one in server.asked if one.path == "/ok")
    assert sent.header("x-key") == f"Bearer {canary}"
    assert quote_plus(canary) in sent.target
    assert canary.encode() in sent.body
    assert server.hits("/") == 0  # of localhost, which the secret is not for
    assert b"X-Key" in waiting  # what is searched is there, and readable
    assert b"huey_consumer" in environs
    assert "DEBUG" in log
    searched = [waiting, stored(tmp_path), environs, log.encode(), repr(told).encode()]
    for place in searched:
        assert canary[:32].encode() not in place


@pytest.mark.parametrize("how", ["plain", "quoted", "within"])
@pytest.mark.parametrize("ending", ["", "/cut"])
@pytest.mark.parametrize(
    "place",
    [
        {"headers": {"X-Key": secret("key", prefix="Bearer ")}},
        {"params": {"key": secret("key")}},
        {"params": {"key": ["1", secret("key", prefix="<", suffix=">")]}},
        {"json": {"deep": [secret("key")]}},
    ],
    ids=["header", "parameter", "parameter with more", "json"],
)
def test_s1_what_a_server_repeats_of_a_secret_is_in_no_url(
    how: str, ending: str, place: dict, caplog: pytest.LogCaptureFixture
) -> None:
    value = "CAN/ARY+1%ZZ x"
    patient = Patient(MemoryHuey(uuid.uuid4().hex, immediate=True), retries=0)
    patient.register_secret("key", value)
    ended: list[object] = []

    @patient.callback
    def keep(outcome):
        ended.append(outcome)

    with RawServer(repeats(value)) as parrot, caplog.at_level(logging.DEBUG):
        patient.post(f"{parrot.url}/{how}{ending}", callback=keep, **place)

    [outcome] = ended
    assert isinstance(outcome, RequestError) == bool(ending)
    assert "***" in outcome.url
    told = repr(outcome) + str(outcome) + outcome.url + repr(outcome.redirects) + caplog.text
    assert "CAN" not in told
    assert "ARY" not in told


@pytest.mark.parametrize("reason", [Reason.ABANDONED, Reason.INTERRUPTED, Reason.UNREADABLE])
def test_s1_what_the_consumer_decides_knows_no_value(reason: Reason) -> None:
    desk = Desk()
    desk.patient.register_secret("key", "CANARY")
    seen: list[RequestError] = []

    @desk.patient.callback
    def keep(outcome):
        seen.append(outcome)

    result = desk.patient.post("http://a.test/", callback=keep, **places())
    sealed = desk.lease(result.id).sealed

    desk.settle(result.id, reason, sealed)
    desk.work()

    [error] = seen
    assert "CANARY" not in repr(vars(error)) + repr(sealed)


def test_s1_in_immediate_mode_too_nothing_shows_a_value(
    server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "".join(("CAN", "ARY"))  # the traceback shows lines of this file
    patient = Patient(MemoryHuey(uuid.uuid4().hex, immediate=True), retries=0)
    patient.register_secret("key", canary)
    told: list[str] = []

    @patient.callback
    def look(outcome):
        told.append(repr(outcome))
        if isinstance(outcome, RequestError):
            try:
                raise outcome
            except RequestError as error:
                seen = traceback.TracebackException.from_exception(error, capture_locals=True)
                told.extend(seen.format())

    with caplog.at_level(logging.DEBUG):
        for url in (server.answer("/ok", Answer()), "http://127.0.0.1:1/", "http://no.invalid/"):
            patient.post(url, callback=look, **places())

    assert len(told) > 3
    assert canary in server.asked[0].target
    assert canary not in "".join(told) + caplog.text + repr(patient.__dict__)
