"""Redirects, with servers."""

import pytest
from support.sending import send
from support.web import Answer

from huey_patient.errors import Blocked, RedirectLoop, RequestTimeout, TooManyRedirects
from huey_patient.request import Request


def test_a_response_says_where_it_came_from_and_how(server):
    url = server.answer("/a", Answer(302, headers={"Location": "/b"}))
    server.answer("/b", Answer(303, headers={"Location": "/echo?x=1"}))

    response = send(Request("POST", url, body="b"), request_id="id-3")

    assert response.status == 200
    assert response.url == f"{server.url}/echo?x=1"
    assert response.redirects == (f"{server.url}/a", f"{server.url}/b")
    assert response.method == "GET"
    assert response.request_id == "id-3"
    assert server.hits_by_id() == {"id-3": 3}


@pytest.mark.parametrize("status", [307, 308])
def test_the_body_is_sent_again_when_the_method_stays(server, status):
    body = bytes(range(256)) * 400
    url = f"{server.url}/redirect?status={status}&to=/echo"

    send(Request("POST", url, body=body))

    assert [(one.method, one.body) for one in server.asked] == [("POST", body)] * 2
    assert [one.header("idempotency-key") for one in server.asked] == ["id-1"] * 2


def test_a_redirect_that_is_not_followed_is_the_response(server):
    response = send(Request("GET", f"{server.url}/redirect?to=/echo", max_redirects=0))

    assert response.status == 302
    assert response.headers["location"] == "/echo"
    assert response.redirects == ()
    assert server.hits() == 1


def test_a_redirect_to_nowhere_is_the_response(server):
    assert send(Request("GET", f"{server.url}/redirect")).status == 302


def test_too_many_redirects_are_listed(server):
    for n in range(9):
        server.answer(f"/{n}", Answer(302, headers={"Location": f"/{n + 1}"}))

    with pytest.raises(TooManyRedirects, match=r"Too many redirects \(4\)") as caught:
        send(Request("GET", server.url + "/0"), max_redirects=3)

    assert caught.value.redirects == tuple(f"{server.url}/{n}" for n in range(4))
    assert server.hits() == 4
    assert caught.value.kind == "redirect"


def test_a_loop_ends_before_it_is_walked_twice(server):
    url = server.answer("/a", Answer(302, headers={"Location": "/b"}))
    server.answer("/b", Answer(302, headers={"Location": "/a"}))

    with pytest.raises(RedirectLoop):
        send(Request("GET", url))

    assert server.hits() == 2


def test_one_deadline_holds_over_all_hops(server):
    with pytest.raises(RequestTimeout) as caught:
        send(Request("GET", f"{server.url}/redirect?to=/hold", timeout=0.3))

    assert caught.value.url == f"{server.url}/hold"
    assert caught.value.redirects == (f"{server.url}/redirect?to=/hold",)


def test_another_origin_sees_the_same_id_and_nothing_private(server, other):
    private = {"Authorization": "t", "X-Api-Key": "k", "Cookie": "c=1", "Idempotency-Key": "own"}
    url = f"{server.url}/redirect?status=307&to={other.url}/echo"

    send(Request("POST", url, body="b", headers={**private, "Content-Type": "text/x"}))

    [asked] = other.asked
    assert asked.header("x-request-id") == "id-1"
    assert asked.header("idempotency-key") == "id-1"
    assert asked.header("content-type") == "text/x"
    assert asked.header("referer") is None
    assert [asked.header(name) for name in ("authorization", "x-api-key", "cookie")] == [None] * 3


def test_coming_back_to_an_origin_brings_no_header_back(server, other):
    other.answer("/b", Answer(302, headers={"Location": f"{server.url}/echo"}))
    url = f"{server.url}/redirect?to={other.url}/b"

    send(Request("GET", url, headers={"Authorization": "t", "X-Api-Key": "k"}))

    assert server.asked[0].header("authorization") == "t"
    assert server.asked[1].header("authorization") is None
    assert server.asked[1].header("x-api-key") is None


def test_preprocessors_stay_at_their_origin(server, other):
    def sign(outgoing):
        outgoing.headers["X-Signature"] = "signed " + outgoing.method
        outgoing.add_param("sig", "a+b/c=")

    other.answer("/b", Answer(302, headers={"Location": f"{server.url}/echo"}))
    server.answer("/a", Answer(302, headers={"Location": f"{other.url}/b"}))

    response = send(
        Request("GET", f"{server.url}/redirect?to=/a"), options={"preprocessors": [sign]}
    )

    signed = [one.header("x-signature") for one in server.asked]
    assert signed == ["signed GET", "signed GET", None]
    assert server.asked[1].target == "/a?sig=a%2Bb%2Fc%3D"
    assert other.asked[0].header("x-signature") is None
    assert response.redirects[1] == f"{server.url}/a"  # what was signed is not told


def test_https_does_not_lead_to_http(secure_server, server, ca_file):
    url = f"{secure_server.url}/redirect?to={server.url}/echo"

    with pytest.raises(RedirectLoop):
        send(Request("GET", url), ca_file=ca_file)

    assert server.hits() == 0


def test_http_leads_to_https(secure_server, server, ca_file):
    url = f"{server.url}/redirect?to={secure_server.url}/echo"

    assert send(Request("GET", url), ca_file=ca_file).url == f"{secure_server.url}/echo"


def test_secret_parameters_stay_behind_and_are_never_told(server):
    options = {"secret_params": [("key", "s3cr3t/+")]}
    server.answer("/a", Answer(302, headers={"Location": "/echo?key=s3cr3t%2F%2B"}))

    request = Request("GET", server.url + "/a?x=1", hidden=frozenset({"s3cr3t/+"}))
    response = send(request, options=options)

    assert server.asked[0].target == "/a?x=1&key=s3cr3t%2F%2B"
    assert response.redirects == (f"{server.url}/a?x=1",)
    assert response.url == f"{server.url}/echo?key=***"


def test_a_hop_to_a_host_that_is_not_allowed_is_blocked(server, other):
    url = f"{server.url}/redirect?to={other.url.replace('127.0.0.1', 'localhost')}/echo"

    with pytest.raises(Blocked) as caught:
        send(Request("GET", url), allow_hosts=("127.0.0.1",))

    assert other.hits() == 0
    assert caught.value.attempts == 1
