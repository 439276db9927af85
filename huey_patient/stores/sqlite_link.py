"""Connections to one SQLite file: opened, watched, closed; errors explained.

One connection a thread (under gevent's monkey-patching: a greenlet), never
shared.  That is what makes it safe to use one store from Huey's workers and
from the courier's native thread: nobody waits for a lock that another kind of
thread holds, and no transaction of one is seen half-done by the other.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ConfigurationError, StoreUnavailable
from .sharing import keep_untouched, tell_after_fork

__all__ = ["Link"]


class _Connection:
    """One thread's connection, and what that thread has seen of the file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        # Held during a call.  `Link.close` only tries it, so that no thread
        # ever waits here for another.
        self.in_use = threading.Lock()
        self.unwanted = False
        self.version_seen = self.version()
        self.rung = False  # By this very thread, which its own data_version does not show.

    def version(self) -> int:
        """A number that changes with every commit of every other connection."""
        [version] = self.db.execute("pragma data_version").fetchone()
        return int(version)

    def close_if_idle(self) -> None:
        self.unwanted = True
        if self.in_use.acquire(blocking=False):
            try:
                self.db.close()
            finally:
                self.in_use.release()


class _Lifeline:
    """Lives in a thread's local storage and closes the connection with the thread."""

    def __init__(self, connection: _Connection, connections: set[_Connection]) -> None:
        self.connection = connection
        self._connections = connections
        self._process = os.getpid()

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        # In a forked child the parent's threads vanish; their connections are
        # not the child's to close.
        if getpid() == self._process:
            self._connections.discard(self.connection)
            self.connection.close_if_idle()


class Link:
    """All of this process's connections to the file of one `SqliteStorage`.

    Huey's own connection is left alone: it is behind a lock that the workers
    hold while they poll, and a courier must not queue there.
    """

    #: Seconds to wait for the lock of another process.
    busy_timeout = 30.0
    #: Seconds between two looks at the file in `wait`.
    look_interval = 0.02

    def __init__(self, storage: Any, schema: str) -> None:
        if _in_memory(storage.filename):
            # Such a database lives in one connection, which belongs to Huey.
            raise ConfigurationError(
                f"the SQLite database {storage.filename!r} is in memory, where no second "
                "connection can reach it; use a file, or MemoryHuey"
            )
        self._storage = storage
        self._schema = schema
        self._last_created = schema.rsplit("create trigger if not exists ")[-1].split()[0]
        self._file: str | None = None  # Known once it was opened.
        self._identity: tuple[int, int] | None = None
        self._forget_all()
        tell_after_fork(self)

    def _forget_all(self) -> None:
        self._local = threading.local()
        self._connections: set[_Connection] = set()

    def forget_parent(self) -> None:
        keep_untouched((self._local, self._connections))
        self._forget_all()

    def close(self) -> None:
        """Close connections; one that is in use right now closes after that use."""
        local, connections = self._local, self._connections
        self._file = None
        self._forget_all()
        for connection in list(connections):
            connection.close_if_idle()
        del local

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, from the write lock to the commit."""
        with self._explained(), self._used() as connection:
            db = connection.db
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection outside of any transaction."""
        with self._explained(), self._used() as connection:
            yield connection.db

    def ring(self) -> None:
        """Remember that this thread has made something ready."""
        self._mine().rung = True

    def look(self) -> None:
        """Remember what the file looks like now: only what comes later ends a wait."""
        connection = self._mine()
        connection.rung = False
        connection.version_seen = connection.version()

    def wait(self, timeout: float, anything: Callable[[sqlite3.Connection], bool]) -> bool:
        """Block until the file changed since the last `look` and ``anything`` is true."""
        deadline = time.monotonic() + timeout
        with self._explained():
            while True:
                with self._used() as connection:
                    version = connection.version()
                    changed = connection.rung or version != connection.version_seen
                    connection.rung, connection.version_seen = False, version
                    # Most changes are Huey's own; looking costs less than a
                    # claim, which takes the write lock.
                    if changed and anything(connection.db):
                        return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(self.look_interval, left))

    @contextmanager
    def _used(self) -> Iterator[_Connection]:
        self._check_file()
        connection = self._mine()
        with connection.in_use:
            yield connection
        if connection.unwanted:
            connection.close_if_idle()

    def _check_file(self) -> None:
        # A deleted file still takes writes from those who have it open, and
        # nobody else would ever see them.
        if self._file is not None and _identity(self._file) != self._identity:
            raise StoreUnavailable(
                f"the SQLite file {self._file} was deleted or replaced while it was in use; "
                "restart every process that uses it"
            )

    def _mine(self) -> _Connection:
        lifeline: _Lifeline | None = getattr(self._local, "lifeline", None)
        if lifeline is None or lifeline.connection.unwanted:
            lifeline = _Lifeline(self._open(), self._connections)
            self._connections.add(lifeline.connection)
            self._local.lifeline = lifeline
        return lifeline.connection

    def _open(self) -> _Connection:
        storage = self._storage
        db = sqlite3.connect(
            storage.filename,
            timeout=self.busy_timeout,
            isolation_level=None,
            # Only for closing: `close` may be called by another thread.
            check_same_thread=False,
            uri=bool(storage._conn_kwargs.get("uri")),
        )
        try:
            if storage._journal_mode is not None:
                storage._set_journal_mode(db)
            db.execute(f"pragma synchronous = {'full' if _wants_fsync(storage) else 'off'}")
            db.execute("pragma foreign_keys = on")
            self._create_tables(db)
            if self._file is None:
                _, _, self._file = db.execute("pragma database_list").fetchone()
                self._identity = _identity(self._file)
            return _Connection(db)
        except BaseException:
            db.close()
            raise

    def _create_tables(self, db: sqlite3.Connection) -> None:
        # Asked first, because creating takes the write lock even when there is
        # nothing to create.
        found = db.execute("select 1 from sqlite_master where name = ?", (self._last_created,))
        if found.fetchone() is None:
            db.executescript(f"begin immediate; {self._schema} commit;")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # A mistake of ours, not a state of the database.
        except sqlite3.DatabaseError as error:
            text = f"SQLite file {self._storage.filename}: {error}; {_advice(str(error))}"
            raise StoreUnavailable(text) from error


def _in_memory(filename: str) -> bool:
    return filename == "" or ":memory:" in filename or "mode=memory" in filename


def _wants_fsync(storage: Any) -> bool:
    # CySqliteStorage keeps it among its pragmas.
    pragmas = storage._conn_kwargs.get("pragmas") or {}
    return storage._fsync is not False and pragmas.get("synchronous") != 0


def _identity(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _advice(error: str) -> str:
    for part, advice in _ADVICE.items():
        if part in error:
            return advice
    return "nothing of this call was stored; calling again is safe"


_ADVICE = {
    "locked": "another process held the lock for too long; look for a long transaction there",
    "readonly": "this process needs write permission for the file and for its directory",
    "full": "free some disk space, then call again",
    "unable to open": "the directory must exist and be writable",
    "no such table: task": "Huey's tables are missing; create them (create_tables=True)",
    "disk I/O": "the disk refused; look at the system log",
    "malformed": "the file is damaged; restore it from a backup",
    "not a database": "the file is something else; check the filename of SqliteHuey",
}
