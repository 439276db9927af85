"""Secrets: put in their places just before a send, if the request goes where they may go."""

import orjson
import pytest

from huey_patient.errors import SecretNotFound
from huey_patient.io_process.secrets import resolve
from huey_patient.request import Request, secret
from huey_patient.secret_values import SecretValue, SecretValues, read

URL = "https://api.example.com/x?plain=1"


def values(value="s3cr3t", *, hosts=()):
    known = SecretValues()
    known.register("key", value, hosts)
    return read(known.resolved(["key"]))


def test_a_secret_stands_where_its_reference_stood():
    request = Request(
        "POST",
        URL,
        params={"token": [secret("key", suffix="!"), "plain"]},
        headers=[("A", secret("key", prefix="Bearer ")), ("A", "plain")],
        json={"deep": [{"key": secret("key")}, "plain", 1], "other": {"x": None}},
    )

    resolved, params = resolve(request, values())

    assert resolved.headers.pairs()[:2] == (("A", "Bearer s3cr3t"), ("A", "plain"))
    assert orjson.loads(resolved.body) == {
        "deep": [{"key": "s3cr3t"}, "plain", 1],
        "other": {"x": None},
    }
    assert params == [("token", "s3cr3t!"), ("token", "plain")]
    assert resolved.url == URL  # the parameter is added to what is sent, and to nothing shown
    assert resolved.secret_names() == ()
    assert resolved.hidden == {"s3cr3t"}  # bare, as a server may repeat it
    assert resolved.json_secrets  # the body still may not cross origins


def test_a_value_is_written_as_json_whatever_is_in_it():
    request = Request("POST", URL, json={"key": secret("key")})

    resolved, _ = resolve(request, values('"}, {"$secret": "ä\n'))

    assert orjson.loads(resolved.body) == {"key": '"}, {"$secret": "ä\n'}


def test_a_request_without_secrets_stays_as_it_is():
    request = Request("POST", URL, json={"a": 1})

    assert resolve(request, {}) == (request, [])


@pytest.mark.parametrize(
    "hosts",
    [(), ("api.example.com",), ("*.example.com",), ("other.test", "API.Example.com."), ["*.com"]],
)
def test_a_secret_goes_to_the_hosts_that_it_is_for(hosts):
    request = Request("GET", URL, headers={"A": secret("key")})

    assert resolve(request, values(hosts=hosts))[0].headers["a"] == "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://evilexample.com/",
        "https://example.com.evil.test/",
        "https://api-example.com/",
        "https://evil.test/?api.example.com",
        "https://evil.test/api.example.com",
        "https://127.0.0.1/",
    ],
)
@pytest.mark.parametrize("place", ["headers", "params", "json"])
def test_a_secret_goes_to_no_other_host(url, place):
    request = Request("POST", url, **{place: {"A": secret("key")}})

    with pytest.raises(SecretNotFound, match="'key' is not for this host") as caught:
        resolve(request, values(hosts=("*.example.com", "[::1]")))

    assert "s3cr3t" not in str(caught.value)


def test_an_ipv6_host_is_found_in_either_spelling():
    request = Request("GET", "http://[::1]:8000/", headers={"A": secret("key")})

    for spelling in ("::1", "[::1]"):
        assert resolve(request, values(hosts=(spelling,)))[0].headers["a"] == "s3cr3t"


def test_a_secret_that_is_not_there_is_named():
    with pytest.raises(SecretNotFound, match="no secret 'other' is registered"):
        resolve(Request("GET", URL, headers={"A": secret("other")}), values())


@pytest.mark.parametrize("value", ["line\nbreak", "ä", "space ", "nul\0"])
def test_a_value_that_does_not_fit_a_header_is_refused_and_not_shown(value):
    with pytest.raises(SecretNotFound, match="does not fit its place") as caught:
        resolve(Request("GET", URL, headers={"A": secret("key")}), values(f"s3cr3t {value}"))

    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_value_is_in_no_repr():
    assert "s3cr3t" not in repr(values())
    assert "s3cr3t" not in repr(SecretValue("s3cr3t", ("a.test",)))


def test_nothing_resolved_is_read_as_nothing():
    assert read(b"") == {}
