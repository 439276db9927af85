"""A request in the application's own transaction, on the databases that have any."""

from __future__ import annotations

import sqlite3
import threading
import time

import psycopg
import pytest
from huey.storage import SqliteStorage
from psycopg.rows import dict_row
from support.apps import APPS, App
from support.backends import open_backend, open_sqlite

from huey_patient.errors import ConfigurationError, StoreUnavailable
from huey_patient.stores import store_for
from huey_patient.stores.base import Counts, Lease, Settlement
from huey_patient.stores.sqlite import SqliteStore

NOTHING = Counts(fresh=0, suspect=0, later=0, held=0)
ONE = Counts(fresh=1, suspect=0, later=0, held=0)


@pytest.fixture(params=APPS)
def backend(request):
    resource, _ = APPS[request.param]
    opened = open_backend(request.param, request.getfixturevalue(resource))
    yield opened
    opened.close()


@pytest.fixture
def app(backend, request):
    """An application with a table of its own, in a transaction."""
    resource, connect = APPS[backend.kind]
    backend.store.counts()  # Makes the tables, as whatever came before has done.
    with App(connect(request.getfixturevalue(resource))) as opened:
        opened.begin()
        yield opened


def test_a_request_is_there_once_the_transaction_is_committed(store, app):
    store.register("o", b"")
    app.order(1)

    assert store.submit_within(app.connection, "a", b"sealed") == "new"
    assert store.counts() == NOTHING
    assert store.read("a") is None
    app.connection.commit()

    assert store.counts() == ONE
    assert store.claim("o", "fresh", 9) == [Lease(id="a", epoch=1, strikes=0, sealed=b"sealed")]
    assert app.orders() == [1]


def test_a_request_was_never_there_once_the_transaction_is_rolled_back(store, app):
    store.register("o", b"")
    app.order(1)
    store.submit_within(app.connection, "a", b"x")

    app.connection.rollback()

    assert store.counts() == NOTHING
    assert store.claim("o", "fresh", 9) == []
    assert app.orders() == []
    assert store.submit("a", b"x") == "new"


def test_a_savepoint_that_is_rolled_back_takes_its_requests_along(store, app):
    store.register("o", b"")
    store.submit_within(app.connection, "a", b"x")
    app.execute("savepoint here")
    store.submit_within(app.connection, "b", b"x")
    app.execute("rollback to savepoint here")
    store.submit_within(app.connection, "c", b"x")
    app.connection.commit()

    assert store.counts().fresh == 2
    assert [lease.id for lease in store.claim("o", "fresh", 9)] == ["a", "c"]


def test_nothing_is_committed_by_a_request(store, app):
    app.order(1)

    store.submit_within(app.connection, "a", b"x")
    store.submit_within(app.connection, "a", b"x")

    assert app.in_transaction()
    app.connection.rollback()
    assert app.orders() == []


def test_answers_are_those_of_submit(store, app):
    store.submit("before", b"first")
    store.submit("answered", b"x")
    store.cancel("answered", b"m")

    assert store.submit_within(app.connection, "a", b"x") == "new"
    assert store.submit_within(app.connection, "a", b"x") == "duplicate"
    assert store.submit_within(app.connection, "before", b"second") == "duplicate"
    assert store.submit_within(app.connection, "answered", b"x") == "done"
    app.connection.commit()

    assert store.read("before") == b"first"
    assert store.counts().fresh == 2
    assert store.submit("a", b"x") == "duplicate"


def test_an_answer_that_is_kept_is_done(store, app):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    store.settle("o", [Settlement(id="a", epoch=1, message=b"m", receipt=3600.0)])

    assert store.submit_within(app.connection, "a", b"x") == "done"


def test_a_request_may_be_due_later(store, app):
    far = time.time() + 3600

    store.submit_within(app.connection, "later", b"x", due=far)
    store.submit_within(app.connection, "past", b"x", due=time.time() - 3600)
    app.connection.commit()

    assert store.counts() == Counts(fresh=1, suspect=0, later=1, held=0)


