"""How often a request is sent, and how long it waits in between."""

import asyncio

import pytest
from support.raw import RawServer, after, hangs_up, resets, response, says
from support.sending import send, with_client
from support.web import Answer

from huey_patient.errors import ConnectFailed, RequestTimeout
from huey_patient.request import LLM_STATUSES, Request

OK = says(response())
#: Answers once and leaves the connection open; the next request on it finds it dead.
KEPT = says(response(b"first"), keep=True)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("fault", [hangs_up, resets])
def test_a_connection_that_breaks_before_the_answer_is_tried_again(method, fault, naps):
    with RawServer(fault, fault, OK) as server:
        answer = send(Request(method, server.url), naps=naps, retries=3)

    assert answer.status == 200
    assert answer.attempts == len(server.requests) == 3
    assert len(naps.seconds) == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_each_attempt_has_the_same_id_and_the_same_key(method, naps):
    with RawServer(hangs_up, OK) as server:
        send(Request(method, server.url), naps=naps, request_id="id-5")

    assert all(b"X-Request-Id: id-5\r\n" in sent for sent in server.requests)
    keyed = [b"Idempotency-Key: id-5\r\n" in sent for sent in server.requests]
    assert keyed == [method == "POST"] * 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_nothing_is_sent_twice_behind_our_back(method):
    with RawServer(hangs_up) as server:
        with pytest.raises(ConnectFailed) as caught:
            send(Request(method, server.url, retries="never"))

    assert len(server.requests) == 1
    assert caught.value.attempts == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_kept_connection_that_died_is_not_resent_without_being_counted(method):
    with RawServer(KEPT, hangs_up, OK) as server:

        async def use(client):
            await client.send(Request("GET", server.url), request_id="first")
            with pytest.raises(ConnectFailed):
                await client.send(Request(method, server.url, retries=0), request_id="b")

        with_client(use)
        assert len(server.requests) == 2


def test_what_is_sent_at_most_once_takes_no_connection_that_was_kept(server):
    async def use(client):
        for retries in (3, "never", 3):
            request = Request("GET", server.url + "/echo", retries=retries)
            await client.send(request, request_id="x")

    with_client(use)

    kept, fresh, again = [one.peer for one in server.asked]
    assert kept == again != fresh


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_kept_connection_that_died_is_replaced_by_an_attempt(method, naps):
    with RawServer(KEPT, hangs_up, OK) as server:

        async def use(client):
            await client.send(Request("GET", server.url), request_id="first")
            return await client.send(Request(method, server.url), request_id="b")

        answer = with_client(use, naps=naps)

    assert answer.content == b""
    assert answer.attempts == 2


def without_key(outgoing):
    del outgoing.headers["Idempotency-Key"]


def empty_key(outgoing):
    outgoing.headers["idempotency-key"] = ""


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("change", [without_key, empty_key])
@pytest.mark.parametrize("fault", [hangs_up, resets])
def test_what_left_without_a_key_may_have_been_done_and_is_not_sent_again(
    method, change, fault, naps
):
    with RawServer(fault, OK) as server:
        with pytest.raises(ConnectFailed) as caught:
            send(Request(method, server.url), naps=naps, options={"preprocessors": [change]})

    assert caught.value.attempts == len(server.requests) == 1


def test_a_status_that_was_named_is_tried_again_without_a_key_too(server, naps):
    url = server.answer("/x", Answer(503), Answer(200))
    request = Request("POST", url, retry_statuses={503})

    assert send(request, naps=naps, options={"preprocessors": [without_key]}).attempts == 2


