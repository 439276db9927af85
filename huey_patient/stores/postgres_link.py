"""Connections to one PostgreSQL database: a few, shared; errors explained.

Connections of our own, because Huey's one is behind a lock that its workers
hold while they poll.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from ..errors import StoreUnavailable
from .postgres_patience import NoAnswer, limit
from .sharing import gevent_has_patched, keep_untouched, kind_of_thread, tell_after_fork

__all__ = ["Link"]

T = TypeVar("T")

# The server ends what a paused process left open, so that its locks do not
# hold up everybody else.  ``local``: nothing stays behind in the session.
_BEGIN = """
begin isolation level read committed;
set local idle_in_transaction_session_timeout = '10s';
set local lock_timeout = '10s'
"""


class _Pool:
    """What threads of one kind share."""

    def __init__(self, connect: Callable[[], Any], most: int) -> None:
        self._connect = connect
        self._places = threading.Semaphore(most)
        self._idle: deque[Any] = deque()
        #: Those that listen; a connection stays subscribed between two waits,
        #: so it misses nothing.
        self.listening: deque[Any] = deque()

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Lend a connection; a broken one is closed and not lent again."""
        with self._places:
            db = _pop(self._idle) or self._connect()
            try:
                yield db
            except BaseException:
                # Whatever state it is in, nobody shall inherit it.
                db.close()
                raise
            self._idle.append(db)

    def close(self) -> None:
        for idle in (self._idle, self.listening):
            while (db := _pop(idle)) is not None:
                db.close()


def _pop(idle: deque[Any]) -> Any:
    try:
        return idle.pop()
    except IndexError:
        return None


class Link:
    """This process's connections to the database of one `PostgresStorage`."""

    #: Connections for statements; those who find all in use wait for one.
    most_connections = 8
    #: Seconds that the server may be silent.  A call that connects first may take twice that.
    patience = 10.0
    #: How often a statement is tried that another one got in the way of.
    tries = 5

    def __init__(self, storage: Any, schema: str, last_table: str) -> None:
        self._storage = storage
        self._schema = schema
        self._last_table = last_table
        self._schema_is_there = False
        self._pools: dict[int, _Pool] = {}
        tell_after_fork(self)

    def forget_parent(self) -> None:
        keep_untouched(self._pools)
        self._pools = {}

    def close(self) -> None:
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def __del__(self) -> None:
        self.close()

    def ask(self, statement: str, params: dict[str, Any]) -> list[Any]:
        """Run one statement, a transaction of its own, and return its rows."""
        return self._tried(lambda cursor: cursor.execute(statement, params).fetchall())

    def ask_in_turn(self, statements: Sequence[str], params: dict[str, Any]) -> bool:
        """Run statements as one transaction, until one returns no row.

        Returns:
            Whether all returned some; else nothing was changed.
        """

        def run(cursor: Any) -> bool:
            cursor.execute(_BEGIN)
            all_did = all(cursor.execute(one, params).fetchall() for one in statements)
            cursor.execute("commit" if all_did else "rollback")
            return all_did

        return self._tried(run)

    def ask_within(self, db: Any, statement: str, params: dict[str, Any]) -> list[Any]:
        """Run one statement in the transaction that ``db`` is in, and return its rows."""
        with self._explained("roll the transaction back, then begin it again"):
            # Not `db.cursor()`: that is of the kind that the application chose.
            cursor = psycopg.Cursor(db, row_factory=tuple_row)
            return cursor.execute(statement, params, prepare=False).fetchall()

    def _tried(self, work: Callable[[Any], T]) -> T:
        """Do ``work``, again where the first try met a stale connection or a rival.

        That is safe for each call of a store, even if the first try was
        committed and only the reply was lost.
        """
        broken = False
        with self._explained():
            for left in reversed(range(self.tries)):
                try:
                    with self._pool().connection() as db:
                        return work(db.cursor(row_factory=tuple_row))
                except (
                    psycopg.errors.SerializationFailure,
                    psycopg.errors.DeadlockDetected,
                ):
                    if not left:
                        raise
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    # Most often it was idle while the server restarted.
                    if broken or not _connection_is_lost(error):
                        raise
                    broken = True
        raise AssertionError("the last try returns or raises")

    def wait(
        self,
        timeout: float,
        *,
        bell: str,
        look_interval: float,
        anything: Callable[[], bool],
    ) -> bool:
        """Block until ``bell`` was notified or ``anything`` is true.

        Behind a pooler nothing is listened to, and ``anything`` is looked at
        every ``look_interval`` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._explained():
            pool = self._pool()
            db = _pop(pool.listening) or self._open_listening(bell)
            try:
                heard = False
                while not heard:
                    left = deadline - time.monotonic()
                    pause = min(max(left, 0.0), look_interval)
                    heard = any(True for _ in db.notifies(timeout=pause, stop_after=1))
                    heard = heard or anything()
                    if left <= 0:
                        break
            except BaseException:
                db.close()
                raise
            pool.listening.append(db)
            return heard

    def _pool(self) -> _Pool:
        kind = kind_of_thread()
        pool = self._pools.get(kind)
        if pool is None:
            # Another thread may have been faster; then ours, still empty, is dropped.
            pool = self._pools.setdefault(kind, _Pool(self._open_deaf, self.most_connections))
        return pool

    def _open(self) -> Any:
        db = self._connect()
        # Statements prepared on one server process would be missing on another.
        db.prepare_threshold = None
        try:
            if not self._schema_is_there:
                self._create_tables(db)
                self._schema_is_there = True
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self) -> Any:
        storage = copy.copy(self._storage)
        if "connect_timeout" not in conninfo_to_dict(storage.dsn or ""):
            # Else psycopg waits for more than two minutes; below 2 s is 2 s to it.  How the
            # application connects by itself (``connection=``) is for the application to say.
            seconds = max(2, int(self.patience))
            storage.connection_params = {"connect_timeout": seconds, **storage.connection_params}
        db = storage._connect()
        limit(db, self.patience)
        return db

    def _open_deaf(self) -> Any:
        db = self._open()
        # Behind a pooler a session may be told of what somebody else has listened to
        # there, and psycopg keeps each notification until somebody reads it.
        db.pgconn.notify_handler = None
        return db

    def _open_listening(self, bell: str) -> Any:
        db = self._open()
        try:
            # In a pooler's session it would not be heard here but by strangers, as long
            # as the session lasts.
            if _is_direct(db):
                db.execute(f'listen "{bell.replace(chr(34), chr(34) * 2)}"')
        except BaseException:
            db.close()
            raise
        return db

    def prepares_behind_a_pooler(self) -> bool:
        """Whether Huey's own connections are behind one, and prepare statements."""
        with self._explained(), closing(self._connect()) as db:
            return db.prepare_threshold is not None and not _is_direct(db)

    def waits_stop_greenlets(self) -> bool:
        """Whether Huey's workers wait in C while they are greenlets."""
        waits_in_c = psycopg.waiting.wait is getattr(psycopg.waiting, "wait_c", None)
        return bool(self._storage.blocking and waits_in_c and gevent_has_patched())

    def _create_tables(self, db: Any) -> None:
        cursor = db.cursor(row_factory=tuple_row)
        [found] = cursor.execute("select to_regclass(%s)", (self._last_table,)).fetchone()
        if found is None:
            # "if not exists" is no protection from somebody who creates the
            # same at this moment; the lock is.  It ends with the transaction.
            cursor.execute(
                "begin; select pg_advisory_xact_lock(hashtext('huey_patient'));"
                f"{self._schema}; commit"
            )

    @contextmanager
    def _explained(self, advice: str | None = None) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if isinstance(error, _OUR_MISTAKES) and not isinstance(error, _STATES):
                raise
            raise StoreUnavailable(f"PostgreSQL: {error}; {advice or _advice(error)}") from error


