"""The PostgreSQL store through a PgBouncer, where each transaction may meet another session.

First the whole contract once more, then what only shows there: what a call left
behind in its session (a lock, a setting, a prepared statement) is missing in the
next one, and somebody else comes upon it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter

import psycopg
import pytest
from huey.storage import PostgresStorage
from psycopg.rows import dict_row
from support import fixtures, servers
from support.apps import App
from support.backends import Backend, dsn
from test_receipts import *  # noqa: F403  (its tests)
from test_store_contract import *  # noqa: F403  (its tests)
from test_store_sharing import in_threads

from huey_patient.stores import store_for
from huey_patient.stores.base import Counts, Fenced, Lease, Settlement

pgbouncer = fixtures.pgbouncer

NOTHING = Counts(fresh=0, suspect=0, later=0, held=0)

#: What a user must tell Huey there.  Otherwise its own connections listen in vain, and
#: prepare statements under names that other connections also give to theirs.
NEEDED = {"blocking": False, "prepare_threshold": None}


@contextlib.contextmanager
def each_session(pgbouncer):
    """A transaction in each session at once, so that all of them are open."""
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(psycopg.connect(dsn(pgbouncer.port), prepare_threshold=None))
            for _ in range(servers.BOUNCED)
        ]
        pids = {db.execute("select pg_backend_pid()").fetchone() for db in connections}
        assert len(pids) == servers.BOUNCED
        yield connections


def left_behind(pgbouncer):
    """What whoever comes next would find in the sessions."""
    query = """
        select 'prepared', statement from pg_prepared_statements
        union all select 'listening', pg_listening_channels()
        union all select 'set', name from pg_settings where source = 'session'
        union all select 'locked', locktype from pg_locks
            where pid = pg_backend_pid() and locktype = 'advisory'
        union all select 'temporary', relname from pg_class
            where relnamespace = pg_my_temp_schema()
    """
    with each_session(pgbouncer) as connections:
        return [row for db in connections for row in db.execute(query).fetchall()]


@contextlib.contextmanager
def opened(name, **options):
    """A storage of Huey's and its store, as one more process would have them."""
    storage = PostgresStorage(name, **options)
    backend = Backend("pgbouncer", storage, store_for(storage))
    # No bell is heard here, so a wait ends when it is time to look.
    backend.store.poll_interval = 0.02
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture
def backend(pgbouncer):
    with each_session(pgbouncer):
        pass
    with opened(f"q{uuid.uuid4().hex}", dsn=dsn(pgbouncer.port), **NEEDED) as backend:
        yield backend


def answer(store, owner, leases):
    """Answer each with its id; return the ids of those that were not answered before."""
    settlements = [Settlement(id=x.id, epoch=x.epoch, message=x.id.encode()) for x in leases]
    answers = store.settle(owner, settlements)
    return [lease.id for lease, said in zip(leases, answers, strict=True) if said == "ok"]


def test_the_statements_of_one_caller_meet_one_session_after_the_other(store):
    store.counts()  # Makes the tables, which takes statements of its own.

    pids = [store._link.ask("select pg_backend_pid()", {})[0][0] for _ in range(6)]

    assert len(set(pids)) == servers.BOUNCED
    assert pids[: servers.BOUNCED] == pids[servers.BOUNCED :]


def test_no_call_leaves_anything_behind_in_a_session(pgbouncer, store):
    for n in range(12):
        owner = f"o{n}"
        store.register(owner, b"")
        store.submit(f"r{n}", b"x")
        [lease] = store.claim(owner, "fresh", 1)
        store.beat(owner, b"")
        if n % 2:
            kept = Settlement(id=lease.id, epoch=lease.epoch, message=b"m", receipt=3600.0)
            assert store.settle(owner, [kept]) == ["ok"]
        assert store.reap(owner, 2)
        assert not store.reap(owner, 2)
    assert (store.counts().suspect, store.counts().receipts) == (6, 6)

    assert left_behind(pgbouncer) == []


CONFIGURED = {
    "nothing": lambda port: {"dsn": dsn(port)},
    "prepare all": lambda port: {"dsn": dsn(port), "prepare_threshold": 0},
    "how to connect": lambda port: {
        "connection": lambda: psycopg.connect(dsn(port), row_factory=dict_row)
    },
}


