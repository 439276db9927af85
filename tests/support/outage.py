"""A database that takes nothing for a while; what is there can be read meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import redis
from support.consumer import LIMIT, App


@contextlib.contextmanager
def locked(app: App) -> Iterator[None]:
    """Somebody else holds the lock of the SQLite file: who wants to write waits for it."""
    db = sqlite3.connect(app.database, timeout=LIMIT, isolation_level=None)
    with contextlib.closing(db):
        db.execute("begin exclusive")
        yield
        db.execute("rollback")


@contextlib.contextmanager
def silent(app: App) -> Iterator[None]:
    """Redis does not answer who wants to write, until the end of the block."""
    with _redis(app) as db:
        # Milliseconds, so that it ends by itself should the test be killed.
        db.client_pause(int(LIMIT * 1000), all=False)
        try:
            yield
        finally:
            db.client_unpause()


@contextlib.contextmanager
def refusing(app: App) -> Iterator[None]:
    """Redis is a replica, as after a failover, and refuses everything that writes."""
    with _redis(app) as db:
        db.replicaof("127.0.0.1", 1)  # Nobody is there, so nothing of its own is replaced.
        try:
            yield
        finally:
            db.replicaof("NO", "ONE")


def _redis(app: App) -> contextlib.closing[redis.Redis]:
    return contextlib.closing(redis.Redis(port=app.huey.storage.pool.connection_kwargs["port"]))
