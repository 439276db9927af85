"""The contract of a store: requests between "accepted" and "answered".

    absent --submit--> ready --claim--> held --settle--> answered (`receipts`)
                         ^                |
                         +-- release -----+      by its owner
                         +-- reap --------+      by anybody, when its owner fell silent

A store lives in the database of Huey's own queue, because `Store.settle` must
put the callback's message on that queue in the very step that removes the
request: both or neither, whatever is killed in between.

Three things make this safe without any trust in clocks:

*Epochs.*  Each claim of a request raises its epoch by one.  Who settles or
releases names the epoch it was given; a holder that was overtaken is refused.

*Owners.*  Whoever holds requests has announced itself and beats.  `Store.reap`
names the beat that was last seen, so an owner that has moved on is not harmed,
and an owner that was reaped gets nothing more under that name.

*Tombstones.*  For an hour the store remembers who was answered, and at which
epoch, so that a call repeated after a lost reply is told so.

A request that lost its owner has a *strike* and waits among the suspects
instead of among the fresh ones, since it may be what killed the owner.  Inside
one lane the oldest goes first, and a request that is released keeps its place.

What is stored is bytes; no store looks into them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import PatientError
from .receipts import BeginAnswer, DeadLetter, ReceiptStore

__all__ = [
    "TOMBSTONE_SECONDS",
    "Beat",
    "BeginAnswer",
    "Counts",
    "DeadLetter",
    "Fenced",
    "Held",
    "Lane",
    "Lease",
    "OwnerSeen",
    "SettleAnswer",
    "Settlement",
    "Store",
    "SubmitAnswer",
]

#: How long an answered request is remembered.  Longer than any caller repeats
#: a call whose reply was lost.
TOMBSTONE_SECONDS = 3600.0

#: Requests without a strike are "fresh"; the others are "suspect".
Lane = Literal["fresh", "suspect"]

#: "new": stored now.  "duplicate": stored before, not answered yet.
#: "done": answered within the last hour.
SubmitAnswer = Literal["new", "duplicate", "done"]

#: "ok": answered now.  "again": answered before, at this very epoch.  "stale":
#: claimed again since.  "gone": not there (canceled, or answered otherwise).
SettleAnswer = Literal["ok", "again", "stale", "gone"]


class Fenced(PatientError):
    """This owner was reaped, or never registered: it holds nothing any more.

    It must drop what it believes to hold and register under a new name.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to send one request, until its owner falls silent.

    A loan, never a possession: whoever names an older epoch than the store has
    lost it, whatever it believes itself.
    """

    id: str
    epoch: int  #: Number of times it was claimed, this time included.
    strikes: int  #: Number of times its owner was lost.
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The answer to one request: a message for Huey's queue."""

    id: str
    epoch: int
    message: bytes = field(repr=False)  #: A serialized Huey task.
    priority: float | None = None  #: As Huey's storage takes it.
    #: Seconds within which a worker must begin; None: its message is not kept.
    receipt: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What the store thinks of an owner at one beat."""

    held: int  #: How many requests it holds.


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerSeen:
    """An owner as another consumer sees it."""

    id: str
    beat: int  #: Grows by one with each beat; only changes of it mean anything.
    held: int
    info: bytes  #: What the owner said of itself.
    #: Seconds since it beat or registered, by the clock of the database: coarse, since
    #: that clock may jump.
    silent: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One request in somebody's hands."""

    id: str
    owner: str
    epoch: int
    strikes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many requests are where."""

    fresh: int
    suspect: int
    later: int  #: Not due yet.
    held: int
    receipts: int = 0  #: Answers that are kept until they are delivered.
    dead: int = 0  #: Dead letters.


class Store(ReceiptStore):
    """Holds sealed requests from the moment they are accepted until answered.

    Every method may be called from any thread, and in a forked child of the
    process that made the store.  Every method may be repeated after a failure.

    Raises (every method):
        StoreUnavailable: The database did not answer or refused.  Nothing or
            everything of this call was done, never a part of it.
    """

    @abstractmethod
    def submit(self, id: str, sealed: bytes, *, due: float | None = None) -> SubmitAnswer:
        """Store a request, durably, before returning.

        Repeating it with the same id changes nothing and answers "duplicate",
        or "done" for an hour after the request was answered; the hour of an
        answer that is kept begins when it is forgotten.

        Args:
            due: Unix time before which it is not claimed, by the clock of the
                database (of this machine for SQLite and memory); None: at once.
        """

    @abstractmethod
    def submit_within(
        self, connection: Any, id: str, sealed: bytes, *, due: float | None = None
    ) -> SubmitAnswer:
        """Store a request in the caller's own open transaction on the same database.

        It is there when that transaction is committed, and was never there when
        it is rolled back, as far as a savepoint if that is what is rolled back.
        Nothing is committed here, and cursors, row factories and the isolation
        of ``connection`` stay as they are.  Whoever waits for requests is woken
        by the commit.

        The transaction is begun by the caller, or by the driver: psycopg, and
        ``sqlite3`` with an ``isolation_level``, open one before a statement
        unless they are in autocommit.

        Args:
            connection: A ``sqlite3.Connection`` or a ``psycopg.Connection``.

        Raises:
            ConfigurationError: This store has no transactions that others can
                take part in, or ``connection`` is to another database, or in
                autocommit without a transaction.
            StoreUnavailable: As always; the transaction must be rolled back.
        """

    @abstractmethod
    def register(self, owner: str, info: bytes) -> None:
        """Announce ``owner``, at beat 1 and holding nothing.

        An owner that is already registered keeps its beat and what it holds.

        Raises:
            Fenced: It was reaped, within the last hour at least; take a new name.
        """

    @abstractmethod
    def beat(self, owner: str, info: bytes) -> Beat:
        """Say that ``owner`` lives; replaces its info.

        A count that differs from what the owner believes to hold means that
        the reply to a claim or a settle was lost.

        Raises:
            Fenced: It was reaped, or never registered.  It is not revived.
        """

    @abstractmethod
    def claim(self, owner: str, lane: Lane, limit: int) -> list[Lease]:
        """Take up to ``limit`` ready requests of ``lane``, the oldest first.

        Requests whose ``due`` has come become ready first.  Each request goes
        to one owner, and its epoch grows by one.

        Raises:
            Fenced: It was reaped, or never registered.  It was given nothing.
        """

    @abstractmethod
    def settle(self, owner: str, settlements: Sequence[Settlement]) -> list[SettleAnswer]:
        """Answer requests: each one removed, and its message on Huey's queue.

        For each settlement both happen or neither does, and the removal of the
        request is what decides: two callers never both get "ok".  A request
        that was released or reaped but not claimed again may still be settled
        at its old epoch.  ``owner`` need not be registered any more.

        With a ``receipt`` the message is also kept: the answer waits, for that
        many seconds, at its first delivery (`ReceiptStore`).

        Returns:
            One answer for each settlement, in order.  Nothing was put on the
            queue for any but "ok".
        """

    @abstractmethod
    def release(
        self,
        owner: str,
        leases: Sequence[tuple[str, int]],
        *,
        strike: bool,
        pause: float = 0.0,
    ) -> int:
        """Give back requests, as (id, epoch), that ``owner`` still holds.

        They keep their place.  With ``strike`` each counts a lost owner and
        becomes suspect.  Leases that ``owner`` does not hold at that epoch are
        left alone.

        Args:
            pause: Seconds until they are ready again, by the clock that ``due``
                goes by.

        Returns:
            How many were given back.
        """

    @abstractmethod
    def reap(self, owner: str, beat_seen: int) -> bool:
        """Take everything from ``owner``, with a strike each, if it is still at
        the beat ``beat_seen``; else change nothing.

        Of several callers one gets True.  From then on the owner is fenced.
        A call that was interrupted half-way is finished by the next one, by
        anybody.
        """

    @abstractmethod
    def cancel(
        self,
        id: str,
        message: bytes,
        priority: float | None = None,
        *,
        receipt: float | None = None,
    ) -> bool:
        """Answer a request, ready or held, with ``message`` in its holder's place.

        With a ``receipt`` the message is also kept, as by `settle`.

        Returns:
            Whether it was there and not answered yet.  Its holder's settlement
            is "gone" from now on.
        """

    @abstractmethod
    def read(self, id: str) -> bytes | None:
        """Return what was submitted as ``id``, or None when it is not there."""

    @abstractmethod
    def ids(self, after: str = "", limit: int = 500) -> tuple[list[str], str]:
        """Return the next ids of requests, ready or held, and what is ``after`` next time.

        A request that is there from the first call to the last comes at least
        once; one that comes or goes meanwhile may be left out, or come.

        Args:
            after: The text that the last call returned; "" to begin.
            limit: About as many are returned, and as much is looked at.

        Returns:
            Ids, perhaps none, and "" when there are no more.
        """

    @abstractmethod
    def reseal(self, id: str, old: bytes, new: bytes) -> bool:
        """Put ``new`` in the place of ``old``, if that is what is stored as ``id``.

        Nothing else about the request changes: not its place, not who holds it,
        not its epoch.  Whoever holds it goes on with what it was given.

        Returns:
            Whether it was replaced; else nothing was changed.
        """

    @abstractmethod
    def counts(self) -> Counts:
        """How many requests are where; never slower for a longer backlog."""

    @abstractmethod
    def owners(self) -> list[OwnerSeen]:
        """Every registered owner."""

    @abstractmethod
    def held(self, owner: str | None = None) -> list[Held]:
        """Every request in somebody's hands, or in those of ``owner``."""

    @abstractmethod
    def wait(self, timeout: float) -> bool:
        """Block until something may have become ready, or ``timeout`` seconds.

        Returns:
            Whether the caller should try to claim.  True may be wrong; False
            after a submit may be wrong for as long as `poll_interval`, never
            longer: a caller that claims that often misses nothing.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """What weakens a promise here, each a sentence that says what to change.

        Raises:
            ConfigurationError: A promise cannot be kept with this database.
        """

    @abstractmethod
    def close(self) -> None:
        """Close this process's connections.  A later call opens new ones."""

    def limit_patience(self, seconds: float) -> None:
        """Wait for the database no longer than some ``seconds`` in a call, from the next
        connection on.  A store that answers at once has nothing to limit."""

    #: Seconds after which a claim should be tried although nothing rang.
    poll_interval: float = 1.0
