"""What the demo starts beside itself, and stops again: a slow API and a consumer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Trouble", "running_consumer", "slow_api", "stop", "tail"]

HERE = Path(__file__).parent

#: Seconds that a process gets to end by itself.
GRACE = 15.0


class Trouble(Exception):
    """Why the demo cannot go on."""


@contextlib.contextmanager
def slow_api(seconds: float) -> Iterator[str]:
    """A slow API on a free port; gives its URL."""
    command = [sys.executable, str(HERE / "slow_api.py"), "--port", "0", "--delay", str(seconds)]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        url = next((word for word in said.split() if word.startswith("http://")), None)
        if url is None:
            raise Trouble("the slow API did not start")
        yield url


@contextlib.contextmanager
def running_consumer(folder: Path, log: Path, workers: int) -> Iterator[subprocess.Popen]:
    """The stock ``huey_consumer`` with our application; it writes to ``log``."""
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "demo_app.huey", "-w", str(workers)]
    # TMPDIR too, so that even a consumer that is killed leaves nothing behind.
    environment = {**os.environ, "DEMO_FOLDER": str(folder), "TMPDIR": str(folder)}
    with log.open("wb") as output:
        options = {"cwd": HERE, "env": environment, "stdout": output, "stderr": output}
        with started(command, **options) as process:
            yield process


@contextlib.contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen]:
    # In a session of its own: Ctrl-C reaches us alone, and we stop it in order.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield process
    finally:
        stop(process, signal.SIGTERM)
        if process.stdout is not None:
            process.stdout.close()


def stop(process: subprocess.Popen, with_signal: signal.Signals) -> None:
    """End ``process`` if it still runs; a second Ctrl-C ends it at once."""
    if process.poll() is not None:
        return
    process.send_signal(with_signal)
    try:
        process.wait(GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def tail(log: Path, lines: int = 30) -> str:
    """The end of the consumer's log, for somebody who must find out what went wrong."""
    if not log.exists():
        return "The consumer was not started yet."
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(["The end of the consumer's log:", *(f"  {line}" for line in last)])
