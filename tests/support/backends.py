"""One way to open each backend, with a look at Huey's real queue."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huey.storage import (
    MemoryStorage,
    PostgresStorage,
    PriorityRedisStorage,
    RedisExpireStorage,
    RedisStorage,
    SqliteStorage,
)

from huey_patient.stores import store_for
from huey_patient.stores.base import Store


@dataclass
class Backend:
    """One empty queue of one kind, and the store that belongs to it."""

    kind: str
    storage: Any
    store: Store

    def queued(self) -> list[bytes]:
        """Take all messages off Huey's queue, in the order a worker would."""
        messages = []
        while (message := self.storage.dequeue()) is not None:
            messages.append(bytes(message))
        return messages

    def another(self) -> Store:
        """A second store of the same queue, as another process would have."""
        return store_for(self.storage)

    def close(self) -> None:
        self.store.close()
        self.storage.close()


Opener = Callable[[str], Any]

#: Kind -> (name of the fixture of its server or None, how to open a storage).
BACKENDS: dict[str, tuple[str | None, Callable[[str, Any], Any]]] = {
    "memory": (None, lambda name, _: MemoryStorage(name)),
    "sqlite": ("tmp_path", lambda name, folder: SqliteStorage(name, str(folder / "huey.db"))),
    "redis": ("redis_server", lambda name, server: _redis(RedisStorage, name, server)),
    "redis-priority": (
        "redis_server",
        lambda name, server: _redis(PriorityRedisStorage, name, server),
    ),
    "redis-expire": (
        "redis_server",
        lambda name, server: _redis(RedisExpireStorage, name, server),
    ),
    "postgres": (
        "postgres_server",
        lambda name, server: PostgresStorage(name, dsn=dsn(server.port), blocking=False),
    ),
}


def _redis(kind: type, name: str, server: Any) -> Any:
    return kind(name, port=server.port, blocking=False)


def dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=postgres dbname=postgres"


def open_backend(kind: str, resource: Any, name: str | None = None) -> Backend:
    """Open an empty queue; ``resource`` is what the fixture of `BACKENDS` gave."""
    _, open_storage = BACKENDS[kind]
    storage = open_storage(name or f"q{uuid.uuid4().hex}", resource)
    return Backend(kind, storage, store_for(storage))


def open_sqlite(folder: Path, name: str = "q") -> Backend:
    return open_backend("sqlite", folder, name)
