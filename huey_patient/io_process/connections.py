"""Connections: how they are made, to whom, and how many idle ones are kept."""

from __future__ import annotations

import errno
import functools
import socket
import ssl
import sys
from asyncio import sslproto
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from ..settings import Settings
from .addresses import is_private
from .arriving import ArrivingResponse
from .resolving import Resolver

__all__ = [
    "PooledConnector",
    "new_session",
    "refused",
    "smaller_tls_buffers",
    "unread",
]

#: Seconds that an idle connection is kept: as long as the shortest-lived servers do.
_KEEP_ALIVE = 15.0
#: Seconds that an answer of DNS is believed.
_DNS_TTL = 30
#: Bytes; a header line of 32 KB is the most that large cloud services send.
_MAX_HEADER_LINE = 32_768
#: Bytes that wait for a reader before the connection is not read on (twice as
#: many), and sixteen times the chunks that do.
_READ_BUFFER_BYTES = 16_384
#: Bytes; the text of one TLS record.
_TLS_BUFFER_BYTES = 16_384
#: Seconds of silence before probes, between them, and how many: a NAT that
#: forgot a connection is noticed after minutes, not after hours.
_PROBES = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))

#: Private addresses that the current send was refused.  A list set by the
#: sender: aiohttp folds what several addresses raised into one text.
refused: ContextVar[list[str]] = ContextVar("refused")


class PooledConnector(aiohttp.TCPConnector):
    """Keeps idle connections to a limited number of hosts.

    aiohttp limits connections in use, not hosts.  ``_conns`` holds the idle
    connections by host in the order of its keys; a host moves to the end when
    one of its connections falls idle, and the first has to go.
    """

    def __init__(self, *, idle_hosts: int, **options: Any) -> None:
        super().__init__(**options)
        self._idle_hosts = idle_hosts
        # What aiohttp makes each connection's protocol with; it offers no other way.
        protocol: type[ResponseHandler] = ArrivingResponse
        self._factory = functools.partial(protocol, loop=self._loop)

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        transport = protocol.transport
        super()._release(key, protocol, should_close=should_close)
        if transport is not None and transport.is_closing():
            # Closing alone waits until what was written has left, which a server
            # that does not read can put off for ever.
            transport.abort()
        if key in self._conns:
            self._conns[key] = self._conns.pop(key)
        while len(self._conns) > self._idle_hosts:
            for idle, _ in self._conns.pop(next(iter(self._conns))):
                idle.close()


def new_session(
    settings: Settings, resolver: Resolver, tls: ssl.SSLContext, *, keeps: bool = True
) -> aiohttp.ClientSession:
    """Return a session of a client; inside its running loop.

    Args:
        keeps: Whether connections are kept for the next request to their host.
    """
    connector = PooledConnector(
        idle_hosts=settings.connection_pool_size,
        # Who claims requests claims max_connections at most.  A second limit
        # here would make requests wait for a slot on their own deadline.
        limit=0,
        **({"keepalive_timeout": _KEEP_ALIVE} if keeps else {"force_close": True}),
        ttl_dns_cache=_DNS_TTL,
        resolver=resolver,
        socket_factory=_socket_factory(settings.block_private_addresses),
        ssl=tls,
        # Older Pythons leave TLS connections open whose servers do not answer a close.
        enable_cleanup_closed=sys.version_info < (3, 12, 7),
    )
    session = aiohttp.ClientSession(
        connector=connector,
        # Cookies of one caller's request are no business of the next.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        raise_for_status=False,
        read_bufsize=_READ_BUFFER_BYTES,
        max_line_size=_MAX_HEADER_LINE,
        max_field_size=_MAX_HEADER_LINE,
        skip_auto_headers=("User-Agent", "Content-Type", "Accept-Encoding"),
        # The deadline of each request is held by its sender.  With no limit on
        # the pool, "connect" is DNS, TCP and TLS, and no waiting for a slot.
        timeout=aiohttp.ClientTimeout(total=None, connect=settings.connection_timeout),
    )
    # aiohttp would send GET and PUT again by itself, uncounted.
    session._retry_connection = False
    return session


def unread(stream: aiohttp.StreamReader) -> bytes:
    """Take out of a broken stream what had come before it broke.

    Its public methods raise what broke it, and leave that where it is.
    """
    return bytes(stream._read_nowait(-1))


def smaller_tls_buffers() -> None:
    """Let asyncio read TLS through 16 KB for each connection instead of 256 KB.

    For the whole process, so the I/O process calls it, and nobody else's.  The
    size is an attribute of asyncio's class; nothing else can set it.
    """
    sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES


def _socket_factory(block_private: bool) -> Callable[[Any], socket.socket]:
    def make(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if block_private and is_private(address[0]):
            refused.get().append(address[0])
            raise OSError(errno.EACCES, "address not allowed")
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return made

    return make
