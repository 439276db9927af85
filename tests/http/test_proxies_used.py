"""Requests through a proxy: plain, and in a tunnel."""

import pytest
from support.proxy import ProxyServer
from support.sending import send

from huey_patient.errors import ConnectFailed, TLSFailed
from huey_patient.request import Request


@pytest.mark.parametrize("where", ["settings", "request"])
def test_http_goes_through_a_proxy(server, where):
    with ProxyServer(password="p@ss:w") as proxy:
        url = f"http://user:p%40ss%3Aw@127.0.0.1:{proxy.port}"
        named = {"proxy_url": url}
        request = Request("GET", server.url + "/echo", **(named if where == "request" else {}))
        response = send(request, **(named if where == "settings" else {}))

        assert response.status == 200
        assert proxy.targets == [f"GET {server.url}/echo"]
        assert server.asked[0].header("proxy-authorization") is None


def test_https_goes_through_a_tunnel_that_sees_no_request(secure_server, ca_file):
    with ProxyServer(password="p@ss:w") as proxy:
        url = f"http://user:p%40ss%3Aw@127.0.0.1:{proxy.port}"
        response = send(Request("GET", secure_server.url + "/echo"), proxy_url=url, ca_file=ca_file)

        assert response.status == 200
        assert proxy.targets == [f"CONNECT 127.0.0.1:{secure_server.port}"]
        assert secure_server.asked[0].header("proxy-authorization") is None


def test_the_proxy_of_the_request_wins(server):
    with ProxyServer() as proxy:
        request = Request("GET", server.url, proxy_url=f"http://127.0.0.1:{proxy.port}")
        send(request, proxy_url="http://127.0.0.1:1")

        assert len(proxy.targets) == 1


def test_a_proxy_that_refuses_the_tunnel_is_a_failed_connection(secure_server, ca_file):
    with ProxyServer(password="right") as proxy:
        with pytest.raises(ConnectFailed, match=r"refused the tunnel \(HTTP 407\)"):
            send(
                Request("GET", secure_server.url),
                proxy_url=f"http://user:wrong@127.0.0.1:{proxy.port}",
                ca_file=ca_file,
            )

    assert secure_server.hits() == 0


def test_a_proxy_that_is_not_there_is_a_failed_connection(server):
    with pytest.raises(ConnectFailed, match="proxy"):
        send(Request("GET", server.url, retries=0), proxy_url="http://127.0.0.1:1")


def test_the_certificate_behind_a_tunnel_is_verified(secure_server):
    with ProxyServer() as proxy:
        with pytest.raises(TLSFailed):
            send(Request("GET", secure_server.url), proxy_url=f"http://127.0.0.1:{proxy.port}")
