"""The I/O process talks to the outside world: what it has, and what it shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.consumer import App
from support.gate import Gate

from huey_patient.keys import generate_key

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")

#: In the consumer alone: the test imports the module too, and has to close what it opens.
OPEN_THINGS = """
import sys
if "huey_consumer" in sys.argv[0]:
    KEPT = [open(__file__), socket.socket()]
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    with App(tmp_path, encryption_key=generate_key(), tail=OPEN_THINGS) as app:
        yield app


@pytest.fixture
def io(app: App) -> tuple[int, int]:
    """The I/O process of a consumer that has answered a call, and that consumer."""
    with Gate() as gate, app.consumer("-w", "2") as consumer:
        io = consumer.wait_until_ready()
        id = app.patient.get(gate.url("/open"), callback="Tell").id
        app.answers.collect([id])
        yield io, consumer.pid


def test_E7_neither_its_command_line_nor_its_environment_shows_the_key(app: App, io) -> None:
    shown = b"".join(Path(f"/proc/{io[0]}/{name}").read_bytes() for name in ("cmdline", "environ"))

    assert app.module.SETTINGS["encryption_key"].encode() not in shown
    assert b"app.db" not in shown


def test_X2_it_inherits_no_descriptor_of_the_consumer(app: App, io) -> None:
    theirs, ours = descriptors(io[0]), descriptors(io[1])
    shared = set(theirs.values()) & set(ours.values())

    assert str(app.folder / f"{app.name}.py") in ours.values()
    shared = {name for name in shared if not name.startswith("anon_inode:")}  # no identities
    pipes = {name for name in shared if name.startswith("pipe:")}
    assert shared <= {ours[0], ours[1], ours[2]} | pipes
    pipes -= {ours[0], ours[1], ours[2]}
    assert len(pipes) <= 1  # by which it would know of the end of whoever asked for it
    assert not [name for name in theirs.values() if "app" in Path(name).name]


def test_X2_it_leads_a_session_of_its_own(io) -> None:
    assert os.getsid(io[0]) == io[0]


def test_X2_it_leaves_no_core_behind(io) -> None:
    limits = Path(f"/proc/{io[0]}/limits").read_text().splitlines()
    [core] = [line.split() for line in limits if line.startswith("Max core file size")]

    assert core[4:6] == ["0", "0"]


def descriptors(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    return {int(one.name): os.readlink(one) for one in folder.iterdir()}
