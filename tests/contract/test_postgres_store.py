"""What only the PostgreSQL store must do: rivals in mid-transaction, lost sessions."""

from __future__ import annotations

import contextlib
import threading

import psycopg
import pytest
from huey.storage import PostgresStorage
from psycopg.rows import dict_row
from support.backends import dsn, open_backend
from support.servers import free_port

from huey_patient.errors import StoreUnavailable
from huey_patient.stores import store_for
from huey_patient.stores.base import Counts, Fenced, Settlement


@pytest.fixture
def backend(postgres_server):
    opened = open_backend("postgres", postgres_server)
    yield opened
    opened.close()


@pytest.fixture
def rival(postgres_server):
    """A session of its own, in a transaction that the test ends."""
    with contextlib.closing(psycopg.connect(dsn(postgres_server.port))) as db:
        yield db


def run_in(db, store, statement, **params):
    """Run one of the store's statements without committing it."""
    return db.execute(getattr(store._sql, statement), {**store._always, **params}).fetchall()


def claim_in(db, store, owner, most=1):
    return run_in(db, store, "claim", owner=owner, lane="fresh", most=most, after_due=True)


def settle_in(db, store, id):
    return run_in(db, store, "settle", ids=[id], epochs=[1], messages=[b"m"], priorities=[0.0])


class Waiting:
    """A call in a thread, which waits for a lock of ``rival`` until that commits."""

    def __init__(self, rival, call):
        self.result = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()
        [blocker] = rival.execute("select pg_backend_pid()").fetchone()
        query = "select 1 from pg_stat_activity where %s = any(pg_blocking_pids(pid))"
        while not rival.execute(query, (blocker,)).fetchall():
            rival.execute("select pg_stat_clear_snapshot()")
            assert self._thread.is_alive()
        rival.commit()
        self._thread.join()

    def _run(self, call):
        try:
            self.result = call()
        except Exception as error:
            self.result = error


def test_a_reaper_waits_for_a_claim_in_flight_and_takes_what_it_took(store, rival):
    store.register("o", b"")
    store.submit("a", b"x")
    claim_in(rival, store, "o")

    reaping = Waiting(rival, lambda: store.reap("o", 1))

    assert reaping.result is True
    assert store.counts() == Counts(fresh=0, suspect=1, later=0, held=0)
    assert store.held() == []


def test_a_claim_waits_for_a_reaper_and_is_then_fenced(store, rival):
    store.register("o", b"")
    store.submit("a", b"x")
    run_in(rival, store, "fence", owner="o", seen=1)
    run_in(rival, store, "free", owner="o")

    claiming = Waiting(rival, lambda: store.claim("o", "fresh", 1))

    assert isinstance(claiming.result, Fenced)
    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=0)


def test_of_two_sweepers_at_once_one_wins(store, rival):
    store.register("o", b"")
    run_in(rival, store, "fence", owner="o", seen=1)

    reaping = Waiting(rival, lambda: store.reap("o", 1))

    assert reaping.result is False


def test_a_reaper_that_waited_for_a_beat_does_no_harm(store, rival):
    store.register("o", b"")
    run_in(rival, store, "beat", owner="o", info=b"")

    reaping = Waiting(rival, lambda: store.reap("o", 1))

    assert reaping.result is False
    assert store.owners()[0].beat == 2


def test_a_submit_repeated_while_its_request_is_settled_is_done(backend, store, rival):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    settle_in(rival, store, "a")

    submitting = Waiting(rival, lambda: store.submit("a", b"x"))

    assert submitting.result == "done"
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)
    assert backend.queued() == [b"m"]


def test_two_settlements_at_once_enqueue_one_message(backend, store, rival):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    settle_in(rival, store, "a")

    settling = Waiting(
        rival, lambda: store.settle("o", [Settlement(id="a", epoch=1, message=b"m")])
    )

    assert settling.result == ["again"]
    assert backend.queued() == [b"m"]


