"""Fixtures: servers and certificates.  The conftest of a folder that needs them imports them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from support import servers
from support.sending import Naps
from support.web import WebServer


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: servers.Server) -> Iterator[servers.Server]:
    """A PgBouncer before the session's PostgreSQL."""
    try:
        servers.binary("pgbouncer")
    except FileNotFoundError as reason:
        servers.missing(str(reason))
    with servers.pgbouncer(postgres_server.port) as started:
        yield started


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A well-behaved server."""
    with WebServer() as started:
        yield started


@pytest.fixture
def other() -> Iterator[WebServer]:
    """A second server: another origin."""
    with WebServer() as started:
        yield started


@pytest.fixture
def naps() -> Naps:
    """The waits between attempts, not waited for."""
    return Naps()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority that the tests' certificates come from."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its certificate, as ``ca_file`` takes it."""
    path: Path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> Callable[..., ssl.SSLContext]:
    """Makes the TLS side of a server that is called ``names``."""

    def make(*names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
        return context

    return make


@pytest.fixture
def secure_server(server_context: Callable[..., ssl.SSLContext]) -> Iterator[WebServer]:
    """A well-behaved server that speaks https."""
    with WebServer(tls=server_context()) as started:
        yield started
