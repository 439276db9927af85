"""A TCP proxy that cuts a connection at a chosen moment.

It counts what the client sends; at the chosen message it breaks off either
before the server has heard it, or after the server has answered and before the
client has heard that.  Works for any protocol in which the client waits for the
answer before it sends the next message.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Moment = Literal["before", "after"]


class CuttingProxy:
    """Passes everything on to ``port`` of this machine, until told to cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._messages_left: int | None = None
        self._moment: Moment = "before"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    def cut_at(self, message: int, moment: Moment) -> None:
        """Cut once, at the client's next message (0) or a later one."""
        with self._lock:
            self._messages_left, self._moment = message, moment

    def spare(self) -> bool:
        """Cut no more; return whether the chosen moment has never come."""
        with self._lock:
            waiting, self._messages_left = self._messages_left is not None, None
            return waiting

    def close(self) -> None:
        # Shutting down wakes the threads, which closing alone does not.
        for one in [self._listener, *self._sockets]:
            _shut(one)
        for thread in self._threads:
            thread.join()
        for one in [self._listener, *self._sockets]:
            one.close()

    def _start(self, target, *args) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            self._start(self._carry, client, server)

    def _this_is_it(self) -> bool:
        with self._lock:
            if self._messages_left is None:
                return False
            self._messages_left -= 1
            if self._messages_left >= 0:
                return False
            self._messages_left = None
            return True

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        answered, muted = threading.Event(), threading.Event()
        self._start(self._carry_back, client, server, answered, muted)
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                if self._this_is_it():
                    if self._moment == "after":
                        muted.set()
                        server.sendall(data)
                        answered.wait(20)
                    break
                server.sendall(data)
        _shut(client)
        _shut(server)

    def _carry_back(self, client, server, answered, muted) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                if muted.is_set():
                    break
                client.sendall(data)
        answered.set()
        _shut(client)
        _shut(server)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    """A proxy in front of ``port``, for one ``with``."""
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
