"""Requests in the Redis database of a RedisHuey, of any of its kinds.

All keys begin with ``patient.<name of the queue>.``:

    blob           hash  id -> sealed            the request exists as long as this does
    order          hash  id -> place             given at submit, kept for life
    epoch, strike  hash  id -> how often         absent: never
    who            hash  id -> owner             held ones only
    ready.fresh    sorted set  id by place
    ready.suspect  sorted set  id by place
    later          sorted set  id by due
    held.<owner>   set of ids
    owners, info   hash  owner -> beat, what it said of itself
    dead           set of owners that are fenced, but still hold something
    reaped.<owner> string, for an hour
    tomb.<id>      string, the epoch it was answered at, for an hour
    seq            string, the last place given
    bell           list of length 1 at most; a courier blocks on it

Each call is one script (``lua/``), and Redis runs one script at a time.  A
script is not rolled back, so each does first the one write that may fail.
Nothing that lives ever gets an expiry.  `redis_link` has the connections.

A script touches our keys and Huey's queue together, which Redis Cluster
allows only for keys of one slot: use a single server, or Sentinel.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from huey.storage import RedisPriorityQueue

from .base import (
    TOMBSTONE_SECONDS,
    Beat,
    Counts,
    Fenced,
    Held,
    Lane,
    Lease,
    OwnerSeen,
    SettleAnswer,
    Settlement,
    Store,
    SubmitAnswer,
)
from .redis_link import Argument, Link, Script

__all__ = ["RedisStore"]

#: Requests that one script moves at most: nobody else is served while it runs.
PORTION = 500

_SUBMIT = Script("submit", when_full=False)
_REGISTER = Script("register")
_BEAT = Script("beat")
_CLAIM = Script("claim")
_SETTLE = Script("settle")
_RELEASE = Script("release")
_REAP = Script("reap")
_BURY = Script("bury")
_COUNTS = Script("counts")


class RedisStore(Store):
    """The store of a `RedisStorage`; ``due`` goes by the clock of the server."""

    def __init__(self, storage: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._prefix = f"patient.{storage.name}."
        self._queue_key: str = storage.queue_key
        self._sorted = isinstance(storage, RedisPriorityQueue)
        self._clock = clock
        self._link = Link(storage)

    def _keys(self, *names: str) -> list[str]:
        return [self._prefix + name for name in names]

    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        keys = self._keys(f"tomb.{id}", "blob", "seq", "order", "ready.fresh", "later", "bell")
        answer = self._link.run(_SUBMIT, keys, [id, sealed, "" if due is None else repr(due)])
        return cast(SubmitAnswer, answer.decode())

    def register(self, owner: str, info: bytes) -> None:
        keys = self._keys("owners", "info", "dead", f"reaped.{owner}")
        if self._link.run(_REGISTER, keys, [owner, info]) == b"fenced":
            raise Fenced(owner)

    def beat(self, owner: str, info: bytes) -> Beat:
        keys = self._keys("owners", "info", f"held.{owner}", "dead")
        answer = self._link.run(_BEAT, keys, [owner, info])
        if answer == b"fenced":
            raise Fenced(owner)
        held, dead = answer
        if dead:
            # A sweeper was killed between the two halves of a reap.  Nobody
            # sees that owner any more, so whoever beats finishes it.
            self._bury_the_dead()
        return Beat(held=held)

    def claim(self, owner: str, lane: Lane, limit: int) -> list[Lease]:
        keys = self._keys(
            *("owners", f"ready.{lane}", f"held.{owner}", "who", "epoch", "strike", "blob"),
            *("order", "later", "ready.fresh", "bell"),
        )
        answer = self._link.run(_CLAIM, keys, [owner, min(limit, PORTION), PORTION])
        if answer == b"fenced":
            raise Fenced(owner)
        return [
            Lease(id=id.decode(), epoch=epoch, strikes=int(strikes or 0), sealed=sealed)
            for id, epoch, strikes, sealed in zip(*answer, strict=True)
        ]

    def settle(self, owner: str, settlements: Sequence[Settlement]) -> list[SettleAnswer]:
        entries = [(one.id, str(one.epoch), one.message, one.priority) for one in settlements]
        return cast(list[SettleAnswer], self._answer(owner, entries))

    def cancel(self, id: str, message: bytes, priority: float | None = None) -> bool:
        holder = self._holder(id)
        return self._answer(holder, [(id, "any", message, priority)]) == ["ok"]

    def _answer(
        self, owner: str, entries: Sequence[tuple[str, str, bytes, float | None]]
    ) -> list[str]:
        if not entries:
            return []
        keys = self._keys(
            *("blob", "epoch", "strike", "who", "order", "ready.fresh", "ready.suspect", "later"),
            f"held.{owner}",
        )
        args: list[Argument] = [owner, int(TOMBSTONE_SECONDS)]
        args.append("sorted set" if self._sorted else "list")
        now = int(self._clock() * 1e6)
        for n, (id, epoch, message, priority) in enumerate(entries):
            # No claim has the epoch -1, so whoever settles later hears "gone".
            args += [id, epoch, "-1" if epoch == "any" else epoch]
            # Counting on in microseconds keeps the order inside a batch.
            args += [self._as_queued(message, now + n), repr(-(priority or 0))]
        keys += [self._queue_key, *self._keys(*(f"tomb.{id}" for id, *_ in entries))]
        answers = [answer.decode() for answer in self._link.run(_SETTLE, keys, args)]
        for i, answer in enumerate(answers):
            if answer == "moved":
                [answers[i]] = self._answer(self._holder(entries[i][0]), [entries[i]])
        return answers

    def _as_queued(self, message: bytes, microseconds: int) -> bytes:
        # As Huey does it: in a sorted set the prefix keeps equal priorities in order.
        return struct.pack(">Q", microseconds) + message if self._sorted else message

    def release(self, owner: str, leases: Sequence[tuple[str, int]], *, strike: bool) -> int:
        keys = self._keys(
            *("who", "epoch", "strike", "order", "ready.fresh", "ready.suspect"),
            *(f"held.{owner}", "bell"),
        )
        args: list[Argument] = [owner, int(strike)]
        for lease in leases:
            args += lease
        return cast(int, self._link.run(_RELEASE, keys, args))

    def reap(self, owner: str, beat_seen: int) -> bool:
        keys = self._keys("owners", "info", "dead", f"reaped.{owner}")
        won = self._link.run(_REAP, keys, [owner, beat_seen, int(TOMBSTONE_SECONDS)])
        self._bury_the_dead()
        return bool(won)

    def _bury_the_dead(self) -> None:
        [dead] = self._link.look(lambda ask: ask.smembers(*self._keys("dead")))
        for owner in dead:
            name = owner.decode()
            keys = self._keys(
                *("dead", f"held.{name}", "who", "strike", "order", "ready.suspect", "bell")
            )
            while self._link.run(_BURY, keys, [name, PORTION]):
                pass

    def read(self, id: str) -> bytes | None:
        [blob] = self._link.look(lambda ask: ask.hget(*self._keys("blob"), id))
        return cast(bytes | None, blob)

    def counts(self) -> Counts:
        keys = self._keys("ready.fresh", "ready.suspect", "later", "who")
        fresh, suspect, later, held = self._link.run(_COUNTS, keys)
        return Counts(fresh=fresh, suspect=suspect, later=later, held=held)

    def owners(self) -> list[OwnerSeen]:
        beats, infos = self._link.look(
            lambda ask: [ask.hgetall(key) for key in self._keys("owners", "info")]
        )
        names = [name.decode() for name in beats]
        held = self._look_each("scard", [f"held.{name}" for name in names])
        return [
            OwnerSeen(id=name, beat=int(beat), held=count, info=infos.get(name.encode(), b""))
            for name, beat, count in zip(names, beats.values(), held, strict=True)
        ]

    def held(self, owner: str | None = None) -> list[Held]:
        [who] = self._link.look(lambda ask: ask.hgetall(*self._keys("who")))
        ids = [id for id, name in who.items() if owner is None or name == owner.encode()]
        if not ids:
            return []
        epochs, strikes = self._link.look(
            lambda ask: [ask.hmget(key, ids) for key in self._keys("epoch", "strike")]
        )
        return [
            Held(id=id.decode(), owner=who[id].decode(), epoch=int(epoch), strikes=int(struck or 0))
            for id, epoch, struck in zip(ids, epochs, strikes, strict=True)
            if epoch is not None  # Else it was answered between the two looks.
        ]

    def wait(self, timeout: float) -> bool:
        return self._link.wait_for(self._prefix + "bell", timeout)

    def close(self) -> None:
        self._link.close()

    def _holder(self, id: str) -> str:
        [holder] = self._link.look(lambda ask: ask.hget(*self._keys("who"), id))
        return "" if holder is None else cast(bytes, holder).decode()

    def _look_each(self, command: str, names: Iterable[str]) -> list[Any]:
        keys = self._keys(*names)
        return self._link.look(lambda ask: [ask.execute_command(command, key) for key in keys])
