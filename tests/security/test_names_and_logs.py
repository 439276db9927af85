"""What is stored is text from outside: it chooses no code, and writes no log lines."""

from __future__ import annotations

import os
import sys

import orjson
import pytest
from huey import MemoryHuey
from support.desk import MARK, URL, Desk
from support.sending import send
from support.web import Answer

from huey_patient import Patient, PayloadLost, Response, UnknownCallback, secret
from huey_patient.envelope import Keyring, read_label
from huey_patient.keys import generate_key
from huey_patient.payloads import payload_store_for
from huey_patient.references import References
from huey_patient.request import Request
from huey_patient.wire import Reason

#: Names that would be code if anything were imported by name, and a look-alike.
FOREIGN = ["os.system", "builtins.eval", "app.callbacks.os.system", "Sav\u0435", "Save.__init__"]


@pytest.fixture
def heard() -> list[object]:
    return []


def opened(heard: list[object], **settings: object) -> Desk:
    """A desk with one callback, which says what it was given."""
    desk = Desk(**settings)

    @desk.patient.callback(name="Save")
    def save(outcome):
        heard.append(outcome)

    return desk


@pytest.fixture
def desk(heard) -> Desk:
    return opened(heard, encryption_key=generate_key())


def relabeled(desk: Desk, id: str, callback: str) -> bytes:
    """The request as somebody would seal it who has the key, with another callback."""
    sealed = desk.patient.store.read(id)
    place = {"purpose": "request", "queue": desk.huey.name, "id": id}
    head, body = desk.patient._keyring.unseal(sealed, max_body_bytes=9999, **place)
    label = orjson.dumps({**orjson.loads(read_label(sealed)), "callback": callback})
    return desk.patient._keyring.seal(head, body, label=label, **place)


# C1


@pytest.mark.parametrize("name", FOREIGN)
def test_C1_a_name_that_is_not_registered_is_refused_at_the_call(desk, name):
    before = set(sys.modules)

    with pytest.raises(UnknownCallback):
        desk.patient.get(URL, callback=name)

    assert desk.stored() == 0
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", FOREIGN)
def test_C1_a_name_in_an_envelope_is_looked_up_and_never_imported(desk, heard, name):
    id = desk.patient.get(URL, callback="Save").id
    forged = relabeled(desk, id, name)
    before = set(sys.modules)

    desk.settle(id, Reason.ABANDONED, forged)
    desk.work()

    assert heard == []
    assert set(sys.modules) == before


# C2


def test_C2_an_outcome_goes_to_no_callback_but_its_own(desk, heard):
    id = desk.patient.get(URL, callback="Save").id
    desk.answer(id)
    task = desk.huey.dequeue()
    mark, reason, envelope = task.args
    assert (mark, reason) == (MARK, "outcome")
    # An outcome whose label was changed to name another one does not open.
    label = read_label(envelope)
    task.args = (mark, reason, envelope.replace(label, label.replace(b"Save", b"Evas")))

    desk.huey.execute(task)

    assert heard == []


# E5


def test_E5_the_value_of_a_secret_is_in_nothing_that_is_sealed(server):
    url = server.answer("/x", Answer(200, b"fine"))
    sealed: list[bytes] = []

    def encrypt(text: bytes) -> bytes:
        sealed.append(text)
        return text

    huey = MemoryHuey("e5", immediate=True)
    patient = Patient(huey, encryption=encrypt, decryption=bytes, compression_level=1)
    patient.register_secret("key", "canary-e5")
    place = secret("key", prefix="Bearer ")
    result = patient.post(url, headers={"A": place}, params={"b": place}, json={"c": [place]})

    assert isinstance(result.get(), Response)
    assert len(sealed) >= 2
    assert b"canary-e5" not in b"".join(sealed)
    assert b"canary-e5" in server.asked[0].body


# F2


def test_F2_an_object_in_the_place_of_another_one_is_refused(tmp_path):
    keyring = Keyring([bytes(range(32))])
    references = References(keyring, queue="q", threshold=100, max_body_bytes=9999)
    folder = tmp_path / "objects"
    references.register("files", payload_store_for(None, folder.as_uri()))
    stowed = {
        id: references.stow(
            id, keyring.seal({}, body, purpose="outcome", queue="q", id=id, label=b"{}"), "outcome"
        )
        for id, body in (("a", os.urandom(5000)), ("b", os.urandom(5000)))
    }
    one, other = [path for path in folder.rglob("*") if path.is_file()]
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])

    for id, reference in stowed.items():
        with pytest.raises(PayloadLost, match="damaged"):
            references.fetch(id, reference, "outcome")


# L1


def test_L1_a_name_from_outside_stays_on_one_line(desk, caplog):
    id = desk.patient.get(URL, callback="Save").id

    desk.settle(id, Reason.ABANDONED, relabeled(desk, id, "x\r\n\x1b[31mERROR \u202egpj" * 50))

    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert len(lines[0]) < 400


# R2


def test_R2_no_referer_is_sent_and_a_query_does_not_cross_origins(server, other):
    asked = f"{server.url}/redirect?key=s3cret&to={other.url}/echo"

    send(Request("GET", asked))

    [arrived] = other.asked
    assert arrived.header("referer") is None
    assert "s3cret" not in arrived.target + repr(arrived.headers)
