"""Sealing again what waits, after a new key was put first."""

from __future__ import annotations

import os
import sys
import uuid
from typing import Any

import pytest
from huey import MemoryHuey
from support.desk import URL

from huey_patient import EnvelopeError, Patient, StoreUnavailable
from huey_patient.cli import main
from huey_patient.envelope import Keyring
from huey_patient.keys import generate_key, key_id, parse_key
from huey_patient.payloads import PayloadStore

OLD, NEW, OTHER = generate_key(), generate_key(), generate_key()
LARGE = os.urandom(3000)


class Shelf(PayloadStore):
    """A payload store that is a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def sweep(self, older_than: float) -> int:
        return 0


class Place:
    """One storage and one payload store, used by applications with different keys."""

    def __init__(self) -> None:
        self.name = f"rekey-{uuid.uuid4().hex}"
        self.storage: Any = None
        self.shelf = Shelf()

    def patient(self, *keys: str, **settings: Any) -> Patient:
        huey = MemoryHuey(self.name, immediate=False)
        self.storage = huey.storage = self.storage or huey.storage
        patient = Patient(
            huey, encryption_key=keys or None, payload_store_threshold=1000, **settings
        )
        patient.register_payload_store("shelf", self.shelf)
        return patient


@pytest.fixture
def place() -> Place:
    return Place()


def body(patient: Patient, id: str) -> bytes:
    """The body of a waiting request, opened."""
    sealed = patient._references.fetch(id, patient.store.read(id), "request")
    _, found = patient._keyring.unseal(
        sealed, purpose="request", queue=patient.huey.name, id=id, max_body_bytes=10**6
    )
    return found


def test_what_waits_opens_with_the_new_key_alone(place: Place) -> None:
    before = place.patient(OLD)
    small = before.post(URL, body=b"small").id
    large = before.post(URL, body=LARGE).id

    done = place.patient(NEW, OLD).rekey()

    assert (done.resealed, done.current, done.gone, done.failed) == (2, 0, 0, 0)
    assert done.complete
    after = place.patient(NEW)
    assert body(after, small) == b"small"
    assert body(after, large) == LARGE


def test_a_second_time_nothing_is_left_to_do(place: Place) -> None:
    place.patient(OLD).post(URL, body=LARGE)
    both = place.patient(NEW, OLD)
    both.post(URL)
    both.rekey()

    done = both.rekey()

    assert (done.resealed, done.current) == (0, 2)


def test_the_old_object_stays_for_whoever_is_reading_it(place: Place) -> None:
    before = place.patient(OLD)
    id = before.post(URL, body=LARGE).id
    reference = before.store.read(id)

    place.patient(NEW, OLD).rekey()

    assert before._references.fetch(id, reference, "request")
    assert len(place.shelf.objects) == 2


def test_held_requests_are_sealed_again_and_settle_as_before(place: Place) -> None:
    before = place.patient(OLD)
    id = before.post(URL, body=b"x").id
    before.store.register("o", b"")
    [lease] = before.store.claim("o", "fresh", 1)

    assert place.patient(NEW, OLD).rekey().resealed == 1

    [held] = before.store.held()
    assert (held.id, held.owner, held.epoch) == (id, "o", lease.epoch)
    assert body(place.patient(NEW), id) == b"x"


def test_a_key_that_is_not_here_is_named(place: Place) -> None:
    place.patient(OTHER).post(URL)
    place.patient(OTHER).post(URL, body=LARGE)
    place.patient().post(URL)
    place.patient(OLD).post(URL)

    done = place.patient(NEW, OLD).rekey()

    assert done.resealed == 1
    assert dict(done.unopened) == {key_id(parse_key(OTHER)).hex(): 2, "none": 1}
    assert not done.complete


def test_plain_requests_are_sealed_once_they_are_accepted(place: Place) -> None:
    id = place.patient().post(URL, body=b"x").id

    done = place.patient(NEW, accept_plaintext=True).rekey()

    assert done.resealed == 1
    assert body(place.patient(NEW), id) == b"x"


def test_a_damaged_request_is_counted_and_stays(place: Place) -> None:
    before = place.patient(OLD)
    before.store.submit("junk", b"no envelope")
    before.post(URL)

    done = place.patient(NEW, OLD).rekey()

    assert (done.resealed, dict(done.unopened)) == (1, {"none": 1})
    assert before.store.read("junk") == b"no envelope"


def test_a_payload_that_is_lost_is_counted_and_its_request_stays(place: Place) -> None:
    before = place.patient(OLD)
    id = before.post(URL, body=LARGE).id
    reference = before.store.read(id)
    place.shelf.objects.clear()

    done = place.patient(NEW, OLD).rekey()

    assert (done.resealed, done.failed, done.complete) == (0, 1, False)
    assert before.store.read(id) == reference


def test_what_changes_meanwhile_is_left_alone_and_leaves_no_object(place: Place) -> None:
    before = place.patient(OLD)
    before.post(URL, body=LARGE, id="large")
    before.post(URL, id="small")
    both = place.patient(NEW, OLD)
    store = both.store
    store.reseal = lambda id, old, new: False

    done = both.rekey()

    assert (done.resealed, done.gone) == (0, 2)
    assert len(place.shelf.objects) == 1


def test_what_is_answered_between_listing_and_reading_is_gone(place: Place) -> None:
    both = place.patient(NEW, OLD)
    both.store.ids = lambda after="", limit=500: (["nobody"], "")

    assert both.rekey().gone == 1


def test_all_pages_are_gone_through(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey_patient.rekey.BATCH", 3)
    before = place.patient(OLD)
    for _ in range(10):
        before.get(URL)

    assert place.patient(NEW, OLD).rekey().resealed == 10


def test_an_envelope_sealed_again_keeps_its_label_and_is_bound_as_before() -> None:
    old, both = Keyring([parse_key(OLD)]), Keyring([parse_key(NEW), parse_key(OLD)])
    place = {"purpose": "request", "queue": "q", "id": "r"}
    sealed = old.seal({"a": 1}, b"text " * 1000, label=b"label", **place)

    again = both.reseal(sealed, **place)

    new = Keyring([parse_key(NEW)])
    assert new.unseal(again, max_body_bytes=10**5, **place) == ({"a": 1}, b"text " * 1000)
    assert b"label" in again
    assert len(again) == len(sealed)  # Neither unpacked nor packed anew.
    assert both.reseal(again, **place) == again
    for change in ({"purpose": "outcome"}, {"queue": "p"}, {"id": "s"}):
        with pytest.raises(EnvelopeError, match="expected here"):
            both.reseal(sealed, **{**place, **change})
    for damaged in (sealed[:-1], sealed[:20], b"", sealed.replace(b"label", b"lable")):
        with pytest.raises(EnvelopeError):
            both.reseal(damaged, **place)


# By hand


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with an application on SQLite, for a given list of keys."""
    names = []

    def write(*keys: str) -> str:
        name = f"rekeyed_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(
            "from huey import SqliteHuey\nfrom huey_patient import Patient\n"
            f"huey = SqliteHuey('q', filename={str(tmp_path / 'app.db')!r})\n"
            f"patient = Patient(huey, encryption_key={list(keys)!r})\n"
        )
        names.append(name)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in names:
        if loaded := sys.modules.pop(name, None):
            loaded.patient.store.close()
            loaded.huey.storage.close()


