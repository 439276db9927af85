"""The Redis store's answers that are kept until they are delivered.

    receipts       sorted set  id by due
    running        set of ids  those among them that a worker has begun
    dead_letters   sorted set  id by since when
    message        hash  id -> message
    score          hash  id -> its place in a sorted queue; absent: 0
    redelivered    hash  id -> how often its message was put on the queue again; absent: never
    lost           hash  id -> how often it was begun, and its worker lost; absent: never

Its ``tomb.<id>`` does not expire as long as it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import cast

from .base import TOMBSTONE_SECONDS, BeginAnswer, DeadLetter, Store
from .receipts import MOST_DOUBLINGS
from .redis_link import Argument, Link, Script

__all__ = ["PORTION", "RedisReceipts"]

#: What one script moves at most: nobody else is served while it runs.
PORTION = 500

_BEGIN = Script("begin")
_RENEW = Script("renew")
_FORGET = Script("forget")
_GIVE_UP = Script("give_up")
_REDELIVER = Script("redeliver")
_REVIVE = Script("revive")
_DEAD_LETTERS = Script("dead_letters")


class RedisReceipts(Store):
    """This half of `RedisStore`."""

    _prefix: str
    _queue_key: str
    _sorted: bool
    _clock: Callable[[], float]
    _link: Link

    def _keys(self, *names: str) -> list[str]:
        return [self._prefix + name for name in names]

    def begin(self, id: str, seconds: float) -> BeginAnswer:
        answer = self._link.run(_BEGIN, self._keys("receipts", "running"), [id, seconds])
        return cast(BeginAnswer, answer.decode())

    def extend(self, id: str, seconds: float) -> bool:
        return self._renew(id, seconds, "running")

    def postpone(self, id: str, seconds: float) -> bool:
        return self._renew(id, seconds, "waiting")

    def _renew(self, id: str, seconds: float, state: str) -> bool:
        keys = self._keys("receipts", "running")
        return bool(self._link.run(_RENEW, keys, [id, seconds, state]))

    def confirm(self, id: str) -> bool:
        return self._forget(id, "any")

    def discard(self, id: str) -> bool:
        return self._forget(id, "dead")

    def _forget(self, id: str, state: str) -> bool:
        keys = self._keys("receipts", "running", "dead_letters")
        keys += self._keys("message", "score", "redelivered", "lost", f"tomb.{id}")
        return bool(self._link.run(_FORGET, keys, [id, int(TOMBSTONE_SECONDS), state]))

    def give_up(self, id: str) -> bool:
        keys = self._keys("receipts", "running", "dead_letters")
        return bool(self._link.run(_GIVE_UP, keys, [id]))

    def redeliver_due(self, limit: int, seconds: float, most: int) -> tuple[int, int]:
        keys = self._keys("receipts", "running", "dead_letters")
        keys += [*self._keys("message", "score", "redelivered", "lost"), self._queue_key]
        places = [self._before_message(n) for n in range(min(limit, PORTION))]
        if not places:
            return 0, 0
        args: list[Argument] = [seconds, most, MOST_DOUBLINGS, self._kind, *places]
        queued, dead = self._link.run(_REDELIVER, keys, args)
        return queued, dead

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        if limit < 1:
            return []
        keys = self._keys("dead_letters", "redelivered")
        found = self._link.run(_DEAD_LETTERS, keys, [limit])
        return [
            DeadLetter(id=id.decode(), deliveries=1 + int(again), since=float(since))
            for id, again, since in found
        ]

    def revive(self, id: str, seconds: float) -> bool:
        keys = self._keys("receipts", "dead_letters", "message", "score", "redelivered", "lost")
        args: list[Argument] = [id, seconds, self._kind, self._before_message(0)]
        return bool(self._link.run(_REVIVE, [*keys, self._queue_key], args))

    @property
    def _kind(self) -> str:
        return "sorted set" if self._sorted else "list"

    def _before_message(self, n: int) -> bytes:
        """What goes before the message number ``n`` of a batch on Huey's queue."""
        # As Huey does it: in a sorted set the prefix keeps equal priorities in
        # order, and counting on in microseconds does so inside a batch.
        return struct.pack(">Q", int(self._clock() * 1e6) + n) if self._sorted else b""