# Everything else is a state of the database, however psycopg sorts it: a transaction that
# the server has ended for us is an "internal error" there, and must not end a courier.
_OUR_MISTAKES = (psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.DataError)
# And of those three, these too.
_STATES = (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)


def _is_direct(db: Any) -> bool:
    """Whether ``db`` has a session of its own: poolers make up the process that they name."""
    cursor = db.cursor(row_factory=tuple_row)
    [pid] = cursor.execute("select pg_backend_pid()", prepare=False).fetchone()
    return bool(pid == db.info.backend_pid)


def _connection_is_lost(error: psycopg.Error) -> bool:
    # Who has just waited in vain does not wait a second time.
    if isinstance(error, (NoAnswer, psycopg.errors.ConnectionTimeout)):
        return False
    # Without an SQLSTATE it is the client that noticed; 57P01 to 57P05 and
    # class 08 are the server's last words.
    return error.sqlstate is None or error.sqlstate[:2] in ("08", "57")


def _advice(error: psycopg.Error) -> str:
    return _ADVICE.get(error.sqlstate or "", "calling again is safe")


_ADVICE = {
    "25006": "this server is a replica; connect to the primary, then call again",
    "40001": "too many others changed the same rows; calling again is safe",
    "40P01": "too many others changed the same rows; calling again is safe",
    "42501": "the user needs to create tables once, then to read and write them",
    "42P01": "the tables are missing; create Huey's (create_tables=True), or restart",
    "53100": "the server's disk is full; free some space there, then call again",
    "53300": "the server has no connection left; raise max_connections, or use PgBouncer",
    "55P03": "another session holds a lock for too long; look at pg_stat_activity",
    "57P03": "the server is starting or stopping; call again in a moment",
}
