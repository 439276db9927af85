"""Errors: whose fault, what they show, and how they travel."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from huey_patient import errors
from huey_patient.errors import (
    EnvelopeError,
    HttpError,
    PatientError,
    RequestError,
    RequestTimeout,
    StreamInterrupted,
    error_class,
    without_query,
)
from huey_patient.response import Response

DETAILS: dict[str, Any] = {
    "request_id": "id-1",
    "method": "GET",
    "url": "https://user:CANARY@example.com:8443/path?key=CANARY#CANARY",
    "duration": 1.5,
    "attempts": 2,
    "redirects": ("https://example.com/old?key=CANARY",),
    "callback_args": {"doc": "CANARY"},
}
KINDS = {
    "RequestError": "unknown",
    "RequestTimeout": "timeout",
    "ConnectFailed": "connection",
    "TLSFailed": "ssl",
    "ResponseTooLarge": "response_too_large",
    "TooManyRedirects": "redirect",
    "RedirectLoop": "redirect",
    "HttpError": "http_error",
    "ClientError": "http_error",
    "ServerError": "http_error",
    "Blocked": "blocked",
    "Canceled": "canceled",
    "Expired": "expired",
    "Abandoned": "abandoned",
    "Interrupted": "interrupted",
    "InvalidResponse": "invalid_response",
    "SecretNotFound": "configuration",
    "PreprocessorFailed": "configuration",
    "PayloadLost": "payload",
    "StreamInterrupted": "connection",
}


def request_errors() -> dict[str, type[RequestError]]:
    found = {name: getattr(errors, name) for name in errors.__all__}
    return {
        name: cls
        for name, cls in found.items()
        if isinstance(cls, type) and issubclass(cls, RequestError)
    }


def made(cls: type[RequestError]) -> RequestError:
    if issubclass(cls, (HttpError, StreamInterrupted)):
        return cls("it failed", response=Response(status=500, url="https://a.example/"), **DETAILS)
    return cls("it failed", **DETAILS)


def test_every_error_has_one_base() -> None:
    for name in errors.__all__:
        cls = getattr(errors, name)
        assert not isinstance(cls, type) or issubclass(cls, PatientError)


def test_the_kinds_are_stable_words() -> None:
    assert {name: cls.kind for name, cls in request_errors().items()} == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_a_message_shows_where_and_nothing_of_what(name: str) -> None:
    error = made(getattr(errors, name))

    link = " from" if isinstance(error, HttpError) else ":"
    assert str(error) == f"it failed{link} GET https://example.com:8443/path"
    assert "CANARY" not in repr(error)


def test_a_message_stands_alone_when_there_is_no_url() -> None:
    assert str(RequestError("it failed")) == "it failed"


@pytest.mark.parametrize("name", KINDS)
def test_every_error_survives_a_pickle(name: str) -> None:
    error = made(getattr(errors, name))

    found = pickle.loads(pickle.dumps(error))

    assert type(found) is type(error)
    assert vars(found) == vars(error)
    assert str(found) == str(error)


def test_an_envelope_error_survives_a_pickle() -> None:
    for error in (EnvelopeError("damaged"), EnvelopeError("damaged", "01020304")):
        found = pickle.loads(pickle.dumps(error))
        assert (found.reason, found.key_id, str(found)) == (error.reason, error.key_id, str(error))


def test_an_envelope_error_names_the_key_when_there_is_one() -> None:
    assert str(EnvelopeError("damaged")) == "damaged"
    assert str(EnvelopeError("damaged", "01020304")) == "damaged (key 01020304)"


def test_details_left_out_are_empty() -> None:
    error = RequestTimeout("late")

    assert (error.request_id, error.method, error.url, error.redirects) == ("", "", "", ())
    assert error.callback_args == {}
    assert error.queue is None


@pytest.mark.parametrize("name", KINDS)
def test_a_class_is_found_by_its_name(name: str) -> None:
    assert error_class(name) is getattr(errors, name)


@pytest.mark.parametrize("name", ["", "Unknown", "PatientError", "EnvelopeError", "Any", "travel"])
def test_any_other_name_is_a_request_error(name: str) -> None:
    assert error_class(name) is RequestError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a/b?key=1#part", "https://example.com/a/b"),
        ("http://user:password@example.com:81/", "http://example.com:81/"),
        ("http://a@b@example.com", "http://example.com"),
        ("http://[::1]:80/x?y", "http://[::1]:80/x"),
    ],
)
def test_a_url_is_shown_without_query_and_credentials(url: str, shown: str) -> None:
    assert without_query(url) == shown
