"""Where requests wait between "accepted" and "answered": one store per database.

`store_for` picks the store that shares a database with a Huey instance's queue.
What a store promises stands in `base`; this module knows only which is which.
"""

from __future__ import annotations

from typing import Any

from huey.storage import (
    BlackHoleStorage,
    FileStorage,
    MemoryStorage,
    PostgresStorage,
    RedisStorage,
    SqliteStorage,
)

from ..errors import ConfigurationError
from .base import Store

__all__ = ["store_for"]


def store_for(storage: Any) -> Store:
    """Return the store that settles into the queue of ``storage``.

    Two stores of one storage share what they hold.  The database is not
    touched before the first call of a method.

    Args:
        storage: ``huey.storage`` of a Huey instance.

    Raises:
        ConfigurationError: Nothing can be settled atomically into a storage of
            this kind; the message names one that will do.
    """
    # Imported late, because each backend needs a driver that others live without.
    if isinstance(storage, MemoryStorage):
        from .memory import MemoryStore

        return MemoryStore(storage)
    if isinstance(storage, SqliteStorage):
        from .sqlite import SqliteStore

        return SqliteStore(storage)
    if isinstance(storage, RedisStorage):
        from .redis import RedisStore

        return RedisStore(storage)
    if isinstance(storage, PostgresStorage):
        from .postgres import PostgresStore

        return PostgresStore(storage)
    raise ConfigurationError(_refusal(storage))


def _refusal(storage: Any) -> str:
    kind = type(storage).__name__
    if isinstance(storage, FileStorage):
        return (
            f"{kind} cannot answer a request in one step, because it spreads it over several "
            "files; use SqliteHuey, which needs no server either"
        )
    if isinstance(storage, BlackHoleStorage):
        return f"{kind} keeps nothing, so no callback would ever run; use SqliteHuey or MemoryHuey"
    return (
        f"{kind} is not a storage that requests can be kept in; "
        "use RedisHuey, PriorityRedisHuey, SqliteHuey, PostgresHuey or MemoryHuey"
    )
