"""What only the Redis store must do: refusals of the server, and scripts."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import redis
from huey.storage import PriorityRedisStorage, RedisStorage
from support import servers
from support.backends import Backend, open_backend
from support.receipts import HOUR, kept, kept_all

from huey_patient.errors import StoreUnavailable
from huey_patient.stores import redis as redis_module
from huey_patient.stores import redis_receipts, store_for
from huey_patient.stores.base import Beat, Counts, Settlement
from huey_patient.stores.redis_link import _advice

NOTHING = Counts(fresh=0, suspect=0, later=0, held=0)


@pytest.fixture(params=["redis", "redis-priority", "redis-expire"])
def backend(request, redis_server):
    opened = open_backend(request.param, redis_server)
    yield opened
    opened.close()


@pytest.fixture
def own_redis():
    """A server whose settings may be changed."""
    try:
        with servers.redis_server() as server:
            yield server
    except FileNotFoundError as reason:
        servers.missing(str(reason))


def settled(id, epoch=1):
    return [Settlement(id=id, epoch=epoch, message=b"m")]


def keys_of(backend):
    prefix = f"patient.{backend.storage.name}."
    return sorted(key.decode() for key in backend.storage.conn.keys(prefix + "*"))


def test_nothing_is_left_of_answered_requests_but_their_tombstones(backend, store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.submit("b", b"x")
    store.submit("c", b"x", due=4e9)
    store.claim("o", "fresh", 2)
    store.release("o", [("a", 1)], strike=True)
    store.claim("o", "suspect", 2)
    store.settle("o", [*settled("a", 2), *settled("b")])
    store.cancel("c", b"canceled")
    kept(store, "d", receipt=0.0, priority=3)
    store.begin("d", 0.0)
    store.redeliver_due(9, 0.0, 9)
    store.redeliver_due(9, 0.0, 9)
    kept(store, "e", receipt=0.0, priority=3)
    store.redeliver_due(9, 0.0, 9)
    store.give_up("e")
    store.confirm("d")
    store.discard("e")
    store.reap("o", 1)

    prefix = f"patient.{backend.storage.name}."
    left = [key.removeprefix(prefix) for key in keys_of(backend)]
    remembered = ["reaped.o", "tomb.a", "tomb.b", "tomb.c", "tomb.d", "tomb.e"]

    assert [key for key in left if key not in ("bell", "seq")] == remembered
    for key in remembered:
        assert 3500 < backend.storage.conn.ttl(prefix + key) <= 3600


def test_no_key_of_a_living_request_has_an_end(backend, store):
    kept(store, "d", priority=3)
    kept(store, "e", receipt=0.0)
    store.redeliver_due(9, 0.0, 9)
    store.give_up("e")
    store.begin("d", HOUR)
    store.submit("a", b"x")
    store.submit("b", b"x", due=4e9)
    store.submit("c", b"x")
    store.claim("o", "fresh", 1)

    assert {backend.storage.conn.ttl(key) for key in keys_of(backend)} == {-1}


def test_the_bell_is_never_longer_than_one(backend, store):
    for n in range(5):
        store.submit(f"r{n}", b"x")

    assert backend.storage.conn.llen(f"patient.{backend.storage.name}.bell") == 1


def test_an_owner_is_silent_since_its_last_beat(backend, store):
    store.register("o", b"")
    now, _ = backend.storage.conn.time()
    key = f"patient.{backend.storage.name}.beat_at"

    backend.storage.conn.hset(key, "o", now - 100)
    assert 100 <= store.owners()[0].silent < 130
    store.beat("o", b"")
    assert store.owners()[0].silent < 30
    backend.storage.conn.hset(key, "o", now - 100)
    store.register("o", b"")
    assert store.owners()[0].silent < 30
    backend.storage.conn.hset(key, "o", now + 100)
    assert store.owners()[0].silent == 0
    backend.storage.conn.hdel(key, "o")
    assert store.owners()[0].silent == 0


def test_a_settlement_that_keeps_nothing_touches_no_key_of_what_is_kept(backend, store):
    store.register("o", b"")
    store.submit("a", b"x")
    store.claim("o", "fresh", 1)
    run, used = store._link.run, []

    def noting(script, keys, args=()):
        used.extend(keys)
        return run(script, keys, args)

    store._link.run = noting

    assert store.settle("o", settled("a")) == ["ok"]

    assert not any(key.endswith((".receipts", ".message", ".score")) for key in used)


def test_a_claim_that_leaves_some_rings_for_the_next_courier(store):
    store.register("o", b"")
    for id in "abc":
        store.submit(id, b"x")
    assert store.wait(0)
    assert not store.wait(0)

    store.claim("o", "fresh", 2)
    assert store.wait(0)
    store.claim("o", "fresh", 2)

    assert not store.wait(0)


def test_scripts_are_sent_again_after_the_server_forgot_them(backend, store):
    store.submit("a", b"x")
    backend.storage.conn.script_flush()

    assert store.submit("b", b"x") == "new"
    assert store.counts().fresh == 2


@pytest.mark.parametrize("wrong", [RedisStorage, PriorityRedisStorage])
def test_a_queue_of_the_wrong_type_stops_a_settlement_before_anything_is_removed(
    wrong, redis_server
):
    right = PriorityRedisStorage if wrong is RedisStorage else RedisStorage
    storage = wrong("mixed", port=redis_server.port, blocking=False)
    other = right("mixed", port=redis_server.port, blocking=False)
    other.enqueue(b"older")
    store = store_for(storage)
    store.register("o", b"")
    store.submit("a", b"x")
    store.submit("b", b"x")
    store.claim("o", "fresh", 1)

    with pytest.raises(StoreUnavailable, match="RedisHuey keeps a list and PriorityRedisHuey"):
        store.settle("o", settled("a"))
    with pytest.raises(StoreUnavailable):
        store.cancel("b", b"m")

    keeping = Settlement(id="a", epoch=1, message=b"m", receipt=0.0)
    with pytest.raises(StoreUnavailable):
        store.settle("o", [keeping])

    assert store.counts() == Counts(fresh=1, suspect=0, later=0, held=1)
    assert other.dequeue() == b"older"
    assert store.settle("o", settled("a")) == ["ok"]
    assert store.cancel("b", b"m")
    storage.conn.flushdb()
    for thing in (store, storage, other):
        thing.close()


@pytest.mark.parametrize("wrong", [RedisStorage, PriorityRedisStorage])
def test_a_queue_of_the_wrong_type_stops_a_delivery_before_anything_is_changed(wrong, redis_server):
    right = PriorityRedisStorage if wrong is RedisStorage else RedisStorage
    storage = wrong("mixed", port=redis_server.port, blocking=False)
    other = right("mixed", port=redis_server.port, blocking=False)
    store = store_for(storage)
    kept_all(store, "abc", receipt=0.0)
    store.begin("a", 0.0)  # And is lost with its worker.
    store.give_up("c")
    while storage.dequeue():
        pass
    other.enqueue(b"older")

    with pytest.raises(StoreUnavailable, match="RedisHuey keeps a list"):
        store.redeliver_due(9, HOUR, 1)
    with pytest.raises(StoreUnavailable):
        store.revive("c", HOUR)

    assert [letter.id for letter in store.dead_letters()] == ["c"]
    assert other.dequeue() == b"older"
    assert store.redeliver_due(9, HOUR, 1) == (1, 1)
    assert store.revive("c", HOUR)
    assert [storage.dequeue() for _ in range(3)] == [b"b", b"c", None]
    store.give_up("b")
    # Of "b" two messages went on the queue, and not the one that was refused.
    assert {one.id: one.deliveries for one in store.dead_letters()} == {"a": 1, "b": 2}
    storage.conn.flushdb()
    for thing in (store, storage, other):
        thing.close()


def test_a_full_server_refuses_a_submit_and_lets_the_rest_through(own_redis):
    backend = open_backend("redis", own_redis)
    store = backend.store
    store.register("o", b"")
    kept_all(store, "kl", receipt=0.0)
    for id in "abc":
        store.submit(id, b"x" * 1000)
    backend.storage.conn.config_set("maxmemory", 1)

    with pytest.raises(StoreUnavailable, match="maxmemory"):
        store.submit("d", b"x")

    # Else nothing could ever make room again.
    assert store.counts().fresh == 3
    assert len(store.claim("o", "fresh", 3)) == 3
    assert store.beat("o", b"") == Beat(held=3)
    assert store.settle("o", settled("a")) == ["ok"]
    assert store.release("o", [("b", 1)], strike=True) == 1
    assert store.reap("o", 2)
    assert store.cancel("c", b"m")
    assert store.redeliver_due(9, HOUR, 9) == (2, 0)
    assert store.begin("k", HOUR) == "run"
    assert store.extend("k", HOUR)
    assert store.postpone("k", HOUR)
    assert store.give_up("k")
    assert store.revive("k", HOUR)
    assert store.confirm("k")
    assert store.counts() == Counts(fresh=0, suspect=1, later=0, held=0, receipts=1)
    backend.close()


def test_a_server_without_flags_is_talked_to_without(own_redis, monkeypatch):
    # As a server before version 7 sees the first line of a flagged script.
    backend = open_backend("redis", own_redis)
    for script in [*vars(redis_module).values(), *vars(redis_receipts).values()]:
        if isinstance(script, redis_module.Script):
            monkeypatch.setattr(script, "flagged", b"#not lua\n" + script.plain)

    backend.store.register("o", b"")

    assert backend.store.submit("a", b"x") == "new"
    assert len(backend.store.claim("o", "fresh", 1)) == 1
    assert backend.store.begin("a", HOUR) == "gone"
    backend.close()


def test_a_replica_refuses_and_says_so(own_redis):
    backend = open_backend("redis", own_redis)
    backend.store.submit("a", b"x")
    backend.storage.conn.replicaof("127.0.0.1", servers.free_port())

    with pytest.raises(StoreUnavailable, match="primary"):
        backend.store.submit("b", b"x")

    backend.storage.conn.replicaof("NO", "ONE")
    assert backend.store.submit("b", b"x") == "new"
    backend.close()


def test_a_busy_server_is_said_to_be_busy(own_redis):
    backend = open_backend("redis", own_redis)
    backend.storage.conn.config_set("busy-reply-threshold", 1)
    looping = threading.Thread(target=loop_until_killed, args=(own_redis.port,))
    looping.start()

    with pytest.raises(StoreUnavailable, match="SCRIPT KILL"):
        count_until_refused(backend.store)

    backend.storage.conn.script_kill()
    looping.join()
    assert backend.store.counts() == NOTHING
    backend.close()


def count_until_refused(store):
    while True:
        store.counts()


def loop_until_killed(port):
    client = redis.Redis(port=port)
    with pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)
    client.close()


def test_a_server_that_is_away_is_unavailable_and_then_available_again():
    storage = RedisStorage("q", port=servers.free_port())
    store = store_for(storage)

    for call in (lambda: store.submit("a", b"x"), lambda: store.wait(1), store.owners):
        with pytest.raises(StoreUnavailable, match="call again"):
            call()

    store.close()
    storage.close()


def test_a_reap_that_was_broken_off_is_finished_by_the_next_beat_of_anybody(backend, store):
    store.register("lost", b"")
    store.register("other", b"")
    for n in range(7):
        store.submit(f"r{n}", b"x")
    store.claim("lost", "fresh", 7)
    break_off_after(store, portions=2)
    with pytest.raises(StoreUnavailable):
        store.reap("lost", 1)
    assert store.counts() == Counts(fresh=0, suspect=4, later=0, held=3)

    # A sweeper that starts anew sees no such owner, and it gets nothing.
    another = backend.another()
    assert [seen.id for seen in another.owners()] == ["other"]
    assert {one.owner for one in another.held()} == {"lost"}

    another.beat("other", b"")

    assert another.counts() == Counts(fresh=0, suspect=7, later=0, held=0)
    assert [lease.strikes for lease in another.claim("other", "suspect", 9)] == [1] * 7
    another.close()


def break_off_after(store, *, portions):
    """Let ``store`` free two requests at a time, and break off after some portions."""
    run, left = store._link.run, [portions]

    def breaking(script, keys, args=()):
        if script.name == "bury":
            if not left[0]:
                raise StoreUnavailable("broken off")
            left[0] -= 1
            args = [args[0], 2]
        return run(script, keys, args)

    store._link.run = breaking


def test_requests_can_be_settled_while_their_owner_is_being_buried(backend, store):
    store.register("lost", b"")
    for id in "abcd":
        store.submit(id, b"x")
    store.claim("lost", "fresh", 4)
    break_off_after(store, portions=1)
    with pytest.raises(StoreUnavailable):
        store.reap("lost", 1)
    another = backend.another()

    answers = another.settle("lost", [x for id in "abcd" for x in settled(id)])

    assert answers == ["ok"] * 4
    another.reap("nobody", 1)
    assert another.counts() == NOTHING
    another.close()


def test_the_connections_are_made_like_those_of_huey(redis_server):
    made = []

    class Mine(redis.Connection):
        def __init__(self, *args, **kwargs):
            made.append(kwargs["client_name"])
            super().__init__(*args, **kwargs)

    pool = redis.ConnectionPool(Mine, port=redis_server.port, client_name="mine")
    storage = RedisStorage("q", connection_pool=pool)
    backend = Backend("redis", storage, store_for(storage))

    backend.store.counts()
    backend.store.wait(0)

    assert made == ["mine", "mine"]
    assert not pool._available_connections
    backend.close()
    pool.disconnect()


def test_a_server_that_is_stopped_is_given_up(own_redis):
    # A pool as older versions of redis-py made it, whose connections wait for ever.
    pool = redis.ConnectionPool(port=own_redis.port, socket_timeout=None, retry_on_timeout=True)
    backend = Backend("redis", RedisStorage("q", connection_pool=pool), None)
    backend.store = store_for(backend.storage)
    backend.store.limit_patience(0.2)
    backend.store.submit("a", b"x")

    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        for call in (lambda: backend.store.submit("b", b"x"), backend.store.counts):
            with pytest.raises(StoreUnavailable, match="whether it acted is not known"):
                call()
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)

    assert backend.store.submit("b", b"x") in ("new", "duplicate")
    backend.close()
    pool.disconnect()


@pytest.mark.parametrize(
    ("given", "patience", "expected"),
    [
        ({}, None, 5.0),
        ({"socket_timeout": None}, None, 5.0),
        ({"socket_timeout": 60.0}, None, 60.0),
        ({"socket_timeout": 60.0}, 10.0, 10.0),
        ({"socket_timeout": 3.0}, 10.0, 3.0),
    ],
    ids=str,
)
def test_no_connection_waits_for_ever(redis_server, given, patience, expected):
    pool = redis.ConnectionPool(port=redis_server.port, **given)
    store = store_for(RedisStorage("q", connection_pool=pool))
    if patience is not None:
        store.limit_patience(patience)

    clients = store._link._of_this_thread()
    kwargs = [each.connection_pool.connection_kwargs for each in (clients.commands, clients.bell)]

    assert [each["socket_timeout"] for each in kwargs] == [expected, expected + 2.0]
    store.close()


def test_all_connections_in_use_means_waiting_and_not_an_error(redis_server, monkeypatch):
    backend = open_backend("redis", redis_server)
    monkeypatch.setattr(type(backend.store._link), "most_connections", 2)
    answers = []

    threads = [
        threading.Thread(target=lambda n=n: answers.append(backend.store.submit(f"r{n}", b"x")))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == ["new"] * 12
    backend.close()


def test_an_error_says_what_to_do():
    assert "reading its data" in _advice(redis.BusyLoadingError("loading"))
    assert "disk" in _advice(redis.ResponseError("MISCONF Redis is configured to save"))
    assert "permission" in _advice(redis.exceptions.NoPermissionError("no"))
    assert "one server" in _advice(redis.exceptions.ClusterCrossSlotError("keys"))
    assert "call again" in _advice(redis.TimeoutError("Timeout reading from socket"))
