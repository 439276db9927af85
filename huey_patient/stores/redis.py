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
    beat_at        hash  owner -> when, by the clock of the server
    dead           set of owners that are fenced, but still hold something
    reaped.<owner> string, for an hour
    tomb.<id>      string, the epoch it was answered at, for an hour
    seq            string, the last place given
    bell           list of length 1 at most; a courier blocks on it

and what `redis_receipts` says of the answers that are kept.

Each call is one script (``lua/``), and Redis runs one script at a time.  A
script is not rolled back, so each does first the one write that may fail.
Nothing that lives ever gets an expiry.  `redis_link` has the connections.

A script touches our keys and Huey's queue together, which Redis Cluster
allows only for keys of one slot: use a single server, or Sentinel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

from huey.storage import RedisPriorityQueue

from ..errors import ConfigurationError
from . import weaknesses
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
    SubmitAnswer,
)
from .redis_link import Argument, Link, Script
from .redis_receipts import PORTION, RedisReceipts

__all__ = ["RedisStore"]

_SUBMIT = Script("submit", when_full=False)
_RESEAL = Script("reseal", when_full=False)
_REGISTER = Script("register")
_BEAT = Script("beat")
_CLAIM = Script("claim")
_SETTLE = Script("settle")
_RELEASE = Script("release")
_REAP = Script("reap")
_BURY = Script("bury")
_COUNTS = Script("counts")


class _Entry(NamedTuple):
    """One request to be answered."""

    id: str
    epoch: str  #: "any" if it is canceled.
    message: bytes
    priority: float | None
    receipt: float | None = None


