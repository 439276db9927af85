"""What goes out and what comes back, with servers that behave."""

import asyncio
import contextlib

import orjson
import pytest
from support.raw import RawServer, response, says
from support.sending import send, with_client
from support.web import Answer

from huey_patient.errors import RequestTimeout
from huey_patient.request import Request
from huey_patient.version import __version__


def test_a_response_carries_everything_that_is_known(server):
    url = server.answer("/x", Answer(201, b"made", {"X-One": "1", "Content-Type": "text/plain"}))

    response = send(Request("PUT", url, body="new"), request_id="id-7")

    assert response.status == 201
    assert response.content == b"made"
    assert response.headers["x-one"] == "1"
    assert response.content_type == "text/plain"
    assert response.method == "PUT"
    assert response.url == url
    assert response.request_id == "id-7"
    assert response.redirects == ()
    assert response.attempts == 1
    assert response.decoded
    assert response.duration > 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_each_method_is_sent_as_it_is(server, method):
    send(Request(method, server.url + "/echo"))

    assert [one.method for one in server.asked] == [method]


@pytest.mark.parametrize("status", [200, 204, 304, 399, 400, 404, 429, 500, 503, 599])
def test_every_status_is_a_response(server, status):
    assert send(Request("GET", f"{server.url}/status/{status}")).status == status


@pytest.mark.parametrize(
    "target", ["/", "/a%2Fb/%7Euser", "/x?a=1&a=2&b=%20+", "/x;y=1?q='()*", "/caf%C3%A9?%C3%A9"]
)
def test_a_url_is_sent_exactly_as_it_was_checked(server, target):
    send(Request("GET", server.url + target))

    assert [one.target for one in server.asked] == [target]


def test_a_url_without_a_path_asks_for_the_root(server):
    send(Request("GET", f"{server.url}?q=1"))

    assert server.asked[0].target == "/?q=1"


def test_headers_are_sent_in_their_spelling_also_twice():
    with RawServer(says(response())) as server:
        send(
            Request(
                "GET", server.url, headers=[("X-CamelCase", "a"), ("x-two", "1"), ("x-two", "2")]
            )
        )

    sent = server.requests[0].split(b"\r\n")
    assert b"X-CamelCase: a" in sent
    assert [line for line in sent if line.startswith(b"x-two")] == [b"x-two: 1", b"x-two: 2"]


def test_a_body_is_sent_as_it_is_with_its_length(server):
    body = bytes(range(256)) * 1_000

    send(Request("POST", server.url + "/echo", body=body))

    assert server.asked[0].body == body
    assert server.asked[0].header("content-length") == str(len(body))
    assert server.asked[0].header("content-type") is None


def test_json_is_sent_with_its_type(server):
    response = send(Request("POST", server.url + "/echo", json={"a": [1, "ä"]}))

    assert orjson.loads(response.json()["body"].encode("latin-1")) == {"a": [1, "ä"]}
    assert server.asked[0].header("content-type") == "application/json; charset=utf-8"


def test_every_send_carries_its_request_id(server):
    send(Request("GET", server.url + "/echo"), request_id="id-9")

    assert server.hits_by_id() == {"id-9": 1}


@pytest.mark.parametrize(
    ("method", "key"), [("POST", "id-1"), ("PATCH", "id-1"), ("PUT", None), ("GET", None)]
)
def test_post_and_patch_carry_an_idempotency_key(server, method, key):
    send(Request(method, server.url + "/echo"))

    assert server.asked[0].header("idempotency-key") == key


def test_what_the_request_sets_itself_is_not_replaced(server):
    own = {
        "Idempotency-Key": "own-key",
        "X-Request-Id": "own-id",
        "User-Agent": "own-agent",
        "Accept-Encoding": "identity",
        "Accept": "text/csv",
    }

    send(Request("POST", server.url + "/echo", headers=own))

    assert {name: server.asked[0].header(name) for name in own} == own