def test_requests_of_one_transaction_keep_their_order(store, app):
    store.register("o", b"")
    for id in "abc":
        store.submit_within(app.connection, id, b"x")
    app.connection.commit()

    assert [lease.id for lease in store.claim("o", "fresh", 9)] == ["a", "b", "c"]


def test_the_commit_wakes_who_waits(backend, store, app):
    woken = []
    while store.wait(0):
        pass
    waiter = threading.Thread(target=lambda: woken.append(store.wait(30)))
    waiter.start()
    other = backend.another()

    other.submit_within(app.connection, "a", b"x")
    app.connection.commit()
    waiter.join()

    assert woken == [True]
    other.close()


def test_a_cursor_that_is_being_read_goes_on(store, app):
    for n in (1, 2, 3):
        app.order(n)
    cursor = app.execute("select n from orders order by n")
    first = cursor.fetchone()

    store.submit_within(app.connection, "a", b"x")

    assert [first, *cursor.fetchall()] == [(1,), (2,), (3,)]


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_store_without_transactions_names_those_that_have_them(kind, request):
    server = request.getfixturevalue("redis_server") if kind == "redis" else None
    backend = open_backend(kind, server)

    with pytest.raises(ConfigurationError, match="SqliteHuey and PostgresHuey do"):
        backend.store.submit_within(object(), "a", b"x")

    assert backend.store.counts() == NOTHING
    backend.close()


def test_something_that_is_no_connection_is_refused(store):
    with pytest.raises(ConfigurationError, match="not a object"):
        store.submit_within(object(), "a", b"x")


# SQLite