class RedisStore(RedisReceipts):
    """The store of a `RedisStorage`; ``due`` goes by the clock of the server."""

    def __init__(self, storage: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._prefix = f"patient.{storage.name}."
        self._queue_key: str = storage.queue_key
        self._sorted = isinstance(storage, RedisPriorityQueue)
        self._clock = clock
        self._link = Link(storage)

    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        keys = self._keys(f"tomb.{id}", "blob", "seq", "order", "ready.fresh", "later", "bell")
        answer = self._link.run(_SUBMIT, keys, [id, sealed, "" if due is None else repr(due)])
        return cast(SubmitAnswer, answer.decode())

    def submit_within(
        self, connection: Any, id: str, sealed: bytes, *, due: float | None = None
    ) -> SubmitAnswer:
        raise ConfigurationError(
            "Redis has no transactions to store a request in; SqliteHuey and PostgresHuey do"
        )

    def register(self, owner: str, info: bytes) -> None:
        keys = self._keys("owners", "info", "beat_at", "dead", f"reaped.{owner}")
        if self._link.run(_REGISTER, keys, [owner, info]) == b"fenced":
            raise Fenced(owner)

    def beat(self, owner: str, info: bytes) -> Beat:
        keys = self._keys("owners", "info", "beat_at", f"held.{owner}", "dead")
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
            *("order", "later", "ready.fresh", "ready.suspect", "bell"),
        )
        answer = self._link.run(_CLAIM, keys, [owner, min(limit, PORTION), PORTION])
        if answer == b"fenced":
            raise Fenced(owner)
        return [
            Lease(id=id.decode(), epoch=epoch, strikes=int(strikes or 0), sealed=sealed)
            for id, epoch, strikes, sealed in zip(*answer, strict=True)
        ]

    def settle(self, owner: str, settlements: Sequence[Settlement]) -> list[SettleAnswer]:
        entries = [
            _Entry(one.id, str(one.epoch), one.message, one.priority, one.receipt)
            for one in settlements
        ]
        return cast(list[SettleAnswer], self._answer(owner, entries))

    def cancel(
        self,
        id: str,
        message: bytes,
        priority: float | None = None,
        *,
        receipt: float | None = None,
    ) -> bool:
        holder = self._holder(id)
        return self._answer(holder, [_Entry(id, "any", message, priority, receipt)]) == ["ok"]

    def _answer(self, owner: str, entries: Sequence[_Entry]) -> list[str]:
        answers: list[str] = []
        while len(answers) < len(entries):
            left = entries[len(answers) :]
            answers += self._answer_what_is_held_by(owner, left)
            if len(answers) < len(entries):
                # The next one is held by somebody else, as is the rest, perhaps.
                owner = self._holder(entries[len(answers)].id)
        return answers

    def _answer_what_is_held_by(self, owner: str, entries: Sequence[_Entry]) -> list[str]:
        keys = self._keys(
            *("blob", "epoch", "strike", "who", "order", "ready.fresh", "ready.suspect", "later"),
            f"held.{owner}",
        )
        args: list[Argument] = [owner, int(TOMBSTONE_SECONDS), self._kind, len(entries)]
        for n, (id, epoch, message, priority, _) in enumerate(entries):
            # No claim has the epoch -1, so whoever settles later hears "gone".
            args += [id, epoch, "-1" if epoch == "any" else epoch]
            args += [self._before_message(n) + message, repr(-(priority or 0))]
        keys += [self._queue_key, *self._keys(*(f"tomb.{one.id}" for one in entries))]
        if any(one.receipt is not None for one in entries):
            keys += self._keys("receipts", "message", "score")
            args += ["" if one.receipt is None else one.receipt for one in entries]
        return [answer.decode() for answer in self._link.run(_SETTLE, keys, args)]

    def release(
        self,
        owner: str,
        leases: Sequence[tuple[str, int]],
        *,
        strike: bool,
        pause: float = 0.0,
    ) -> int:
        keys = self._keys(
            *("who", "epoch", "strike", "order", "ready.fresh", "ready.suspect", "later"),
            *(f"held.{owner}", "bell"),
        )
        args: list[Argument] = [owner, int(strike), pause]
        for lease in leases:
            args += lease
        return cast(int, self._link.run(_RELEASE, keys, args))

    def reap(self, owner: str, beat_seen: int) -> bool:
        keys = self._keys("owners", "info", "beat_at", "dead", f"reaped.{owner}")
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

    def ids(self, after: str = "", limit: int = 500) -> tuple[list[str], str]:
        # Through the hash with the small values: HSCAN sends them along.
        [(cursor, page)] = self._link.look(
            lambda ask: ask.hscan(*self._keys("order"), cursor=int(after or 0), count=limit)
        )
        return [id.decode() for id in page], str(cursor) if cursor else ""

    def reseal(self, id: str, old: bytes, new: bytes) -> bool:
        return bool(self._link.run(_RESEAL, self._keys("blob"), [id, old, new]))

    def counts(self) -> Counts:
        lanes = ("fresh", "suspect", "later", "held", "receipts", "dead")
        keys = self._keys("ready.fresh", "ready.suspect", "later", "who")
        keys += self._keys("receipts", "dead_letters")
        return Counts(**dict(zip(lanes, self._link.run(_COUNTS, keys), strict=True)))

    def owners(self) -> list[OwnerSeen]:
        def ask(pipeline: Any) -> None:
            pipeline.time()
            for key in self._keys("owners", "info", "beat_at"):
                pipeline.hgetall(key)

        (now, _), beats, infos, beaten = self._link.look(ask)
        names = [name.decode() for name in beats]
        held = self._look_each("scard", [f"held.{name}" for name in names])
        return [
            OwnerSeen(
                id=name.decode(),
                beat=int(beat),
                held=count,
                info=infos.get(name, b""),
                silent=max(now - float(beaten.get(name, now)), 0.0),
            )
            for (name, beat), count in zip(beats.items(), held, strict=True)
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

    def check(self) -> list[str]:
        memory, persistence, cluster, configured = self._link.look_where_allowed(
            lambda ask: (
                [ask.info(section) for section in ("memory", "persistence", "cluster")],
                ask.config_get("appendfsync"),
            )
        )
        info = None if memory is None else {**memory, **persistence, **cluster}
        return weaknesses.of_redis(info, (configured or {}).get("appendfsync"))

    def limit_patience(self, seconds: float) -> None:
        self._link.patience = seconds

    def close(self) -> None:
        self._link.close()

    def _holder(self, id: str) -> str:
        [holder] = self._link.look(lambda ask: ask.hget(*self._keys("who"), id))
        return "" if holder is None else cast(bytes, holder).decode()

    def _look_each(self, command: str, names: Iterable[str]) -> list[Any]:
        keys = self._keys(*names)
        return self._link.look(lambda ask: [ask.execute_command(command, key) for key in keys])
