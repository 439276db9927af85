"""Private servers for one test session: started on a free port, gone at its end.

Each dies with the test process even when that is killed (``setpriv
--pdeathsig``), so that nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


class Server:
    """A running process that listens on ``port`` of 127.0.0.1."""

    def __init__(self, command: list[str], *, ready: str, stop_with: signal.Signals, port: int):
        self.port = port
        self._stop_with = stop_with
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._wait_until_it_says(ready)
        # Nobody reads its log from here on; a full pipe would stop it.
        self._drain = threading.Thread(target=self._read_on, daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_until_it_says(self, ready: str) -> None:
        said = []
        for line in self._process.stdout:
            said.append(line.decode(errors="replace"))
            if ready in said[-1]:
                return
        self._process.wait()
        self._process.stdout.close()
        raise RuntimeError("the server did not start:\n" + "".join(said[-20:]))

    def _read_on(self) -> None:
        for _ in self._process.stdout:
            pass

    def stop(self) -> None:
        self._process.send_signal(self._stop_with)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._drain.join()
        self._process.stdout.close()


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[Server]:
    """A Redis that writes nothing to disk, unless ``options`` say so."""
    program = binary("redis-server")
    directory = tempfile.mkdtemp(prefix="patient-redis-")
    port = free_port()
    command = [*dying_with_us("KILL"), program, "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", directory, "--save", "", *options]
    try:
        server = Server(
            command, ready="eady to accept connections", stop_with=signal.SIGKILL, port=port
        )
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL with one superuser and one database, both called ``postgres``."""
    postgres = binary("postgres")
    directory = tempfile.mkdtemp(prefix="patient-postgres-")
    as_user = not_root(directory)
    cluster, port = str(Path(directory, "cluster")), free_port()
    try:
        initdb = [*as_user, str(Path(postgres).with_name("initdb")), "-D", cluster]
        subprocess.run(
            [*initdb, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "-N"],
            check=True,
            capture_output=True,
            cwd=directory,
        )
        command = [*as_user, *dying_with_us("QUIT"), postgres, "-D", cluster, "-p", str(port)]
        for setting in (
            *("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"),
            *("max_connections=100", "deadlock_timeout=100ms"),
        ):
            command += ["-c", setting]
        server = Server(
            command, ready="ready to accept connections", stop_with=signal.SIGINT, port=port
        )
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


#: How many sessions with PostgreSQL a PgBouncer of ours has for all its clients.
BOUNCED = 3

_PGBOUNCER = """
[databases]
postgres = host=127.0.0.1 port={behind} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {bounced}
min_pool_size = {bounced}
; A client that waits for its statements would else meet the same session each time.
server_round_robin = 1
"""


@contextlib.contextmanager
def pgbouncer(behind: int) -> Iterator[Server]:
    """A PgBouncer in transaction mode before the PostgreSQL on the port ``behind``.

    It has few sessions, and each transaction of a client gets the one whose turn
    it is.  They are opened as they are needed, or within a second or so.
    """
    program = binary("pgbouncer")
    directory = tempfile.mkdtemp(prefix="patient-pgbouncer-")
    as_user = not_root(directory)
    port = free_port()
    config = Path(directory, "pgbouncer.ini")
    config.write_text(_PGBOUNCER.format(behind=behind, port=port, bounced=BOUNCED))
    try:
        # It keeps nothing, and what the signals mean differs from version to version.
        server = Server(
            [*as_user, *dying_with_us("KILL"), program, str(config)],
            ready="process up",
            stop_with=signal.SIGKILL,
            port=port,
        )
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def missing(reason: str) -> None:
    """End the test: a failure where all servers should be, else a skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary(name: str) -> str:
    # Debian keeps the PostgreSQL server out of PATH, and PgBouncer out of that of users.
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/sbin")]
    search = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    found = shutil.which(name, path=search)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def dying_with_us(sign: str) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", sign] if setpriv else []


def not_root(directory: str) -> list[str]:
    """Give ``directory`` to a user that PostgreSQL is willing to run as."""
    if os.geteuid() != 0:
        return []
    shutil.chown(directory, "postgres", "postgres")
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