def load(name: str) -> Any:
    __import__(name)
    return sys.modules[name]


def test_the_command_says_what_it_did(module, capsys) -> None:
    load(module(OLD)).patient.get(URL)
    load(module(NEW)).patient.get(URL)

    assert main(["rekey", f"{module(NEW, OLD)}.huey"]) == 0

    said = capsys.readouterr().out
    assert said == "1 requests were sealed again; 1 were current.\n"


def test_the_command_names_the_keys_that_are_missing_and_fails(module, capsys) -> None:
    load(module(OTHER)).patient.get(URL)

    assert main(["rekey", f"{module(NEW, OLD)}.huey"]) == 1

    name = key_id(parse_key(OTHER)).hex()
    assert f"1 could not be opened; they need the key {name}." in capsys.readouterr().out


def test_the_command_tells_of_a_store_that_is_away(module, capsys) -> None:
    name = module(NEW)

    def away(*_: object) -> None:
        raise StoreUnavailable("the database is away")

    load(name).patient.store.ids = away

    assert main(["rekey", f"{name}.huey"]) == 1
    assert "the database is away" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a.huey", "b.huey"]], ids=["none", "two"])
def test_the_command_takes_one_path(arguments, capsys) -> None:
    assert main(["rekey", *arguments]) == 2
    assert "usage" in capsys.readouterr().err
