"""A server that answers with whatever bytes a test gives it, well-formed or not.

A *script* is a function that is given the connected socket and one request, and
does with the socket what it likes; `says` makes one of bytes.  The connection
is closed when the script returns, unless it returns True: then it goes on with
the next request on the same connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

Script = Callable[[socket.socket, bytes], bool | None]


class RawServer:
    """Plays ``scripts`` to its requests in turn, the last one for ever."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []  #: The requests, each with head and body.
        self.connections = 0
        self.closed = threading.Semaphore(0)  #: One for each connection that ended.
        self._scripts = list(scripts)
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> RawServer:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _hang_up(self._listener)  # close() alone does not wake an accept()
        with self._lock:
            held = list(self._open)
        for connection in held:
            _hang_up(connection)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                self.connections += 1
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            # A client that goes away, or refuses our certificate, is no failure.
            with contextlib.suppress(OSError), self._secured(connection) as secured:
                for request in _requests(secured):
                    if not self._play(secured, request):
                        break
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
            self.closed.release()

    def _play(self, connection: socket.socket, request: bytes) -> bool | None:
        with self._lock:
            self.requests.append(request)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        return script(connection, request)

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_side=True)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _requests(connection: socket.socket) -> Iterator[bytes]:
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            received = connection.recv(65_536)
            if not received:
                return
            buffer += received
        head, _, rest = buffer.partition(b"\r\n\r\n")
        length = _content_length(head)
        while len(rest) < length:
            received = connection.recv(65_536)
            if not received:
                return
            rest += received
        buffer = rest[length:]
        yield head + b"\r\n\r\n" + rest[:length]


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def says(*parts: bytes, keep: bool = False) -> Script:
    """Send ``parts``, each in a packet of its own as far as that can be had."""

    def script(connection: socket.socket, request: bytes) -> bool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        return keep

    return script


def says_for_ever(head: bytes, part: bytes) -> Script:
    """Send ``head``, and ``part`` until the client has had enough."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)

    return script


def says_then_waits(*parts: bytes) -> Script:
    """Send ``parts`` and keep the connection open without another word."""

    def script(connection: socket.socket, request: bytes) -> None:
        for part in parts:
            connection.sendall(part)
        connection.recv(1)

    return script


def says_and_listens(*parts: bytes) -> Script:
    """Send ``parts``, and read until the client has had enough."""

    def script(connection: socket.socket, request: bytes) -> None:
        for part in parts:
            connection.sendall(part)
        while connection.recv(65_536):
            pass

    return script


def drips(head: bytes, byte: bytes) -> Script:
    """Send ``head`` and then ``byte``, one in a packet, until the client has had enough."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head)
        # Settimeout makes a pause of each wait for a client that never says a word.
        connection.settimeout(0.002)
        while True:
            connection.sendall(byte)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return

    return script


def hangs_up(connection: socket.socket, request: bytes) -> None:
    """Close without an answer."""


def resets(connection: socket.socket, request: bytes) -> None:
    """Close by a reset, as a crashed or overloaded server does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def response(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A well-formed response."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def after(script: Script, first: bytes) -> Script:
    """Send ``first``, then play ``script``."""

    def both(connection: socket.socket, request: bytes) -> bool | None:
        connection.sendall(first)
        return script(connection, request)

    return both
