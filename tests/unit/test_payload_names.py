"""Payload stores: which one a name or a URL means, and what their keys say."""

from __future__ import annotations

import importlib
import time

import pytest
from huey import MemoryHuey

from huey_patient import ConfigurationError, FsspecPayloads, PayloadStore
from huey_patient.payloads import made_at, new_key, payload_store_for
from huey_patient.payloads.base import aged
from huey_patient.payloads.in_files import FilePayloads
from huey_patient.payloads.in_huey import HueyPayloads


def test_a_name_or_a_url_means_a_store(tmp_path) -> None:
    huey = MemoryHuey("q")

    assert isinstance(payload_store_for(huey, "huey"), HueyPayloads)
    assert isinstance(payload_store_for(huey, f"file://{tmp_path}/x"), FilePayloads)
    assert isinstance(payload_store_for(huey, "memory://x"), FsspecPayloads)
    store = payload_store_for(huey, "huey")
    assert payload_store_for(huey, store) is store


@pytest.mark.parametrize("wrong", [None, 7, "", "redis", "/folder", b"huey"], ids=repr)
def test_what_means_none_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match="payload store is"):
        payload_store_for(MemoryHuey("q"), wrong)


def test_a_url_that_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="fsspec"):
        payload_store_for(None, "nosuchscheme://x")


def test_without_the_driver_it_is_said_what_to_install(monkeypatch) -> None:
    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(ConfigurationError, match=r"install huey_patient\[fsspec\]"):
        payload_store_for(None, "s3://bucket/x")


def test_keys_differ_and_say_when_they_were_made() -> None:
    keys = {new_key() for _ in range(1000)}

    assert len(keys) == 1000
    assert all(abs(made_at(key) - time.time()) < 60 for key in keys)
    assert made_at(new_key(1234.9)) == 1234
    assert made_at(new_key(-5.0)) == 0
    assert made_at(new_key(1e12)) == 0xFFFFFFFF


def test_only_a_key_ages() -> None:
    assert aged(new_key(0), 1.0)
    assert not aged(new_key(), 60.0)
    assert not aged("notes.txt", 0.0)
    assert not aged("0" * 31, 0.0)


def test_the_contract_has_nothing_of_its_own() -> None:
    with pytest.raises(TypeError, match="abstract"):
        PayloadStore()  # type: ignore[abstract]


def test_immediate_mode_keeps_payloads_in_memory(tmp_path) -> None:
    from huey import SqliteHuey

    huey = SqliteHuey("q", filename=str(tmp_path / "huey.db"))
    store = payload_store_for(huey, "huey")
    key = new_key()
    huey.immediate = True
    store.put(key, b"x")
    assert store.get(key) == b"x"

    huey.immediate = False

    assert store.get(key) is None
    huey.storage.close()
