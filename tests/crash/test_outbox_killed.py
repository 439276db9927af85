"""SIGKILL to an application before and after it commits a request with rows of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.apps import APPS, App
from support.backends import open_backend

spawn = multiprocessing.get_context("spawn")


def order_and_die(kind, where, name, commits):
    """Store an order and a request in one transaction, and be killed around its commit."""
    resource = SimpleNamespace(port=where) if isinstance(where, int) else Path(where)
    backend = open_backend(kind, resource, name)
    _, connect = APPS[kind]
    backend.store.counts()  # Makes the tables, as whatever came before has done.
    app = App(connect(resource))
    app.begin()
    app.order(1)
    assert backend.store.submit_within(app.connection, "a", b"x") == "new"
    if commits:
        app.connection.commit()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("commits", [True, False], ids=["after-commit", "before-commit"])
@pytest.mark.parametrize("kind", APPS)
def test_a_killed_application_leaves_its_rows_and_its_request_or_neither(kind, commits, request):
    fixture, connect = APPS[kind]
    resource = request.getfixturevalue(fixture)
    backend = open_backend(kind, resource)
    where = getattr(resource, "port", str(resource))
    victim = spawn.Process(target=order_and_die, args=(kind, where, backend.storage.name, commits))

    victim.start()
    victim.join(50)

    assert victim.exitcode == -signal.SIGKILL
    connection = connect(resource)
    [orders] = connection.execute("select count(*) from orders").fetchone()
    connection.close()
    assert (orders, backend.store.counts().fresh) == ((1, 1) if commits else (0, 0))
    assert (backend.store.read("a") == b"x") == commits
    assert backend.store.submit("a", b"x") == ("duplicate" if commits else "new")
    backend.close()
