"""Requests: what is refused at the call, and what becomes of the rest."""

import dataclasses
import math
from datetime import UTC, datetime

import orjson
import pytest

from huey_patient.headers import Headers
from huey_patient.request import Request, SecretReference, secret
from huey_patient.template import RequestTemplate
from huey_patient.wire import Submission, read_submission, write_submission

URL = "http://a.test/x"


@pytest.mark.parametrize("method", ["get", "POST", "Put", "patch", "DELETE", "head", "options"])
def test_a_method_is_taken_in_any_case(method):
    assert Request(method, URL).method == method.upper()


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "", "GET ", "G\r\n", None, 1])
def test_another_method_is_refused(method):
    with pytest.raises(ValueError, match="method must be one of"):
        Request(method, URL)


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
def test_a_body_where_none_belongs_is_refused(method):
    with pytest.raises(ValueError, match=f"body is not allowed for {method} requests"):
        Request(method, URL, body="x")

    assert Request(method, URL, body="").body is None


def test_a_body_is_bytes_or_text_in_utf_8():
    assert Request("POST", URL, body="ä").body == b"\xc3\xa4"
    assert Request("POST", URL, body=bytearray(b"\xff\0")).body == b"\xff\0"
    assert Request("POST", URL, body=None).body is None
    with pytest.raises(TypeError, match="body must be str or bytes, got dict"):
        Request("POST", URL, body={})


def test_json_becomes_the_body_with_its_type():
    request = Request("POST", URL, json={"a": [1, None, "ä"]})

    assert orjson.loads(request.body) == {"a": [1, None, "ä"]}
    assert request.headers["content-type"] == "application/json; charset=utf-8"


def test_json_keeps_a_type_that_was_set():
    request = Request("POST", URL, json={}, headers={"content-type": "application/vnd.x+json"})

    assert request.headers.pairs() == (("content-type", "application/vnd.x+json"),)


def test_json_and_body_together_are_refused():
    with pytest.raises(ValueError, match="json= or body="):
        Request("POST", URL, json={}, body="x")


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [1, -math.inf]}])
def test_a_number_that_json_does_not_have_is_refused(value):
    with pytest.raises(ValueError, match="JSON cannot express"):
        Request("POST", URL, json=value)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {"a": 1j}])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(TypeError):
        Request("POST", URL, json=value)


def test_a_mapping_that_looks_like_a_secret_is_data_when_alone_and_refused_beside_one():
    alike = secret("other").as_json()

    alone = Request("POST", URL, json={"data": alike})
    assert alone.secret_names() == ()
    assert orjson.loads(alone.body) == {"data": alike}

    with pytest.raises(ValueError, match=r'"\$secret"'):
        Request("POST", URL, json={"key": secret("key"), "data": [alike]})


def test_a_secret_in_a_dataclass_is_a_secret():
    @dataclasses.dataclass
    class Login:
        token: object
        weight: float = 1.0

    request = Request("POST", URL, json=[Login(secret("key")), secret("key")])

    marker = secret("key").as_json()
    assert orjson.loads(request.body) == [{"token": marker, "weight": 1.0}, marker]
    assert request.secret_names() == ("key",)
    with pytest.raises(ValueError, match="nan"):
        Request("POST", URL, json=Login(None, float("nan")))


def test_dates_and_dataclasses_are_written_as_json():
    @dataclasses.dataclass
    class Point:
        x: int

    request = Request("POST", URL, json=[Point(1), datetime(2026, 1, 2, tzinfo=UTC)])

    assert orjson.loads(request.body) == [{"x": 1}, "2026-01-02T00:00:00+00:00"]


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout"):
        Request("GET", URL, timeout=timeout)


@pytest.mark.parametrize("timeout", ["5", True, [5]])
def test_a_timeout_that_is_no_number_is_refused(timeout):
    with pytest.raises(TypeError, match="timeout"):
        Request("GET", URL, timeout=timeout)


@pytest.mark.parametrize("option", ["max_redirects", "retries"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True])
def test_a_count_that_is_no_count_is_refused(option, value):
    with pytest.raises(ValueError, match=option):
        Request("GET", URL, **{option: value})