@pytest.mark.parametrize(
    "begun",
    [
        b"H",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX-Half: 1",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 503 X\r\nA: b\r\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", [hangs_up, resets])
def test_an_answer_that_broke_off_in_its_head_is_not_asked_for_again(method, fault, begun, naps):
    with RawServer(after(fault, begun), OK) as server:
        with pytest.raises(ConnectFailed, match="broke in the head of the answer") as caught:
            send(Request(method, server.url), naps=naps)

    assert caught.value.attempts == len(server.requests) == 1


def test_the_retries_of_the_request_beat_those_of_the_settings(naps):
    with RawServer(hangs_up) as server:
        with pytest.raises(ConnectFailed) as caught:
            send(Request("GET", server.url, retries=1), naps=naps, retries=5)

    assert caught.value.attempts == len(server.requests) == 2


def test_an_answer_is_final_when_no_statuses_were_named(server, naps):
    url = server.answer("/x", Answer(503), Answer(200))

    assert send(Request("GET", url), naps=naps).status == 503
    assert server.hits() == 1


def test_a_named_status_is_tried_again(server, naps):
    url = server.answer("/x", Answer(429), Answer(529), Answer(200, b"ok"))

    answer = send(Request("POST", url, body="b", retry_statuses=LLM_STATUSES), naps=naps)

    assert answer.status == 200
    assert answer.attempts == 3
    assert [one.body for one in server.asked] == [b"b"] * 3


def test_the_last_answer_is_handed_over_when_the_attempts_are_used_up(server, naps):
    url = server.answer("/x", Answer(503, b"1"), Answer(503, b"2"), Answer(503, b"3"))

    answer = send(Request("GET", url, retries=2, retry_statuses={503}), naps=naps)

    assert (answer.status, answer.content, answer.attempts) == (503, b"3", 3)


def test_never_means_never_for_statuses_too(server, naps):
    url = server.answer("/x", Answer(503), Answer(200))

    assert send(Request("GET", url, retries="never", retry_statuses={503}), naps=naps).status == 503


def test_each_wait_is_as_long_as_the_server_asked_for(server, naps):
    url = server.answer(
        "/x",
        Answer(429, headers={"Retry-After": "7"}),
        Answer(429, headers={"Retry-After-Ms": "250"}),
        Answer(429, headers={"Retry-After": "0"}),
        Answer(200),
    )

    answer = send(Request("GET", url, retry_statuses={429}), naps=naps)

    assert answer.status == 200
    assert naps.seconds == [7.0, 0.25, 1.0]


def test_a_storm_of_429_ends_in_answers_and_each_waits_as_long_as_it_was_asked_to(server):
    slept = {}

    async def sleep(seconds):
        slept.setdefault(asyncio.current_task().get_name(), []).append(seconds)

    def busy(name, value):
        return Answer(429, headers={name: value})

    asked = {}
    for number in range(60):
        path = f"/{number}"
        asked[path] = [float(number + 2), (number + 1) / 8, float(number % 7 + 1)]
        server.answer(
            path,
            busy("Retry-After", str(number + 2)),
            busy("Retry-After-Ms", str(125 * (number + 1))),
            busy("Retry-After", str(number % 7 + 1)),
            Answer(200, path.encode()),
        )

    async def use(client):
        def send(path):
            request = Request("POST", server.url + path, timeout=300, retry_statuses=LLM_STATUSES)
            return asyncio.create_task(client.send(request, request_id=path), name=path)

        return await asyncio.gather(*map(send, asked))

    answers = with_client(use, naps=sleep)

    assert [one.content.decode() for one in answers] == list(asked)
    assert {one.attempts for one in answers} == {4}
    assert slept == asked
    assert server.hits_by_id() == dict.fromkeys(asked, 4)


def test_the_server_may_forbid_or_ask_for_another_attempt(server, naps):
    no = server.answer("/no", Answer(503, headers={"X-Should-Retry": "false"}), Answer(200))
    yes = server.answer("/yes", Answer(418, headers={"X-Should-Retry": "true"}), Answer(200))

    assert send(Request("GET", no, retry_statuses={503}), naps=naps).status == 503
    assert send(Request("GET", yes, retry_statuses={503}), naps=naps).status == 200


def test_an_answer_is_handed_over_when_the_wait_would_pass_the_deadline(server, naps):
    url = server.answer("/x", Answer(429, b"busy", {"Retry-After": "60"}), Answer(200))

    answer = send(Request("GET", url, timeout=30, retry_statuses={429}), naps=naps)

    assert (answer.status, answer.content, answer.attempts) == (429, b"busy", 1)
    assert naps.seconds == []


def test_a_failure_is_handed_over_when_the_wait_would_pass_the_deadline(naps, monkeypatch):
    monkeypatch.setattr("huey_patient.io_process.retries.backoff", lambda attempts: 60.0)
    with RawServer(hangs_up) as server:
        with pytest.raises(ConnectFailed):
            send(Request("GET", server.url, timeout=30), naps=naps)

    assert naps.seconds == []


def test_the_deadline_holds_over_all_attempts(server):
    url = server.answer("/x", Answer(429, headers={"Retry-After": "1"}))

    async def oversleep(seconds):
        await asyncio.sleep(3_600)

    with pytest.raises(RequestTimeout) as caught:
        send(Request("GET", url, timeout=1.2, retry_statuses={429}), naps=oversleep)

    assert caught.value.attempts == 1


def test_a_body_that_breaks_off_is_not_asked_for_again(naps):
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    with RawServer(after(hangs_up, begun), OK) as server:
        with pytest.raises(ConnectFailed):
            send(Request("GET", server.url), naps=naps)

    assert len(server.requests) == 1


def test_attempts_do_not_count_hops(server, naps):
    server.answer("/end", Answer(503), Answer(200))
    url = f"{server.url}/redirect?to=/end"

    answer = send(Request("GET", url, retry_statuses={503}), naps=naps)

    assert answer.attempts == 2
    assert server.hits("/redirect") == 1  # an attempt goes on where it failed
    assert server.hits("/end") == 2


def test_preprocessors_run_on_each_attempt(server, naps):
    url = server.answer("/x", Answer(503), Answer(200))
    runs = []

    def number(outgoing):
        runs.append(outgoing.url)
        outgoing.headers["X-Run"] = str(len(runs))

    send(Request("GET", url, retry_statuses={503}), naps=naps, options={"preprocessors": [number]})

    assert [one.header("x-run") for one in server.asked] == ["1", "2"]
