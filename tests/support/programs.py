"""Programs that a test runs as a user would, and what they print, line by line.

    with Program(["huey_consumer", "app.huey"], cwd=tmp_path) as consumer:
        consumer.wait_for("is ready")

Waiting ends by a line or by the end of the program, never by a clock; what
hangs is ended by the timeout of the test.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

__all__ = ["BIN", "EXAMPLES", "ROOT", "Program", "environment", "run"]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a user who has activated this virtual environment."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HUEY_")}
    path = os.pathsep.join([str(BIN), own.get("PATH", "")])
    return {**own, "PATH": path, "PYTHONUNBUFFERED": "1", **(extra or {})}


class Program:
    """A running program; ended on the way out, by a signal that it may obey first."""

    def __init__(
        self, command: list[str], *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._command = command
        self._cwd = cwd
        self._env = environment(env)
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.output: list[str] = []  #: Every line that was waited for or passed over.

    def __enter__(self) -> Program:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_for(self, text: str) -> str:
        """Return the next line with ``text`` in it."""
        while (line := self._unread.get()) is not None:
            self.output.append(line)
            if text in line:
                return line
        self._unread.put(None)
        raise AssertionError(f"ended without saying {text!r}:\n" + "".join(self.output[-40:]))

    def read_all(self) -> str:
        """Wait for the end of the program; return all that it printed."""
        while (line := self._unread.get()) is not None:
            self.output.append(line)
        self._unread.put(None)
        return "".join(self.output)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the program; return its exit status."""
        return self._process.wait()

    def end(self) -> None:
        """End it: SIGTERM, and what does not obey is killed."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._unread.put(line)
        self._unread.put(None)


def run(
    command: list[str], *, cwd: Path, env: Mapping[str, str] | None = None, typed: str = ""
) -> str:
    """Return what ``command`` prints when it is given ``typed``; it must end well."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(env), input=typed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
