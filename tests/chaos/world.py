"""The processes of one run, and everything that can be done to them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .databases import Database

TESTS = str(Path(__file__).parent.parent)
#: A stopped consumer stays so longer than the threshold after which it is reaped.
STOPPED_SECONDS = 2.5


class Consumer:
    """A real consumer that is started again whenever it is killed."""

    def __init__(self, name: str, folder: str, env: dict[str, str]) -> None:
        self.log = Path(folder, f"{name}.log")
        self._env = env
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "huey_consumer"), "chaos.app.huey", "-w", "0"]
        with open(self.log, "ab") as log:
            return subprocess.Popen(command, env=self._env, cwd=TESTS, stdout=log, stderr=log)

    def io_pids(self) -> list[int]:
        """Every I/O process that it ever announced, the newest last."""
        found = re.findall(r"is ready, PID (\d+)", self.log.read_text(errors="replace"))
        return [int(pid) for pid in found]

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def kill_and_start(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class World:
    """Submitters, consumers and the remote of one run."""

    def __init__(self, kind: str, database: Database, seed: int, *, control: bool) -> None:
        self.random = random.Random(seed)
        self.database = database
        self.done: dict[str, int] = {}
        self._wake_at: list[tuple[float, Callable[[], None]]] = []
        self.env = {
            **os.environ,
            "CHAOS_KIND": kind,
            "CHAOS_ADDRESS": database.address,
            "CHAOS_CONTROL": "1" if control else "",
            "PYTHONPATH": TESTS,
        }
        python = sys.executable
        self.remote = subprocess.Popen(
            [python, "-m", "chaos.remote", str(seed)],
            env=self.env,
            cwd=TESTS,
            stdout=subprocess.PIPE,
        )
        assert self.remote.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.remote.stdout.readline())}/"
        self.consumers = [Consumer(name, database.folder, self.env) for name in ("one", "two")]
        self.ledger = Path(database.folder, "accepted")
        self.submitters = [
            subprocess.Popen(
                [python, "-m", "chaos.app", self.url, str(self.ledger), name, "0.005"],
                env=self.env,
                cwd=TESTS,
                stdin=subprocess.PIPE,
            )
            for name in ("a", "b")
        ]

    # What may happen

    def actions(self) -> list[Callable[[], None]]:
        """Everything that chaos may do, the more likely more than once."""
        likely = [self.kill_consumer, self.kill_io, self.kill_io, self.stop_io]
        likely += [self.stop_consumer, self.cut, self.cut]
        if self.database.restart_is is not None:
            likely.append(self.restart_database)
        return likely

    def act(self) -> None:
        """Do one thing at random, and let go of what was stopped long enough."""
        action = self.random.choice(self.actions())
        self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
        action()
        self.let_go()

    def let_go(self, *, all_of_it: bool = False) -> None:
        """Continue what has been stopped long enough."""
        now = time.monotonic()
        due = [wake for moment, wake in self._wake_at if all_of_it or moment <= now]
        self._wake_at = [pair for pair in self._wake_at if pair[1] not in due]
        for wake in due:
            wake()
        if all_of_it:
            # One that was stopped when its consumer was killed cannot notice it.
            for pid in self.left_over():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill_consumer(self) -> None:
        self.random.choice(self.consumers).kill_and_start()

    def kill_io(self) -> None:
        self._signal_io(signal.SIGKILL)

    def stop_io(self) -> None:
        self._signal_io(signal.SIGSTOP)

    def stop_consumer(self) -> None:
        consumer = self.random.choice(self.consumers)
        process = consumer.process

        def go_on() -> None:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)

        consumer.signal(signal.SIGSTOP)
        self._wake_at.append((time.monotonic() + STOPPED_SECONDS, go_on))

    def cut(self) -> None:
        self.database.cut()

    def restart_database(self) -> None:
        self.database.restart()

    def _signal_io(self, signum: int) -> None:
        pids = self.random.choice(self.consumers).io_pids()
        if pids and _is_io_process(pids[-1]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[-1], signum)

    # The end

    def stop_submitting(self) -> None:
        for submitter in self.submitters:
            assert submitter.stdin is not None
            submitter.stdin.close()
            if submitter.wait(60) != 0:
                raise RuntimeError("a submitter failed")

    def left_over(self) -> list[int]:
        """I/O processes that are still there although their consumers are gone."""
        return [pid for one in self.consumers for pid in one.io_pids() if _is_io_process(pid)]

    def stop(self) -> None:
        """End whatever still runs."""
        self.let_go(all_of_it=True)
        for process in (*self.submitters, self.remote, *(one.process for one in self.consumers)):
            process.kill()
            process.wait()
        for pipe in (self.remote.stdout, *(one.stdin for one in self.submitters)):
            if pipe is not None:
                pipe.close()


def _is_io_process(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
    return b"huey_patient.io_process" in command
