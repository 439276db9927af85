"""Fixtures for all tests: private servers, and one empty store per backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support import servers
from support.backends import BACKENDS, Backend, open_backend
from support.payloads import S3
from support.payloads import s3_server as start_s3_server

from huey_patient.stores.base import Store


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Server]:
    """A private Redis, shared by the session's tests."""
    yield from _started(servers.redis_server)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Server]:
    """A private PostgreSQL, shared by the session's tests."""
    yield from _started(servers.postgres_server)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """A private S3 server with one bucket, shared by the session's tests."""
    yield from _started(start_s3_server)


def _started(start: Callable) -> Iterator[servers.Server]:
    starting = start()
    try:
        server = starting.__enter__()
    except FileNotFoundError as reason:
        servers.missing(str(reason))
    try:
        yield server
    finally:
        starting.__exit__(None, None, None)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One empty queue and its store, of each kind; only its own server is started."""
    resource, _ = BACKENDS[request.param]
    opened = open_backend(request.param, resource and request.getfixturevalue(resource))
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    """The store of `backend`."""
    return backend.store


@pytest.fixture
def queued(backend: Backend) -> Callable[[], list[bytes]]:
    """Takes all messages off Huey's own queue."""
    return backend.queued
