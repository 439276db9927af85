"""What a consumer looks at before it starts, and what it says of itself."""

from __future__ import annotations

import orjson
from huey import MemoryHuey, SqliteHuey

from huey_patient import Patient, Settings


def test_a_consumer_waits_for_its_database_for_a_third_of_the_time_it_may_be_silent(tmp_path):
    settings = Settings(heartbeat_interval=0.5, orphan_threshold=3.0)
    patient = Patient(SqliteHuey("q", filename=str(tmp_path / "huey.db")), settings=settings)

    patient._carriage._check(worker_type="thread")

    assert patient.store._link.busy_timeout == 1.0
    patient.store.close()


def test_a_consumer_says_how_long_it_may_be_silent():
    settings = Settings(heartbeat_interval=7.0, orphan_threshold=70.0)
    patient = Patient(MemoryHuey("q"), settings=settings)
    consumer = patient.huey.create_consumer(workers=1)

    said = orjson.loads(patient._carriage._info(consumer))

    assert (said["heartbeat_interval"], said["orphan_threshold"]) == (7.0, 70.0)
