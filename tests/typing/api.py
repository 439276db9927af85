"""The public interface as a type checker sees it.  Checked, never run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, assert_type

from huey import SqliteHuey

from huey_patient import (
    LLM_STATUSES,
    CallbackArgs,
    FsspecPayloads,
    Headers,
    HttpError,
    Patient,
    Request,
    RequestError,
    RequestTemplate,
    Response,
    SecretReference,
    ServerSentEvent,
    Settings,
    StreamInterrupted,
    secret,
)

huey = SqliteHuey("app", filename="app.db")
patient = Patient(huey, request_timeout=120)
configured = Patient(huey, Settings(max_connections=1000, encryption_key=("new", "old")))


@patient.callback
class Save:
    def on_complete(self, response: Response) -> int:
        return response.status

    def on_error(self, error: RequestError) -> None: ...


@patient.callback(retries=3, retry_delay=10)
class SaveWithRetries:
    def on_complete(self, response: Response) -> None: ...

    def on_error(self, error: RequestError) -> None: ...


@patient.callback(name="look")
def look(outcome: Response | RequestError) -> None: ...


@patient.after_completion
def count(response: Response) -> None: ...


patient.get("https://example.com/")
patient.post(
    "https://example.com/",
    params={"q": "a"},
    headers={"Authorization": secret("openai", prefix="Bearer ")},
    json={"any": ["thing"]},
    timeout=2,
    max_redirects=0,
    raise_error_responses=True,
    retries="never",
    retry_statuses=LLM_STATUSES,
    callback=Save,
    callback_args={"doc": 7},
    priority=1,
    delay=datetime.timedelta(minutes=1),
    expires=60.0,
    id="mine",
)
patient.post("https://example.com/", stream="sse", idle_timeout=30, callback=Save)
patient.register_secret("openai", lambda: "key", hosts=["api.openai.com"])
patient.register_payload_store("old", "huey")
patient.register_payload_store("new", FsspecPayloads("memory://payloads"))
patient.execute(Request("PUT", "https://example.com/", body=b"x"), callback=look)

patient.get("https://example.com/", timeout="soon")  # type: ignore[arg-type]
patient.get("https://example.com/", retries="always")  # type: ignore[arg-type]
patient.get("https://example.com/", stream="websocket")  # type: ignore[arg-type]
patient.get("https://example.com/", colour="red")  # type: ignore[call-arg]

bound = patient.client(base_url="https://example.com/", callback=Save)
bound.get("/users/1", params={"page": 2})

template = RequestTemplate(base_url="https://example.com/", headers={"A": secret("b")})
assert_type(template.get("/users/1"), Request)
assert_type(secret("name"), SecretReference)
assert_type(patient.cancel("id"), bool)
assert_type(patient.pending_count(), int)
assert_type(patient.rekey().resealed, int)
assert_type(patient.stats(), dict[str, int])


def on_complete(response: Response) -> None:
    assert_type(response.status, int)
    assert_type(response.headers, Headers[str])
    assert_type(response.headers["Content-Type"], str)
    assert_type(response.content, bytes)
    assert_type(response.text, str)
    assert_type(response.events(), list[ServerSentEvent])
    assert_type(response.redirects, tuple[str, ...])
    assert_type(response.callback_args, Mapping[str, Any])
    assert_type(response.raise_for_status(), Response)
    response.status = 200  # type: ignore[misc]


def on_error(error: RequestError) -> None:
    assert_type(error.kind, str)
    assert_type(error.duration, float)
    if isinstance(error, HttpError):
        assert_type(error.response, Response)
        assert_type(error.status, int)
    elif isinstance(error, StreamInterrupted):
        assert_type(error.response, Response)
        assert_type(error.response.events()[0].data, str)
    else:
        assert_type(error.response, Response | None)


assert_type(CallbackArgs({"a": 1})["a"], Any)