@pytest.mark.parametrize("configured", CONFIGURED)
def test_our_statements_go_through_whatever_huey_was_told(pgbouncer, backend, queued, configured):
    # No tables, for which Huey would already leave prepared statements to other tests.
    options = CONFIGURED[configured](pgbouncer.port) | {"create_tables": False}
    with opened(backend.storage.name, **options) as told:
        told.store.register("o", b"")
        for n in range(12):
            assert told.store.submit(f"r{n:02}", b"x") == "new"
            leases = told.store.claim("o", "fresh", 1)
            assert answer(told.store, "o", leases) == [f"r{n:02}"]

    assert queued() == [f"r{n:02}".encode() for n in range(12)]
    assert left_behind(pgbouncer) == []


def test_threads_that_claim_settle_and_reap_each_other_answer_each_request_once(
    pgbouncer, backend, queued
):
    ids = [f"r{n:02}" for n in range(72)]
    answered, reaped = [], []

    def work(store, n):
        for id in ids[n::6]:
            assert store.submit(id, b"x") == "new"
        for life in range(6):
            owner = f"o{n}-{life}"
            store.register(owner, b"")
            leases = claim(store, owner)
            # All of them try to reap all, whatever those are just doing.
            reaped.extend(one.id for one in store.owners() if store.reap(one.id, one.beat))
            if life % 3:
                answered.extend(answer(store, owner, leases))

    with opened(backend.storage.name, dsn=dsn(pgbouncer.port), **NEEDED) as other:
        stores = [backend.store, other.store]
        in_threads(6, lambda n: work(stores[n % 2], n))
    for one in backend.store.owners():
        assert backend.store.reap(one.id, one.beat)
    backend.store.register("last", b"")
    answered.extend(answer(backend.store, "last", claim(backend.store, "last", most=99)))

    assert sorted(answered) == ids
    assert sorted(queued()) == [id.encode() for id in ids]
    assert backend.store.counts() == NOTHING
    assert max(Counter(reaped).values()) == 1
    assert left_behind(pgbouncer) == []


def claim(store, owner, most=3):
    """What could be claimed before somebody reaped ``owner``."""
    leases = []
    with contextlib.suppress(Fenced):
        for lane in ("fresh", "suspect"):
            leases += store.claim(owner, lane, most)
    return leases


def test_requests_in_the_transactions_of_an_application_appear_as_it_commits(pgbouncer, store):
    store.register("o", b"")
    with App(psycopg.connect(dsn(pgbouncer.port))) as app:
        for n in range(8):
            app.order(n)
            assert store.submit_within(app.connection, f"r{n}", b"sealed") == "new"
            assert store.submit_within(app.connection, f"r{n}", b"sealed") == "duplicate"
            assert store.claim("o", "fresh", 9) == []
            app.connection.commit()
            lease = Lease(id=f"r{n}", epoch=1, strikes=0, sealed=b"sealed")
            assert store.claim("o", "fresh", 9) == [lease]
        app.order(8)
        store.submit_within(app.connection, "never", b"sealed")
        app.connection.rollback()

        assert app.orders() == list(range(8))
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=8)
    assert left_behind(pgbouncer) == []


def test_no_wait_leaves_a_session_listening(pgbouncer, store):
    store.wait(0)

    assert left_behind(pgbouncer) == []


def test_what_somebody_else_listens_to_is_not_kept(pgbouncer, store):
    with each_session(pgbouncer) as connections:
        for db in connections:
            db.execute(f'listen "{store._always["bell"]}"')
    try:
        for n in range(50):
            store.submit(f"r{n}", b"x")

        with store._link._pool().connection() as db:
            assert list(db._notifies_backlog) == []
    finally:
        with each_session(pgbouncer) as connections:
            for db in connections:
                db.execute("unlisten *")


def test_a_huey_that_prepares_statements_behind_a_pooler_is_told_what_to_change(
    pgbouncer, backend, store
):
    advice = "prepare_threshold=None"
    assert not any(advice in weakness for weakness in store.check())
    with opened(backend.storage.name, dsn=dsn(pgbouncer.port), create_tables=False) as told:
        assert any(advice in weakness for weakness in told.store.check())