def test_a_settlement_that_waited_for_a_claim_is_stale(backend, store, rival):
    store.register("late", b"")
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("late", "fresh", 1)
    store.release("late", [("a", 1)], strike=False)
    claim_in(rival, store, "o")

    settling = Waiting(
        rival, lambda: store.settle("late", [Settlement(id="a", epoch=1, message=b"m")])
    )

    assert settling.result == ["stale"]
    assert backend.queued() == []
    assert store.counts().held == 1


def test_a_claim_does_not_wait_for_another_but_takes_the_next(store, rival):
    store.register("o", b"")
    store.register("p", b"")
    for id in "abc":
        store.submit(id, b"x")
    claim_in(rival, store, "o", most=2)

    assert [lease.id for lease in store.claim("p", "fresh", 9)] == ["c"]

    rival.commit()
    assert [one.owner for one in store.held()].count("o") == 2


def test_a_batch_notifies_hueys_workers_once(backend, store, rival):
    rival.autocommit = True
    rival.execute(f'listen "{backend.storage.channel}"')
    store.register("o", b"")
    for id in "abc":
        store.submit(id, b"x")
    store.claim("o", "fresh", 3)

    store.settle("o", [Settlement(id=id, epoch=1, message=b"m") for id in "abc"])
    store.settle("o", [Settlement(id=id, epoch=1, message=b"m") for id in "abc"])

    rival.execute("select pg_notify(%s, 'end')", (backend.storage.channel,))
    heard = []
    for notification in rival.notifies():
        if notification.payload == "end":
            break
        heard.append(notification.payload)
    assert heard == [""]


def test_sessions_ended_by_the_server_are_replaced(store, rival):
    store.submit("a", b"x")
    rival.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where pid <> pg_backend_pid() and backend_type = 'client backend'"
    )

    assert store.submit("b", b"x") == "new"
    assert store.counts().fresh == 2


def test_nothing_is_prepared_or_left_open_in_a_session(store):
    store.register("o", b"")
    for n in range(12):
        store.submit(f"r{n}", b"x")
    store.claim("o", "fresh", 3)
    store.reap("o", 2)
    store.reap("o", 1)

    with store._link._pool().connection() as db:
        assert db.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert db.execute("show lock_timeout").fetchone() == ("0",)


def test_connections_may_come_from_the_application(postgres_server):
    def connect():
        db = psycopg.connect(dsn(postgres_server.port), row_factory=dict_row)
        db.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        return db

    storage = PostgresStorage("own", connection=connect, table_prefix="o-wn", create_tables=False)
    with contextlib.closing(connect()) as db:
        for statement in storage.ddl:
            db.execute(statement)
        db.commit()
    store = store_for(storage)
    store.register("o", b"")
    store.submit("a", b"x")

    [lease] = store.claim("o", "fresh", 1)

    assert store.settle("o", [Settlement(id="a", epoch=lease.epoch, message=b"m")]) == ["ok"]
    assert store.reap("o", 1)
    store.close()
    storage.close()


def test_an_answered_request_keeps_nothing_but_its_id_and_epoch(backend, store, rival):
    store.register("o", b"")
    store.submit("a", b"secret")
    store.claim("o", "fresh", 1)
    store.settle("o", [Settlement(id="a", epoch=1, message=b"m")])

    query = f"select id, epoch, sealed, owner, due from {store._sql.request} where queue = %s"

    assert rival.execute(query, (backend.storage.name,)).fetchall() == [("a", 1, b"", None, None)]


