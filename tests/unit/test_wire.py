"""What travels, written and read again: through JSON, as it does for real."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from huey_patient.errors import (
    Abandoned,
    ClientError,
    HttpError,
    RequestError,
    RequestTimeout,
    ServerError,
    StreamInterrupted,
)
from huey_patient.headers import Headers
from huey_patient.request import Request, secret
from huey_patient.response import CallbackArgs, Response
from huey_patient.wire import (
    Outcome,
    Submission,
    read_outcome,
    read_submission,
    write_outcome,
    write_submission,
)


def there_and_back(submission: Submission) -> Submission:
    head, body = write_submission(submission)
    return read_submission(orjson.loads(orjson.dumps(head)), body)


def back(outcome: Outcome) -> Outcome:
    head, body = write_outcome(outcome)
    return read_outcome(orjson.loads(orjson.dumps(head)), body, queue="app")


def fields_of(error: RequestError) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name not in ("queue", "response")}


DETAILS: dict[str, Any] = {
    "request_id": "id-1",
    "method": "POST",
    "url": "https://example.com/a?b=c",
    "duration": 1.5,
    "attempts": 3,
    "redirects": ("https://example.com/old",),
    "callback_args": {"doc": 7, "deep": [{"ä": None}]},
}

RESPONSE = Response(
    status=503,
    headers=Headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-Mixed-Case", "yes")]),
    content=b"\x00\xff binary",
    decoded=False,
    **DETAILS,
)


def test_a_request_with_everything_comes_back_equal() -> None:
    request = Request(
        "POST",
        "https://example.com/a",
        params={"plain": "1", "token": secret("query")},
        headers=Headers([("A", "1"), ("a", "2"), ("Auth", secret("key", prefix="Bearer "))]),
        json={"key": secret("body", suffix="!"), "n": 1},
        timeout=2.5,
        max_redirects=0,
        raise_error_responses=False,
        retries=0,
        retry_statuses=frozenset({429, 503}),
        preprocessors=("sign", "stamp"),
        stream="sse",
        idle_timeout=1.5,
    )
    submission = Submission(request=request, callback_args={"doc": 7}, expires=1234.5)

    assert there_and_back(submission) == submission
    assert there_and_back(submission).request.secret_names() == ("key", "query", "body")


def test_a_request_with_nothing_set_comes_back_equal() -> None:
    submission = Submission(request=Request("GET", "https://example.com/"))

    assert there_and_back(submission) == submission
    assert isinstance(there_and_back(submission).callback_args, CallbackArgs)


@pytest.mark.parametrize("retries", [None, 0, 5, "never"])
def test_every_way_to_ask_for_retries_comes_back(retries: Any) -> None:
    submission = Submission(request=Request("GET", "https://example.com/", retries=retries))

    assert there_and_back(submission).request.retries == retries


def test_a_body_stays_bytes_beside_the_head() -> None:
    request = Request("PUT", "https://example.com/", body=b"\x00\xff")

    head, body = write_submission(Submission(request=request))

    assert body == b"\x00\xff"
    assert "body" not in head


def test_a_secret_travels_as_a_reference() -> None:
    request = Request("GET", "https://example.com/", headers=Headers({"A": secret("key")}))

    head, _ = write_submission(Submission(request=request))

    assert head["headers"] == [["A", {"$secret": "key", "prefix": "", "suffix": ""}]]


def test_what_is_neither_a_value_nor_a_secret_is_refused() -> None:
    head, body = write_submission(Submission(request=Request("GET", "https://example.com/")))
    head["headers"] = [["A", {"$other": "key"}]]

    with pytest.raises(ValueError, match="neither a string nor a secret"):
        read_submission(head, body)


def test_fields_of_a_newer_version_are_ignored() -> None:
    head, body = write_submission(Submission(request=Request("GET", "https://example.com/")))
    assert read_submission({**head, "colour": "red"}, body).request.method == "GET"

    head, body = write_outcome(RESPONSE)
    assert read_outcome({**head, "colour": "red"}, body, queue="app") == back(RESPONSE)


def test_a_response_comes_back_equal_and_belongs_to_its_queue() -> None:
    found = back(RESPONSE)

    assert isinstance(found, Response)
    assert found.queue == "app"
    assert found.headers.pairs() == RESPONSE.headers.pairs()
    assert found.content == RESPONSE.content
    assert found.decoded is False
    assert isinstance(found.callback_args, CallbackArgs)
    assert {name: getattr(found, name) for name in DETAILS} == DETAILS


def test_an_error_comes_back_as_its_class_with_its_details() -> None:
    found = back(RequestTimeout("no answer in 60 s", **DETAILS))

    assert type(found) is RequestTimeout
    assert found.message == "no answer in 60 s"
    assert found.queue == "app"
    assert {name: getattr(found, name) for name in DETAILS} == DETAILS


@pytest.mark.parametrize(
    ("status", "cls"), [(404, ClientError), (503, ServerError), (600, HttpError)]
)
def test_an_http_error_brings_its_response(status: int, cls: type[HttpError]) -> None:
    response = Response(status=status, content=b"\xff", **DETAILS)
    error = response.as_error() if status < 600 else HttpError("odd", response=response, **DETAILS)

    found = back(error)

    assert type(found) is cls
    assert fields_of(found) == fields_of(error)
    assert found.response.status == found.status == status
    assert found.response.content == b"\xff"
    assert found.response.queue == "app"


@pytest.mark.parametrize("kind", ["timeout", "connection", "invalid_response"])
def test_a_broken_stream_brings_what_broke_it_and_what_came(kind: str) -> None:
    came = Response(status=200, content=b"data: a\n\ndata", **DETAILS)

    found = back(StreamInterrupted("silent", response=came, kind=kind, **DETAILS))

    assert isinstance(found, StreamInterrupted)
    assert found.kind == kind
    assert found.response.content == came.content
    assert found.response.queue == "app"
    assert {name: getattr(found, name) for name in DETAILS} == DETAILS


def test_an_error_without_a_response_has_none() -> None:
    found = back(RequestTimeout("no answer in 60 s", **DETAILS))

    assert isinstance(found, RequestTimeout)
    assert found.response is None


@pytest.mark.parametrize(
    "newer", [Abandoned("gone", **DETAILS), ServerError("gone", response=RESPONSE, **DETAILS)]
)
def test_an_error_of_a_newer_version_is_a_request_error(newer: RequestError) -> None:
    head, body = write_outcome(newer)

    found = read_outcome({**head, "error": "Enchanted", "kind": "magic"}, body, queue="app")

    assert type(found) is RequestError
    assert found.message == "gone"
    assert found.kind == "magic"
    assert (found.response is None) == (newer.response is None)
    assert RequestError.kind == "unknown"


@pytest.mark.parametrize("name", ["PatientError", "Any", "travel", "EnvelopeError"])
def test_only_classes_of_outcomes_are_made_from_a_name(name: str) -> None:
    head, body = write_outcome(Abandoned("gone", **DETAILS))

    assert type(read_outcome({**head, "error": name}, body, queue="app")) is RequestError
