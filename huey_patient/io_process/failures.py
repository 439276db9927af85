"""What aiohttp and the system raise, in our own words.

Mapped by type alone.  The messages of aiohttp hold URLs with their queries, and
bytes that the server sent; its response errors invent a status.  None of that
goes further than this file.
"""

from __future__ import annotations

import os
import ssl

import aiohttp

from ..errors import (
    Blocked,
    ConnectFailed,
    InvalidResponse,
    RequestError,
    RequestTimeout,
    TLSFailed,
)

__all__ = ["BrokenHead", "Failure", "GarbledBody", "OverlongHead", "failure_of"]


class GarbledBody(aiohttp.ClientPayloadError):
    """The body stopped being HTTP after its beginning had been read."""


class BrokenHead(aiohttp.ClientConnectionError):
    """The connection broke after some bytes of a response, and before its head was complete."""


class OverlongHead(aiohttp.ClientError):
    """A response did not begin within its limit of bytes and of interim answers."""


class Failure(Exception):
    """Why one send did not end in an answer; becomes a `RequestError` at the edge."""

    def __init__(
        self,
        error: type[RequestError],
        message: str,
        *,
        before_answer: bool = False,
        left_behind: bool = False,
    ) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        #: Whether no byte of a response had come, so that another attempt may help.
        self.before_answer = before_answer
        #: Whether the last URL was left, and led nowhere.
        self.left_behind = left_behind


#: The first that fits counts, so a class stands before those it derives from.
_MEANINGS: tuple[tuple[type[Exception], type[RequestError], str], ...] = (
    (aiohttp.ClientResponseError, InvalidResponse, "the answer is not HTTP"),
    (aiohttp.InvalidURL, Blocked, "the host is not a name or address in its usual form"),
    (OverlongHead, InvalidResponse, "the head of the answer is too long, or has no end"),
    (GarbledBody, InvalidResponse, "the body is not HTTP"),
    (
        aiohttp.ClientPayloadError,
        ConnectFailed,
        "the connection broke before the body was complete",
    ),
)


def failure_of(reason: Exception, *, answered: bool, secure: bool) -> Failure:
    """Return ``reason`` as a `Failure`.

    Args:
        reason: What aiohttp raised.
        answered: Whether the head of a response had been read.
        secure: Whether the URL is an https one.
    """
    if isinstance(reason, aiohttp.ClientConnectorError):
        return _no_connection(reason, secure)
    if isinstance(reason, aiohttp.ConnectionTimeoutError):
        return Failure(RequestTimeout, "connecting took too long", before_answer=True)
    if isinstance(reason, aiohttp.ClientHttpProxyError):
        # The one status that is real: the proxy said it.
        return Failure(ConnectFailed, f"the proxy refused the tunnel (HTTP {reason.status})")
    for kind, error, message in _MEANINGS:
        if isinstance(reason, kind):
            return Failure(error, message)
    if isinstance(reason, BrokenHead):
        return Failure(ConnectFailed, "the connection broke in the head of the answer")
    if isinstance(reason, (aiohttp.ClientConnectionError, OSError)):
        text = "the connection broke before the " + ("body was complete" if answered else "answer")
        return Failure(ConnectFailed, text, before_answer=not answered)
    return Failure(RequestError, f"unexpected {type(reason).__name__}")


def _no_connection(reason: aiohttp.ClientConnectorError, secure: bool) -> Failure:
    cause = reason.os_error
    if isinstance(reason, aiohttp.ClientConnectorCertificateError):
        return Failure(TLSFailed, f"the certificate was not accepted ({_why(reason)})")
    if isinstance(reason, aiohttp.ClientSSLError):
        return Failure(TLSFailed, f"the TLS handshake failed ({_why(cause)})")
    if isinstance(reason, aiohttp.ClientConnectorDNSError):
        return Failure(ConnectFailed, "the host name could not be resolved", before_answer=True)
    to_proxy = isinstance(reason, aiohttp.ClientProxyConnectionError)
    reset = isinstance(cause, (ConnectionResetError, ConnectionAbortedError))
    if secure and reset and not to_proxy:
        # A reset while connecting is "refused"; this one came during the handshake.
        return Failure(TLSFailed, "the connection broke in the TLS handshake", before_answer=True)
    whom = "the proxy" if to_proxy else "the server"
    why = f" ({os.strerror(cause.errno).lower()})" if cause.errno else ""
    return Failure(ConnectFailed, f"no connection to {whom}{why}", before_answer=True)


def _why(reason: BaseException) -> str:
    """OpenSSL's own word for it, which holds nothing but names."""
    if isinstance(reason, aiohttp.ClientConnectorCertificateError):
        reason = reason.certificate_error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return str(reason.verify_message)
    word = getattr(reason, "reason", None)  # OpenSSL's; missing when Python made the error
    return str(word).lower().replace("_", " ") if word else "no reason given"
