"""Slow HTTP calls for Huey, without holding a worker.

     web app or task                       consumer process                          I/O process
     1 client.py      request made
     2 envelope.py    sealed
     3 stores/        submit ------------> 4 courier.py    claimed (lease)
                                           5 pipe.py       request frame ----------> 6 io_process/main.py  received
                                                                                     7 io_process/http.py  unsealed, sent,
                                                                                                           outcome sealed
                                           9 courier.py    received  <-------------- 8 pipe.py             outcome frame
                                          10 stores/       settle: lease gone AND
                                                           callback queued, one step
    11 callbacks.py   a Huey worker unseals the outcome and runs the callback

Bytes are sealed everywhere but in three places: 1-2, 7 and 11.

Words: a *request* is sealed into an *envelope* and submitted to the store; the
*courier* of a consumer claims it: it holds a *lease* as an *owner*.  Over the
*pipe* it goes to the *I/O process*, and its *outcome* comes back, is settled,
and is given to the *callback*.
"""  # noqa: E501  (the picture is one picture)

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

# Names are imported when they are first used.  The I/O process imports modules
# of this package too, and must have neither Huey nor what Huey imports (gevent,
# database drivers): 20 MB less in it, and none of their side effects.
if TYPE_CHECKING:
    from .client import BoundClient, Patient
    from .errors import (
        Abandoned,
        Blocked,
        Canceled,
        ClientError,
        ConfigurationError,
        ConnectFailed,
        EnvelopeError,
        Expired,
        HttpError,
        Interrupted,
        InvalidResponse,
        PatientError,
        PayloadLost,
        PreprocessorFailed,
        RedirectLoop,
        RequestError,
        RequestTimeout,
        ResponseTooLarge,
        SecretNotFound,
        ServerError,
        StoreUnavailable,
        StreamInterrupted,
        TLSFailed,
        TooManyRedirects,
        UnknownCallback,
    )
    from .events import ServerSentEvent
    from .headers import Headers
    from .payloads import PayloadStore
    from .payloads.in_fsspec import FsspecPayloads
    from .request import LLM_STATUSES, Request, SecretReference, secret
    from .response import CallbackArgs, Response
    from .settings import Settings
    from .template import RequestTemplate

__all__ = [  # noqa: RUF022  (grouped, not sorted)
    # Asking
    "Patient",
    "BoundClient",
    "Request",
    "RequestTemplate",
    "Settings",
    "LLM_STATUSES",
    "SecretReference",
    "secret",
    # Where large envelopes lie
    "FsspecPayloads",
    "PayloadStore",
    # Answers
    "CallbackArgs",
    "Headers",
    "Response",
    "ServerSentEvent",
    # How a request may end otherwise
    "RequestError",
    "Abandoned",
    "Blocked",
    "Canceled",
    "ClientError",
    "ConnectFailed",
    "Expired",
    "HttpError",
    "Interrupted",
    "InvalidResponse",
    "PayloadLost",
    "PreprocessorFailed",
    "RedirectLoop",
    "RequestTimeout",
    "ResponseTooLarge",
    "SecretNotFound",
    "ServerError",
    "StreamInterrupted",
    "TLSFailed",
    "TooManyRedirects",
    # What else can go wrong
    "PatientError",
    "ConfigurationError",
    "EnvelopeError",
    "StoreUnavailable",
    "UnknownCallback",
    "__version__",
]

_NAMES = {
    "client": "BoundClient Patient",
    "errors": """
        Abandoned Blocked Canceled ClientError ConfigurationError ConnectFailed EnvelopeError
        Expired HttpError Interrupted InvalidResponse PatientError PayloadLost PreprocessorFailed
        RedirectLoop RequestError RequestTimeout ResponseTooLarge SecretNotFound ServerError
        StoreUnavailable StreamInterrupted TLSFailed TooManyRedirects UnknownCallback
    """,
    "events": "ServerSentEvent",
    "headers": "Headers",
    "payloads": "PayloadStore",
    "payloads.in_fsspec": "FsspecPayloads",
    "request": "LLM_STATUSES Request SecretReference secret",
    "response": "CallbackArgs Response",
    "settings": "Settings",
    "template": "RequestTemplate",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
