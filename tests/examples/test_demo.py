"""The demo: what it shows, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.programs import EXAMPLES, Program

DEMO = [sys.executable, str(EXAMPLES / "demo.py")]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo makes its folder; afterwards nothing of it may be left."""
    # Not in tmp_path: the path of a socket, which is made in it, has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="demo-"))
    yield folder
    for pid in processes_of(folder):
        gone = select.poll()
        gone.register(os.pidfd_open(pid), select.POLLIN)
        gone.poll()  # One that does not end hangs the test.
    folder.rmdir()  # Fails if it is not empty.


def demo(temporary: Path, *options: str) -> Program:
    return Program([*DEMO, *options], cwd=EXAMPLES, env={"TMPDIR": str(temporary)})


def processes_of(folder: Path) -> list[int]:
    """The processes that have ``folder`` in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            variables = (process / "environ").read_bytes()
        except OSError:
            continue  # No process, or one that has just ended.
        if str(folder).encode() in variables:
            found.append(int(process.name))
    return found


def test_two_hundred_slow_calls_come_back_once_each(temporary: Path) -> None:
    with demo(temporary) as program:
        said = program.read_all()

        assert program.wait() == 0, said
    assert "done 200 of 200" in said
    assert "need 200 s" in said
    assert "computed, not measured: 200 x 2 s / 2 workers" in said
    assert "200 callbacks ran, none twice; none missing." in said


def test_a_list_of_urls_is_told_by_its_outcomes(temporary: Path, tmp_path: Path, api: str) -> None:
    own = tmp_path / "urls.txt"
    own.write_text(f"# mine\n{api}/1\n\n{api}/2\nhttp://127.0.0.1:1/closed\n")

    with demo(temporary, "--urls", str(own)) as program:
        said = program.read_all()

        assert program.wait() == 0, said
    assert "200: 2, connection: 1" in said
    assert "3 callbacks ran, none twice; none missing." in said


@pytest.mark.parametrize(
    ("numbers", "status", "told"),
    [
        ([0, 1], 0, "none twice; none missing"),
        ([0, 1, 1], 1, "1 twice; none missing"),
        ([0], 1, "none twice; 1 missing"),
    ],
)
def test_the_exit_status_is_0_only_when_each_call_came_back_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    numbers: list[int],
    status: int,
    told: str,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    shown = importlib.import_module("demo")
    answers = [shown.Answer(number, "200", 2.0) for number in numbers]

    assert shown.verdict(answers, 2) == status
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "reason"),
    [("# nothing\n", "holds no URL"), ("http://ok/\nftp://no/\n", "line 2: url must begin")],
)
def test_a_list_that_cannot_be_called_starts_nothing(
    temporary: Path, tmp_path: Path, text: str, reason: str
) -> None:
    own = tmp_path / "urls.txt"
    own.write_text(text)

    with demo(temporary, "--urls", str(own)) as program:
        said = program.read_all()

        assert program.wait() == 2
    assert reason in said
    assert "consumer" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_everything(temporary: Path, number: signal.Signals) -> None:
    with demo(temporary) as program:
        program.wait_for("in flight")

        program.signal(number)

        assert program.wait() == 130


def test_a_consumer_that_dies_is_reported_with_its_log(temporary: Path) -> None:
    with demo(temporary) as program:
        program.wait_for("in flight")
        for pid in processes_of(temporary):
            if b"huey_consumer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        said = program.read_all()

        assert program.wait() == 1
    assert "the consumer ended with status -9" in said
    assert "Huey consumer started with 2 thread" in said
