"""Requests in the PostgreSQL database of a PostgresHuey.

Beside Huey's own ``<prefix>_task`` there are

    <prefix>_patient_request   one row a request, and for an hour after its answer
    <prefix>_patient_owner     one row an owner; a reaped one stays, to fence it
    <prefix>_patient_receipt   one row an answer that is kept until it is delivered
    <prefix>_patient_counter   how many are in which lane

Every call but `reap` is one statement, so that it takes one round trip, that
a paused process holds no lock, and that nothing depends on a session: PgBouncer
may hand each statement to another server process.  All is written for READ
COMMITTED, where a statement that waited for a row goes on with its newest
version.

An answered request keeps its row as its tombstone.  With tombstones in a table
of their own, a submit repeated while its request is being settled could find
no tombstone yet and no request any more, and store it a second time; here the
unique key decides.

The numbers of the counter are spread over several rows, since a single one
would make all submits wait for each other's commit.

`postgres_link` has the connections, `postgres_sql` the statements,
`postgres_receipts` the answers that are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

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
from .postgres_link import Link
from .postgres_outbox import Outbox
from .postgres_receipts import PostgresReceipts
from .postgres_sql import Statements

__all__ = ["PostgresStore"]

#: Rows that one call moves or forgets beside its own work, at most.
HOUSEKEEPING = 500
#: Rows of the counter that one beat adds up, at most: an application may well
#: store this many requests in its own transactions between two beats.
MANY = 20_000


class _Entry(NamedTuple):
    """One request to be answered."""

    id: str
    epoch: int | None  #: None: whatever it is.
    message: bytes
    priority: float
    receipt: float | None = None


class PostgresStore(PostgresReceipts):
    """The store of a `PostgresStorage`; ``due`` goes by the clock of the server."""

    def __init__(self, storage: Any) -> None:
        prefix = storage.table_task.removesuffix("_task")
        self._names = (prefix, storage.table_task)
        self._sql = Statements(*self._names)
        self._kept = self._sql.receipts
        self._link = Link(storage, self._sql.schema, self._sql.receipt)
        self._outbox = Outbox(self._link, self._sql.request)
        self._sql_of_schema: dict[str, Statements] = {}
        self._always = {
            "queue": storage.name,
            "channel": storage.channel,
            # Of the same length as Huey's, which keeps to PostgreSQL's limit.
            "bell": storage.channel.replace(".q.", ".p.", 1),
            "remembered": TOMBSTONE_SECONDS,
            "some": HOUSEKEEPING,
            "many": MANY,
        }

    def _ask(self, statement: str, **params: Any) -> list[Any]:
        return self._link.ask(statement, {**self._always, **params})

    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        [[stored]] = self._ask(self._sql.submit, id=id, sealed=sealed, due=due)
        if stored:
            return "new"
        # Whatever was in the way, it can only have gone from there to answered.
        [[answered]] = self._ask(self._sql.is_answered, id=id)
        return "done" if answered else "duplicate"

    def submit_within(
        self, connection: Any, id: str, sealed: bytes, *, due: float | None = None
    ) -> SubmitAnswer:
        schema = self._outbox.schema(connection)
        sql = self._sql_of_schema.get(schema)
        if sql is None:
            sql = self._sql_of_schema[schema] = Statements(*self._names, schema)
        params = {**self._always, "id": id, "sealed": sealed, "due": due}
        [[stored]] = self._link.ask_within(connection, sql.submit_apart, params)
        if stored:
            return "new"
        [[answered]] = self._link.ask_within(connection, sql.is_answered, params)
        return "done" if answered else "duplicate"

    def register(self, owner: str, info: bytes) -> None:
        if not self._ask(self._sql.register, owner=owner, info=info):
            raise Fenced(owner)

    def beat(self, owner: str, info: bytes) -> Beat:
        [[beaten, held, apart]] = self._ask(self._sql.beat, owner=owner, info=info)
        if not beaten:
            raise Fenced(owner)
        if apart:
            self._ask(self._sql.fold_counters)
        return Beat(held=held)

    def claim(self, owner: str, lane: Lane, limit: int) -> list[Lease]:
        params = {"owner": owner, "lane": lane, "most": max(limit, 0)}
        rows = self._ask(self._sql.claim, after_due=True, **params)
        if rows[0][1]:
            # Some have become due; they are older than what is ready, perhaps.
            self._ask(self._sql.bring_due)
            rows = self._ask(self._sql.claim, after_due=False, **params)
        if not rows[0][0]:
            raise Fenced(owner)
        return [
            Lease(id=id, epoch=epoch, strikes=strikes, sealed=bytes(sealed))
            for _, _, place, id, epoch, strikes, sealed in rows
            if place is not None
        ]

    def settle(self, owner: str, settlements: Sequence[Settlement]) -> list[SettleAnswer]:
        return self._answer(
            [
                _Entry(one.id, one.epoch, one.message, float(one.priority or 0), one.receipt)
                for one in settlements
            ]
        )

    def cancel(
        self,
        id: str,
        message: bytes,
        priority: float | None = None,
        *,
        receipt: float | None = None,
    ) -> bool:
        entry = _Entry(id, None, message, float(priority or 0), receipt)
        return self._answer([entry]) == ["ok"]

    def _answer(self, entries: Sequence[_Entry]) -> list[SettleAnswer]:
        answers: list[SettleAnswer] = []
        left = list(entries)
        while left:
            batch = _up_to_a_repetition(left)
            left = left[len(batch) :]
            keeps = any(one.receipt is not None for one in batch)
            rows = self._ask(
                self._sql.settle_keeping if keeps else self._sql.settle,
                ids=[one.id for one in batch],
                epochs=[one.epoch for one in batch],
                messages=[one.message for one in batch],
                priorities=[one.priority for one in batch],
                receipts=[one.receipt for one in batch],
            )
            answers += [row[0] for row in rows]
        return answers

    def release(
        self,
        owner: str,
        leases: Sequence[tuple[str, int]],
        *,
        strike: bool,
        pause: float = 0.0,
    ) -> int:
        [[released]] = self._ask(
            self._sql.release,
            owner=owner,
            ids=[id for id, _ in leases],
            epochs=[epoch for _, epoch in leases],
            strikes=int(strike),
            pause=pause or None,
        )
        return cast(int, released)

    def reap(self, owner: str, beat_seen: int) -> bool:
        params = {**self._always, "owner": owner, "seen": beat_seen}
        # Two statements, because the second must see what a claim that the
        # first one waited for has taken; one statement sees one moment.
        return self._link.ask_in_turn([self._sql.fence, self._sql.free], params)

    def read(self, id: str) -> bytes | None:
        rows = self._ask(self._sql.read, id=id)
        return bytes(rows[0][0]) if rows else None

    def ids(self, after: str = "", limit: int = 500) -> tuple[list[str], str]:
        found = [id for (id,) in self._ask(self._sql.ids, after=after, most=limit)]
        return found, found[-1] if len(found) == limit else ""

    def reseal(self, id: str, old: bytes, new: bytes) -> bool:
        return bool(self._ask(self._sql.reseal, id=id, old=old, new=new))

    def counts(self) -> Counts:
        [[fresh, suspect, later, held, receipts, dead, due]] = self._ask(self._sql.counts)
        return Counts(
            fresh=fresh + due,
            suspect=suspect,
            later=later - due,
            held=held,
            receipts=receipts,
            dead=dead,
        )

    def owners(self) -> list[OwnerSeen]:
        return [
            OwnerSeen(id=id, beat=beat, held=held, info=bytes(info), silent=silent)
            for id, beat, held, info, silent in self._ask(self._sql.owners)
        ]

    def held(self, owner: str | None = None) -> list[Held]:
        return [
            Held(id=id, owner=who, epoch=epoch, strikes=strikes)
            for id, who, epoch, strikes in self._ask(self._sql.held, owner=owner)
        ]

    def wait(self, timeout: float) -> bool:
        return self._link.wait(
            timeout,
            bell=self._always["bell"],
            look_interval=self.poll_interval,
            anything=lambda: bool(self._ask(self._sql.anything)[0][0]),
        )

    def check(self) -> list[str]:
        [[fsync, synchronous_commit]] = self._ask(
            "select current_setting('fsync'), current_setting('synchronous_commit')"
        )
        return weaknesses.of_postgres(
            fsync=fsync,
            synchronous_commit=synchronous_commit,
            prepares_behind_a_pooler=self._link.prepares_behind_a_pooler(),
            waits_stop_greenlets=self._link.waits_stop_greenlets(),
        )

    def limit_patience(self, seconds: float) -> None:
        self._link.patience = min(self._link.patience, seconds)

    def close(self) -> None:
        self._link.close()


def _up_to_a_repetition(entries: list[_Entry]) -> list[_Entry]:
    """Return the first entries, none of which is about the same request as another."""
    ids: set[str] = set()
    for n, (id, *_) in enumerate(entries):
        if id in ids:
            return entries[:n]
        ids.add(id)
    return entries
