"""What a database's settings weaken is said at the start, with what to change."""

from __future__ import annotations

import psycopg
import pytest
import redis
from huey.storage import PostgresStorage, RedisStorage, SqliteStorage
from support import servers
from support.backends import dsn, open_backend

from huey_patient.errors import ConfigurationError, StoreUnavailable
from huey_patient.stores import postgres_link, store_for, weaknesses


def test_every_store_can_be_checked_and_says_what_to_do(store):
    for sentence in store.check():
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_what_memory_holds_is_said_to_end_with_the_process():
    [sentence] = open_backend("memory", None).store.check()

    assert "end with this process" in sentence


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"fsync": True}, []),
        ({"fsync": False}, ["leave out fsync=False"]),
        ({"journal_mode": "memory"}, ["journal_mode=memory"]),
        ({"journal_mode": "delete"}, []),
    ],
    ids=str,
)
def test_a_sqlite_file_is_checked_for_what_a_power_failure_loses(tmp_path, options, expected):
    storage = SqliteStorage("q", str(tmp_path / "huey.db"), **options)
    store = store_for(storage)

    found = store.check()

    assert_all_said(expected, found)
    store.close()
    storage.close()


def assert_all_said(expected, found):
    assert len(found) == len(expected), found
    for part, sentence in zip(expected, found, strict=True):
        assert part in sentence


def test_a_postgres_that_does_not_wait_for_the_disk_is_said_to(postgres_server):
    def connect():
        return psycopg.connect(dsn(postgres_server.port), options="-c synchronous_commit=off")

    storage = PostgresStorage("q", connection=connect, blocking=False)
    store = store_for(storage)

    # The tests' own server runs with fsync off.
    assert_all_said(["set fsync to on", "set synchronous_commit to on"], store.check())

    store.close()
    storage.close()


def test_a_postgres_as_it_is_installed_has_no_weakness():
    assert weaknesses.of_postgres(fsync="on", synchronous_commit="on") == []
    assert weaknesses.of_postgres(fsync="on", synchronous_commit="local") == []


def test_a_postgres_in_which_greenlets_would_wait_is_said_to(postgres_server, monkeypatch):
    storage = PostgresStorage("q", dsn=dsn(postgres_server.port), blocking=True)
    store = store_for(storage)
    assert not store._link.waits_stop_greenlets()

    monkeypatch.setattr(postgres_link, "gevent_has_patched", lambda: True)

    assert store._link.waits_stop_greenlets()
    storage.blocking = False
    assert not store._link.waits_stop_greenlets()
    store.close()
    storage.close()


@pytest.fixture(scope="module")
def own_redis():
    """A server whose settings may be changed."""
    try:
        with servers.redis_server() as server:
            yield server
    except FileNotFoundError as reason:
        servers.missing(str(reason))


@pytest.fixture
def configured(own_redis):
    """A store on a server of these settings; as the server was, when the test is over."""
    made = []
    with redis.Redis(port=own_redis.port) as admin:

        def make(settings, **options):
            for name, value in settings.items():
                admin.config_set(name.replace("_", "-"), value)
            storage = RedisStorage("q", port=own_redis.port, **options)
            made.append((storage, store_for(storage)))
            return made[-1][1]

        make.admin = admin
        yield make
        for storage, store in made:
            store.close()
            storage.close()
        for name, value in AS_INSTALLED.items():
            admin.config_set(name, value)


AS_INSTALLED = {
    "maxmemory-policy": "noeviction",
    "maxmemory": "0",
    "appendonly": "no",
    "appendfsync": "everysec",
}
SAFE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["set appendonly to yes"]),
        (SAFE, []),
        (SAFE | {"maxmemory": "1gb"}, []),
        ({"appendonly": "yes"}, ["loses up to a second"]),
        (SAFE | {"appendfsync": "no"}, ["half a minute"]),
        (SAFE | {"maxmemory_policy": "allkeys-lru"}, ["set it to noeviction"]),
        (SAFE | {"maxmemory_policy": "volatile-ttl"}, ["forget who was answered"]),
        (
            {"maxmemory_policy": "volatile-lru", "maxmemory": "1gb"},
            ["forget who was answered", "set appendonly to yes"],
        ),
    ],
    ids=str,
)
def test_a_redis_is_checked_for_what_it_may_lose(configured, settings, expected):
    assert_all_said(expected, configured(settings).check())


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "allkeys-lfu"])
def test_a_redis_that_deletes_requests_is_refused(configured, policy):
    store = configured({"maxmemory_policy": policy, "maxmemory": "1gb"})

    with pytest.raises(ConfigurationError, match="set it to noeviction"):
        store.check()


@pytest.mark.parametrize(
    ("forbidden", "said"),
    [
        (["-config"], "How often Redis writes to disk could not be checked"),
        (["-config", "-info"], "The settings of Redis could not be checked"),
    ],
    ids=str,
)
def test_what_redis_does_not_let_us_ask_is_said_to_be_unchecked(configured, forbidden, said):
    store = configured(SAFE, username="some", password="x")
    configured.admin.acl_setuser(
        "some", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", *forbidden]
    )

    [sentence] = store.check()

    assert said in sentence


def test_a_command_that_was_renamed_is_one_that_we_may_not_use():
    with servers.redis_server("--rename-command", "CONFIG", "", "--appendonly", "yes") as server:
        storage = RedisStorage("q", port=server.port)
        store = store_for(storage)

        [sentence] = store.check()

        assert "could not be checked" in sentence
        store.close()
        storage.close()


def test_a_redis_cluster_is_refused():
    bus = str(servers.free_port())
    with servers.redis_server("--cluster-enabled", "yes", "--cluster-port", bus) as server:
        storage = RedisStorage("q", port=server.port)
        store = store_for(storage)

        with pytest.raises(ConfigurationError, match="use a single server"):
            store.check()

        store.close()
        storage.close()


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_server_that_is_away_is_unavailable(kind):
    port = servers.free_port()
    if kind == "redis":
        storage = RedisStorage("q", port=port)
    else:
        storage = PostgresStorage("q", dsn=dsn(port), create_tables=False)
    store = store_for(storage)

    with pytest.raises(StoreUnavailable):
        store.check()

    store.close()
    storage.close()
