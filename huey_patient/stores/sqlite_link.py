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
from .sharing import gevent_has_patched, keep_untouched, tell_after_fork, tell_before_fork

__all__ = ["Link", "file_identity"]

_Identity = tuple[int, int] | None


class _Connection:
    """One thread's connection, and what that thread has seen of the file."""

    def __init__(self) -> None:
        self.db: sqlite3.Connection | None = None  # Until the first use.
        # Held during a call.  Whoever else closes it only tries this lock, so
        # that no thread ever waits here for another.
        self.in_use = threading.Lock()
        self.unwanted = False
        self.version_seen = 0
        self.beside: dict[str, _Identity] = {}  # The file's companions, as it opened them.
        # Whether this very thread has made something ready: its own
        # data_version does not show that.  At first nobody has looked yet.
        self.rung = True

    def close_if_idle(self) -> bool:
        """Close it now and return True; or else its user does, after the call."""
        self.unwanted = True
        if not self.in_use.acquire(blocking=False):
            return False
        try:
            if self.db is not None:
                self.db.close()
        finally:
            self.in_use.release()
        return True


def _version(db: sqlite3.Connection) -> int:
    """Return a number that changes with every commit of every other connection."""
    [version] = db.execute("pragma data_version").fetchone()
    return int(version)


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
    #: Seconds between two tries for the lock where greenlets must go on meanwhile.
    lock_interval = 0.005
    #: Seconds between two looks at the file in `wait`.
    look_interval = 0.02
    #: Seconds that a fork waits for calls of other threads to end.
    fork_patience = 5.0

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
        self._identity: _Identity = None
        self._forget_all()
        tell_before_fork(self)
        tell_after_fork(self)

    def _forget_all(self) -> None:
        self._local = threading.local()
        self._connections: set[_Connection] = set()
        self._forks = 0  # Going on just now.

    def before_fork(self) -> None:
        # SQLite keeps the locks of a process in its memory.  A child that
        # inherits one, even of a connection it never touches, finds the file
        # locked for ever.  So no connection of ours goes through a fork.
        self._forks += 1
        deadline = time.monotonic() + self.fork_patience
        for connection in list(self._connections):
            while not connection.close_if_idle() and time.monotonic() < deadline:
                time.sleep(0.001)

    def after_fork(self) -> None:
        self._forks -= 1

    def forget_parent(self) -> None:
        keep_untouched((self._local, self._connections))
        self._forget_all()

    def close(self) -> None:
        """Close connections; one that is in use right now closes after that use."""
        connections = self._connections
        self._file = None
        self._forget_all()
        for connection in list(connections):
            connection.close_if_idle()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, from the write lock to the commit."""
        with self.read() as db:
            self._begin(db)
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise

    def _begin(self, db: sqlite3.Connection) -> None:
        """Take the write lock.

        SQLite waits for it inside a call that stops all greenlets, so under gevent
        the waiting is done here, in steps that let them go on.
        """
        if not gevent_has_patched():
            db.execute("begin immediate")
            return
        deadline = time.monotonic() + self.busy_timeout
        db.execute("pragma busy_timeout = 0")
        try:
            while True:
                try:
                    db.execute("begin immediate")
                    return
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() >= deadline:
                        raise
                time.sleep(self.lock_interval)
        finally:
            db.execute(f"pragma busy_timeout = {int(self.busy_timeout * 1000)}")

    @contextmanager
    def read(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """This thread's connection, outside of any transaction.

        Args:
            patience: How long to wait for a lock if the tables must be made
                first; as long as for any other lock if None.
        """
        with self.explained():
            connection = self._lent(patience)
            try:
                assert connection.db is not None
                yield connection.db
            finally:
                connection.in_use.release()
                if connection.unwanted:
                    connection.close_if_idle()

    def identity(self, *, patience: float) -> _Identity:
        """What tells the file from others, once it has the tables."""
        with self.read(patience):
            return self._identity

    @property
    def filename(self) -> str:
        """Its name, as Huey was given it."""
        return str(self._storage.filename)

    def ring(self) -> None:
        """Remember, inside a call, that this thread has made something ready."""
        self._mine().rung = True

    def look(self, db: sqlite3.Connection) -> None:
        """Remember what the file looks like now: only what comes later ends a wait."""
        mine = self._mine()
        mine.rung, mine.version_seen = False, _version(db)

    def wait(self, timeout: float, anything: Callable[[sqlite3.Connection], bool]) -> bool:
        """Block until the file changed since the last `look` and ``anything`` is true."""
        deadline = time.monotonic() + timeout
        while True:
            with self.read() as db:
                mine = self._mine()
                changed = mine.rung or _version(db) != mine.version_seen
                self.look(db)
                # Most changes are Huey's own; looking costs less than a claim,
                # which takes the write lock.
                if changed and anything(db):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(self.look_interval, left))

    def _mine(self) -> _Connection:
        lifeline: _Lifeline | None = getattr(self._local, "lifeline", None)
        if lifeline is None or lifeline.connection.unwanted:
            lifeline = _Lifeline(_Connection(), self._connections)
            self._connections.add(lifeline.connection)
            self._local.lifeline = lifeline
        return lifeline.connection

    def _lent(self, patience: float | None) -> _Connection:
        """Return this thread's connection, open and in use."""
        while True:
            connection = self._mine()
            connection.in_use.acquire()
            # Looked at only now: `before_fork` first counts itself and then
            # tries the locks, so one of the two always sees the other.
            if not self._forks and not connection.unwanted:
                break
            connection.in_use.release()
            time.sleep(0.001)
        try:
            self._check_files(connection)
            if connection.db is None:
                connection.db = self._open(patience)
                connection.beside = _found_beside(str(self._file))
        except BaseException:
            connection.in_use.release()
            raise
        return connection

    def _check_files(self, connection: _Connection) -> None:
        # A deleted file still takes writes from those who have it open, and
        # nobody else would ever see them.
        if self._file is None:
            return
        _check_identity(self._file, self._identity)
        for name, identity in connection.beside.items():
            _check_identity(name, identity)

    def _open(self, patience: float | None) -> sqlite3.Connection:
        storage = self._storage
        db = sqlite3.connect(
            storage.filename,
            timeout=self.busy_timeout if patience is None else patience,
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
            db.execute(f"pragma busy_timeout = {int(self.busy_timeout * 1000)}")
            if self._file is None:
                _, _, self._file = db.execute("pragma database_list").fetchone()
                self._identity = file_identity(self._file)
            return db
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
    def explained(self) -> Iterator[None]:
        """Turn what SQLite says inside the ``with`` into `StoreUnavailable`."""
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


def file_identity(file: str) -> _Identity:
    """Return what tells one file from another, however it is called; None: not there."""
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnavailable(
            f"SQLite file {file}: {error.strerror}; nothing of this call was stored; "
            "call again when the file system is well again"
        ) from error
    return found.st_dev, found.st_ino


def _found_beside(file: str) -> dict[str, _Identity]:
    """Return what SQLite needs beside ``file``: there as long as anybody has it open."""
    found = {name: file_identity(name) for name in (f"{file}-wal", f"{file}-shm")}
    return {name: identity for name, identity in found.items() if identity is not None}


def _check_identity(file: str, identity: _Identity) -> None:
    if file_identity(file) != identity:
        raise StoreUnavailable(
            f"the SQLite file {file} was deleted or replaced while it was in use; "
            "restart every process that uses it"
        )


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
    "no such table: main.patient": (
        "the transaction began before the tables were there; roll it back and begin it again"
    ),
    "no such table: task": "Huey's tables are missing; create them (create_tables=True)",
    "disk I/O": "the disk refused; look at the system log",
    "malformed": "the file is damaged; restore it from a backup",
    "not a database": "the file is something else; check the filename of SqliteHuey",
}
