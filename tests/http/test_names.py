"""Names: dead ones, names with many addresses, names that the resolver refuses."""

import asyncio
import collections
import errno
import socket
import threading

import pytest
from support.raw import RawServer, response, says
from support.sending import send, with_client

from huey_patient.errors import Blocked, ConnectFailed, RequestTimeout
from huey_patient.io_process import connections, http
from huey_patient.io_process.resolving import Resolver, threads_for
from huey_patient.request import Request


def v4(address, port):
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


def v6(address, port):
    return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))


@pytest.fixture
def looked_up(monkeypatch):
    """Have a function look names up for the clients of this test."""

    def use(lookup):
        class Pinned(Resolver):
            def __init__(self, threads):
                super().__init__(threads, lookup)

        monkeypatch.setattr(http, "Resolver", Pinned)

    return use


@pytest.fixture
def sockets(monkeypatch):
    """The addresses that sockets were made for."""
    made = []
    factory = connections._socket_factory

    def counting(block_private):
        make = factory(block_private)

        def count(info):
            made.append(info[4][0])
            return make(info)

        return count

    monkeypatch.setattr(connections, "_socket_factory", counting)
    return made


class DeadNames:
    """Looks up names that begin with "dead" until it is told to stop; others are here."""

    def __init__(self):
        self.asked = collections.Counter()
        self.waiting = threading.Semaphore(0)
        self._over = threading.Event()

    def __call__(self, host, port, *rest):
        self.asked[host] += 1
        if host.startswith("dead"):
            self.waiting.release()
            self._over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [v4("127.0.0.1", port)]

    def stop(self):
        self._over.set()


@pytest.fixture
def dead():
    names = DeadNames()
    yield names
    names.stop()


async def given_up(client, names):
    sends = [
        client.send(Request("GET", f"http://{name}/", timeout=0.2, retries=0), request_id=name)
        for name in names
    ]
    return {type(one) for one in await asyncio.gather(*sends, return_exceptions=True)}


def test_dead_names_keep_nobody_waiting_after_their_requests_were_given_up(looked_up, dead):
    looked_up(dead)
    with RawServer(says(response(b"alive"))) as server:

        async def use(client):
            ended = await given_up(client, [f"dead{n}.test" for n in range(40)])
            url = f"http://alive.test:{server.port}/"
            alive = await client.send(Request("GET", url), request_id="alive")
            dead.stop()
            return ended, alive

        ended, alive = with_client(use, max_connections=4)

    assert ended == {RequestTimeout}
    assert alive.content == b"alive"


def test_a_dead_name_holds_one_thread_however_often_it_is_asked_for(looked_up, dead):
    looked_up(dead)

    async def use(client):
        for _ in range(5):
            await given_up(client, ["dead.test"] * 3)
        dead.stop()

    with_client(use)

    assert dead.asked == {"dead.test": 1}


def test_more_dead_names_than_threads_are_a_failed_connection_at_once(looked_up, dead, monkeypatch):
    monkeypatch.setattr(http, "threads_for", lambda connections: 3)
    looked_up(dead)

    async def use(client):
        await given_up(client, [f"dead{n}.test" for n in range(3)])
        with pytest.raises(ConnectFailed, match="could not be resolved"):
            await client.send(Request("GET", "http://alive.test/", retries=0), request_id="x")
        dead.stop()

    with_client(use)

    assert dead.asked["alive.test"] == 0


def test_there_are_more_threads_than_requests():
    assert threads_for(10) == 256
    assert threads_for(1_000) == 4_000


def test_those_who_wait_for_one_name_are_told_together(dead):
    async def run():
        resolver = Resolver(8, dead)
        waiting = [asyncio.create_task(resolver.resolve("dead", 80)) for _ in range(3)]
        other = asyncio.create_task(resolver.resolve("dead", 81))
        for _ in range(2):
            await asyncio.to_thread(dead.waiting.acquire)
        waiting.pop().cancel()
        dead.stop()
        told = await asyncio.gather(*waiting, other, return_exceptions=True)
        again = await resolver.resolve("alive", 80)
        await resolver.close()
        return told, again

    told, again = asyncio.run(run())

    assert [type(one) for one in told] == [socket.gaierror] * 3
    assert dead.asked == {"dead": 2, "alive": 1}
    assert again[0]["host"] == "127.0.0.1"


