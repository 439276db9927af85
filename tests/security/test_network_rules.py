"""The rules of where a request may go and what it may give away: one test each.

"Not asked" is always the server's own count.
"""

import logging
import socket
import traceback

import pytest
from support.raw import RawServer, hangs_up, says
from support.sending import send, with_client
from support.web import Answer, WebServer

from huey_patient.errors import Blocked, ConfigurationError, RequestError
from huey_patient.io_process import connections, http
from huey_patient.request import Request
from huey_patient.settings import Settings


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture
def names(monkeypatch):
    """What names resolve to, in turn; set by the test."""
    table = {}

    def lookup(host, port, *rest):
        addresses = table.get(host)
        if addresses is None:
            return socket.getaddrinfo(host, port, *rest)
        now = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [one for address in now for one in socket.getaddrinfo(address, port, *rest)]

    class Pinned(connections.Resolver):
        def __init__(self, threads):
            super().__init__(threads, lookup)

    monkeypatch.setattr(http, "Resolver", Pinned)
    return table


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "0.0.0.0",
        "0",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
    ],
)
def test_n1_no_spelling_of_a_private_address_is_asked(server, host):
    with pytest.raises(RequestError) as caught:
        send(Request("GET", f"http://{host}:{server.port}/echo"), block_private_addresses=True)

    assert isinstance(caught.value, Blocked)
    assert server.hits() == 0
    assert caught.value.attempts == 0
    assert caught.value.kind == "blocked"


@pytest.mark.parametrize("address", ["64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::1"])
def test_n1_no_ipv6_form_of_a_private_address_is_asked(address):
    with pytest.raises(Blocked):
        send(Request("GET", f"http://[{address}]/"), block_private_addresses=True)


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1", "localhost%2e"])
def test_n1_a_host_that_readers_read_differently_is_refused_at_the_call(host):
    with pytest.raises(ValueError, match="host"):
        Request("GET", f"http://{host}/")


def test_n1_a_name_that_resolves_to_a_private_address_is_not_asked(server, names):
    names["inner.test"] = [["127.0.0.1"]]

    with pytest.raises(Blocked):
        send(Request("GET", f"http://inner.test:{server.port}/"), block_private_addresses=True)

    assert server.hits() == 0


def test_n1_one_private_address_among_others_is_not_asked(server, names):
    names["mixed.test"] = [["127.0.0.1", "10.0.0.1"]]

    with pytest.raises(Blocked):
        send(Request("GET", f"http://mixed.test:{server.port}/"), block_private_addresses=True)

    assert server.hits() == 0


def test_n1_a_blocked_request_is_not_tried_again(server, naps):
    url = f"http://localhost:{server.port}/"

    with pytest.raises(Blocked):
        send(Request("POST", url, retries=3), naps=naps, block_private_addresses=True)

    assert naps.seconds == []


def test_n2_a_name_that_turns_private_after_it_was_looked_up_is_not_asked(
    server, names, monkeypatch
):
    # Loopback stands for a public address once, so that the first request succeeds.
    verdicts = iter([False])
    monkeypatch.setattr(connections, "is_private", lambda address: next(verdicts, True))
    monkeypatch.setattr(connections, "_DNS_TTL", 0)
    names["turning.test"] = [["127.0.0.1"], ["127.0.0.1"]]
    url = server.answer("/x", Answer(headers={"Connection": "close"}))
    url = url.replace("127.0.0.1", "turning.test")

    async def use(client):
        await client.send(Request("GET", url), request_id="a")
        await client.send(Request("GET", url), request_id="b")

    with pytest.raises(Blocked):
        with_client(use, block_private_addresses=True)

    assert server.hits() == 1


def test_n1_a_redirect_to_a_private_address_is_not_followed(server, other, monkeypatch):
    verdicts = iter([False])
    monkeypatch.setattr(connections, "is_private", lambda address: next(verdicts, True))
    url = server.answer("/x", Answer(302, headers={"Location": other.url + "/echo"}))

    with pytest.raises(Blocked) as caught:
        send(Request("GET", url), block_private_addresses=True)

    assert other.hits() == 0
    assert caught.value.redirects == (url,)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_n1_ipv6_loopback_is_asked_only_when_it_is_not_blocked():
    with WebServer(host="::1") as server:
        url = f"http://[::1]:{server.port}/echo"
        with pytest.raises(Blocked):
            send(Request("GET", url), block_private_addresses=True)
        assert server.hits() == 0

        assert send(Request("GET", url)).status == 200


