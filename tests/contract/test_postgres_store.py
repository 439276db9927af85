"""What only the PostgreSQL store must do: rivals in mid-transaction, lost sessions."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

import psycopg
import pytest
from huey.storage import PostgresStorage
from psycopg.rows import dict_row
from support.backends import dsn, open_backend
from support.receipts import HOUR, kept, kept_all
from support.servers import free_port

from huey_patient.errors import StoreUnavailable
from huey_patient.stores import postgres_link, store_for
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


ONE_MESSAGE = {"messages": [b"m"], "priorities": [0.0], "receipts": [None]}


def run_in(db, store, statement, **params):
    """Run one of the store's statements without committing it."""
    return db.execute(getattr(store._sql, statement), {**store._always, **params}).fetchall()


def claim_in(db, store, owner, most=1):
    return run_in(db, store, "claim", owner=owner, lane="fresh", most=most, after_due=True)


def settle_in(db, store, id):
    return run_in(db, store, "settle", ids=[id], epochs=[1], **ONE_MESSAGE)


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


def deliver_in(db, store, statement, **params):
    """The same for a statement of the answers that are kept."""
    named = getattr(store._sql.receipts, statement)
    return db.execute(named, {**store._always, **params}).fetchall()


def test_what_another_is_just_redelivering_is_passed_by(backend, store, rival):
    kept_all(store, "ab", receipt=0.0)
    backend.queued()
    deliver_in(rival, store, "redeliver", limit=1, seconds=HOUR, most=9, doublings=8)

    assert store.redeliver_due(9, HOUR, 9) == (1, 0)

    assert backend.queued() == [b"b"]
    rival.commit()
    assert backend.queued() == [b"a"]


def test_an_answer_that_was_extended_meanwhile_is_not_redelivered(backend, store, rival):
    # The answer is overdue in the eyes of one who began to look before.
    kept(store)
    store.begin("a", 0.0)
    backend.queued()
    rival.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    rival.execute(
        f"update {store._sql.receipt} set at = at + 3600 where queue = %s", (backend.storage.name,)
    )

    assert store.redeliver_due(9, HOUR, 9) == (0, 0)

    rival.commit()
    assert store.redeliver_due(9, HOUR, 9) == (0, 0)
    assert backend.queued() == []


def test_of_two_that_begin_at_once_one_runs(store, rival):
    kept(store)
    deliver_in(rival, store, "begin", id="a", seconds=HOUR)

    beginning = Waiting(rival, lambda: store.begin("a", HOUR))

    assert beginning.result == "busy"


def test_who_begins_while_it_is_confirmed_hears_gone(store, rival):
    kept(store)
    deliver_in(rival, store, "forget", id="a", states=["waiting", "running", "dead"])

    beginning = Waiting(rival, lambda: store.begin("a", HOUR))

    assert beginning.result == "gone"


def test_who_confirms_while_it_is_given_up_has_delivered_it(store, rival):
    kept(store)
    deliver_in(rival, store, "give_up", id="a")

    confirming = Waiting(rival, lambda: store.confirm("a"))

    assert confirming.result is True
    assert store.counts() == Counts(fresh=0, suspect=0, later=0, held=0)


def test_who_revives_while_it_is_discarded_finds_nothing(backend, store, rival):
    kept(store)
    store.give_up("a")
    backend.queued()
    deliver_in(rival, store, "forget", id="a", states=["dead"])

    reviving = Waiting(rival, lambda: store.revive("a", HOUR))

    assert reviving.result is False
    assert backend.queued() == []


def test_an_owner_is_silent_since_its_last_beat(backend, store, rival):
    store.register("o", b"")

    def beaten_before(seconds):
        rival.execute(
            f"update {store._sql.request.replace('request', 'owner')}"
            " set beat_at = extract(epoch from clock_timestamp()) - %s where queue = %s",
            (seconds, backend.storage.name),
        )
        rival.commit()

    beaten_before(100)
    assert 100 <= store.owners()[0].silent < 130
    store.beat("o", b"")
    assert store.owners()[0].silent < 30
    beaten_before(100)
    store.register("o", b"")
    assert store.owners()[0].silent < 30
    beaten_before(-100)
    assert store.owners()[0].silent == 0