def test_a_name_without_addresses_is_an_error():
    async def run():
        resolver = Resolver(1, lambda *_: [])
        try:
            await resolver.resolve("nothing", 80)
        finally:
            await resolver.close()

    with pytest.raises(OSError, match="no address"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "code", [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_NONAME, socket.EAI_MEMORY]
)
def test_a_resolver_that_fails_is_a_failed_connection_and_asked_again(looked_up, naps, code):
    def lookup(*_):
        raise socket.gaierror(code, "as a server that fails makes it")

    looked_up(lookup)

    with pytest.raises(ConnectFailed, match="could not be resolved") as caught:
        send(Request("GET", "http://a.test/", retries=2), naps=naps)

    assert caught.value.attempts == 3


def test_a_name_with_500_addresses_is_tried_at_a_few_of_them(looked_up, sockets):
    looked_up(lambda host, port, *_: [v4(f"127.1.{n >> 8}.{n & 255}", port) for n in range(500)])

    with pytest.raises(ConnectFailed):
        send(Request("GET", "http://many.test:1/", retries=0))

    assert len(set(sockets)) == 8
    assert len(sockets) <= 36


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ("4" * 20, "4" * 8),
        ("6" * 20, "6" * 8),
        ("6" * 20 + "4" * 20, "66664444"),
        ("64" * 20, "64646464"),
        ("6" * 20 + "4", "66666664"),
        ("4446", "4446"),
    ],
)
def test_addresses_of_both_kinds_are_kept_in_their_order(found, kept):
    make = {"4": lambda n: v4(f"10.0.0.{n}", 80), "6": lambda n: v6(f"fd00::{n}", 80)}
    answer = [make[kind](n) for n, kind in enumerate(found)]

    async def run():
        # Each twice, as a resolver gives one for each kind of socket.
        resolver = Resolver(1, lambda *_: [one for one in answer for _ in range(2)])
        try:
            return await resolver.resolve("a", 80)
        finally:
            await resolver.close()

    results = asyncio.run(run())

    assert "".join("6" if ":" in one["host"] else "4" for one in results) == kept
    assert len({one["host"] for one in results}) == len(kept)


@pytest.mark.parametrize("first", ["private", "public"])
def test_of_a_private_and_a_public_address_the_public_one_alone_is_used(
    looked_up, monkeypatch, first
):
    # One loopback address stands for a public one; somebody listens at both.
    public, private = "127.0.0.1", "127.0.0.9"
    monkeypatch.setattr(connections, "is_private", lambda address: address == private)
    order = [private, public] if first == "private" else [public, private]
    looked_up(lambda host, port, *_: [v4(one, port) for one in order])
    with (
        RawServer(says(response(b"public"))) as server,
        socket.create_server((private, server.port)) as inside,
    ):
        url = f"http://both.test:{server.port}/"
        received = send(Request("GET", url), block_private_addresses=True)
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()

    assert received.content == b"public"


def test_private_addresses_alone_are_blocked_however_many(looked_up, sockets):
    looked_up(lambda host, port, *_: [v4(f"10.0.0.{n}", port) for n in range(200)])

    with pytest.raises(Blocked):
        send(Request("GET", "http://inside.test/"), block_private_addresses=True)

    assert len(set(sockets)) == 8


def test_a_network_that_cannot_be_reached_is_a_failed_connection(monkeypatch):
    def unreachable(block_private):
        def make(info):
            raise OSError(errno.ENETUNREACH, "unreachable")

        return make

    monkeypatch.setattr(connections, "_socket_factory", unreachable)

    with pytest.raises(ConnectFailed, match="network is unreachable"):
        send(Request("GET", "http://127.0.0.1/", retries=0))
