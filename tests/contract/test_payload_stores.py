"""Each sentence of the payload store's contract, over every one of them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator

import pytest
from support.payloads import S3, SHELVES, Shelf, open_shelf

from huey_patient.payloads import PayloadStore, new_key
from huey_patient.payloads.in_fsspec import FsspecPayloads

DAY = 86_400.0
LARGE = os.urandom(300_000)


@pytest.fixture(params=SHELVES)
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    """One empty payload store of each kind; only its own server is started."""
    resource, _ = SHELVES[request.param]
    with open_shelf(request.param, resource and request.getfixturevalue(resource)) as opened:
        yield opened


def test_what_was_put_is_got_as_it_was_and_by_everybody(shelf: Shelf) -> None:
    key = new_key()

    shelf.store.put(key, LARGE)

    assert shelf.store.get(key) == LARGE
    assert shelf.again().get(key) == LARGE


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256))], ids=["empty", "nul", "all"])
def test_any_bytes_are_kept(shelf: Shelf, data: bytes) -> None:
    key = new_key()

    shelf.store.put(key, data)

    found = shelf.store.get(key)
    assert found == data
    assert type(found) is bytes


def test_what_was_never_put_is_not_there(shelf: Shelf) -> None:
    shelf.store.put(new_key(), b"another")

    assert shelf.store.get(new_key()) is None


def test_putting_again_replaces(shelf: Shelf) -> None:
    key = new_key()
    shelf.store.put(key, LARGE)

    shelf.store.put(key, b"second")

    assert shelf.again().get(key) == b"second"


def test_what_was_deleted_is_gone_and_nothing_else(shelf: Shelf) -> None:
    key, other = new_key(), new_key()
    shelf.store.put(key, b"x")
    shelf.store.put(other, b"y")

    shelf.store.delete(key)

    assert shelf.store.get(key) is None
    assert shelf.store.get(other) == b"y"


def test_deleting_what_is_not_there_is_no_error(shelf: Shelf) -> None:
    key = new_key()
    shelf.store.delete(key)
    shelf.store.put(key, b"x")
    shelf.store.delete(key)

    shelf.store.delete(key)

    assert shelf.again().get(key) is None


@pytest.mark.parametrize(
    "key",
    [
        *("", "x", "../../etc/passwd", "/etc/passwd", "C:\\x", "a" * 31, "a" * 33, "A" * 32),
        *("g" * 32, "a" * 32 + "\n", "\0" * 32, "a" * 15 + "/" + "a" * 16),
    ],
    ids=repr,
)
def test_a_key_that_is_none_of_ours_is_refused(shelf: Shelf, key: str) -> None:
    for call in (shelf.store.get, shelf.store.delete, lambda key: shelf.store.put(key, b"x")):
        with pytest.raises(ValueError, match="32 lower-case hex digits"):
            call(key)


def test_a_sweep_forgets_what_is_old_and_leaves_the_rest(shelf: Shelf) -> None:
    now = time.time()
    old = [new_key(now - 8 * DAY), new_key(now - 7.01 * DAY), new_key(0)]
    young = [new_key(now - 6.99 * DAY), new_key(), new_key(now + 30 * DAY)]
    for key in old + young:
        shelf.store.put(key, b"x")

    assert shelf.again().sweep(7 * DAY) == 3

    assert [shelf.store.get(key) for key in old] == [None] * 3
    assert [shelf.store.get(key) for key in young] == [b"x"] * 3
    assert shelf.store.sweep(7 * DAY) == 0


def test_an_empty_store_is_swept_too(shelf: Shelf) -> None:
    assert shelf.store.sweep(0.0) == 0


def test_many_are_swept_at_once(shelf: Shelf) -> None:
    keys = [new_key(1000 + n) for n in range(60)]
    for key in keys:
        shelf.store.put(key, b"x")

    assert shelf.store.sweep(DAY) == len(keys)
    assert not any(shelf.store.get(key) for key in keys)


def test_many_threads_may_use_it(shelf: Shelf) -> None:
    keys = [new_key() for _ in range(40)]
    wrong: list[object] = []
    ready = threading.Barrier(4)

    def work(mine: list[str]) -> None:
        try:
            ready.wait(20)
            for key in mine:
                shelf.store.put(key, key.encode())
                if shelf.store.get(key) != key.encode():
                    wrong.append(key)
                shelf.store.delete(key)
        except Exception as reason:
            wrong.append(reason)

    threads = [threading.Thread(target=work, args=(keys[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert [shelf.store.get(key) for key in keys] == [None] * len(keys)


def test_nobody_reads_half_of_an_object_that_is_being_replaced(shelf: Shelf) -> None:
    key = new_key()
    first, second = b"1" * 200_000, b"2" * 200_000
    shelf.store.put(key, first)
    ended = threading.Event()
    read: set[bytes] = set()

    def look() -> None:
        store = shelf.again()
        while not ended.is_set():
            read.add(store.get(key) or b"")

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(10):
        shelf.store.put(key, second)
        shelf.store.put(key, first)
    ended.set()
    reader.join()

    assert read <= {first, second}


def use(store: PayloadStore, key: str, data: bytes) -> bool:
    """Put, get and delete for a while; whether all was as it should be, and leave it put."""
    fine = True
    for n in range(30):
        store.put(key, data + bytes([n]))
        fine = fine and store.get(key) == data + bytes([n])
        store.delete(key)
    store.put(key, data)
    return fine


def in_the_child(store: PayloadStore, theirs: str, ours: str) -> None:
    fine = store.get(ours) is not None and use(store, theirs, b"of the child")
    os._exit(0 if fine else 1)


#: What a child process shares with its parent.
SHARED = [kind for kind in SHELVES if not kind.endswith("memory")]
ON_HUEY = [kind for kind in SHELVES if kind.startswith("huey-")]


@pytest.mark.parametrize("shelf", SHARED, indirect=True)
def test_a_forked_child_may_use_it_and_harms_nobody(shelf: Shelf) -> None:
    ours, theirs, mine = new_key(), new_key(), new_key()
    shelf.store.put(ours, b"of the parent")

    child = multiprocessing.get_context("fork").Process(
        target=in_the_child, args=(shelf.store, theirs, ours)
    )
    child.start()
    # At the same time: who shares a connection reads the other one's answers.
    fine = use(shelf.store, mine, b"of the parent")
    child.join(40)

    assert fine
    assert child.exitcode == 0
    assert shelf.store.get(theirs) == b"of the child"
    assert shelf.store.get(ours) == b"of the parent"


@pytest.mark.parametrize("shelf", ON_HUEY, indirect=True)
def test_what_else_huey_keeps_is_left_alone(shelf: Shelf) -> None:
    huey = shelf.store._huey
    huey.put("mine", "result")
    huey.storage.put_data("huey_patient.payload.mine", b"not an object")
    shelf.store.put(new_key(0), b"x")

    assert shelf.store.sweep(1.0) == 1

    assert huey.get("mine") == "result"
    assert huey.storage.peek_data("huey_patient.payload.mine") == b"not an object"


@pytest.mark.parametrize("shelf", ON_HUEY, indirect=True)
def test_another_huey_has_other_objects(shelf: Shelf, request: pytest.FixtureRequest) -> None:
    resource, _ = SHELVES[shelf.kind]
    with open_shelf(shelf.kind, resource and request.getfixturevalue(resource)) as other:
        key = new_key(0)
        shelf.store.put(key, b"x")

        assert other.store.get(key) is None
        assert other.store.sweep(1.0) == 0
        other.store.delete(key)

    assert shelf.store.get(key) == b"x"


def test_objects_do_not_expire_where_results_do(redis_server) -> None:
    with open_shelf("huey-redis-expire", redis_server) as shelf:
        key = new_key()
        shelf.store.put(key, b"x")

        storage = shelf.store._huey.storage
        [name] = [one for one in storage.conn.scan_iter() if key.encode() in one]

        assert storage.conn.ttl(name) == -1


def test_what_a_bucket_refuses_is_raised(s3_server: S3) -> None:
    store = FsspecPayloads("s3://no-such-bucket/x", **s3_server.options)

    with pytest.raises(Exception, match="bucket"):
        store.put(new_key(), b"x")
