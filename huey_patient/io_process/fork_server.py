"""The fork server: a small, clean Python that has imported our modules, and forks.

    consumer  --descriptors-->  fork server  --fork-->  I/O process
              <--pid-----------
              <--exit code-----

It has one thread, nothing of the application, and one socket, whose other end
the consumer alone holds: it ends when that is closed, and with it, where the
kernel can be asked to, what it has forked.  `forking` is the consumer's side.

multiprocessing has such a server too.  Not that one, since

- it ends by a signal to all processes of the consumer, which a service manager
  sends to stop or restart it, and takes every call in flight along;
- it is found by a file, which cleaners of temporary files delete;
- it ends when it cannot fork, and forked Huey workers keep it alive;
- it belongs to the application as well, which may tell it what it likes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import struct
import sys
from multiprocessing import spawn, util
from typing import NoReturn

__all__ = ["NUMBER", "REFUSED", "STOPS", "inherited_descriptors", "serve"]

#: Signals that are meant for the consumer, whoever else they reach.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
#: What is answered: a pid, and later its exit code, as multiprocessing reads it.
NUMBER = struct.Struct("q")
#: In place of a pid.
REFUSED = -1

_MOST_DESCRIPTORS = 64

#: What a child was given; empty in every other process.
inherited_descriptors: list[int] = []


def serve(control: int) -> None:
    """Fork whenever the consumer asks, until it is gone."""
    for one in STOPS:
        signal.signal(one, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    os.setsid()
    util._close_stdin()  # type: ignore[attr-defined]
    # By its name: the consumer imports this module, and never loads aiohttp.
    importlib.import_module(".main", __package__)
    with socket.socket(fileno=control) as consumer:
        _Serving(consumer).run()


class _Serving:
    def __init__(self, consumer: socket.socket) -> None:
        self._consumer = consumer
        self._statuses: dict[int, int] = {}  # pid -> where its exit code is awaited
        self._deaths, self._alarm = os.pipe()
        os.set_blocking(self._deaths, False)
        os.set_blocking(self._alarm, False)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._deaths, select.POLLIN)
        poller.register(self._consumer, select.POLLIN)
        with contextlib.suppress(ConnectionError):
            while True:
                ready = {fd for fd, _ in poller.poll()}
                if self._deaths in ready:
                    os.read(self._deaths, 65_536)
                    self._tell_of_deaths()
                if self._consumer.fileno() in ready and not self._fork():
                    return

    def _fork(self) -> bool:
        """Do what is asked; whether there is still somebody who asks."""
        asked, descriptors, *_ = socket.recv_fds(self._consumer, 1, _MOST_DESCRIPTORS)
        if not asked:
            return False
        pid = REFUSED
        if len(descriptors) == asked[0]:  # else this process may open no more of them
            with contextlib.suppress(OSError):
                pid = os.fork()
        if pid == 0:
            self._be_the_child(*descriptors)
        if pid != REFUSED:
            self._statuses[pid] = descriptors.pop(1)
        for fd in descriptors:
            os.close(fd)
        self._consumer.sendall(NUMBER.pack(pid))
        return True

    def _be_the_child(self, told: int, status: int, *inherited: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._consumer.close()
            for fd in (status, self._deaths, self._alarm, *self._statuses.values()):
                os.close(fd)
            inherited_descriptors[:] = inherited
            code = spawn._main(told, os.dup(told))
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _tell_of_deaths(self) -> None:
        with contextlib.suppress(ChildProcessError):  # none is left
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, how = ended
                status = self._statuses.pop(pid)
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, NUMBER.pack(os.waitstatus_to_exitcode(how)))
                os.close(status)
