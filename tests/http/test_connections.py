"""Connections: kept, replaced, secured."""

import asyncio
import datetime
import socket
import ssl
import sys
import threading
from asyncio import sslproto

import pytest
import trustme
from support.raw import RawServer, says
from support.sending import send, with_client
from support.web import WebServer

from huey_patient.errors import ConfigurationError, ConnectFailed, RequestTimeout, TLSFailed
from huey_patient.io_process.connections import smaller_tls_buffers
from huey_patient.io_process.http import HttpClient
from huey_patient.request import Request
from huey_patient.settings import Settings


def test_a_connection_is_used_again(server):
    async def use(client):
        for n in range(3):
            await client.send(Request("GET", server.url + "/echo"), request_id=str(n))

    with_client(use)

    assert len({one.peer for one in server.asked}) == 1


def test_connections_of_the_least_recently_used_host_are_closed_first():
    def kept():
        return RawServer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keep=True))

    with kept() as a, kept() as b, kept() as c:

        async def use(client):
            # Two at once leave two connections, one of which stays idle below.
            await asyncio.gather(
                *(client.send(Request("GET", a.url), request_id=one) for one in "12")
            )
            for server in (b, a, c):  # a was used after b, so b has to go
                await client.send(Request("GET", server.url), request_id="x")
            assert await asyncio.to_thread(b.closed.acquire, timeout=10)
            for server in (a, c):
                await client.send(Request("GET", server.url), request_id="x")

        with_client(use, connection_pool_size=2)
        assert (a.connections, b.connections, c.connections) == (2, 1, 1)


def test_a_timeout_leaves_other_requests_to_that_host_alone(server):
    async def use(client):
        slow = asyncio.create_task(
            client.send(Request("GET", server.url + "/hold"), request_id="slow")
        )
        await asyncio.to_thread(server.arrived.acquire)
        with pytest.raises(RequestTimeout):
            await client.send(Request("GET", server.url + "/hold", timeout=0.1), request_id="late")
        quick = await client.send(Request("GET", server.url + "/echo"), request_id="quick")
        server.release()
        return quick, await slow

    quick, slow = with_client(use)

    assert quick.status == 200
    assert slow.content == b"released"


def test_connections_are_probed_when_they_fall_silent(server):
    async def use(client):
        task = asyncio.create_task(
            client.send(Request("GET", server.url + "/hold"), request_id="x")
        )
        await asyncio.to_thread(server.arrived.acquire)
        [protocol] = client._session.connector._acquired
        made = protocol.transport.get_extra_info("socket")
        options = [
            made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        ]
        server.release()
        await task
        return options

    if sys.platform == "linux":
        assert with_client(use) == [1, 60]


def test_https_is_verified_by_ca_file(secure_server, ca_file):
    assert send(Request("GET", secure_server.url + "/echo"), ca_file=ca_file).status == 200


def test_an_unknown_authority_is_not_accepted(secure_server):
    with pytest.raises(TLSFailed, match="certificate was not accepted") as caught:
        send(Request("GET", secure_server.url + "/echo"))

    assert secure_server.hits() == 0
    assert caught.value.kind == "ssl"
    assert caught.value.attempts == 1


def test_another_host_s_certificate_is_not_accepted(server_context, ca_file):
    with WebServer(tls=server_context("other.test")) as server:
        with pytest.raises(TLSFailed):
            send(Request("GET", server.url + "/echo"), ca_file=ca_file)

        assert server.hits() == 0


def test_an_expired_certificate_is_not_accepted(authority, ca_file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    with RawServer(says(b""), tls=context) as server:
        with pytest.raises(TLSFailed, match="expired"):
            send(Request("GET", server.url), ca_file=ca_file)


def test_a_server_that_speaks_no_tls_is_a_tls_failure(ca_file, server):
    with pytest.raises(TLSFailed):
        send(Request("GET", server.url.replace("http:", "https:")), ca_file=ca_file)


def test_tls_before_1_2_is_not_spoken(server_context, ca_file):
    context = server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with RawServer(says(b""), tls=context) as server:
        with pytest.raises(TLSFailed):
            send(Request("GET", server.url), ca_file=ca_file)


def test_a_handshake_cut_off_is_a_tls_failure_and_tried_again(naps):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"

        def cut_off():
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(1)
                connection.close()

        thread = threading.Thread(target=cut_off)
        thread.start()
        with pytest.raises(TLSFailed) as caught:
            send(Request("GET", url, retries=1), naps=naps)
        thread.join()

    assert caught.value.attempts == 2


@pytest.mark.parametrize("separate_key", [False, True])
def test_a_client_certificate_is_shown(authority, server_context, ca_file, tmp_path, separate_key):
    mine = authority.issue_cert("client.test")
    both, cert, key = (str(tmp_path / name) for name in ("both.pem", "cert.pem", "key.pem"))
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    mine.cert_chain_pems[0].write_to_path(cert)
    mine.private_key_pem.write_to_path(key)
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)

    with WebServer(tls=context) as server:
        client_cert = (cert, key) if separate_key else both
        request = Request("GET", server.url + "/echo", retries=0)
        assert send(request, ca_file=ca_file, client_cert=client_cert).status == 200
        with pytest.raises((TLSFailed, ConnectFailed)):
            send(request, ca_file=ca_file)
        assert server.hits() == 1


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="ca_file"):
        send(Request("GET", "https://a.test"), ca_file=str(tmp_path / "missing.pem"))


def test_everything_works_on_uvloop_too(server, secure_server, ca_file):
    uvloop = pytest.importorskip("uvloop")

    async def run():
        async with HttpClient(Settings(ca_file=ca_file)) as client:
            url = f"{server.url}/redirect?to={secure_server.url}/echo"
            answer = await client.send(Request("GET", url), request_id="a")
            with pytest.raises(RequestTimeout):
                await client.send(Request("GET", server.url + "/hold", timeout=0.1), request_id="b")
            return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()).status == 200


def test_tls_reads_through_a_small_buffer_on_asyncio(secure_server, ca_file, monkeypatch):
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", sslproto.SSLProtocol.max_size)
    smaller_tls_buffers()

    async def use(client):
        task = asyncio.create_task(
            client.send(Request("GET", secure_server.url + "/hold"), request_id="x")
        )
        await asyncio.to_thread(secure_server.arrived.acquire)
        [protocol] = client._session.connector._acquired
        size = len(protocol.transport._ssl_protocol._ssl_buffer)
        secure_server.release()
        await task
        big = await client.send(
            Request("POST", secure_server.url + "/echo", body=b"x" * 900_000), request_id="y"
        )
        return size, big.json()["body"]

    assert with_client(use, ca_file=ca_file) == (16_384, "x" * 900_000)


def test_ca_file_stands_for_no_other_authority(ca_file):
    stranger = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("127.0.0.1").configure_cert(context)
    with WebServer(tls=context) as server:
        with pytest.raises(TLSFailed):
            send(Request("GET", server.url), ca_file=ca_file)
