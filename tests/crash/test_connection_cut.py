"""The connection to the server breaks before and after each thing that is sent.

Before: the server never hears of it.  After: the server has acted, and the
reply is lost.  For the database a client that was killed looks the same, so
this is also what a SIGKILL at that moment leaves behind.
"""

from __future__ import annotations

import itertools

import pytest
from huey.storage import PostgresStorage, PriorityRedisStorage, RedisStorage
from support import books
from support.backends import Backend, dsn, open_backend
from support.cutting import cutting_proxy

from huey_patient.errors import StoreUnavailable
from huey_patient.stores import store_for

THROUGH = {
    "redis": lambda name, port: RedisStorage(name, port=port),
    "redis-priority": lambda name, port: PriorityRedisStorage(name, port=port),
    "postgres": lambda name, port: PostgresStorage(name, dsn=dsn(port), create_tables=False),
}


def cut_once(kind, server, call, message, moment) -> bool:
    """Make ``call`` over a connection that is cut; return whether it came to that."""
    backend = open_backend(kind, server)
    books.prepare(backend.store, call)
    with cutting_proxy(server.port) as proxy:
        storage = THROUGH[kind](backend.storage.name, proxy.port)
        far = Backend(kind, storage, store_for(storage))
        far.store.read("a")  # Connects, which is not what is tested here.
        proxy.cut_at(message, moment)
        try:
            books.make(call, far.store)
        except StoreUnavailable:
            pass  # Its caller calls again, and so does the balance below.
        came_to_it = not proxy.spare()
        far.close()

    books.assert_they_balance(backend, call)
    backend.close()
    return came_to_it


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", books.CALLS)
@pytest.mark.parametrize("kind", THROUGH)
def test_a_cut_connection_loses_and_repeats_nothing(kind, call, moment, request):
    server = request.getfixturevalue(f"{kind.partition('-')[0]}_server")

    for message in itertools.count():
        if not cut_once(kind, server, call, message, moment):
            break

    assert message >= 1
