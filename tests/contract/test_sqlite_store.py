"""What only the SQLite store must do: a file that is locked, full, gone or long."""

from __future__ import annotations

import os
import sqlite3
import time

import pytest
from huey.storage import SqliteStorage
from support.backends import open_sqlite
from support.receipts import HOUR, kept

from huey_patient.errors import StoreUnavailable
from huey_patient.stores import store_for
from huey_patient.stores.base import TOMBSTONE_SECONDS, Counts, Fenced, Settlement
from huey_patient.stores.sqlite import SqliteStore


@pytest.fixture
def backend(tmp_path):
    opened = open_sqlite(tmp_path)
    yield opened
    opened.close()


def rows(backend, table):
    return backend.storage.sql(f"select * from {table}", results=True)


def test_nothing_is_left_of_answered_requests_but_their_tombstones(backend, store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.submit("b", b"x", due=4e9)
    store.claim("o", "fresh", 2)
    store.settle("o", [Settlement(id="a", epoch=1, message=b"m")])
    store.cancel("b", b"m")
    kept(store, "c")
    store.confirm("c")

    assert rows(backend, "patient_request") == rows(backend, "patient_receipt") == []
    assert [(id, epoch) for _, id, epoch, _ in rows(backend, "patient_tomb")] == [
        ("a", 1),
        ("b", -1),
        ("c", 1),
    ]


def test_after_an_hour_tombstones_and_reaped_names_are_forgotten(backend):
    now = [1e9]
    store = SqliteStore(backend.storage, clock=lambda: now[0])
    store.register("o", b"")
    store.submit("a", b"x")
    store.cancel("a", b"m")
    store.reap("o", 1)

    now[0] += TOMBSTONE_SECONDS - 1
    assert store.submit("a", b"x") == "done"
    with pytest.raises(Fenced):
        store.register("o", b"")

    now[0] += 2
    assert store.submit("a", b"x") == "new"
    store.register("o", b"")
    store.settle("o", [])
    assert rows(backend, "patient_tomb") == []
    store.close()


@pytest.mark.parametrize("end", ["confirm", "discard"])
def test_the_hour_of_an_answer_that_is_kept_begins_when_it_is_forgotten(backend, end):
    now = [1e9]
    store = SqliteStore(backend.storage, clock=lambda: now[0])
    kept(store)
    now[0] += 100 * TOMBSTONE_SECONDS
    store.settle("o", [])
    store.give_up("a")
    assert store.dead_letters()[0].since == now[0]
    assert store.submit("a", b"x") == "done"

    assert getattr(store, end)("a")

    now[0] += TOMBSTONE_SECONDS - 1
    assert store.submit("a", b"x") == "done"
    now[0] += 2
    assert store.submit("a", b"x") == "new"
    store.close()


def test_an_owner_is_silent_since_its_last_beat(backend):
    now = [1e9]
    store = SqliteStore(backend.storage, clock=lambda: now[0])
    store.register("o", b"")
    now[0] += 100
    assert store.owners()[0].silent == 100
    store.beat("o", b"")
    now[0] += 7
    assert store.owners()[0].silent == 7
    store.register("o", b"")
    now[0] -= 5

    assert store.owners()[0].silent == 0
    store.close()


def test_a_look_for_overdue_answers_takes_no_lock(tmp_path, monkeypatch):
    backend = open_sqlite(tmp_path)
    monkeypatch.setattr(type(backend.store._link), "busy_timeout", 0.01)
    kept(backend.store)
    other = sqlite3.connect(backend.storage.filename, isolation_level=None)
    other.execute("begin immediate")

    assert backend.store.redeliver_due(9, HOUR, 9) == (0, 0)

    other.close()
    backend.close()


def test_many_due_requests_are_brought_in_portions(backend, monkeypatch):
    monkeypatch.setattr("huey_patient.stores.sqlite.HOUSEKEEPING", 2)
    now = [1e9]
    store = SqliteStore(backend.storage, clock=lambda: now[0])
    store.register("o", b"")
    for id in "abcde":
        store.submit(id, b"x", due=now[0] + 10)
    now[0] += 20

    assert store.counts() == Counts(fresh=2, suspect=0, later=3, held=0)
    claimed = [[lease.id for lease in store.claim("o", "fresh", 9)] for _ in range(4)]

    assert claimed == [["a", "b"], ["c", "d"], ["e"], []]
    store.close()


def test_a_locked_file_is_unavailable_and_says_so(tmp_path, monkeypatch):
    backend = open_sqlite(tmp_path)
    monkeypatch.setattr(type(backend.store._link), "busy_timeout", 0.01)
    backend.store.submit("a", b"x")
    other = sqlite3.connect(backend.storage.filename, isolation_level=None)
    other.execute("begin exclusive")

    with pytest.raises(StoreUnavailable, match="look for a long transaction"):
        backend.store.submit("b", b"x")

    other.execute("rollback")
    other.close()
    assert backend.store.submit("b", b"x") == "new"
    backend.close()


def test_a_consumer_waits_no_longer_for_a_lock_than_it_is_told(tmp_path):
    backend = open_sqlite(tmp_path)
    backend.store.limit_patience(60)
    assert backend.store._link.busy_timeout == 30
    backend.store.limit_patience(0.01)
    backend.store.submit("a", b"x")
    other = sqlite3.connect(backend.storage.filename, isolation_level=None)
    other.execute("begin exclusive")

    with pytest.raises(StoreUnavailable, match="look for a long transaction"):
        backend.store.submit("b", b"x")

    other.close()
    backend.close()


def test_a_full_disk_is_unavailable_and_nothing_is_half_done(backend, store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    db = store._link._mine().db
    [pages] = db.execute("pragma page_count").fetchone()
    db.execute(f"pragma max_page_count = {pages}")
    large = Settlement(id="a", epoch=1, message=b"x" * 100_000)

    with pytest.raises(StoreUnavailable, match="free some disk space"):
        store.settle("o", [large])

    assert store.counts().held == 1
    assert backend.queued() == []
    db.execute("pragma max_page_count = 1000000")
    assert store.settle("o", [large]) == ["ok"]


def test_a_file_that_may_not_be_written_says_so(backend, store):
    store.submit("a", b"x")
    storage = SqliteStorage("q", f"file:{backend.storage.filename}?mode=ro", create_tables=False)
    storage._conn_kwargs = {"uri": True}
    reader = store_for(storage)

    assert reader.read("a") == b"x"
    with pytest.raises(StoreUnavailable, match="needs write permission"):
        reader.submit("b", b"x")

    reader.close()


def test_a_file_without_hueys_tables_says_so(tmp_path):
    storage = SqliteStorage("q", str(tmp_path / "huey.db"), create_tables=False)
    store = store_for(storage)
    store.submit("a", b"x")

    with pytest.raises(StoreUnavailable, match="create_tables=True"):
        store.cancel("a", b"m")

    assert store.counts().fresh == 1
    store.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_deleted_or_replaced_is_noticed(backend, store, replaced):
    store.submit("a", b"x")
    os.rename(backend.storage.filename, backend.storage.filename + ".old")
    if replaced:
        open(backend.storage.filename, "ab").close()

    for call in (lambda: store.submit("b", b"x"), store.counts, lambda: store.wait(1)):
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            call()


@pytest.mark.parametrize(
    ("put_there", "said"),
    [
        (lambda folder: folder.write_text("a file"), "deleted or replaced"),
        # Stands for all the other reasons that a system may have (EACCES, ESTALE, EIO).
        (lambda folder: folder.symlink_to(folder), "when the file system is well again"),
    ],
    ids=["file", "loop"],
)
def test_a_folder_that_cannot_be_looked_into_is_unavailable(tmp_path, put_there, said):
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    folder.mkdir()
    backend = open_sqlite(folder)
    store = backend.store
    store.submit("a", b"x")
    folder.rename(aside)
    put_there(folder)

    for call in (lambda: store.submit("b", b"x"), store.counts, lambda: store.wait(1)):
        with pytest.raises(StoreUnavailable, match=said):
            call()

    folder.unlink()
    aside.rename(folder)
    assert store.submit("b", b"x") == "new"
    assert store.counts().fresh == 2
    backend.close()


@pytest.mark.parametrize("beside", ["-wal", "-shm"])
@pytest.mark.parametrize("replaced", [True, False])
def test_what_sqlite_keeps_beside_the_file_is_missed_too(backend, store, beside, replaced):
    store.submit("a", b"x")
    os.rename(backend.storage.filename + beside, backend.storage.filename + ".old")
    if replaced:
        open(backend.storage.filename + beside, "ab").close()

    for call in (lambda: store.submit("b", b"x"), store.counts, lambda: store.wait(1)):
        with pytest.raises(StoreUnavailable, match=f"huey.db{beside} was deleted or replaced"):
            call()


def test_what_sqlite_keeps_beside_the_file_may_go_when_nobody_uses_it(tmp_path):
    backend = open_sqlite(tmp_path)
    backend.store.submit("a", b"x")
    backend.storage.close()
    backend.store._link.before_fork()  # The last connection is closed, and the two go.
    assert [file.name for file in tmp_path.iterdir()] == ["huey.db"]
    backend.store._link.after_fork()

    assert backend.store.submit("b", b"x") == "new"
    backend.close()


def test_a_file_that_is_no_database_says_so(tmp_path):
    (tmp_path / "huey.db").write_bytes(b"something else" * 1000)
    store = store_for(SqliteStorage("q", str(tmp_path / "huey.db"), create_tables=False))

    with pytest.raises(StoreUnavailable, match="check the filename"):
        store.submit("a", b"x")

    store.close()


@pytest.mark.parametrize(("fsync", "level"), [(None, 2), (True, 2), (False, 0)])
def test_it_syncs_as_huey_was_told_to(tmp_path, fsync, level):
    storage = SqliteStorage("q", str(tmp_path / "huey.db"), fsync=fsync)
    store = store_for(storage)

    with store._link.read() as db:
        assert db.execute("pragma synchronous").fetchone() == (level,)
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)

    store.close()
    storage.close()


def test_it_syncs_as_the_pragmas_of_cysqlite_say(tmp_path):
    storage = SqliteStorage("q", str(tmp_path / "huey.db"))
    storage._conn_kwargs = {"pragmas": {"synchronous": 0}}
    store = store_for(storage)

    with store._link.read() as db:
        assert db.execute("pragma synchronous").fetchone() == (0,)

    store.close()
    storage.close()


def test_no_call_takes_longer_for_a_longer_backlog(tmp_path):
    short, long = (steps_with_backlog_of(tmp_path, n) for n in (300, 6000))

    # In steps of SQLite's machine: the trees are one level deeper, no more.
    for call, steps in long.items():
        assert steps <= 1.2 * short[call] + 3, call


def steps_with_backlog_of(tmp_path, length) -> dict[str, int]:
    backend = open_sqlite(tmp_path / "", f"q{length}")
    store = backend.store
    store.register("o", b"")
    with store._link.write() as db:
        db.executemany(
            "insert into patient_request (queue, id, sealed, due, strikes)"
            " values (?, ?, 'x', ?, ?)",
            [
                (backend.storage.name, f"r{n}", 4e9 if n % 3 == 0 else None, int(n % 3 == 1))
                for n in range(length)
            ],
        )
        db.executemany(
            "insert into patient_receipt (queue, id, message, at, state) values (?, ?, 'x', ?, ?)",
            [
                (backend.storage.name, f"k{n}", 4e9 if n % 2 else 1, "dead" if n % 3 else "waiting")
                for n in range(length)
            ],
        )
    db = store._link._mine().db
    steps = {}
    for name, call in {
        "submit": lambda: store.submit("a", b"x"),
        "claim": lambda: store.claim("o", "fresh", 20),
        "claim suspects": lambda: store.claim("o", "suspect", 20),
        "beat": lambda: store.beat("o", b""),
        "settle": lambda: store.settle("o", [Settlement(id="r2", epoch=1, message=b"m")]),
        "release": lambda: store.release("o", [("r5", 1)], strike=True),
        "counts": store.counts,
        "held": store.held,
        "owners": store.owners,
        "wait": lambda: store.wait(0),
        "cancel": lambda: store.cancel("r100", b"m"),
        "reap": lambda: store.reap("o", 2),
        "keep": lambda: store.settle(
            "o", [Settlement(id="r8", epoch=0, message=b"m", receipt=HOUR)]
        ),
        "redeliver": lambda: store.redeliver_due(20, HOUR, 9),
        "begin": lambda: store.begin("k3", HOUR),
        "extend": lambda: store.extend("k3", HOUR),
        "postpone": lambda: store.postpone("k3", HOUR),
        "confirm": lambda: store.confirm("k3"),
        "give up": lambda: store.give_up("k9"),
        "dead letters": store.dead_letters,
        "revive": lambda: store.revive("k9", HOUR),
        "discard": lambda: store.discard("k1"),
    }.items():
        ticks = []
        db.set_progress_handler(lambda ticks=ticks: ticks.append(1) and None, 50)
        call()
        db.set_progress_handler(None, 50)
        steps[name] = len(ticks)
    backend.close()
    return steps


def test_a_long_wait_can_be_ended_by_the_clock_of_due_requests(store):
    store.register("o", b"")
    store.submit("a", b"x", due=time.time() + 0.05)

    while not store.claim("o", "fresh", 1):
        store.wait(0.05)

    assert store.held()[0].id == "a"
