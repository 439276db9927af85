"""The fork server: it outlives signals, and is replaced when it is of no use any more."""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
from collections.abc import Iterator
from multiprocessing import util

import pytest

from huey_patient.io_process import forking
from huey_patient.io_process.fork_server import STOPS
from huey_patient.io_process.forking import ForkServer


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A child that is told nothing ends with a traceback, which says nothing here."""
    yield
    capfd.readouterr()


def fork(server: ForkServer) -> tuple[int, int]:
    """A child that is told nothing, and so ends at once; its pid and its exit code."""
    pid, status, data = server.fork([])
    os.close(data)
    with open(status, "rb") as pipe:
        [code] = struct.unpack("q", pipe.read(8))
    return pid, code


def running(server: ForkServer) -> int:
    """The pid of the server, which is started now if there is none."""
    fork(server)
    return server._pid


def test_it_tells_the_pid_and_the_exit_code_of_each_child(server: ForkServer) -> None:
    first, second = fork(server), fork(server)

    assert first[0] != second[0]
    assert (first[1], second[1]) == (1, 1)


def test_it_leads_a_session_of_its_own(server: ForkServer) -> None:
    pid = running(server)

    assert os.getsid(pid) == pid


@pytest.mark.parametrize("sign", STOPS)
def test_signals_that_are_meant_for_the_consumer_do_not_end_it(server: ForkServer, sign) -> None:
    pid = running(server)

    os.kill(pid, sign)

    assert running(server) == pid


@pytest.mark.parametrize("sign", STOPS)
def test_nor_do_they_before_it_has_begun(
    server: ForkServer, sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(path: bytes, command: list[str], descriptors: list[int]) -> int:
        pid = spawn(path, command, descriptors)
        os.kill(pid, sign)
        return pid

    spawn = util.spawnv_passfds
    monkeypatch.setattr(util, "spawnv_passfds", start)

    assert fork(server)[1] == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_one_that_was_killed_is_replaced(server: ForkServer) -> None:
    pid = running(server)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert running(server) != pid
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)  # It is no zombie either.


def test_one_that_stands_still_is_killed_and_replaced(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = running(server)
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)

    monkeypatch.setattr(forking, "FORK_SECONDS", 0.1)
    monkeypatch.setattr(forking, "END_SECONDS", 0.1)
    with pytest.raises(TimeoutError, match="did not answer"):
        fork(server)
    monkeypatch.undo()

    assert running(server) != pid


def test_one_that_has_no_descriptor_left_says_so_and_goes_on(server: ForkServer) -> None:
    pid = running(server)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 2, before[1]))

    with pytest.raises(OSError, match="no process or descriptor left"):
        server.fork([0] * 50)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    assert running(server) == pid


def test_it_ends_with_the_last_that_could_ask_it(server: ForkServer) -> None:
    pid = running(server)
    handle = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(handle, select.POLLIN)

    server.forget()

    assert poller.poll(20_000)
    os.close(handle)
    os.waitpid(pid, 0)


def test_descriptors_that_a_failed_fork_was_to_have_are_closed(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise BlockingIOError("no process left")

    monkeypatch.setattr(util, "spawnv_passfds", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="no process left"):
            fork(server)
        before = set(os.listdir("/proc/self/fd"))
    monkeypatch.undo()

    assert set(os.listdir("/proc/self/fd")) <= before
    assert fork(server)[1] == 1
