"""Values that Huey stores: sealed at rest, and open again where they belong."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from huey.serializer import Serializer, SignedSerializer

from huey_patient import travel, wire
from huey_patient.envelope import Keyring
from huey_patient.errors import ClientError, EnvelopeError, RequestTimeout, StreamInterrupted
from huey_patient.headers import Headers
from huey_patient.response import Response

KEY = bytes(range(100, 132))
SERIALIZERS = {
    "pickle": Serializer(),
    "compressed": Serializer(compression=True),
    "signed": SignedSerializer("secret"),
}


class Sealer:
    """What a `Patient` does for the values of its queue."""

    def __init__(self, queue: str, key: bytes = KEY) -> None:
        self.queue = queue
        self.keyring = Keyring([key])

    def seal_value(self, value: Any) -> bytes:
        head, body = wire.write_outcome(value)
        return self.keyring.seal(head, body, purpose="value", queue=self.queue, id=value.request_id)

    def open_value(self, request_id: str, sealed: bytes) -> Any:
        head, body = self.keyring.unseal(
            sealed, purpose="value", queue=self.queue, id=request_id, max_body_bytes=1 << 20
        )
        return wire.read_outcome(head, body, queue=self.queue)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "_sealers", {})
    travel.register("app", Sealer("app"))


def response(**changes: Any) -> Response:
    fields: dict[str, Any] = {
        "status": 404,
        "url": "https://example.com/CANARY",
        "headers": Headers({"X": "CANARY"}),
        "content": b"CANARY",
        "request_id": "id-1",
        "callback_args": {"doc": "CANARY"},
        "queue": "app",
    }
    return Response(**{**fields, **changes})


def timeout() -> RequestTimeout:
    error = RequestTimeout("CANARY", request_id="id-1", url="https://example.com/CANARY")
    error.queue = "app"
    return error


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
def test_a_response_is_stored_sealed_and_comes_back_equal(serializer: Serializer) -> None:
    stored = serializer.serialize(response())

    assert b"CANARY" not in stored
    assert serializer.deserialize(stored) == response()


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
def test_an_error_is_stored_sealed_and_comes_back(serializer: Serializer) -> None:
    stored = serializer.serialize(timeout())
    found = serializer.deserialize(stored)

    assert b"CANARY" not in stored
    assert type(found) is RequestTimeout
    assert vars(found) == vars(timeout())


def test_an_http_error_is_stored_with_its_response() -> None:
    stored = pickle.dumps(response().as_error())
    found = pickle.loads(stored)

    assert b"CANARY" not in stored
    assert type(found) is ClientError
    assert found.response == response()


def test_a_broken_stream_is_stored_sealed_with_what_came() -> None:
    error = StreamInterrupted("cut", kind="timeout", response=response(), request_id="id-1")
    by_hand = pickle.loads(pickle.dumps(error))
    error.queue = "app"

    stored = pickle.dumps(error)
    found = pickle.loads(stored)

    assert b"CANARY" not in stored
    for one in (found, by_hand):
        assert type(one) is StreamInterrupted
        assert (one.kind, one.message) == ("timeout", "cut")
        assert one.response.content == b"CANARY"


def test_values_are_sealed_inside_what_a_callback_returns() -> None:
    returned = {"answers": [response(), timeout()], "note": "all of them"}

    stored = pickle.dumps(returned)

    assert b"CANARY" not in stored
    assert pickle.loads(stored)["answers"][0] == response()


def test_without_a_patient_it_is_said_which_one_is_missing() -> None:
    stored = pickle.dumps(response())
    travel._sealers.clear()

    with pytest.raises(travel.UnknownQueue, match=r"'app'.*Import the module"):
        pickle.loads(stored)
    with pytest.raises(travel.UnknownQueue):
        pickle.dumps(response())


def test_a_patient_with_another_key_cannot_open_it() -> None:
    stored = pickle.dumps(response())
    travel.register("app", Sealer("app", key=bytes(range(32))))

    with pytest.raises(EnvelopeError, match="not configured here"):
        pickle.loads(stored)


def test_the_value_of_one_queue_does_not_open_in_another() -> None:
    travel.register("other", Sealer("other"))
    _, (_, id, sealed) = response().__reduce__()

    assert travel.reopen("app", id, sealed) == response()
    with pytest.raises(EnvelopeError):
        travel.reopen("other", id, sealed)
    with pytest.raises(EnvelopeError):
        travel.reopen("app", "id-2", sealed)


def test_values_made_by_hand_pickle_as_they_stand() -> None:
    travel._sealers.clear()
    plain = response(queue=None)
    error = plain.as_error()

    assert pickle.loads(pickle.dumps(plain)) == plain
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is ClientError
    assert vars(found) == vars(error)
    assert str(found) == str(error)