@pytest.fixture
def sqlite(tmp_path):
    opened = open_sqlite(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def connect(sqlite):
    """Opens connections to the file, and closes them."""
    made = []

    def open_one(filename=None, **options):
        made.append(sqlite3.connect(filename or sqlite.storage.filename, **options))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def test_a_sqlite_connection_in_autocommit_is_told_to_begin(sqlite, connect):
    connection = connect(isolation_level=None)

    with pytest.raises(ConfigurationError, match="begin a transaction"):
        sqlite.store.submit_within(connection, "a", b"x")

    connection.execute("begin")
    assert sqlite.store.submit_within(connection, "a", b"x") == "new"
    connection.execute("commit")
    assert sqlite.store.counts() == ONE


@pytest.mark.parametrize("level", ["", "IMMEDIATE"])
def test_a_connection_that_begins_by_itself_is_let_to(sqlite, connect, level):
    connection = connect(isolation_level=level)

    assert sqlite.store.submit_within(connection, "a", b"x") == "new"

    assert connection.in_transaction
    assert sqlite.store.counts() == NOTHING
    connection.commit()
    assert sqlite.store.counts() == ONE


@pytest.mark.skipif(not hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL"), reason="before Python 3.12")
def test_the_autocommit_of_newer_connections_is_understood(sqlite, connect):
    with pytest.raises(ConfigurationError, match="begin a transaction"):
        sqlite.store.submit_within(connect(autocommit=True), "a", b"x")

    connection = connect(autocommit=False)
    assert sqlite.store.submit_within(connection, "a", b"x") == "new"
    connection.commit()

    assert sqlite.store.counts() == ONE


def test_the_settings_of_a_sqlite_connection_stay_as_they_are(sqlite, connect):
    class Mine(sqlite3.Connection):
        def cursor(self, *args):
            raise AssertionError("the application's own kind of cursor")

    connection = connect(isolation_level="DEFERRED", factory=Mine)
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes

    sqlite.store.submit_within(connection, "a", b"x")
    assert sqlite.store.submit_within(connection, "a", b"x") == "duplicate"

    assert connection.row_factory is sqlite3.Row
    assert connection.text_factory is bytes
    assert connection.isolation_level == "DEFERRED"


def test_the_same_sqlite_file_by_another_name_is_the_same(sqlite, connect, tmp_path):
    (tmp_path / "linked.db").symlink_to(sqlite.storage.filename)
    connection = connect(f"file:{tmp_path}/linked.db?mode=rw", uri=True)

    assert sqlite.store.submit_within(connection, "a", b"x") == "new"


@pytest.mark.parametrize("other", ["other.db", ":memory:"])
def test_another_sqlite_database_is_refused(sqlite, connect, tmp_path, other):
    connection = connect(other if other == ":memory:" else str(tmp_path / other))

    with pytest.raises(ConfigurationError, match="cannot span both"):
        sqlite.store.submit_within(connection, "a", b"x")

    assert not connection.in_transaction


def test_a_sqlite_database_that_is_only_attached_is_refused(sqlite, connect, tmp_path):
    connection = connect(str(tmp_path / "other.db"))
    connection.execute("attach ? as huey", (sqlite.storage.filename,))

    with pytest.raises(ConfigurationError, match="cannot span both"):
        sqlite.store.submit_within(connection, "a", b"x")


def test_a_temporary_table_of_the_same_name_is_not_taken_for_ours(sqlite, connect):
    sqlite.store.counts()
    connection = connect()
    connection.execute("create temp table patient_request (queue, id, sealed, due)")

    sqlite.store.submit_within(connection, "a", b"x")
    connection.commit()

    assert sqlite.store.counts() == ONE


def test_a_transaction_that_keeps_the_tables_from_being_made_is_told_so_at_once(tmp_path):
    storage = SqliteStorage("q", str(tmp_path / "huey.db"))
    store = store_for(storage)
    connection = sqlite3.connect(storage.filename, isolation_level=None)
    connection.execute("begin immediate")

    # Else it would wait for itself until the patience for locks ends.
    with pytest.raises(ConfigurationError, match="tables of huey_patient are not there yet"):
        store.submit_within(connection, "a", b"x")

    connection.execute("rollback")
    connection.execute("begin")
    assert store.submit_within(connection, "a", b"x") == "new"
    connection.close()
    store.close()
    storage.close()


def test_a_transaction_older_than_the_tables_is_told_to_begin_again(sqlite, connect):
    connection = connect(isolation_level=None)
    connection.execute("begin")
    connection.execute("select count(*) from task").fetchall()

    with pytest.raises(StoreUnavailable, match="roll it back and begin it again"):
        sqlite.store.submit_within(connection, "a", b"x")

    connection.execute("rollback")
    connection.execute("begin")
    assert sqlite.store.submit_within(connection, "a", b"x") == "new"


def test_a_locked_sqlite_file_is_unavailable(sqlite, connect):
    sqlite.store.counts()
    connection, rival = connect(timeout=0), connect(isolation_level=None)
    rival.execute("begin immediate")

    with pytest.raises(StoreUnavailable, match="locked"):
        sqlite.store.submit_within(connection, "a", b"x")


def test_the_hour_of_a_tombstone_counts_within_a_transaction_too(sqlite, connect):
    now = [1e9]
    store = SqliteStore(sqlite.storage, clock=lambda: now[0])
    store.submit("a", b"x")
    store.cancel("a", b"m")
    connection = connect()

    assert store.submit_within(connection, "a", b"x") == "done"
    now[0] += 3601
    assert store.submit_within(connection, "a", b"x") == "new"
    store.close()


# PostgreSQL


@pytest.fixture
def postgres(postgres_server):
    opened = open_backend("postgres", postgres_server)
    yield opened
    opened.close()


@pytest.fixture
def session(postgres_server):
    """Opens sessions of the application, and closes them."""
    _, connect = APPS["postgres"]
    made = []

    def open_one(**options):
        made.append(connect(postgres_server, **options))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def test_a_postgres_connection_in_autocommit_is_told_to_begin(postgres, session):
    connection = session(autocommit=True)

    with pytest.raises(ConfigurationError, match=r"with connection\.transaction\(\)"):
        postgres.store.submit_within(connection, "a", b"x")

    with connection.transaction():
        assert postgres.store.submit_within(connection, "a", b"x") == "new"
    assert postgres.store.counts() == ONE


def test_a_transaction_that_has_failed_is_told_to_be_rolled_back(postgres, session):
    connection = session()
    with pytest.raises(psycopg.Error):
        connection.execute("select 1/0")

    with pytest.raises(ConfigurationError, match="must be rolled back"):
        postgres.store.submit_within(connection, "a", b"x")


def test_the_settings_of_a_postgres_connection_stay_as_they_are(postgres, session):
    connection = session(row_factory=dict_row, cursor_factory=psycopg.RawCursor)
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.prepare_threshold = 0

    for id in "ab":
        postgres.store.submit_within(connection, id, b"x")

    assert connection.row_factory is dict_row
    assert connection.cursor_factory is psycopg.RawCursor
    assert connection.isolation_level == psycopg.IsolationLevel.SERIALIZABLE
    statements = connection.execute("select statement from pg_prepared_statements").fetchall()
    assert not [one for one in statements if "patient" in one["statement"]]
    connection.commit()
    assert postgres.store.counts().fresh == 2


def test_the_postgres_tables_are_found_whatever_the_search_path(postgres, session):
    connection = session()
    connection.execute("create schema if not exists elsewhere")
    connection.execute("set local search_path to elsewhere")

    assert postgres.store.submit_within(connection, "a", b"x") == "new"

    connection.commit()
    assert postgres.store.counts() == ONE


def test_another_postgres_database_is_refused_and_its_transaction_goes_on(postgres, session):
    admin = session(autocommit=True)
    admin.execute("create database another")
    connection = session(dbname="another")

    with pytest.raises(ConfigurationError, match="cannot span both"):
        postgres.store.submit_within(connection, "a", b"x")

    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()
    admin.execute("drop database another")


def test_a_server_that_was_restarted_since_is_looked_at_again(postgres, session):
    postgres.store.submit_within(session(), "a", b"x")
    postgres.store._outbox._place = postgres.store._outbox._place._replace(server=0)
    connection = session()

    assert postgres.store.submit_within(connection, "b", b"x") == "new"

    connection.commit()
    assert postgres.store.counts() == ONE


def test_no_row_of_the_postgres_counter_that_others_need_is_locked(postgres, session):
    # Else every submit and every settlement would wait for the application's commit.
    postgres.store.counts()
    counter, queue = (
        postgres.store._sql.request.replace("request", "counter"),
        postgres.storage.name,
    )
    connection, rival = session(), session()
    rival.execute(
        f"insert into {counter} (queue, shard) select %s, generate_series(0, 15)", (queue,)
    )
    rival.commit()

    postgres.store.submit_within(connection, "a", b"x")

    query = f"select 1 from {counter} where queue = %s and shard < 16 for update skip locked"
    assert len(rival.execute(query, (queue,)).fetchall()) == 16


def test_a_beat_adds_up_what_postgres_transactions_have_counted(postgres, session):
    store, connection = postgres.store, session()
    store.register("o", b"")
    store.submit("a", b"x")
    for n in range(5):
        store.submit_within(connection, f"r{n}", b"x", due=4e9 if n % 2 else None)
    connection.commit()
    expected = Counts(fresh=4, suspect=0, later=2, held=0)
    assert store.counts() == expected

    store.beat("o", b"")

    assert store.counts() == expected
    counter = store._sql.request.replace("request", "counter")
    query = f"select shard from {counter} where queue = %s and shard >= 16"
    assert connection.execute(query, (postgres.storage.name,)).fetchall() == []


def test_a_transaction_that_cannot_be_serialized_is_unavailable(postgres, session):
    postgres.store.submit("a", b"x")
    connection = session()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("select 1")
    postgres.store.submit("b", b"x")

    with pytest.raises(StoreUnavailable, match="roll the transaction back") as caught:
        postgres.store.submit_within(connection, "b", b"x")

    assert isinstance(caught.value.__cause__, psycopg.errors.SerializationFailure)