def test_counts_may_be_zero_or_left_to_the_settings():
    request = Request("GET", URL, max_redirects=0, retries="never")

    assert (request.max_redirects, request.retries) == (0, "never")
    assert Request("GET", URL).max_redirects is None


@pytest.mark.parametrize("statuses", [{200}, {600}, {"500"}, {True}])
def test_a_retry_status_that_is_no_error_is_refused(statuses):
    with pytest.raises(ValueError, match="retry_statuses"):
        Request("GET", URL, retry_statuses=statuses)


@pytest.mark.parametrize(
    ("given", "kept"), [(None, ()), ("one", ("one",)), (["a", "b"], ("a", "b"))]
)
def test_preprocessors_are_one_name_or_several(given, kept):
    assert Request("GET", URL, preprocessors=given).preprocessors == kept


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "x" * 65_536},
        [("X", "x" * 32_000), ("X", "x" * 32_000), ("Y", "y" * 2_000)],
        {"X": secret("key", prefix="x" * 65_536)},
    ],
)
def test_headers_that_are_too_long_in_sum_are_refused(headers):
    with pytest.raises(ValueError, match="bytes; at most 65536 are sent"):
        Request("GET", URL, headers=headers)


def test_headers_may_be_as_long_as_a_large_token():
    assert Request("GET", URL, headers={"X": "x" * 65_000}).headers["x"] == "x" * 65_000


@pytest.mark.parametrize("names", [[""], [" "], [None]])
def test_a_preprocessor_without_a_name_is_refused(names):
    with pytest.raises(ValueError, match="cannot be empty"):
        Request("GET", URL, preprocessors=names)


@pytest.mark.parametrize(
    "url", ["ftp://p.test", "p.test:3128", "", "http://", 7, b"http://p", "http://p:x"]
)
def test_a_proxy_that_is_none_is_refused_without_being_shown(url):
    with pytest.raises(ValueError, match=r"^proxy_url must be an HTTP or HTTPS URL$"):
        Request("GET", URL, proxy_url=url)


@pytest.mark.parametrize("stream", ["SSE", "ndjson", True, ""])
def test_a_stream_of_another_kind_is_refused(stream):
    with pytest.raises(ValueError, match="stream is 'sse' or None"):
        Request("GET", URL, stream=stream)


@pytest.mark.parametrize("seconds", [0, -1, "60", float("inf"), True])
def test_silence_is_limited_by_a_positive_number_of_seconds(seconds):
    with pytest.raises((ValueError, TypeError), match="idle_timeout must be a"):
        Request("GET", URL, stream="sse", idle_timeout=seconds)


def test_headers_are_checked_at_the_call():
    with pytest.raises(ValueError, match="token"):
        Request("GET", URL, headers={"a b": "x"})
    with pytest.raises(ValueError, match="control"):
        Request("GET", URL, headers={"a": "x\r\ny"})
    with pytest.raises(TypeError, match="'a' must be a string, got int"):
        Request("GET", URL, headers={"a": 1})
    with pytest.raises(TypeError, match="header name"):
        Request("GET", URL, headers={1: "a"})
    with pytest.raises(ValueError, match="at most 256"):
        Request("GET", URL, headers=[("a", "x")] * 257)


def test_repr_shows_no_query_value_body_or_proxy():
    request = Request(
        "POST",
        URL + "?q=CANARY",
        headers={"Authorization": "CANARY"},
        body="CANARY",
        proxy_url="http://u:CANARY@p.test",
    )

    assert repr(request) == "Request('POST', 'http://a.test/x', headers=Headers(Authorization))"


def test_secrets_are_found_wherever_they_stand():
    request = Request(
        "POST",
        URL,
        params={"key": secret("in_params"), "page": 2},
        headers={"Authorization": secret("in_headers", prefix="Bearer ")},
        json={"deep": [{"token": secret("in_json")}, secret("in_headers")]},
    )

    assert request.secret_names() == ("in_headers", "in_params", "in_json")
    assert request.url == URL + "?page=2"
    assert request.json_secrets


