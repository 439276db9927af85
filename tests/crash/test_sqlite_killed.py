"""SIGKILL at every SQL statement of a call, on a real file.

SQLite tells of each statement before it runs, those inside triggers included;
that is where the process is killed.  Afterwards another process finds a file
in which either all of the call happened or nothing, and goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys

import pytest
from support import books
from support.backends import open_sqlite

# A SQLite connection must not cross a fork, so the victims are forked by a
# spawned process, which never opens one.
spawn = multiprocessing.get_context("spawn")


def call_with_trace(folder, call, trace):
    """Make ``call``, with ``trace`` told of each statement before it runs."""
    backend = open_sqlite(folder)
    backend.store.read("a")  # Opens the connection.
    db = backend.store._link._mine().db
    db.set_trace_callback(trace)
    books.make(call, backend.store)
    db.set_trace_callback(None)
    backend.close()


def call_and_die(folder, call, last):
    """Make ``call``, and be killed at statement number ``last`` of it."""
    statements = iter(range(last))

    def die(sql):
        if next(statements, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    call_with_trace(folder, call, die)
    die("after the call, before telling anyone")


def kill_at_each_statement(folders, call):
    """Fork one victim per folder, each to be killed one statement later; exit with
    the number of those who were not."""
    survivors = 0
    for last, folder in enumerate(folders):
        victim = os.fork()
        if not victim:
            call_and_die(folder, call, last)
            os._exit(0)
        _, status = os.waitpid(victim, 0)
        survivors += not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    sys.exit(survivors)


def prepared(folder, call):
    folder.mkdir()
    backend = open_sqlite(folder)
    books.prepare(backend.store, call)
    backend.close()
    return folder


@pytest.mark.parametrize("call", books.CALLS)
def test_killed_at_any_statement_all_happened_or_nothing(tmp_path, call):
    before = prepared(tmp_path / "before", call)
    statements = []
    call_with_trace(shutil.copytree(before, tmp_path / "counting"), call, statements.append)
    # Some look whether there is anything to do before they take the lock.
    assert "begin immediate" in statements[:2]
    assert statements[-1] == "commit"

    # Past the last statement the call is over, and its caller does not know yet.
    folders = [shutil.copytree(before, tmp_path / str(n)) for n in range(len(statements) + 1)]
    killer = spawn.Process(target=kill_at_each_statement, args=(folders, call))
    killer.start()
    killer.join(50)

    assert killer.exitcode == 0
    for folder in folders:
        backend = open_sqlite(folder)
        books.assert_they_balance(backend, call)
        backend.close()
