"""One way to open each payload store, and what an object looks like from outside."""

from __future__ import annotations

import contextlib
import http.client
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from huey import Huey, MemoryHuey, PostgresHuey, RedisExpireHuey, RedisHuey, SqliteHuey
from support.backends import dsn
from support.servers import Server, dying_with_us, free_port

from huey_patient.payloads import PayloadStore, payload_store_for
from huey_patient.payloads.in_fsspec import FsspecPayloads

#: What moto takes for a key and a secret.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass
class Shelf:
    """One empty payload store, and the way to open it once more."""

    kind: str
    store: PayloadStore
    again: Callable[[], PayloadStore]


def _url(url: str) -> Callable[[], PayloadStore]:
    return lambda: payload_store_for(None, url)


@contextlib.contextmanager
def open_shelf(kind: str, resource: Any) -> Iterator[Shelf]:
    """Open an empty one; ``resource`` is what the fixture of `SHELVES` gave."""
    _, opener = SHELVES[kind]
    with opener(f"q{uuid.uuid4().hex}", resource) as again:
        yield Shelf(kind, again(), again)


@contextlib.contextmanager
def _on_huey(make: Callable[[], Huey]) -> Iterator[Callable[[], PayloadStore]]:
    huey = make()
    try:
        yield lambda: payload_store_for(huey, "huey")
    finally:
        huey.storage.flush_all()
        huey.storage.close()
        if hasattr(huey.storage, "pool"):
            huey.storage.pool.disconnect()


def _memory(name: str, _: Any) -> Any:
    return _on_huey(lambda: MemoryHuey(name))


def _sqlite(name: str, folder: Path) -> Any:
    return _on_huey(lambda: SqliteHuey(name, filename=str(folder / "huey.db")))


def _redis(name: str, server: Any) -> Any:
    # What stands in a name must not be taken for a pattern.
    return _on_huey(lambda: RedisHuey(f"{name}[*]?", port=server.port, clean_name=False))


def _redis_expire(name: str, server: Any) -> Any:
    return _on_huey(
        lambda: RedisExpireHuey(
            f"{name}[*]?", port=server.port, clean_name=False, expire_time=86400
        )
    )


def _postgres(name: str, server: Any) -> Any:
    return _on_huey(lambda: PostgresHuey(name, dsn=dsn(server.port)))


@contextlib.contextmanager
def _files(name: str, folder: Path) -> Iterator[Callable[[], PayloadStore]]:
    yield _url(f"file://{folder}/{name}")


@contextlib.contextmanager
def _fsspec_memory(name: str, _: Any) -> Iterator[Callable[[], PayloadStore]]:
    try:
        yield _url(f"memory://{name}/objects")
    finally:
        files = fsspec.filesystem("memory")
        if files.exists(f"/{name}"):
            files.rm(f"/{name}", recursive=True)


@contextlib.contextmanager
def _s3(name: str, server: Any) -> Iterator[Callable[[], PayloadStore]]:
    yield lambda: FsspecPayloads(f"s3://{server.bucket}/{name}", **server.options)


#: Kind -> (name of the fixture of what it lies on or None, how to open it).
SHELVES: dict[str, tuple[str | None, Callable[[str, Any], Any]]] = {
    "huey-memory": (None, _memory),
    "huey-sqlite": ("tmp_path", _sqlite),
    "huey-redis": ("redis_server", _redis),
    "huey-redis-expire": ("redis_server", _redis_expire),
    "huey-postgres": ("postgres_server", _postgres),
    "file": ("tmp_path", _files),
    "fsspec-memory": (None, _fsspec_memory),
    "s3": ("s3_server", _s3),
}


@dataclass(frozen=True)
class S3:
    """A real S3 server of this machine, with one bucket."""

    port: int
    bucket: str = "payloads"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        return {
            "key": CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            "endpoint_url": self.url,
            "client_kwargs": {"region_name": "us-east-1"},
        }


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Run moto's S3 server in a process of its own."""
    port = free_port()
    program = str(Path(sys.executable).with_name("moto_server"))
    if not Path(program).exists():
        raise FileNotFoundError("moto[server] is not installed")
    command = [*dying_with_us("KILL"), program, "-H", "127.0.0.1", "-p", str(port)]
    server = Server(command, ready="Running on", stop_with=signal.SIGKILL, port=port)
    try:
        found = S3(port)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", f"/{found.bucket}", headers={"Host": f"127.0.0.1:{port}"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200, answer.status
        yield found
    finally:
        server.stop()
