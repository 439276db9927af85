"""What a consumer looks at before it starts, and what it says of itself."""

from __future__ import annotations

import logging
import resource

import orjson
import pytest
from huey import MemoryHuey, SqliteHuey

from huey_patient import Patient, Settings
from huey_patient.errors import ConfigurationError, StoreUnavailable


@pytest.fixture
def patient():
    return Patient(MemoryHuey("q"), max_connections=100)


@pytest.fixture
def check(patient, caplog):
    """Makes the checks of a start; returns what was said."""

    def check(workers="thread"):
        patient._carriage._check(worker_type=workers)
        return said(caplog)

    return check


def said(caplog):
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


@pytest.fixture
def checked_store(patient, monkeypatch):
    """A store whose check does as the test says: returns a list, or raises."""
    outcomes = []

    def check():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(patient.store, "check", check)
    return outcomes


@pytest.fixture
def few_files(monkeypatch):
    def limit(hard):
        monkeypatch.setattr(resource, "getrlimit", lambda which: (10, hard))

    return limit


@pytest.mark.parametrize("hard", [456, 100_000, resource.RLIM_INFINITY])
def test_enough_files_are_not_worth_a_word(check, checked_store, few_files, hard):
    checked_store.append([])
    few_files(hard)

    assert check() == []


@pytest.mark.parametrize("hard", [101, 455])
def test_few_files_are_warned_of(check, checked_store, few_files, hard):
    checked_store.append([])
    few_files(hard)

    [warning] = check()

    assert f"may open {hard} files" in warning
    assert "ulimit -Hn 456" in warning


@pytest.mark.parametrize("hard", [10, 100])
def test_fewer_files_than_connections_are_no_start(check, checked_store, few_files, hard):
    checked_store.append([])
    few_files(hard)

    with pytest.raises(ConfigurationError, match="lower max_connections"):
        check()


def test_memory_has_no_process_workers(check):
    with pytest.raises(ConfigurationError, match="use -k thread"):
        check("process")


def test_each_weakness_of_the_database_is_said(check, checked_store, caplog):
    checked_store.append(["One.", "Two."])

    assert check() == ["One.", "Two."]


def test_what_the_database_refuses_is_no_start(check, checked_store):
    checked_store.append(ConfigurationError("use another"))

    with pytest.raises(ConfigurationError, match="use another"):
        check()


@pytest.fixture
def beat(patient, caplog):
    """Has the consumer describe itself, as for each beat; returns what was said."""
    consumer = patient.huey.create_consumer(workers=1)

    def beat():
        patient._carriage._info(consumer)
        return said(caplog)

    return beat


def test_a_database_that_is_away_is_checked_when_it_answers(check, beat, checked_store):
    checked_store += [StoreUnavailable("away"), StoreUnavailable("away"), ["One."]]

    [warning] = check()
    assert "cannot be checked yet: away" in warning
    assert beat() == []
    assert beat() == ["One."]
    assert beat() == []


def test_what_would_have_been_no_start_is_an_error_later(check, beat, checked_store, caplog):
    checked_store += [StoreUnavailable("away"), ConfigurationError("use another")]
    check()

    with caplog.at_level(logging.ERROR):
        [error] = beat()

    assert "use another" in error
    assert beat() == []


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
