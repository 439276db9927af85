"""With a key, nothing that is asked or answered can be read where it rests."""

from __future__ import annotations

import signal
import socket
import threading

import pytest
from huey.exceptions import TaskException
from support.consumer import LIMIT, App
from support.gate import Gate

from huey_patient.keys import generate_key

#: One for each place of a request; the server repeats that of the URL.
CANARIES = {
    place: f"canary-{place}-7d1f"
    for place in ("path", "query", "header", "body", "args", "refused")
}


def submit(app: App, gate: Gate) -> None:
    """Send a canary in each place, and have them come back in an answer, a result, an error."""
    url = gate.url(f"/{CANARIES['path']}?q={CANARIES['query']}")
    options = {
        "headers": {"X-Canary": CANARIES["header"]},
        "body": CANARIES["body"],
        "callback_args": {"key": CANARIES["args"]},
    }
    told = app.patient.post(url, callback="Tell", **options).id
    kept = app.patient.post(url, **options)
    failed = app.patient.get(f"http://127.0.0.1:1/{CANARIES['refused']}", retries=0)
    gate.wait_for(2)
    gate.open()

    app.answers.collect([told])
    assert CANARIES["path"] in kept.get(blocking=True, timeout=LIMIT, preserve=True).text
    with pytest.raises(TaskException, match="ConnectFailed"):
        failed.get(blocking=True, timeout=LIMIT, preserve=True)


def found_in(*where: bytes) -> set[str]:
    """The places whose canary can be read."""
    return {
        place for place, canary in CANARIES.items() if any(canary.encode() in one for one in where)
    }


def sqlite_bytes(app: App) -> bytes:
    """Everything in the files of the database, removed rows included."""
    return b"".join(path.read_bytes() for path in app.folder.glob("app.db*"))


@pytest.mark.parametrize("sealed", [True, False], ids=["with-a-key", "without-a-key"])
def test_no_file_of_sqlite_and_no_log_line_gives_anything_away(new_app, gate: Gate, sealed):
    app: App = new_app(encryption_key=generate_key() if sealed else None)
    with app.consumer("-v") as consumer:
        submit(app, gate)
        at_rest = found_in(sqlite_bytes(app))
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        in_log = found_in(consumer.log.encode())

    if sealed:
        assert at_rest == in_log == set()
    else:  # The same search finds everything when nothing is sealed.
        assert at_rest == set(CANARIES)
        assert not in_log & {"query", "header", "body", "args"}


@pytest.mark.parametrize("sealed", [True, False], ids=["with-a-key", "without-a-key"])
def test_no_command_that_redis_is_given_gives_anything_away(new_app, gate: Gate, sealed):
    app: App = new_app("redis", encryption_key=generate_key() if sealed else None)
    port = app.huey.storage.pool.connection_kwargs["port"]
    with Wiretap(port) as wiretap, app.consumer("-k", "process", "-w", "2"):
        submit(app, gate)

    assert found_in(wiretap.heard) == (set() if sealed else set(CANARIES))
    assert app.name.encode() in wiretap.heard


class Wiretap:
    """Listens to every command that a Redis is given."""

    def __init__(self, port: int) -> None:
        self.heard = b""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def __enter__(self) -> Wiretap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while data := self._socket.recv(65_536):
            self.heard += data


def test_a_request_of_a_newer_version_waits_for_a_consumer_that_can_open_it(new_app, gate: Gate):
    app: App = new_app()
    gate.open()
    id = app.patient.get(gate.url(), callback="Tell").id
    sealed = app.patient.store.read(id)
    newer = sealed[:2] + bytes([sealed[2] + 1]) + sealed[3:]
    assert app.patient.store.reseal(id, sealed, newer)

    with app.consumer() as consumer:
        consumer.wait_for(f"{id} is of a newer version")
        assert not gate.asked

        # As if the newer consumer had come: what it opens is the same request.
        assert app.patient.store.reseal(id, newer, sealed)
        assert app.answers.collect([id]) == {id: 200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

    assert app.nothing_is_left()
