"""A server that gets as far as one phase of a call, and then says nothing more."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

#: What the client has heard when the server falls silent.
PHASES = {
    "tls": None,  #: its hello was read, and not answered
    "headers": b"",
    "half of the headers": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
}


class Stalling:
    """Takes one connection, and sets `reached` when it stands in ``phase``."""

    def __init__(self, phase: str) -> None:
        self._said = PHASES[phase]
        self._listening = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if self._said is None else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}/"
        self.reached = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stalling:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Wakes the thread out of its accept, should nobody have come.
        socket.create_connection(self._listening.getsockname()).close()
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        connection, _ = self._listening.accept()
        with connection:
            connection.recv(65_536)
            if self._said:
                connection.sendall(self._said)
            self.reached.set()
            while True:  # until the client has gone
                try:
                    if not connection.recv(65_536):
                        return
                except ConnectionResetError:
                    return
