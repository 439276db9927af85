"""Objects in Huey's own key/value storage, beside its results and revocations.

It needs no service of its own, and keeps the queue's tables and lists small.
The database still holds every byte, and ``huey.flush()`` forgets them.

The names are ``huey_patient.payload.<key>``; since a key begins with its time,
the old ones are those whose names come first.
"""

from __future__ import annotations

import re
import time
from typing import Any

from huey import Huey
from huey.constants import EmptyData
from huey.storage import MemoryStorage, PostgresStorage, RedisExpireStorage, RedisStorage

from ..stores.sharing import keep_untouched, kind_of_thread, tell_after_fork
from .base import PayloadStore, checked_key, made_at

__all__ = ["HueyPayloads"]

PREFIX = "huey_patient.payload."
#: Names that Redis looks through in one step.
_STEP = 1000

# HSCAN sends the values along, and only newer servers can be asked not to.
_SCAN = """
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local names = {}
for i = 1, #page[2], 2 do names[#names + 1] = page[2][i] end
return {page[1], names}
"""


class HueyPayloads(PayloadStore):
    """Keeps objects where ``huey`` keeps results; follows it into immediate mode."""

    def __init__(self, huey: Huey) -> None:
        self._huey = huey
        self._twins: dict[int, Any] = {}
        self._forked = False
        tell_after_fork(self)

    def forget_parent(self) -> None:
        keep_untouched(self._twins)
        self._twins = {}
        self._forked = True

    def put(self, key: str, data: bytes) -> None:
        self._storage().put_data(PREFIX + checked_key(key), data)

    def get(self, key: str) -> bytes | None:
        found = self._storage().peek_data(PREFIX + checked_key(key))
        return None if found is EmptyData else bytes(found)

    def delete(self, key: str) -> None:
        self._storage().delete_data(PREFIX + checked_key(key))

    def sweep(self, older_than: float) -> int:
        storage = self._storage()
        moment = min(max(int(time.time() - older_than), 0), 0xFFFFFFFF)
        old = [name for name in _names(storage, f"{PREFIX}{moment:08x}") if _is_ours(name)]
        for name in old:
            storage.delete_data(name)
        return len(old)

    def _storage(self) -> Any:
        """Huey's storage, or one like it where that one cannot be shared: in a forked
        child, which inherited its connection, and on a thread that gevent's hub
        never sees, which its locks would not hold back."""
        current, kind = self._huey.storage, kind_of_thread()
        if isinstance(current, MemoryStorage) or not (kind or self._forked):
            return current
        twin = self._twins.get(kind)
        if twin is None:
            twin = self._twins.setdefault(kind, self._huey.create_storage())
        return twin


def _names(storage: Any, before: str) -> list[str]:
    """All names with our prefix that come before ``before``."""
    if isinstance(storage, MemoryStorage):
        found: Any = list(storage._results)
    elif isinstance(storage, RedisExpireStorage):
        prefix = storage.result_prefix
        pattern = _escaped(prefix + PREFIX.encode()) + b"*"
        found = [one[len(prefix) :] for one in storage.conn.scan_iter(match=pattern, count=_STEP)]
    elif isinstance(storage, RedisStorage):
        found = _names_in_hash(storage)
    elif isinstance(storage, PostgresStorage):
        # In an order of its own, a database may put "." behind the letters.
        query = (
            f"select key from {storage.table_kv} where queue = %s"
            ' and key collate "C" >= %s and key collate "C" < %s'
        )
        found = [one for (one,) in storage.sql(query, (storage.name, PREFIX, before), results=True)]
    else:
        query = "select key from kv where queue = ? and key >= ? and key < ?"
        found = [one for (one,) in storage.sql(query, (storage.name, PREFIX, before), results=True)]
    names = [one.decode() if isinstance(one, bytes) else one for one in found]
    return [name for name in names if PREFIX <= name < before]


def _names_in_hash(storage: Any) -> list[bytes]:
    names: list[bytes] = []
    cursor: Any = 0
    while True:
        cursor, page = storage.conn.eval(
            _SCAN, 1, storage.result_key, cursor, _escaped(PREFIX.encode()) + b"*", _STEP
        )
        names += page
        if int(cursor) == 0:
            return list(dict.fromkeys(names))


def _escaped(literal: bytes) -> bytes:
    """``literal`` as a pattern of Redis that matches nothing else."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", literal)


def _is_ours(name: str) -> bool:
    try:
        made_at(name.removeprefix(PREFIX))
    except ValueError:
        return False
    return True
