"""What an I/O process is started with may be lost: it is started all the same."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from support.consumer import WORKERS, App, parent_of, watched
from support.gate import Gate


def test_an_io_process_that_is_spawned_is_as_good_as_a_forked_one(new_app, gate: Gate):
    app: App = new_app(start_method="spawn")
    with app.consumer() as consumer:
        io = consumer.wait_until_ready()
        assert parent_of(io) == consumer.pid
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)

        os.kill(io, signal.SIGKILL)
        gate.open()

        assert set(app.answers.collect(ids).values()) == {200}
        assert consumer.wait_until_ready(times=2) != io
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
    assert app.answers.once_each()
    assert app.nothing_is_left()
    assert gate.sends() == dict.fromkeys(ids, 2)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_fork_server_that_is_killed_is_replaced(new_app, gate: Gate, workers):
    app: App = new_app(head=WORKERS[workers])
    with app.consumer("-w", "2", "-k", workers) as consumer:
        io = consumer.wait_until_ready()
        ids = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)

        with watched(io) as ended:
            os.kill(parent_of(io), signal.SIGKILL)
            assert ended()
        gate.open()

        assert set(app.answers.collect(ids).values()) == {200}
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
    assert app.answers.once_each()
    assert app.nothing_is_left()
    assert gate.sends() == dict.fromkeys(ids, 2)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_an_io_process_is_replaced_also_without_a_folder_for_temporary_files(
    new_app, gate: Gate, tmp_path, start_method
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    app: App = new_app(environ={"TMPDIR": str(temporary)}, start_method=start_method)
    with app.consumer() as consumer:
        io = consumer.wait_until_ready()
        shutil.rmtree(temporary)  # as a cleaner does that takes a day for a long time

        os.kill(io, signal.SIGKILL)
        id = app.patient.get(gate.url("/open"), callback="Tell").id

        assert app.answers.collect([id]) == {id: 200}
