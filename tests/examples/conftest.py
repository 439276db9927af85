"""What the examples run against, and in: local servers, and a folder of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.fixtures import naps, server
from support.programs import EXAMPLES, Program, run

__all__ = ["api", "call", "consume", "env", "naps", "server"]

Call = Callable[..., str]
Consume = Callable[..., Program]


@pytest.fixture
def api() -> Iterator[str]:
    """The URL of the examples' own slow API, which is quick here."""
    command = [sys.executable, str(EXAMPLES / "slow_api.py"), "--port", "0", "--delay", "0.05"]
    with Program(command, cwd=EXAMPLES) as program:
        yield program.wait_for("http://").split()[2]


@pytest.fixture
def env(api: str) -> dict[str, str]:
    """The environment that an example runs in; a test may add to it."""
    return {"API_URL": api, "PYTHONPATH": str(EXAMPLES)}


@pytest.fixture
def call(tmp_path: Path, env: dict[str, str]) -> Call:
    """Runs an example as a script, with arguments; returns what it printed."""

    def script(name: str, *arguments: str, typed: str = "") -> str:
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        return run(command, cwd=tmp_path, env=env, typed=typed)

    return script


@pytest.fixture
def consume(tmp_path: Path, env: dict[str, str]) -> Iterator[Consume]:
    """Starts the stock ``huey_consumer`` of an example."""
    with ExitStack() as stack:

        def start(huey: str, *options: str) -> Program:
            command = ["huey_consumer", huey, *options]
            return stack.enter_context(Program(command, cwd=tmp_path, env=env))

        yield start
