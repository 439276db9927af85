"""Listing requests, and putting other bytes in their place, over every backend."""

from __future__ import annotations

import time

import pytest
from support.backends import open_sqlite

from huey_patient.stores.base import Counts, Held, Settlement, Store


def all_ids(store: Store, limit: int) -> list[str]:
    found, after = [], ""
    while True:
        page, after = store.ids(after, limit)
        found += page
        if not after:
            return found


@pytest.mark.parametrize("limit", [1, 7, 10, 500])
def test_every_request_is_listed_whereever_it_is(store, limit):
    store.register("o", b"")
    for n in range(10):
        store.submit(f"id-{n}", b"x", due=time.time() + 3600 if n == 3 else None)
    leases = store.claim("o", "fresh", 4)
    store.release("o", [(leases[0].id, 1)], strike=True)

    assert sorted(set(all_ids(store, limit))) == [f"id-{n}" for n in range(10)]


def test_what_was_answered_is_not_listed(store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.submit("b", b"x")
    [a] = store.claim("o", "fresh", 1)
    store.settle("o", [Settlement(id=a.id, epoch=a.epoch, message=b"m")])

    assert all_ids(store, 10) == ["b"]
    store.cancel("b", b"m")
    assert all_ids(store, 10) == []


def test_nothing_is_listed_where_nothing_is(store):
    assert store.ids() == ([], "")


def test_a_long_list_comes_in_pages(store):
    names = {f"{n:05d}" for n in range(1200)}
    for name in names:
        store.submit(name, b"x")

    page, after = store.ids(limit=100)

    assert 0 < len(page) <= 600
    assert after
    assert set(all_ids(store, 100)) == names


def test_who_is_listed_while_others_go_is_not_left_out(store):
    for n in range(1000):
        store.submit(f"{n:05d}", b"x")
    stay = {f"{n:05d}" for n in range(0, 1000, 2)}

    found, after = store.ids(limit=100)
    for n in range(1, 1000, 2):
        store.cancel(f"{n:05d}", b"m")
    while after:
        page, after = store.ids(after, 100)
        found += page

    assert stay <= set(found)


def test_another_queue_in_the_same_file_is_left_alone(tmp_path):
    one, other = open_sqlite(tmp_path, "one"), open_sqlite(tmp_path, "other")
    one.store.submit("a", b"x")

    assert other.store.ids() == ([], "")
    assert not other.store.reseal("a", b"x", b"y")

    assert one.store.read("a") == b"x"
    one.close()
    other.close()


def test_resealed_bytes_are_what_is_claimed(store):
    store.register("o", b"")
    old, new = bytes(range(256)) * 300, bytes(range(255, -1, -1)) * 310
    store.submit("a", old)

    assert store.reseal("a", old, new) is True

    assert store.read("a") == new
    [lease] = store.claim("o", "fresh", 10)
    assert (lease.sealed, lease.epoch, lease.strikes) == (new, 1, 0)


def test_only_the_bytes_that_were_expected_are_replaced(store):
    store.submit("a", b"old")

    assert store.reseal("a", b"other", b"new") is False
    assert store.reseal("b", b"old", b"new") is False
    assert store.reseal("a", b"old", b"new") is True
    assert store.reseal("a", b"old", b"newer") is False

    assert store.read("a") == b"new"
    assert store.read("b") is None


def test_a_resealed_request_keeps_its_place(store):
    store.register("o", b"")
    for id in "abc":
        store.submit(id, id.encode())

    store.reseal("a", b"a", b"A")
    store.reseal("c", b"c", b"C")

    claimed = store.claim("o", "fresh", 10)
    assert [(lease.id, lease.sealed) for lease in claimed] == [
        ("a", b"A"),
        ("b", b"b"),
        ("c", b"C"),
    ]


def test_a_held_request_keeps_its_holder_and_its_epoch(store, queued):
    store.register("o", b"")
    store.submit("a", b"old")
    [lease] = store.claim("o", "fresh", 1)

    assert store.reseal("a", b"old", b"new") is True

    assert store.held() == [Held(id="a", owner="o", epoch=1, strikes=0)]
    answers = store.settle("o", [Settlement(id="a", epoch=lease.epoch, message=b"m")])
    assert answers == ["ok"]
    assert queued() == [b"m"]


def test_a_suspect_and_one_that_is_not_due_stay_what_they_are(store):
    store.register("o", b"")
    store.submit("suspect", b"old")
    store.claim("o", "fresh", 1)
    store.release("o", [("suspect", 1)], strike=True)
    store.submit("later", b"old", due=time.time() + 3600)

    for id in ("suspect", "later"):
        assert store.reseal(id, b"old", b"new") is True

    assert store.counts() == Counts(fresh=0, suspect=1, later=1, held=0)
    [lease] = store.claim("o", "suspect", 1)
    assert (lease.sealed, lease.strikes, lease.epoch) == (b"new", 1, 2)


def test_what_was_answered_is_not_resealed(store):
    store.submit("a", b"old")
    store.cancel("a", b"m")

    assert store.reseal("a", b"old", b"new") is False
    assert store.reseal("a", b"", b"new") is False
    assert store.read("a") is None
    assert store.submit("a", b"x") == "done"


def test_of_two_that_reseal_one_wins(backend):
    other = backend.another()
    backend.store.submit("a", b"old")

    won = [backend.store.reseal("a", b"old", b"mine"), other.reseal("a", b"old", b"theirs")]

    assert won == [True, False]
    assert other.read("a") == b"mine"
    other.close()