def test_after_an_hour_tombstones_are_forgotten(backend, store, rival):
    store.register("o", b"")
    for id in "ab":
        store.submit(id, b"x")
        store.cancel(id, b"m")
    rival.execute(
        f"update {store._sql.request} set answered_at = answered_at - 3601 where queue = %s",
        (backend.storage.name,),
    )
    rival.commit()

    assert store.submit("a", b"again") == "new"
    assert [lease.epoch for lease in store.claim("o", "fresh", 9)] == [1]
    store.settle("o", [Settlement(id="a", epoch=1, message=b"m")])

    query = f"select id from {store._sql.request} where queue = %s"
    assert rival.execute(query, (backend.storage.name,)).fetchall() == [("a",)]


def test_many_due_requests_are_brought_and_take_their_places(backend, store, rival):
    store.register("o", b"")
    for id in "abc":
        store.submit(id, b"x", due=4e9)
    store.submit("d", b"x")
    rival.execute(
        f"update {store._sql.request} set due = 1 where queue = %s and due is not null",
        (backend.storage.name,),
    )
    rival.commit()

    assert store.counts() == Counts(fresh=4, suspect=0, later=0, held=0)
    assert [lease.id for lease in store.claim("o", "fresh", 9)] == ["a", "b", "c", "d"]
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=4)


def test_a_server_that_is_away_is_unavailable():
    storage = PostgresStorage("q", dsn=dsn(free_port()), create_tables=False)
    store = store_for(storage)

    for call in (
        lambda: store.submit("a", b"x"),
        lambda: store.reap("o", 1),
        lambda: store.wait(1),
    ):
        with pytest.raises(StoreUnavailable, match="calling again is safe"):
            call()

    store.close()
    storage.close()


def test_a_database_without_hueys_tables_says_so(postgres_server):
    storage = PostgresStorage(
        "q", dsn=dsn(postgres_server.port), table_prefix="bare", create_tables=False
    )
    store = store_for(storage)
    store.submit("a", b"x")

    with pytest.raises(StoreUnavailable, match="create_tables=True"):
        store.cancel("a", b"m")

    assert store.counts().fresh == 1
    store.close()
    storage.close()


def test_no_statement_reads_more_of_a_longer_backlog(store, backend, rival):
    store.register("o", b"")
    short = blocks_read(store, rival, 600)
    long = blocks_read(store, rival, 20_000)

    # The trees of the indexes are one level deeper, no more.
    for statement, blocks in long.items():
        assert blocks <= 1.5 * short[statement] + 10, statement


def blocks_read(store, rival, backlog) -> dict[str, int]:
    """Lengthen the backlog; return what each statement then touches, and undo that."""
    rival.execute(
        f"insert into {store._sql.request} (queue, id, sealed, due, strikes, answered_at)"
        " select %s, %s || n, '', case n %% 4 when 1 then 4e9 end, (n %% 4 = 2)::int,"
        " case n %% 4 when 3 then extract(epoch from now()) end"
        " from generate_series(1, %s) n",
        (store._always["queue"], f"b{backlog}-", backlog),
    )
    rival.execute(f"analyze {store._sql.request}")
    claimed = {"owner": "o", "lane": "fresh", "most": 10, "after_due": True}
    answer = {"ids": ["b600-4"], "epochs": [None], "messages": [b"m"], "priorities": [0.0]}
    blocks = {}
    for statement, params in {
        "submit": {"id": "new", "sealed": b"", "due": None},
        "claim": claimed,
        "bring_due": {},
        "settle": answer,
        "release": {"owner": "o", "ids": ["b600-4"], "epochs": [1], "strikes": 1},
        "beat": {"owner": "o", "info": b""},
        "free": {"owner": "o"},
        "counts": {},
        "owners": {},
        "held": {"owner": None},
        "anything": {},
    }.items():
        query = "explain (analyze, buffers, format json) " + getattr(store._sql, statement)
        with rival.transaction(force_rollback=True):
            for _ in range(2):  # The first time also reads the catalogue.
                [[plan]] = rival.execute(query, {**store._always, **params}).fetchall()
        blocks[statement] = sum(plan[0]["Plan"][f"Shared {how} Blocks"] for how in ("Hit", "Read"))
    return blocks
