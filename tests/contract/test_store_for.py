"""Which storages have a store, and how the others are refused."""

from __future__ import annotations

import pytest
from huey.storage import (
    BaseStorage,
    BlackHoleStorage,
    FileStorage,
    MemoryStorage,
    SqliteStorage,
)

from huey_patient.errors import ConfigurationError
from huey_patient.stores import store_for


def test_a_file_storage_is_refused_and_sqlite_named(tmp_path):
    with pytest.raises(ConfigurationError, match="use SqliteHuey"):
        store_for(FileStorage("q", str(tmp_path)))


def test_a_black_hole_is_refused_and_sqlite_named():
    with pytest.raises(ConfigurationError, match="use SqliteHuey"):
        store_for(BlackHoleStorage("q"))


def test_an_unknown_storage_is_refused_by_its_name():
    class Mystery(BaseStorage):
        pass

    with pytest.raises(ConfigurationError, match="Mystery is not a storage"):
        store_for(Mystery("q"))


@pytest.mark.parametrize("filename", [":memory:", "", "file:x?mode=memory&cache=shared"])
def test_a_sqlite_database_in_memory_is_refused(filename):
    storage = SqliteStorage("q", ":memory:")
    storage.filename = filename

    with pytest.raises(ConfigurationError, match="use a file, or MemoryHuey"):
        store_for(storage)

    storage.close()


def test_a_subclass_gets_the_store_of_its_base(tmp_path):
    class Mine(SqliteStorage):
        pass

    storage = Mine("q", str(tmp_path / "huey.db"))
    store = store_for(storage)

    assert store.submit("a", b"x") == "new"
    store.close()
    storage.close()


def test_two_queues_of_one_database_do_not_see_each_other(tmp_path):
    first, second = (SqliteStorage(name, str(tmp_path / "huey.db")) for name in "pq")
    one, other = store_for(first), store_for(second)
    for store in (one, other):
        store.register("o", b"")

    one.submit("a", b"first")
    other.submit("a", b"second")

    assert one.reap("o", 1)
    assert [lease.sealed for lease in other.claim("o", "fresh", 9)] == [b"second"]
    assert one.counts().fresh == 1
    for thing in (one, other, first, second):
        thing.close()


def test_all_stores_of_one_memory_storage_hold_the_same():
    storage = MemoryStorage("q")

    store_for(storage).submit("a", b"x")

    assert store_for(storage).read("a") == b"x"
    assert store_for(MemoryStorage("q")).read("a") is None
