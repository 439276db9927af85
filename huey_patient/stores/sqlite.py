"""Requests in the SQLite file of a SqliteHuey, or of a CySqliteHuey.

    patient_request   one row a request; `lane` says where it is
    patient_owner     one row an owner; a reaped one is kept for an hour, to fence it
    patient_tomb      who was answered within the last hour, and at which epoch
    patient_receipt   one row an answer that is kept until it is delivered
    patient_counter   how many are in which lane, kept by triggers
    task              Huey's own queue, where a settlement puts its message

Several Hueys may share one file, so every row names its queue.  SQLite has one
writer at a time, and every change here is one ``BEGIN IMMEDIATE`` transaction:
all calls happen one after the other, and a killed process leaves either all of
a call or nothing.  `sqlite_link` has the connections, `sqlite_schema` the tables,
`sqlite_receipts` the answers that are kept.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

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
from .sqlite_link import Link
from .sqlite_outbox import checked
from .sqlite_receipts import SqliteReceipts
from .sqlite_schema import SCHEMA

__all__ = ["SqliteStore"]

#: Rows that one call moves or forgets beside its own work, at most.
HOUSEKEEPING = 500


class SqliteStore(SqliteReceipts):
    """The store of a `SqliteStorage`; ``due`` and tombstones go by this machine's clock."""

    def __init__(self, storage: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._queue: str = storage.name
        self._clock = clock
        self._link = Link(storage, SCHEMA)

    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        now = self._clock()
        with self._link.write() as db:
            if self._tomb(db, id) is not None:
                return "done"
            inserted = db.execute(
                "insert into patient_request (queue, id, sealed, due) values (?, ?, ?, ?)"
                " on conflict do nothing",
                (self._queue, id, sealed, due if due is not None and due > now else None),
            )
            self._link.ring()
            return "new" if inserted.rowcount else "duplicate"

    def submit_within(
        self, connection: Any, id: str, sealed: bytes, *, due: float | None = None
    ) -> SubmitAnswer:
        # Not `connection.cursor()`: that has the row factory of the application.
        cursor = sqlite3.Cursor(checked(connection, self._link))
        now = self._clock()
        later = due if due is not None and due > now else None
        oldest = now - TOMBSTONE_SECONDS
        # An insert first: some connections begin their transaction before one.
        # The schema is named, because a temporary table would go before ours.
        with self._link.explained():
            cursor.execute(
                "insert into main.patient_request (queue, id, sealed, due) select ?, ?, ?, ?"
                " where not exists (select 1 from main.patient_tomb"
                " where queue = ? and id = ? and at > ?) on conflict do nothing",
                (self._queue, id, sealed, later, self._queue, id, oldest),
            )
            if cursor.rowcount:
                return "new"
            found = cursor.execute(
                "select 1 from main.patient_request where queue = ? and id = ?", (self._queue, id)
            )
            return "done" if found.fetchone() is None else "duplicate"

    def register(self, owner: str, info: bytes) -> None:
        with self._link.write() as db:
            db.execute(
                "delete from patient_owner where queue = ? and reaped_at < ?",
                (self._queue, self._clock() - TOMBSTONE_SECONDS),
            )
            registered = db.execute(
                "insert into patient_owner (queue, id, info, beat_at) values (?, ?, ?, ?)"
                " on conflict do update set info = excluded.info, beat_at = excluded.beat_at"
                " where reaped_at is null",
                (self._queue, owner, info, self._clock()),
            )
            if not registered.rowcount:
                raise Fenced(owner)

    def beat(self, owner: str, info: bytes) -> Beat:
        with self._link.write() as db:
            beaten = db.execute(
                "update patient_owner set beat = beat + 1, beat_at = ?, info = ?"
                " where queue = ? and id = ? and reaped_at is null",
                (self._clock(), info, self._queue, owner),
            )
            if not beaten.rowcount:
                raise Fenced(owner)
            [held] = db.execute(
                "select count(*) from patient_request where queue = ? and owner = ?",
                (self._queue, owner),
            ).fetchone()
            return Beat(held=held)

    def claim(self, owner: str, lane: Lane, limit: int) -> list[Lease]:
        with self._link.write() as db:
            self._link.look(db)
            if not self._lives(db, owner):
                raise Fenced(owner)
            self._bring_due(db)
            rows = db.execute(
                "select place, id, epoch + 1, strikes, sealed from patient_request"
                " where queue = ? and lane = ? order by place limit ?",
                (self._queue, lane, max(limit, 0)),
            ).fetchall()
            db.executemany(
                "update patient_request set owner = ?, epoch = epoch + 1 where place = ?",
                [(owner, place) for place, *_ in rows],
            )
            return [
                Lease(id=id, epoch=epoch, strikes=strikes, sealed=sealed)
                for _, id, epoch, strikes, sealed in rows
            ]

    def settle(self, owner: str, settlements: Sequence[Settlement]) -> list[SettleAnswer]:
        with self._link.write() as db:
            answers = [self._settle(db, one) for one in settlements]
            self._forget_old(db)
            return answers

    def _settle(self, db: sqlite3.Connection, one: Settlement) -> SettleAnswer:
        removed = db.execute(
            "delete from patient_request where queue = ? and id = ? and epoch = ?",
            (self._queue, one.id, one.epoch),
        )
        if removed.rowcount:
            self._answer(db, one)
            return "ok"
        if self._exists(db, one.id):
            return "stale"
        return "again" if self._tomb(db, one.id) == one.epoch else "gone"

    def release(
        self,
        owner: str,
        leases: Sequence[tuple[str, int]],
        *,
        strike: bool,
        pause: float = 0.0,
    ) -> int:
        due = self._clock() + pause if pause else None
        with self._link.write() as db:
            self._link.ring()
            return sum(
                db.execute(
                    "update patient_request set owner = null, strikes = strikes + ?, due = ?"
                    " where queue = ? and id = ? and epoch = ? and owner = ?",
                    (int(strike), due, self._queue, id, epoch, owner),
                ).rowcount
                for id, epoch in leases
            )

    def reap(self, owner: str, beat_seen: int) -> bool:
        with self._link.write() as db:
            fenced = db.execute(
                "update patient_owner set reaped_at = ?"
                " where queue = ? and id = ? and beat = ? and reaped_at is null",
                (self._clock(), self._queue, owner, beat_seen),
            )
            if not fenced.rowcount:
                return False
            db.execute(
                "update patient_request set owner = null, strikes = strikes + 1"
                " where queue = ? and owner = ?",
                (self._queue, owner),
            )
            self._link.ring()
            return True

    def cancel(
        self,
        id: str,
        message: bytes,
        priority: float | None = None,
        *,
        receipt: float | None = None,
    ) -> bool:
        with self._link.write() as db:
            removed = db.execute(
                "delete from patient_request where queue = ? and id = ?", (self._queue, id)
            )
            if not removed.rowcount:
                return False
            # No claim has this epoch, so every later settlement is "gone".
            self._answer(
                db,
                Settlement(id=id, epoch=-1, message=message, priority=priority, receipt=receipt),
            )
            return True

    def read(self, id: str) -> bytes | None:
        with self._link.read() as db:
            row = db.execute(
                "select sealed from patient_request where queue = ? and id = ?", (self._queue, id)
            ).fetchone()
            return None if row is None else cast(bytes, row[0])

    def ids(self, after: str = "", limit: int = 500) -> tuple[list[str], str]:
        query = "select id from patient_request where queue = ? and id > ? order by id limit ?"
        with self._link.read() as db:
            found = [id for (id,) in db.execute(query, (self._queue, after, limit))]
        return found, found[-1] if len(found) == limit else ""

    def reseal(self, id: str, old: bytes, new: bytes) -> bool:
        with self._link.write() as db:
            replaced = db.execute(
                "update patient_request set sealed = ? where queue = ? and id = ? and sealed = ?",
                (new, self._queue, id, old),
            )
            return replaced.rowcount == 1

    def counts(self) -> Counts:
        with self._link.read() as db:
            # One statement, so that all numbers are of one moment.  What is due
            # but was not brought yet is looked at for a few rows only; of more,
            # the rest counts as "later" until somebody claims.
            rows = db.execute(
                "select lane, n from patient_counter where queue = :queue union all"
                " select 'due', count(*) from (select 1 from patient_request"
                " where queue = :queue and due <= :now limit :most)",
                {"queue": self._queue, "now": self._clock(), "most": HOUSEKEEPING},
            ).fetchall()
        n = dict(rows)
        return Counts(
            fresh=n.get("fresh", 0) + n["due"],
            suspect=n.get("suspect", 0),
            later=n.get("later", 0) - n["due"],
            held=n.get("held", 0),
            receipts=n.get("receipts", 0),
            dead=n.get("dead", 0),
        )

    def owners(self) -> list[OwnerSeen]:
        with self._link.read() as db:
            rows = db.execute(
                "select id, beat, (select count(*) from patient_request r"
                " where r.queue = o.queue and r.owner = o.id), info, max(? - beat_at, 0.0)"
                " from patient_owner o where queue = ? and reaped_at is null",
                (self._clock(), self._queue),
            ).fetchall()
        return [
            OwnerSeen(id=id, beat=beat, held=held, info=info, silent=silent)
            for id, beat, held, info, silent in rows
        ]

    def held(self, owner: str | None = None) -> list[Held]:
        query = (
            "select id, owner, epoch, strikes from patient_request"
            " where queue = ? and owner is not null"
        )
        with self._link.read() as db:
            if owner is None:
                rows = db.execute(query, (self._queue,)).fetchall()
            else:
                rows = db.execute(query + " and owner = ?", (self._queue, owner)).fetchall()
        return [
            Held(id=id, owner=who, epoch=epoch, strikes=strikes) for id, who, epoch, strikes in rows
        ]

    def wait(self, timeout: float) -> bool:
        return self._link.wait(timeout, self._anything)

    def check(self) -> list[str]:
        with self._link.read() as db:
            [synchronous] = db.execute("pragma synchronous").fetchone()
            [journal_mode] = db.execute("pragma journal_mode").fetchone()
        return weaknesses.of_sqlite(synchronous=synchronous, journal_mode=journal_mode)

    def limit_patience(self, seconds: float) -> None:
        self._link.busy_timeout = min(self._link.busy_timeout, seconds)

    def close(self) -> None:
        self._link.close()

    def _anything(self, db: sqlite3.Connection) -> bool:
        """Say whether a claim would find something, without the write lock."""
        [found] = db.execute(
            "select exists (select 1 from patient_request where queue = :queue"
            " and lane = 'fresh') or exists (select 1 from patient_request"
            " where queue = :queue and lane = 'suspect') or exists (select 1"
            " from patient_request where queue = :queue and due <= :now)",
            {"queue": self._queue, "now": self._clock()},
        ).fetchone()
        return bool(found)

    def _lives(self, db: sqlite3.Connection, owner: str) -> bool:
        found = db.execute(
            "select 1 from patient_owner where queue = ? and id = ? and reaped_at is null",
            (self._queue, owner),
        )
        return found.fetchone() is not None

    def _exists(self, db: sqlite3.Connection, id: str) -> bool:
        found = db.execute(
            "select 1 from patient_request where queue = ? and id = ?", (self._queue, id)
        )
        return found.fetchone() is not None

    def _bring_due(self, db: sqlite3.Connection) -> None:
        db.execute(
            "update patient_request set due = null where place in ("
            "select place from patient_request where queue = ? and due <= ? order by due limit ?)",
            (self._queue, self._clock(), HOUSEKEEPING),
        )

    def _tomb(self, db: sqlite3.Connection, id: str) -> int | None:
        row = db.execute(
            "select epoch from patient_tomb where queue = ? and id = ? and at > ?",
            (self._queue, id, self._clock() - TOMBSTONE_SECONDS),
        ).fetchone()
        return None if row is None else cast(int, row[0])

    def _answer(self, db: sqlite3.Connection, one: Settlement) -> None:
        self._bury(db, one.id, one.epoch)
        self._enqueue(db, one.message, one.priority)
        if one.receipt is not None:
            self._keep(db, one, one.receipt)

    def _bury(self, db: sqlite3.Connection, id: str, epoch: int) -> None:
        db.execute(
            "insert or replace into patient_tomb (queue, id, epoch, at) values (?, ?, ?, ?)",
            (self._queue, id, epoch, self._clock()),
        )

    def _forget_old(self, db: sqlite3.Connection) -> None:
        db.execute(
            "delete from patient_tomb where (queue, id) in ("
            "select queue, id from patient_tomb where at <= ? limit ?)",
            (self._clock() - TOMBSTONE_SECONDS, HOUSEKEEPING),
        )
