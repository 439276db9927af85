"""The consumer's side of the fork server: start it, ask it for processes, replace it.

To everybody else, `Process` is one of multiprocessing's own.  A fork server that
was killed is replaced when it is asked the next time, and so is one that does
not answer.
"""

from __future__ import annotations

import _socket  # gevent replaces `socket`, and its sockets never block
import contextlib
import io
import logging
import os
import select
import signal
import socket
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

from ..native import original
from .fork_server import NUMBER, REFUSED, STOPS, inherited_descriptors, serve

__all__ = ["ForkServer", "Process", "end_helpers"]

log = logging.getLogger("huey.patient")

#: Seconds until a fork server that does not answer is replaced.  A new one answers
#: when it has imported everything, which takes two on a busy machine.
FORK_SECONDS = 20.0
#: Seconds that it may take to end before it is killed: it has nothing to do.
END_SECONDS = 1.0


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
        answer = control.recv(NUMBER.size)
        if not answer:
            raise EOFError("the fork server has ended")
        pid: int = NUMBER.unpack(answer)[0]
        if pid == REFUSED:
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
            f"from {serve.__module__} import serve; serve({theirs.fileno()})"
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
        return inherited_descriptors[self._index]


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
        # `data` stays open: by its end the child may know of ours.
        self.finalizer = util.Finalize(self, util.close_fds, (data, self.sentinel))  # type: ignore[attr-defined]
        with open(data, "wb", closefd=False) as pipe:
            pipe.write(told.getbuffer())


class Process(BaseProcess):
    """A process of multiprocessing, forked from our server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _Popen:
        return _Popen(process_obj)
