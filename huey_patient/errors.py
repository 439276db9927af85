"""What can go wrong, by whose fault.

    PatientError
        ConfigurationError      the caller's: settings, unknown names; nothing was stored
            UnknownCallback
        StoreUnavailable        the database's: says whether a retry is safe
        EnvelopeError           damaged, alien, or sealed with a key we do not have
        RequestError            how one request ended other than in a response;
                                this is what ``on_error`` receives

Wrong arguments of a call are `ValueError` and `TypeError`, as everywhere in
Python.  No message here carries a query string, a header or a body: errors end
up in logs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from . import travel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .response import Response

__all__ = [
    "Abandoned",
    "Blocked",
    "Canceled",
    "ClientError",
    "ConfigurationError",
    "ConnectFailed",
    "EnvelopeError",
    "Expired",
    "HttpError",
    "Interrupted",
    "InvalidResponse",
    "PatientError",
    "PayloadLost",
    "PreprocessorFailed",
    "RedirectLoop",
    "RequestError",
    "RequestTimeout",
    "ResponseTooLarge",
    "SecretNotFound",
    "ServerError",
    "StoreUnavailable",
    "StreamInterrupted",
    "TLSFailed",
    "TooManyRedirects",
    "UnknownCallback",
    "error_class",
    "without_query",
]


def without_query(url: str) -> str:
    """Return ``url`` as it may stand in a log: scheme, host, port and path."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


class PatientError(Exception):
    """Base of every error raised by huey_patient."""


class ConfigurationError(PatientError, ValueError):
    """A setting or a name is wrong.  Raised before anything was stored."""


class UnknownCallback(ConfigurationError, LookupError):
    """No callback of that name is registered with this Huey instance."""


class StoreUnavailable(PatientError):
    """The database did not answer, or refused.

    Raised by a submit, it means that the request may not have been stored.
    Submitting again *with the same* ``id`` is safe: a request is stored once.
    """


class EnvelopeError(PatientError):
    """An envelope could not be opened, or with a cipher of the application, not be made.

    ``key_id`` names the key that sealed it, or is None when the header itself
    was unreadable.  The message never carries any of the envelope's bytes.
    """

    def __init__(self, reason: str, key_id: str | None = None) -> None:
        # Both go to args, so the error survives pickling to another process.
        super().__init__(reason, key_id)
        self.reason = reason
        self.key_id = key_id

    def __str__(self) -> str:
        return self.reason if self.key_id is None else f"{self.reason} (key {self.key_id})"


class RequestError(PatientError):
    """How one request ended, when it did not end in a response.

    Raised as it stands only when the cause fits none of the classes below.
    """

    #: The stable word for metrics and for ``if``: it outlives a renamed class.
    kind: str = "unknown"
    joint: ClassVar[str] = ": "  # between the message and what was asked

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        method: str = "",
        url: str = "",
        duration: float = 0.0,
        attempts: int = 0,
        redirects: tuple[str, ...] = (),
        callback_args: Mapping[str, Any] | None = None,
        response: Response | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.method = method
        self.url = url  #: The last URL asked; secret parameters are not in it.
        self.duration = duration  #: Seconds since the request was first sent.
        self.attempts = attempts  #: How often it was put on the wire.
        self.redirects = redirects  #: URLs left behind, oldest first.
        self.callback_args: Mapping[str, Any] = callback_args or {}
        self.response = response  #: What came, where something did; else None.
        self.queue: str | None = None  #: Name of the Huey that delivered it.
        #: Whether the text must not name the URL: Huey stores the text of an
        #: exception in the clear, and there is a key that promises otherwise.
        self.confidential = False

    def __str__(self) -> str:
        if self.confidential or not self.url:
            return self.message
        return f"{self.message}{self.joint}{self.method} {without_query(self.url)}"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.queue is None:
            return _rebuild, (type(self), self.message, self.__dict__.copy())
        return travel.sealed_state(self, self.queue, self.request_id)


def _rebuild(cls: type[RequestError], message: str, state: dict[str, Any]) -> RequestError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class RequestTimeout(RequestError):
    """The deadline passed, or connecting took too long."""

    kind = "timeout"


class ConnectFailed(RequestError):
    """No connection, or the connection broke: DNS, refused, reset, cut off."""

    kind = "connection"


class TLSFailed(RequestError):
    """The TLS handshake failed, or the certificate was not accepted."""

    kind = "ssl"


class ResponseTooLarge(RequestError):
    """The body was larger than ``max_response_size``; the rest was not read."""

    kind = "response_too_large"


class TooManyRedirects(RequestError):
    """More redirects than ``max_redirects``; ``redirects`` lists them."""

    kind = "redirect"


class RedirectLoop(RequestError):
    """A redirect led back to a URL already visited, or from https to http."""

    kind = "redirect"


class HttpError(RequestError):
    """A status of 400 or more, when ``raise_error_responses`` asked for errors."""

    kind = "http_error"
    joint = " from "
    response: Response

    def __init__(self, message: str, *, response: Response, **details: Any) -> None:
        super().__init__(message, response=response, **details)

    @property
    def status(self) -> int:
        """The status code of the response."""
        return self.response.status


class ClientError(HttpError):
    """A status from 400 to 499."""


class ServerError(HttpError):
    """A status from 500 to 599."""


class StreamInterrupted(RequestError):
    """A stream began and did not come to its end.

    ``kind`` says what broke it: "timeout" (the deadline, or silence beyond
    ``idle_timeout``), "connection" (it was cut), or "invalid_response" (it
    turned into garbage).  ``response`` has what came until then, and
    ``response.events()`` the events that were complete.
    """

    kind = "connection"
    response: Response

    def __init__(
        self, message: str, *, response: Response, kind: str = "connection", **details: Any
    ) -> None:
        super().__init__(message, response=response, **details)
        self.kind = kind


class Blocked(RequestError):
    """The address, host, port or scheme is not allowed; no connection was made."""

    kind = "blocked"


class Canceled(RequestError):
    """Somebody called `Patient.cancel` before it was answered."""

    kind = "canceled"


class Expired(RequestError):
    """It was still waiting when its ``expires`` passed; it was not sent."""

    kind = "expired"


class Abandoned(RequestError):
    """It lost its I/O process ``max_attempts`` times; it is not sent again."""

    kind = "abandoned"


class Interrupted(RequestError):
    """Its consumer or I/O process was lost, and ``retries="never"`` forbids a second
    send; the server may have seen it."""

    kind = "interrupted"


class PayloadLost(RequestError):
    """The request or its outcome lay in a payload store, and is damaged or not there
    any more.  With a request nothing was sent; with an outcome something was."""

    kind = "payload"


class InvalidResponse(RequestError, ValueError):
    """The answer is not HTTP, or not the JSON that was asked for."""

    kind = "invalid_response"


class SecretNotFound(RequestError):
    """A secret that the request names is not registered in the consumer."""

    kind = "configuration"


class PreprocessorFailed(RequestError):
    """A preprocessor is not known to the consumer, or raised."""

    kind = "configuration"


def error_class(name: str) -> type[RequestError]:
    """Return the class called ``name``; `RequestError` itself for a name that a
    newer version may have written."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, RequestError):
        return found
    return RequestError
