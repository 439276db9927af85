"""A server that gets as far as one phase of a call, and then says nothing more."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from support.consumer import LIMIT

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


class Unanswering:
    """A port whose every new connection hangs in the making: nothing answers its first packet.

    Linux only.  Nobody accepts here, and the one place in the queue is taken: further
    packets that ask for a connection are dropped, and sent again in vain.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._address = self._listening.getsockname()
        self._parked = socket.create_connection(self._address)
        self.url = f"http://127.0.0.1:{self._address[1]}/"

    def __enter__(self) -> Unanswering:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._parked.close()
        self._listening.close()

    def wait_for(self, pid: int) -> None:
        """Wait until the process ``pid`` is connecting to here."""
        # Nothing tells of a packet that was dropped, so the kernel's table is looked at.
        deadline = time.monotonic() + LIMIT
        while not self._connecting() & _sockets_of(pid):
            assert time.monotonic() < deadline, f"process {pid} did not connect"
            time.sleep(0.01)

    def _connecting(self) -> set[str]:
        """The inodes of the sockets whose first packet to this port has no answer."""
        host, port = self._address
        # As the kernel prints it: the four bytes of the address as one number of this machine.
        packed = int.from_bytes(socket.inet_aton(host), sys.byteorder)
        remote, waiting = f"{packed:08X}:{port:04X}", "02"  # SYN_SENT
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {row[9] for row in rows if (row[2], row[3]) == (remote, waiting)}


def _sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(one).removeprefix("socket:[").removesuffix("]"))
    return found
