"""The fork server: a small, clean Python that has imported our modules, and forks.

    consumer  --descriptors-->  fork server  --fork-->  I/O process
              <--pid-----------
              <--exit code-----

It has one thread, nothing of the application, and one socket, whose other end
the consumer alone holds: it ends when that is closed, and with it, where the
kernel can be asked to, what it has forked.

multiprocessing has such a server too.  Not that one, since

- it ends by a signal to all processes of the consumer, which a service manager
  sends to stop or restart it, and takes every call in flight along;
- it is found by a file, which cleaners of temporary files delete;
- it ends when it cannot fork, and forked Huey workers keep it alive;
- it belongs to the application as well, which may tell it what it likes.
"""

from __future__ import annotations

import _socket  # gevent replaces `socket`, and its sockets never block
import contextlib
import importlib
import io
import logging
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from multiprocessing import (
    context,
    popen_forkserver,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import NoReturn

from ..native import original

__all__ = ["STOPS", "ForkServer", "Process", "end_helpers", "serve", "server"]

log = logging.getLogger("huey.patient")

#: Signals that are meant for the consumer, whoever else they reach.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
#: Seconds until a fork server that does not answer is replaced.  A new one answers
#: when it has imported everything, which takes two on a busy machine.
FORK_SECONDS = 20.0
#: Seconds that it may take to end before it is killed: it has nothing to do.
END_SECONDS = 1.0

_NUMBER = struct.Struct("q")  # also read by multiprocessing: an exit code
_REFUSED = -1
_MOST_DESCRIPTORS = 64


class ForkServer:
    """The consumer's side of it; used by one thread at a time."""

    def __init__(self) -> None:
        self._control: _socket.socket | None = None
        self._pid = 0

    def fork(self, descriptors: Sequence[int]) -> tuple[int, int, int]:
        """Make a process that has ``descriptors``; starts or replaces the server if need be.

        Returns its pid, a descriptor that its exit code comes from, and one for
        what it is to be told; both are the caller's.

        Raises:
            OSError, EOFError: There is none; trying again later may help.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            their_data, data = os.pipe()
            theirs.callback(os.close, their_data)
            ours.callback(os.close, data)
            status, their_status = os.pipe()
            theirs.callback(os.close, their_status)
            ours.callback(os.close, status)
            pid = self._ask([their_data, their_status, *descriptors])
            ours.pop_all()
        return pid, status, data

    def stop(self) -> None:
        """End it and what it has forked; the next `fork` starts another one."""
        control, self._control = self._control, None
        pid, self._pid = self._pid, 0
        if control is not None:
            control.close()
        if pid and not _ended(pid):
            os.kill(pid, signal.SIGKILL)
            _ended(pid)

    def forget(self) -> None:
        """Leave it to the parent: called in a forked child of the consumer."""
        control, self._control = self._control, None
        self._pid = 0
        if control is not None:
            control.close()

    def _ask(self, descriptors: list[int]) -> int:
        if self._control is not None:
            try:
                return self._exchange(self._control, descriptors)
            except (ConnectionError, EOFError):
                log.warning("The fork server, PID %d, is gone; starting another one.", self._pid)
                self.stop()
        return self._exchange(self._start(), descriptors)

    def _exchange(self, control: _socket.socket, descriptors: list[int]) -> int:
        # `socket.send_fds` takes whatever can sendmsg.
        socket.send_fds(control, [bytes([len(descriptors)])], descriptors)  # type: ignore[arg-type]
        poller = original("select", "poll")()
        poller.register(control.fileno(), select.POLLIN)
        if not poller.poll(FORK_SECONDS * 1000):
            self.stop()
            raise TimeoutError(f"the fork server did not answer for {FORK_SECONDS:.0f} s")
        answer = control.recv(_NUMBER.size)
        if not answer:
            raise EOFError("the fork server has ended")
        pid: int = _NUMBER.unpack(answer)[0]
        if pid == _REFUSED:
            raise OSError("the fork server has no process or descriptor left")
        return pid

    def _start(self) -> _socket.socket:
        ours, theirs = _socket.socketpair()
        # First of all: a worker that is forked meanwhile has to close it.
        self._control = ours
        # What the child imports is found where the consumer finds it.
        here = process.ORIGINAL_DIR  # type: ignore[attr-defined]
        path = [one or here for one in sys.path if isinstance(one, str)]
        program = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from {__name__} import serve; serve({theirs.fileno()})"
        )
        python = os.fsencode(spawn.get_executable())
        command = [python, *util._args_from_interpreter_flags(), "-c", program]  # type: ignore[attr-defined]
        # Blocked until the new process ignores them: they may come before.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            self._pid = util.spawnv_passfds(python, command, [theirs.fileno()])
        except OSError:
            self.stop()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        return ours


#: Of this process.
server = ForkServer()
os.register_at_fork(after_in_child=server.forget)


def end_helpers() -> None:
    """End what this process has started that starts others, before it is replaced by exec.

    That keeps its children and forgets whose they are: whichever ends later would
    stay behind as a zombie.
    """
    server.stop()
    # Of multiprocessing; "spawn" starts it, and has no public way to end it.
    tracker = resource_tracker._resource_tracker
    fd, pid = getattr(tracker, "_fd", None), getattr(tracker, "_pid", None)
    if fd is not None and pid is not None:
        tracker._fd = tracker._pid = None  # type: ignore[attr-defined]
        os.close(fd)
        _ended(pid)


def _ended(pid: int) -> bool:
    """Wait for a child that has been told to end; whether it has."""
    waitpid, sleep = original("os", "waitpid"), original("time", "sleep")
    deadline = monotonic() + END_SECONDS
    try:
        while waitpid(pid, os.WNOHANG)[0] == 0:
            if monotonic() > deadline:
                return False
            sleep(0.01)
    except ChildProcessError:
        pass  # Somebody else in this process waits for all of its children.
    return True


# How multiprocessing comes to use it.


class _Inherited:
    """Stands for a descriptor on its way to the child."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """Of the descriptor here, in the child."""
        return _inherited[self._index]


class _Popen(popen_forkserver.Popen):
    DupFd = _Inherited  # type: ignore[assignment]

    def _launch(self, process_obj: BaseProcess) -> None:
        told = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), told)
            reduction.dump(process_obj, told)
        finally:
            context.set_spawning_popen(None)
        self.pid, self.sentinel, data = server.fork(self._fds)  # type: ignore[attr-defined]
        # Kept open: by its end the child may know of ours.
        kept = os.dup(data)
        self.finalizer = util.Finalize(self, util.close_fds, (kept, self.sentinel))  # type: ignore[attr-defined]
        with open(data, "wb") as pipe:
            pipe.write(told.getbuffer())


class Process(BaseProcess):
    """A process of multiprocessing, forked from our server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj)


# From here on: in the fork server.

#: What a child was given; empty in every other process.
_inherited: list[int] = []


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
        pid = _REFUSED
        if len(descriptors) == asked[0]:  # else this process may open no more of them
            with contextlib.suppress(OSError):
                pid = os.fork()
        if pid == 0:
            self._be_the_child(*descriptors)
        if pid != _REFUSED:
            self._statuses[pid] = descriptors.pop(1)
        for fd in descriptors:
            os.close(fd)
        self._consumer.sendall(_NUMBER.pack(pid))
        return True

    def _be_the_child(self, told: int, status: int, *inherited: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._consumer.close()
            for fd in (status, self._deaths, self._alarm, *self._statuses.values()):
                os.close(fd)
            _inherited[:] = inherited
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
                    os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(how)))
                os.close(status)
