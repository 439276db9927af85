"""How what travels is written: a head of JSON values, and a body of bytes.

    Submission            a request, and what goes with it to its callback
    Response, RequestError    how it ended

Bodies stand beside the head, not inside it, so that they stay bytes.  A head
may hold more fields than this version knows: they are ignored, so that a newer
application can be served by an older consumer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .errors import RequestError, error_class
from .headers import Headers
from .request import Request, SecretReference
from .response import CallbackArgs, Response

__all__ = [
    "MAX_REQUEST_BYTES",
    "Outcome",
    "Reason",
    "Submission",
    "read_outcome",
    "read_submission",
    "write_outcome",
    "write_submission",
]

Head = dict[str, Any]

#: The largest body of a request, and the largest sealed request.  An API that
#: takes more than 16 MiB wants an upload, not a call.
MAX_REQUEST_BYTES = 16 * 1024 * 1024
Outcome = Response | RequestError


class Reason(StrEnum):
    """Why a request ended; says which envelope goes with it to the callback."""

    #: The I/O process has an outcome: its envelope.
    OUTCOME = "outcome"
    #: The rest is decided by those who open no envelope: the request's own.
    UNREADABLE = "unreadable"
    ABANDONED = "abandoned"
    CANCELED = "canceled"
    INTERRUPTED = "interrupted"
    PAYLOAD_LOST = "payload_lost"
    UNSEALED = "unsealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request as it is stored: with what its callback will be given."""

    request: Request
    callback_args: dict[str, Any] = field(default_factory=dict, repr=False)
    expires: float | None = None  #: Unix time after which it is not sent any more.


def write_submission(submission: Submission) -> tuple[Head, bytes]:
    """Return ``submission`` as a head and a body."""
    request = submission.request
    head: Head = {
        "method": request.method,
        "url": request.url,
        "headers": [[name, _value(value)] for name, value in request.headers.pairs()],
        "callback_args": submission.callback_args,
    }
    optional = {
        "expires": submission.expires,
        "timeout": request.timeout,
        "max_redirects": request.max_redirects,
        "raise_error_responses": request.raise_error_responses,
        "retries": request.retries,
        "retry_statuses": sorted(request.retry_statuses) or None,
        "preprocessors": list(request.preprocessors) or None,
        "stream": request.stream,
        "idle_timeout": request.idle_timeout,
        "proxy_url": request.proxy_url,
        "secret_params": [[name, _value(ref)] for name, ref in request.secret_params] or None,
        "json_secrets": request.json_secrets or None,
    }
    head.update((name, value) for name, value in optional.items() if value is not None)
    return head, request.body or b""


def read_submission(head: Head, body: bytes) -> Submission:
    """The reverse of `write_submission`."""
    request = Request.stored(
        method=head["method"],
        url=head["url"],
        headers=Headers([(name, _unvalue(value)) for name, value in head["headers"]]),
        body=body or None,
        timeout=head.get("timeout"),
        max_redirects=head.get("max_redirects"),
        raise_error_responses=head.get("raise_error_responses"),
        retries=head.get("retries"),
        retry_statuses=frozenset(head.get("retry_statuses", ())),
        preprocessors=tuple(head.get("preprocessors", ())),
        stream=head.get("stream"),
        idle_timeout=head.get("idle_timeout"),
        proxy_url=head.get("proxy_url"),
        secret_params=tuple((n, _unvalue(v)) for n, v in head.get("secret_params", ())),
        json_secrets=head.get("json_secrets", False),
    )
    return Submission(
        request=request,
        callback_args=CallbackArgs(head["callback_args"]),
        expires=head.get("expires"),
    )


def write_outcome(outcome: Outcome) -> tuple[Head, bytes]:
    """Return ``outcome`` as a head and a body."""
    head: Head = {
        "request_id": outcome.request_id,
        "method": outcome.method,
        "url": outcome.url,
        "duration": outcome.duration,
        "attempts": outcome.attempts,
        "redirects": list(outcome.redirects),
        "callback_args": outcome.callback_args,
    }
    if isinstance(outcome, Response):
        return _with_response(head, outcome)
    head["error"] = type(outcome).__name__
    head["kind"] = outcome.kind
    head["message"] = outcome.message
    if outcome.response is not None:
        return _with_response(head, outcome.response)
    return head, b""


def read_outcome(head: Head, body: bytes, *, queue: str) -> Outcome:
    """The reverse of `write_outcome`; the value belongs to ``queue`` from now on."""
    shared: dict[str, Any] = {
        "request_id": head["request_id"],
        "method": head["method"],
        "url": head["url"],
        "duration": head["duration"],
        "attempts": head["attempts"],
        "redirects": tuple(head["redirects"]),
        "callback_args": CallbackArgs(head["callback_args"]),
    }
    response = None
    if "status" in head:
        response = Response(
            status=head["status"],
            headers=Headers([(name, value) for name, value in head["headers"]]),
            content=body,
            decoded=head.get("decoded", True),
            queue=queue,
            **shared,
        )
        if "error" not in head:
            return response
        shared["response"] = response
    error = error_class(head["error"])(head["message"], **shared)
    error.queue = queue
    # A class of one kind does not say it again; one that a newer version made
    # up comes back as its base, and keeps its kind.
    if (kind := head.get("kind", error.kind)) != error.kind:
        error.kind = kind
    return error


def _with_response(head: Head, response: Response) -> tuple[Head, bytes]:
    head["status"] = response.status
    head["headers"] = response.headers.pairs()
    if not response.decoded:
        head["decoded"] = False
    return head, response.content


def _value(value: str | SecretReference) -> Any:
    return value.as_json() if isinstance(value, SecretReference) else value


def _unvalue(value: Any) -> str | SecretReference:
    return value if isinstance(value, str) else _reference(value)


def _reference(value: Any) -> SecretReference:
    reference = SecretReference.from_json(value)
    if reference is None:
        raise ValueError("neither a string nor a secret")
    return reference
