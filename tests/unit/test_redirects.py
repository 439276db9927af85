"""Where a redirect leads and what goes along: the rules alone."""

from dataclasses import replace

import pytest

from huey_patient.errors import Blocked, InvalidResponse, RedirectLoop, TooManyRedirects
from huey_patient.headers import Headers
from huey_patient.io_process.failures import Failure
from huey_patient.io_process.redirects import Hop, next_hop

FIRST = Hop(
    method="POST",
    url="http://a.test/first?q=1",
    headers=Headers(
        {
            "Accept": "text/plain",
            "Accept-Language": "de",
            "Authorization": "Bearer t",
            "Content-Type": "text/plain",
            "Cookie": "c=1",
            "Idempotency-Key": "k",
            "Referer": "http://a.test/?q=1",
            "User-Agent": "mine",
            "X-Api-Key": "s",
        }
    ),
    body=b"body",
)


def follow(hop=FIRST, status=302, location="/next", visited=(), limit=5):
    return next_hop(hop, status, location, visited=list(visited), limit=limit)


def refused(**arguments):
    with pytest.raises(Failure) as caught:
        follow(**arguments)
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(status):
    assert follow(status=status).url == "http://a.test/next"


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 399, 400])
def test_another_status_is_the_response(status):
    assert follow(status=status) is None


@pytest.mark.parametrize("location", [None, ""])
def test_a_redirect_without_a_location_is_the_response(location):
    assert follow(location=location) is None


def test_a_limit_of_zero_makes_the_redirect_the_response():
    assert follow(limit=0) is None


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "DELETE", "GET"),
        (303, "GET", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (302, "PATCH", "PATCH"),
        (302, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
def test_the_method_changes_as_browsers_change_it(status, method, then):
    body = b"body" if method in ("POST", "PUT", "PATCH") else None
    hop = follow(hop=replace(FIRST, method=method, body=body), status=status)

    assert hop.method == then
    assert hop.body == (body if then == method else None)


def test_a_dropped_body_takes_along_what_described_it():
    headers = follow(status=303).headers

    assert "content-type" not in headers
    assert "idempotency-key" not in headers
    assert headers["authorization"] == "Bearer t"


def test_the_same_origin_keeps_every_header():
    assert follow(status=307).headers.pairs() == FIRST.headers.pairs()


@pytest.mark.parametrize(
    "location",
    ["http://b.test/", "http://a.test:8080/", "https://a.test/", "//b.test/next"],
)
def test_another_origin_gets_only_what_is_on_the_list(location):
    hop = follow(status=307, location=location)

    assert dict(hop.headers.pairs()) == {
        "Accept": "text/plain",
        "Accept-Language": "de",
        "Content-Type": "text/plain",
        "User-Agent": "mine",
    }
    assert hop.body == b"body"
    assert hop.crossed


def test_the_default_port_is_the_same_origin():
    assert not follow(location="http://A.test:80/next").crossed


def test_coming_back_to_the_first_origin_brings_nothing_back():
    there = follow(status=307, location="http://b.test/")
    back = follow(hop=there, status=307, location="http://a.test/back", visited=[FIRST])

    assert "authorization" not in back.headers
    assert back.crossed
    assert follow(hop=back, status=307, location="/again", visited=[FIRST, there]).crossed


def test_a_body_with_a_secret_does_not_cross_origins():
    hop = replace(FIRST, secret_body=True)

    assert refused(hop=hop, status=307, location="http://b.test/").error is Blocked
    assert follow(hop=hop, status=307).body == b"body"
    assert follow(hop=hop, status=303, location="http://b.test/").body is None


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/path/new", "http://a.test/path/new"),
        ("sibling", "http://a.test/sibling"),
        ("?page=2", "http://a.test/first?page=2"),
        ("http:path", "http://a.test/path"),
        ("//b.test/x", "http://b.test/x"),
        ("https://b.test/x", "https://b.test/x"),
        ("HTTP://b.test/x", "http://b.test/x"),
        ("/x#fragment", "http://a.test/x"),
        (" /spaced out ", "http://a.test/spaced%20out"),
        ("/%20kept", "http://a.test/%20kept"),
        ("/caf\u00e9", "http://a.test/caf%C3%A9"),
        ("/caf\udce9", "http://a.test/caf%E9"),
        ("/a|b", "http://a.test/a%7Cb"),
    ],
)
def test_a_location_is_resolved_and_made_sendable(location, url):
    assert follow(location=location).url == url


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "gopher://a.test/", "data:,x", "ws://a.test/"]
)
def test_another_scheme_is_refused(location):
    assert refused(location=location).error is Blocked


@pytest.mark.parametrize(
    "location",
    [
        "http://user:pw@b.test/",
        "http://[::1/",
        "http://b.test:99999/",
        "http://a..b/",
        f"http://{'a' * 64}.test/",
        "http://①②⑦.⓪.⓪.①/",
        "http://%31%32%37.0.0.1/",
        "http://127。0。0。1/",
    ],
)
def test_a_location_that_cannot_be_asked_is_an_invalid_response(location):
    assert refused(location=location).error is InvalidResponse


def test_https_does_not_lead_to_http():
    failure = refused(hop=replace(FIRST, url="https://a.test/"), location="http://a.test/next")

    assert failure.error is RedirectLoop


def test_one_redirect_more_than_the_limit_is_too_many():
    visited = [replace(FIRST, url=f"http://a.test/{n}") for n in range(3)]

    assert follow(visited=visited[:2], limit=3) is not None
    failure = refused(visited=visited, limit=3)
    assert failure.error is TooManyRedirects
    assert "Too many redirects (4)" in failure.message


def test_a_url_already_visited_is_a_loop():
    get = replace(FIRST, method="GET", body=None)

    assert refused(hop=get, location="/first?q=1").error is RedirectLoop
    assert refused(hop=replace(get, url="http://a.test/2"), location="/first?q=1", visited=[get])


def test_seeing_the_same_url_after_a_post_is_no_loop():
    assert follow(status=303, location="/first?q=1").method == "GET"


def test_a_hop_shows_no_url_and_no_body():
    hop = replace(FIRST, url="http://a.test/CANARY", body=b"CANARY")

    assert "CANARY" not in repr(hop)