@pytest.mark.parametrize(
    ("params", "url", "apart"),
    [
        ({"a": [secret("k"), "b"]}, "", (("a", secret("k")), ("a", "b"))),
        ([("a", secret("k")), ("a", "1")], "", (("a", secret("k")), ("a", "1"))),
        ({"a": ("1", secret("k"), 2), "b": True}, "?a=1&b=true", (("a", secret("k")), ("a", "2"))),
        ({"a": [secret("k"), None, False]}, "", (("a", secret("k")), ("a", "false"))),
    ],
)
def test_a_secret_among_values_of_one_name_keeps_its_place(params, url, apart):
    request = Request("GET", URL, params=params)

    assert request.url == URL + url
    assert request.secret_params == apart
    assert request.secret_names() == ("k",)


@pytest.mark.parametrize(
    "value", [{"a": secret("k")}, [[secret("k")]], [secret("k"), b"x"], [["x"]], b"x"]
)
def test_what_cannot_be_a_parameter_is_refused_at_the_call(value):
    with pytest.raises(TypeError, match="parameter 'a' must be"):
        Request("GET", URL, params={"a": value})


@pytest.mark.parametrize("name", ["", None])
def test_a_secret_without_a_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        secret(name)


def test_secrets_are_equal_by_name_and_readable_from_their_marker():
    one = secret("a", prefix="p")

    assert one == secret("a", prefix="p")
    assert len({one, secret("a", prefix="p"), secret("b")}) == 2
    assert SecretReference.from_json(one.as_json()) == one
    assert SecretReference.from_json({"$secret": "a"}) is None


def test_a_request_survives_being_written_and_read():
    request = Request(
        "POST",
        URL,
        params={"a": 1, "key": [secret("k", suffix="!"), "plain"]},
        headers={"X": "1", "Y": secret("s")},
        json={"t": secret("j")},
        timeout=5,
        max_redirects=2,
        raise_error_responses=True,
        retries="never",
        retry_statuses={503},
        preprocessors=["sign"],
        proxy_url="http://p.test:3128",
    )
    head, body = write_submission(Submission(request=request, callback_args={"a": 1}))

    read = read_submission(orjson.loads(orjson.dumps(head)), body)

    assert read.request == request
    assert read.callback_args == {"a": 1}


def test_what_was_not_set_is_not_written():
    head, body = write_submission(Submission(request=Request("GET", URL)))

    assert set(head) == {"method", "url", "headers", "callback_args"}
    assert body == b""


def test_a_template_fills_in_what_the_call_leaves_out():
    template = RequestTemplate(
        base_url="http://a.test/v1/",
        headers={"A": "1", "B": "1"},
        params={"locale": "en", "page": 1},
        timeout=9,
        preprocessors="sign",
        proxy_url="http://p.test",
    )

    request = template.get("users?x=y", headers={"b": "2"}, params={"page": 2}, timeout=3)

    assert request.url == "http://a.test/v1/users?x=y&locale=en&page=2"
    assert request.headers == Headers({"A": "1", "b": "2"})
    assert request.timeout == 3
    assert request.preprocessors == ("sign",)
    assert request.proxy_url == "http://p.test"


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/users", "http://a.test/users"),
        ("users", "http://a.test/v1/users"),
        ("", "http://a.test/v1/"),
    ],
)
def test_a_template_joins_its_base_url_as_a_link_is_joined(path, url):
    assert RequestTemplate(base_url="http://a.test/v1/").get(path).url == url


def test_a_template_may_stream():
    template = RequestTemplate(base_url=URL, stream="sse", idle_timeout=5)

    assert (template.get().stream, template.get().idle_timeout) == ("sse", 5.0)
    assert template.get(stream=None, idle_timeout=1).stream is None
    with pytest.raises(ValueError, match="stream"):
        RequestTemplate(stream="ndjson")


def test_a_template_is_not_changed_by_its_requests():
    template = RequestTemplate(base_url=URL, headers={"A": "1"}, params={"p": 1})

    template.post(headers={"A": "2"}, params={"p": 2}, json={}, timeout=1)

    assert template.get().headers == {"A": "1"}
    assert template.get().url == URL + "?p=1"
    assert template.get().timeout is None


def test_a_template_refuses_what_its_requests_would_refuse():
    with pytest.raises(TypeError, match="no option 'tiemout'"):
        RequestTemplate(tiemout=1)
    with pytest.raises(ValueError, match="timeout"):
        RequestTemplate(timeout=-1)
    with pytest.raises(ValueError, match="control"):
        RequestTemplate(headers={"a": "\n"})
