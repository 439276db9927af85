"""The SQLite store's answers that are kept until they are delivered.

    patient_receipt   one row an answer; `state` says where it is

Its tombstone is dated far into the future as long as the row is there.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable

from .base import BeginAnswer, DeadLetter, Settlement, Store
from .receipts import MOST_DOUBLINGS
from .sqlite_link import Link

__all__ = ["SqliteReceipts"]

#: When a tombstone was set that is not to be forgotten yet.
FAR_FUTURE = math.inf


class SqliteReceipts(Store):
    """This half of `SqliteStore`."""

    _queue: str
    _clock: Callable[[], float]
    _link: Link

    def _keep(self, db: sqlite3.Connection, one: Settlement, seconds: float) -> None:
        db.execute(
            "insert into patient_receipt (queue, id, message, priority, at) values (?, ?, ?, ?, ?)",
            (self._queue, one.id, one.message, one.priority, self._clock() + seconds),
        )
        self._date_tomb(db, one.id, FAR_FUTURE)

    def begin(self, id: str, seconds: float) -> BeginAnswer:
        with self._link.write() as db:
            row = db.execute(
                "select state from patient_receipt where queue = ? and id = ? and state <> 'dead'",
                (self._queue, id),
            ).fetchone()
            if row is None:
                return "gone"
            if row == ("running",):
                return "busy"
            db.execute(
                "update patient_receipt set state = 'running', at = ? where queue = ? and id = ?",
                (self._clock() + seconds, self._queue, id),
            )
            return "run"

    def extend(self, id: str, seconds: float) -> bool:
        return self._renew(id, seconds, "running")

    def postpone(self, id: str, seconds: float) -> bool:
        return self._renew(id, seconds, "waiting")

    def _renew(self, id: str, seconds: float, state: str) -> bool:
        with self._link.write() as db:
            renewed = db.execute(
                "update patient_receipt set state = ?, at = ?"
                " where queue = ? and id = ? and state = 'running'",
                (state, self._clock() + seconds, self._queue, id),
            )
            return renewed.rowcount > 0

    def confirm(self, id: str) -> bool:
        return self._forget(id, "waiting", "running", "dead")

    def discard(self, id: str) -> bool:
        return self._forget(id, "dead")

    def _forget(self, id: str, *states: str) -> bool:
        with self._link.write() as db:
            forgotten = db.execute(
                "delete from patient_receipt where queue = ? and id = ?"
                f" and state in ({', '.join('?' * len(states))})",
                (self._queue, id, *states),
            )
            if not forgotten.rowcount:
                return False
            self._date_tomb(db, id, self._clock())
            return True

    def give_up(self, id: str) -> bool:
        with self._link.write() as db:
            given_up = db.execute(
                "update patient_receipt set state = 'dead', at = ?"
                " where queue = ? and id = ? and state <> 'dead'",
                (self._clock(), self._queue, id),
            )
            return given_up.rowcount > 0

    def redeliver_due(self, limit: int, seconds: float, most: int) -> tuple[int, int]:
        due = (
            "select place, message, priority, deliveries, lost, state = 'running'"
            " from patient_receipt where queue = ? and state <> 'dead' and at <= ?"
            " order by at, place limit ?"
        )
        # Asked often, and mostly for nothing: without the write lock.
        with self._link.read() as db:
            if db.execute(due, (self._queue, self._clock(), min(limit, 1))).fetchone() is None:
                return 0, 0
        queued = dead = 0
        with self._link.write() as db:
            now = self._clock()
            rows = db.execute(due, (self._queue, now, max(limit, 0))).fetchall()
            for place, message, priority, deliveries, lost, running in rows:
                lost += running
                if running and lost >= most:
                    dead += self._move(db, place, "dead", now, deliveries, lost)
                else:
                    at = now + seconds * 2 ** min(deliveries - lost, MOST_DOUBLINGS)
                    queued += self._move(db, place, "waiting", at, deliveries + 1, lost)
                    self._enqueue(db, message, priority)
        return queued, dead

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        with self._link.read() as db:
            rows = db.execute(
                "select id, deliveries, at from patient_receipt"
                " where queue = ? and state = 'dead' order by at, place limit ?",
                (self._queue, max(limit, 0)),
            ).fetchall()
        return [DeadLetter(id=id, deliveries=n, since=since) for id, n, since in rows]

    def revive(self, id: str, seconds: float) -> bool:
        with self._link.write() as db:
            row = db.execute(
                "select place, message, priority from patient_receipt"
                " where queue = ? and id = ? and state = 'dead'",
                (self._queue, id),
            ).fetchone()
            if row is None:
                return False
            place, message, priority = row
            self._move(db, place, "waiting", self._clock() + seconds, 1, 0)
            self._enqueue(db, message, priority)
            return True

    def _move(
        self,
        db: sqlite3.Connection,
        place: int,
        state: str,
        at: float,
        deliveries: int,
        lost: int,
    ) -> int:
        return db.execute(
            "update patient_receipt set state = ?, at = ?, deliveries = ?, lost = ?"
            " where place = ?",
            (state, at, deliveries, lost, place),
        ).rowcount

    def _date_tomb(self, db: sqlite3.Connection, id: str, at: float) -> None:
        db.execute(
            "update patient_tomb set at = ? where queue = ? and id = ?", (at, self._queue, id)
        )

    def _enqueue(self, db: sqlite3.Connection, message: bytes, priority: float | None) -> None:
        db.execute(
            "insert into task (queue, data, priority) values (?, ?, ?)",
            (self._queue, message, priority or 0),
        )
