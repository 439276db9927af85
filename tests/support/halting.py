"""A point in another process at which it stands still until the test lets it go on.

with Halt() as halt:
    ...a module made with halt.source, which calls halt() somewhere...
    halt.wait_for()    # the other process stands there now
    halt.go()
"""

from __future__ import annotations

import socket
from types import TracebackType

#: Seconds until a call that never comes counts as lost.
LIMIT = 40.0

_SOURCE = """
import socket


def halt():
    try:
        with socket.create_connection(("127.0.0.1", {port})) as test:
            test.recv(1)  # comes to an end when the test lets go
    except OSError:
        pass  # It has let go already.
"""


class Halt:
    """``source`` defines a function ``halt()``; it returns at once after `go`."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(LIMIT)
        self._halted: list[socket.socket] = []
        self.source = _SOURCE.format(port=self._listening.getsockname()[1])

    def __enter__(self) -> Halt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.go()

    def wait_for(self) -> None:
        """Wait until somebody stands at ``halt()``."""
        connection, _ = self._listening.accept()
        self._halted.append(connection)

    def go(self) -> None:
        """Let everybody go on, now and from now on."""
        # The listening socket first: who comes in between is refused, and goes on.
        for one in [self._listening, *self._halted]:
            one.close()