def test_n1_a_host_outside_allow_hosts_is_not_asked(server):
    url = f"http://localhost:{server.port}/"

    with pytest.raises(Blocked):
        send(Request("GET", url), allow_hosts=("127.0.0.1", "*.localhost"))

    assert server.hits() == 0


def test_n3_private_addresses_cannot_be_blocked_behind_a_proxy(server):
    with pytest.raises(ConfigurationError, match="proxy"):
        Settings(block_private_addresses=True, proxy_url="http://proxy.test:3128")

    request = Request("GET", "http://a.test/", proxy_url=server.url)
    with pytest.raises(Blocked, match="proxy"):
        send(request, block_private_addresses=True)
    assert server.hits() == 0


def test_n3_the_environment_names_no_proxy(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert send(Request("GET", server.url + "/echo")).status == 200


def test_n3_netrc_gives_no_credentials(server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))

    send(Request("GET", server.url + "/echo"))

    assert server.asked[0].header("authorization") is None


def test_n4_a_denied_port_is_not_asked(server):
    with pytest.raises(Blocked):
        send(Request("GET", server.url), deny_ports=(server.port,))

    assert server.hits() == 0


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a.test/", "ws://a.test/", "//a.test/"]
)
def test_n4_only_http_and_https_are_taken(url):
    with pytest.raises(ValueError, match="http"):
        Request("GET", url)


def test_n4_a_redirect_to_another_scheme_is_not_followed(server):
    with pytest.raises(Blocked):
        send(Request("GET", server.url + "/redirect?to=file:///etc/passwd"))


def test_n4_credentials_in_a_url_are_refused():
    with pytest.raises(ValueError, match="user name or password") as caught:
        Request("GET", "http://user:CANARY@a.test/")

    assert "CANARY" not in str(caught.value)


def test_r1_only_listed_headers_cross_origins(server, other):
    headers = {
        "Accept": "a/b",
        "Accept-Language": "de",
        "Authorization": "s",
        "Cookie": "s",
        "Ocp-Apim-Subscription-Key": "s",
        "X-Api-Key": "s",
        "X-Goog-Api-Key": "s",
        "Api-Key": "s",
        "Referer": "http://a.test/?s",
    }
    send(Request("GET", f"{server.url}/redirect?to={other.url}/echo", headers=headers))

    assert {name for name, _ in other.asked[0].lower()} == {
        "accept",
        "accept-encoding",
        "accept-language",
        "host",
        "user-agent",
        "x-request-id",
    }


def test_s1_no_secret_is_in_an_error_a_log_or_a_traceback(server, caplog, monkeypatch):
    monkeypatch.setattr("huey_patient.io_process.retries.backoff", lambda attempts: 0.0)
    canary = "".join(("CAN", "ARY"))
    request = {
        "headers": {"Authorization": canary},
        "params": {"q": canary},
        "body": canary,
    }
    bad = f"HTTP/1.1 {canary}\r\n\r\n".encode()
    loud = f"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: {canary}\r\n\r\n{canary}".encode()

    def fails(outgoing):
        raise ValueError(canary)

    told = []
    with (
        caplog.at_level(logging.DEBUG),
        RawServer(says(bad)) as garbled,
        RawServer(says(loud)) as cut,
        RawServer(hangs_up) as silent,
    ):
        cases = [
            (garbled.url, {}, {}),
            (cut.url, {}, {}),
            (silent.url, {}, {}),
            ("http://127.0.0.1:1", {}, {}),
            ("http://nowhere.invalid", {}, {}),
            (server.url + "/hold", {}, {"request_timeout": 0.2}),
            (server.url + "/echo", {"preprocessors": [fails]}, {}),
            (server.url + "/echo", {}, {"max_response_size": 10}),
            (server.url, {}, {"block_private_addresses": True}),
            ("https://127.0.0.1:1", {}, {"proxy_url": f"http://u:{canary}@127.0.0.1:1"}),
            (server.url + "/redirect?status=307&to=/redirect%3Fto%3D/x", {}, {"max_redirects": 1}),
        ]
        for url, options, settings in cases:
            with pytest.raises(RequestError) as caught:
                send(Request("POST", url, **request), options=options, **settings)
            error = caught.value
            told += [str(error), repr(error), *traceback.format_exception(error)]
            assert error.__context__ is None

    assert canary not in "".join(told) + caplog.text


def test_h1_a_server_sees_exactly_the_headers_that_were_set(server):
    headers = {"X-Odd": "a:b;c=\"d\"\t, 'e'", "x_under": "1", "X-Empty": ""}

    send(Request("GET", server.url + "/echo", headers=headers))

    sent = dict(server.asked[0].headers)
    assert {name: sent[name] for name in headers} == headers