def test_the_user_agent_is_that_of_the_settings(server):
    send(Request("GET", server.url + "/echo"))
    send(Request("GET", server.url + "/echo"), user_agent="of the settings")
    send(Request("GET", server.url + "/echo"), user_agent=None)

    sent = [one.header("user-agent") for one in server.asked]
    assert sent == [f"huey-patient/{__version__}", "of the settings", None]


def test_a_cookie_of_one_answer_is_not_sent_with_the_next_request(server):
    url = server.answer("/x", Answer(headers={"Set-Cookie": "sid=1; Path=/"}))
    url = url.replace("127.0.0.1", "localhost")  # cookies of mere addresses are never kept

    async def use(client):
        await client.send(Request("GET", url), request_id="a")
        await client.send(Request("GET", url), request_id="b")

    with_client(use)
    assert [one.header("cookie") for one in server.asked] == [None, None]


def test_repeated_headers_stay_apart():
    answer = response(b"", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"X-Joined: 1", b"X-Joined: 2")
    with RawServer(says(answer)) as server:
        headers = send(Request("GET", server.url)).headers

    assert headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert headers["x-joined"] == "1, 2"


def test_header_values_are_json_safe_whatever_bytes_came():
    with RawServer(says(response(b"", b"X-L: caf\xe9", "X-U: café".encode()))) as server:
        headers = send(Request("GET", server.url)).headers

    assert headers["x-l"] == "café"
    assert headers["x-u"] == "café"
    assert orjson.dumps(headers.pairs())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_has_none_whatever_its_length_says(status):
    head = b"HTTP/1.1 %s\r\nContent-Length: 99999999\r\n\r\n" % status
    with RawServer(says(head)) as server:
        assert send(Request("GET", server.url)).content == b""


def test_the_answer_to_head_has_no_body_whatever_its_length_says():
    with RawServer(
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Encoding: gzip\r\n\r\n")
    ) as server:
        response = send(Request("HEAD", server.url))

    assert response.content == b""
    assert response.decoded


def test_interim_answers_are_not_the_answer():
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3
    with RawServer(says(b"HTTP/1.1 100 Continue\r\n\r\n", hints, response(b"final"))) as server:
        assert send(Request("GET", server.url)).content == b"final"


def test_a_body_ended_by_the_end_of_the_connection_is_complete():
    with RawServer(says(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as server:
        assert send(Request("GET", server.url)).content == b"all of it"


def test_the_deadline_of_the_request_beats_that_of_the_settings(server):
    with pytest.raises(RequestTimeout) as caught:
        send(Request("GET", server.url + "/hold", timeout=0.05), request_timeout=60)

    assert "0.05 s" in caught.value.message
    assert server.left.acquire(timeout=10)


def test_the_deadline_of_the_settings_holds_without_one_of_the_request(server):
    with pytest.raises(RequestTimeout):
        send(Request("GET", server.url + "/hold"), request_timeout=0.05)


def test_cancelling_closes_the_connection(server):
    async def use(client):
        task = asyncio.create_task(
            client.send(Request("GET", server.url + "/hold"), request_id="a")
        )
        await asyncio.to_thread(server.arrived.acquire)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return await asyncio.to_thread(server.left.acquire, timeout=10)

    assert with_client(use)


def test_a_client_can_be_left_without_having_sent_anything():
    async def use(client):
        return client

    assert with_client(use)


def test_sending_outside_the_context_is_refused(server):
    async def use(client):
        return client

    client = with_client(use)

    with pytest.raises(RuntimeError):
        asyncio.run(client.send(Request("GET", server.url), request_id="a"))


def test_many_requests_at_once_each_get_their_own_answer(server):
    async def use(client):
        requests = [
            client.send(Request("GET", f"{server.url}/echo?n={n}"), request_id=f"id-{n}")
            for n in range(200)
        ]
        return await asyncio.gather(*requests)

    responses = with_client(use)

    assert [one.json()["target"] for one in responses] == [f"/echo?n={n}" for n in range(200)]
    assert server.hits_by_id() == {f"id-{n}": 1 for n in range(200)}
