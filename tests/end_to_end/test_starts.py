"""What a real consumer says at its start, and when it does not start at all."""

from __future__ import annotations

from support.consumer import App, script

IN_MEMORY = """
from huey import MemoryHuey
huey = MemoryHuey(QUEUE)
patient = Patient(huey, **SETTINGS)
"""
WITHOUT_FSYNC = """
from huey import SqliteHuey
huey.storage.close()
huey = SqliteHuey(QUEUE, filename=DATABASE, fsync=False)
patient = Patient(huey, **SETTINGS)
"""


def test_a_weakness_of_the_database_stands_in_the_log(new_app):
    app: App = new_app(attach=False, tail=WITHOUT_FSYNC)
    with app.consumer() as consumer:
        assert "WARNING" in consumer.log
        assert "leave out fsync=False" in consumer.log


def test_a_queue_in_memory_starts_no_process_workers(new_app):
    app: App = new_app(attach=False, tail=IN_MEMORY)
    with app.consumer("-k", "process", ready=False) as consumer:
        assert consumer.wait() == 1
    assert "ConfigurationError" in consumer.log
    assert "use -k thread, or SqliteHuey" in consumer.log


def test_more_connections_than_files_are_no_start(new_app):
    app: App = new_app(max_connections=256)
    command = f"ulimit -n 200; exec {script('huey_consumer')} {app.name}.huey"
    with app.run("sh", "-c", command, ready=False) as consumer:
        assert consumer.wait() == 1
    assert "a process may open 200 files" in consumer.log
    assert "lower max_connections" in consumer.log