@pytest.mark.parametrize("call", ["redeliver_due", "revive"])
def test_hueys_workers_are_woken_by_what_is_delivered_again(backend, store, rival, call):
    kept(store, receipt=0.0)
    if call == "revive":
        store.give_up("a")
    rival.autocommit = True
    rival.execute(f'listen "{backend.storage.channel}"')

    if call == "revive":
        store.revive("a", HOUR)
    else:
        store.redeliver_due(9, HOUR, 9)

    assert [one.payload for one in rival.notifies(timeout=30, stop_after=1)] == [""]


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


def test_a_reaper_that_was_paused_beyond_its_time_may_reap_again(store, rival, monkeypatch):
    begin = postgres_link._BEGIN.replace("timeout = '10s'", "timeout = '1ms'", 1)
    monkeypatch.setattr(postgres_link, "_BEGIN", begin)
    in_turn = store._link.ask_in_turn
    rival.autocommit = True

    def paused_between(statements, params):
        def each():
            yield statements[0]
            while rival.execute(IDLE_IN_TRANSACTION).fetchall():
                pass
            yield statements[1]

        return in_turn(each(), params)

    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    monkeypatch.setattr(store._link, "ask_in_turn", paused_between)

    with pytest.raises(StoreUnavailable, match="calling again is safe") as raised:
        store.reap("o", 1)

    assert raised.value.__cause__.sqlstate == "25P03"
    monkeypatch.undo()
    assert store.reap("o", 1)
    assert store.counts() == Counts(fresh=0, suspect=1, later=0, held=0)


IDLE_IN_TRANSACTION = "select 1 from pg_stat_activity where state = 'idle in transaction'"


@pytest.mark.parametrize(
    "state",
    # A transaction that took too long, one that failed before, an error of the server's
    # own, a damaged index or page, a feature that this server lacks, one of an extension.
    ["25P04", "25P02", "XX000", "XX002", "XX001", "0A000", "58030", "HV000"],
)
def test_whatever_state_the_server_is_in_the_store_is_unavailable(store, state):
    with pytest.raises(StoreUnavailable, match="calling again is safe"):
        store._link.ask(failing_with(state), {})

    assert store.submit("a", b"x") == "new"


@pytest.mark.parametrize("state", ["42601", "23505", "22P02"])
def test_a_mistake_of_ours_is_not_taken_for_a_state_of_the_server(store, state):
    with pytest.raises((psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.DataError)):
        store._link.ask(failing_with(state), {})


def failing_with(state):
    return f"do $$ begin raise exception 'as the test wants' using errcode = '{state}'; end $$"


