"""Databases that can be killed and come back with what they had promised to keep."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from redis import Redis
from support import servers
from support.backends import dsn


class Database:
    """One database for one run: where it is, and what can be done to it."""

    #: What ``restart`` does, for the log; None where there is no server.
    restart_is: str | None = None

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.address = str(Path(folder, "huey.db"))

    def cut(self) -> None:
        """Take the database away from everybody for a moment."""
        held = sqlite3.connect(self.address, isolation_level=None, timeout=1)
        try:
            with contextlib.suppress(sqlite3.OperationalError):
                held.execute("begin exclusive")
                held.execute("select 1 from patient_request limit 1").fetchall()
                held.execute("commit")
        finally:
            held.close()

    def restart(self) -> None:
        """Kill the server and start it again."""

    def stop(self) -> None:
        """End it."""


class RedisServer(Database):
    """Redis that writes each command to its log before it answers."""

    restart_is = "kill -9"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.address = str(servers.free_port())
        self._server = self._start()

    def _start(self) -> servers.Server:
        command = [*servers.dying_with_us("KILL"), servers.binary("redis-server")]
        command += ["--port", self.address, "--bind", "127.0.0.1", "--dir", self.folder]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        return servers.Server(
            command,
            ready="eady to accept connections",
            stop_with=signal.SIGKILL,
            port=int(self.address),
        )

    def cut(self) -> None:
        with Redis(port=int(self.address)) as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def restart(self) -> None:
        self._server.stop()
        self._server = self._start()

    def stop(self) -> None:
        self._server.stop()


class PostgresServer(Database):
    """PostgreSQL; a restart is an immediate one, without a checkpoint."""

    restart_is = "immediate restart"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._port = servers.free_port()
        self.address = dsn(self._port)
        self._as_user = servers.not_root(folder)
        self._cluster = str(Path(folder, "cluster"))
        self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C")
        self._control("start")

    def _run(self, program: str, *options: str) -> None:
        postgres = servers.binary("postgres")
        binary = str(Path(postgres).with_name(program))
        subprocess.run(
            [*self._as_user, binary, "-D", self._cluster, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )

    def _control(self, action: str) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", action, "-w", "-m", "immediate", "-o", options, "-l", "/dev/null")

    def cut(self) -> None:
        with psycopg.connect(self.address, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where pid <> pg_backend_pid() and backend_type = 'client backend'"
            )

    def restart(self) -> None:
        self._control("restart")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")


KINDS = {
    "sqlite": Database,
    "redis": RedisServer,
    "redis-priority": RedisServer,
    "postgres": PostgresServer,
}


@contextlib.contextmanager
def database(kind: str) -> Iterator[Database]:
    """A fresh database of ``kind``, gone at the end with its folder."""
    folder = tempfile.mkdtemp(prefix=f"patient-chaos-{kind}-")
    try:
        opened = KINDS[kind](folder)
        try:
            yield opened
        finally:
            opened.stop()
    finally:
        shutil.rmtree(folder)
