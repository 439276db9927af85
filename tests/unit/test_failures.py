"""What is raised, in our own words: by its type, and never in its own text."""

import errno
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from huey_patient.errors import (
    Blocked,
    ConnectFailed,
    InvalidResponse,
    RequestError,
    RequestTimeout,
    TLSFailed,
)
from huey_patient.io_process.failures import BrokenHead, GarbledBody, failure_of

PLAIN = ConnectionKey("CANARY", 80, False, True, None, None, None)
SECURE = ConnectionKey("CANARY", 443, True, True, None, None, None)
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "CANARY")
CERTIFICATE = ssl.SSLCertVerificationError(1, "CANARY")
CERTIFICATE.verify_message = "self-signed certificate"

CASES = [
    (aiohttp.ClientConnectorError(PLAIN, REFUSED), ConnectFailed, True),
    (aiohttp.ClientConnectorDNSError(PLAIN, OSError(-2, "CANARY")), ConnectFailed, True),
    (aiohttp.ClientProxyConnectionError(PLAIN, REFUSED), ConnectFailed, True),
    (aiohttp.ClientConnectorError(SECURE, ConnectionResetError("CANARY")), TLSFailed, True),
    (aiohttp.ClientConnectorError(PLAIN, ConnectionResetError("CANARY")), ConnectFailed, True),
    (aiohttp.ClientConnectorSSLError(SECURE, ssl.SSLError(1, "CANARY")), TLSFailed, False),
    (aiohttp.ClientConnectorCertificateError(SECURE, CERTIFICATE), TLSFailed, False),
    (aiohttp.ConnectionTimeoutError("CANARY"), RequestTimeout, True),
    (aiohttp.ServerDisconnectedError("CANARY"), ConnectFailed, True),
    (aiohttp.ServerDisconnectedError(None), ConnectFailed, True),
    (BrokenHead(), ConnectFailed, False),
    (aiohttp.ClientOSError(errno.ECONNRESET, "CANARY"), ConnectFailed, True),
    (aiohttp.ClientConnectionResetError("CANARY"), ConnectFailed, True),
    (BrokenPipeError("CANARY"), ConnectFailed, True),
    (aiohttp.ClientResponseError(None, (), status=502, message="CANARY"), InvalidResponse, False),
    (aiohttp.ClientHttpProxyError(None, (), status=407, message="CANARY"), ConnectFailed, False),
    (aiohttp.ClientPayloadError("CANARY"), ConnectFailed, False),
    (GarbledBody("CANARY"), InvalidResponse, False),
    (aiohttp.InvalidURL("CANARY"), Blocked, False),
    (ValueError("CANARY"), RequestError, False),
]


@pytest.mark.parametrize(
    ("reason", "error", "again"), CASES, ids=[type(reason).__name__ for reason, _, _ in CASES]
)
def test_what_is_raised_has_one_meaning_and_keeps_its_text_to_itself(reason, error, again):
    secure = getattr(reason, "_conn_key", PLAIN).is_ssl
    failure = failure_of(reason, answered=False, secure=secure)

    assert failure.error is error
    assert failure.before_answer is again
    assert "CANARY" not in failure.message


@pytest.mark.parametrize("reason", [ConnectionResetError(), aiohttp.ClientOSError()])
def test_a_break_after_the_answer_began_is_not_worth_another_attempt(reason):
    failure = failure_of(reason, answered=True, secure=False)

    assert failure.error is ConnectFailed
    assert not failure.before_answer


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            aiohttp.ClientConnectorError(PLAIN, REFUSED),
            "no connection to the server (connection refused)",
        ),
        (
            aiohttp.ClientProxyConnectionError(PLAIN, REFUSED),
            "no connection to the proxy (connection refused)",
        ),
        (
            aiohttp.ClientConnectorCertificateError(SECURE, CERTIFICATE),
            "the certificate was not accepted (self-signed certificate)",
        ),
    ],
)
def test_a_message_says_what_helps(reason, message):
    assert failure_of(reason, answered=False, secure=True).message == message
