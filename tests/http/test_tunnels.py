"""Proxies that misbehave, and proxies that are spoken to over TLS."""

import pytest
from support.proxy import ProxyServer
from support.raw import (
    RawServer,
    after,
    hangs_up,
    says,
    says_and_listens,
    says_for_ever,
    says_then_waits,
)
from support.sending import send

from huey_patient.errors import ConnectFailed, InvalidResponse, RequestTimeout, TLSFailed
from huey_patient.request import Request

TUNNEL = b"HTTP/1.1 200 Connected\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (says(TUNNEL, b"garbage that is no TLS\r\n" * 10), (TLSFailed, ConnectFailed)),
        (after(hangs_up, TUNNEL), (TLSFailed, ConnectFailed)),
        (says_and_listens(TUNNEL), RequestTimeout),
        (says_then_waits(b""), RequestTimeout),
        (says(b"garbage"), InvalidResponse),
        (hangs_up, ConnectFailed),
        (says_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), InvalidResponse),
        (says_for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), InvalidResponse),
        (says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), ConnectFailed),
    ],
    ids=[
        "garbage in the tunnel",
        "a tunnel that ends",
        "silence in the tunnel",
        "silence",
        "garbage",
        "no answer",
        "100 for ever",
        "headers for ever",
        "502",
    ],
)
def test_a_proxy_that_misbehaves_at_connect_ends_in_an_error(script, error):
    timeout = 0.5 if error is RequestTimeout else 30.0
    request = Request("GET", "https://a.test/", timeout=timeout, retries=0)
    with RawServer(script) as proxy:
        with pytest.raises(error):
            send(request, proxy_url=proxy.url)
        assert proxy.closed.acquire(timeout=10)


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_may_be_spoken_to_over_tls(server, secure_server, server_context, ca_file, secure):
    target = secure_server if secure else server
    with ProxyServer(tls=server_context()) as proxy:
        received = send(Request("GET", target.url + "/echo"), proxy_url=proxy.url, ca_file=ca_file)

    assert received.status == 200
    assert len(proxy.targets) == 1
    assert target.hits() == 1


def test_a_proxy_over_tls_is_verified(server, server_context, ca_file):
    with ProxyServer(tls=server_context("other.test")) as proxy:
        with pytest.raises(TLSFailed, match="certificate was not accepted"):
            send(Request("GET", server.url), proxy_url=proxy.url, ca_file=ca_file)

    assert server.hits() == 0
