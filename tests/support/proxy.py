"""A forward proxy in threads: absolute URLs for http, CONNECT for https."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from urllib.parse import urlsplit

from support.raw import RawServer


class ProxyServer(RawServer):
    """Asks for ``password`` of anybody, if there is one; notes each target."""

    def __init__(self, *, password: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._forward, tls=tls)
        self.targets: list[str] = []
        self._password = password

    def _forward(self, client: socket.socket, request: bytes) -> bool:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split()
        if not self._admits(lines):
            client.sendall(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n")
            return False
        self.targets.append(f"{method} {target}")
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                _tunnel(client, server)
            return False
        parts = urlsplit(target)
        kept = [line for line in lines[1:] if not line.lower().startswith("proxy-")]
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        first = f"{method} {path} HTTP/1.1"
        with socket.create_connection((parts.hostname, parts.port or 80)) as server:
            sent = "\r\n".join([first, *kept, "Connection: close"]).encode("latin-1")
            server.sendall(sent + b"\r\n\r\n" + body)
            _copy(server, client)
        return False

    def _admits(self, lines: list[str]) -> bool:
        if self._password is None:
            return True
        token = base64.b64encode(f"user:{self._password}".encode()).decode()
        return f"Proxy-Authorization: Basic {token}" in lines


def _tunnel(client: socket.socket, server: socket.socket) -> None:
    back = threading.Thread(target=_copy, args=(server, client))
    back.start()
    _copy(client, server)
    back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(65_536):
            target.sendall(received)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