@contextlib.contextmanager
def stopped(pids):
    """These processes are there, and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def sessions_beside(rival):
    rival.autocommit = True
    return [
        pid
        for (pid,) in rival.execute(
            "select pid from pg_stat_activity"
            " where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
    ]


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(postgres_link.Link, "patience", 0.2)


def test_a_consumer_waits_no_longer_than_it_is_told(store, rival):
    store.limit_patience(60)
    assert store._link.patience == 10
    store.limit_patience(0.2)
    store.submit("a", b"x")

    with stopped(sessions_beside(rival)):
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s"):
            store.submit("b", b"x")


@pytest.mark.usefixtures("hurried")
def test_a_server_process_that_is_stopped_is_given_up_and_replaced(store, rival):
    store.submit("a", b"x")

    with stopped(sessions_beside(rival)):
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s"):
            store.submit("b", b"x")
        assert store.submit("c", b"x") == "new"

    assert store.submit("b", b"x") in ("new", "duplicate")
    assert store.counts().fresh == 3


@pytest.mark.usefixtures("hurried")
def test_a_statement_that_was_given_up_keeps_no_server_process(store, rival):
    run_in(rival, store, "submit", id="a", sealed=b"x", due=None)

    with pytest.raises(StoreUnavailable, match="no answer within"):
        store.submit("a", b"x")

    waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
    while rival.execute(waiting).fetchall():
        rival.execute("select pg_stat_clear_snapshot()")
    rival.commit()
    assert store.submit("a", b"x") == "duplicate"


@pytest.mark.usefixtures("hurried")
def test_a_server_that_never_says_hello_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = PostgresStorage("q", dsn=dsn(silent.getsockname()[1]), create_tables=False)
        store = store_for(storage)

        with pytest.raises(StoreUnavailable, match="timeout expired"):
            store.submit("a", b"x")

        store.close()


@pytest.mark.parametrize("where", ["dsn", "keyword"])
def test_who_says_how_long_to_connect_is_heard(postgres_server, where):
    said = {"connect_timeout": 77} if where == "keyword" else {}
    place = dsn(postgres_server.port) + (" connect_timeout=77" if where == "dsn" else "")
    storage = PostgresStorage("q", dsn=place, create_tables=False, **said)
    store = store_for(storage)

    with store._link._pool().connection() as db:
        assert db.info.get_parameters()["connect_timeout"] == "77"

    store.close()


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


@pytest.mark.parametrize("end", ["confirm", "discard"])
def test_the_hour_of_an_answer_that_is_kept_begins_when_it_is_forgotten(store, rival, end):
    kept(store)
    store.give_up("a")
    age = f"update {store._sql.request} set answered_at = answered_at - 3601 where queue = %s"
    rival.execute(age, (store._always["queue"],))
    rival.commit()
    store.settle("o", [Settlement(id="other", epoch=1, message=b"m")])
    assert store.submit("a", b"x") == "done"

    assert getattr(store, end)("a")

    assert store.submit("a", b"x") == "done"
    rival.execute(age, (store._always["queue"],))
    rival.commit()
    assert store.submit("a", b"x") == "new"


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
    rival.execute(
        f"insert into {store._sql.receipt} (queue, id, message, priority, state, at)"
        " select %s, %s || n, '', 0, case n %% 3 when 0 then 'waiting' else 'dead' end,"
        " case n %% 2 when 0 then 1 else 4e9 end from generate_series(1, %s) n",
        (store._always["queue"], f"k{backlog}-", backlog),
    )
    for table in (store._sql.request, store._sql.receipt):
        rival.execute(f"analyze {table}")
    claimed = {"owner": "o", "lane": "fresh", "most": 10, "after_due": True}
    answer = {"ids": ["b600-4"], "epochs": [None], **ONE_MESSAGE}
    blocks = {}
    for statement, params in {
        "submit": {"id": "new", "sealed": b"", "due": None},
        "claim": claimed,
        "bring_due": {},
        "settle": answer,
        "release": {"owner": "o", "ids": ["b600-4"], "epochs": [1], "strikes": 1, "pause": None},
        "beat": {"owner": "o", "info": b""},
        "free": {"owner": "o"},
        "counts": {},
        "owners": {},
        "held": {"owner": None},
        "anything": {},
        "fold_counters": {},
        "settle_keeping": {**answer, "receipts": [HOUR]},
        "begin": {"id": "k600-3", "seconds": HOUR},
        "renew": {"id": "k600-3", "seconds": HOUR, "state": "waiting"},
        "forget": {"id": "k600-4", "states": ["dead"]},
        "give_up": {"id": "k600-3"},
        "redeliver": {"limit": 20, "seconds": HOUR, "most": 9, "doublings": 8},
        "dead_letters": {"limit": 100},
        "revive": {"id": "k600-4", "seconds": HOUR},
    }.items():
        named = getattr(store._sql, statement, None) or getattr(store._sql.receipts, statement)
        query = f"explain (analyze, buffers, format json) {named}"
        with rival.transaction(force_rollback=True):
            for _ in range(2):  # The first time also reads the catalogue.
                [[plan]] = rival.execute(query, {**store._always, **params}).fetchall()
        blocks[statement] = sum(plan[0]["Plan"][f"Shared {how} Blocks"] for how in ("Hit", "Read"))
    return blocks
