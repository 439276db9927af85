"""Whatever is asked is refused at the call, or arrives exactly as it was given."""

import asyncio
import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.desk import Desk
from support.raw import RawServer, response, says

from huey_patient.headers import Headers
from huey_patient.io_process.http import HttpClient
from huey_patient.request import Request
from huey_patient.settings import Settings

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
ODD = '\r\n\0\x7f\x85\u2028 \tä😀\ud800:;,"\\'
NAMES = st.text(TOKEN, min_size=1, max_size=30)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=50).map(str.strip)
#: Names that mean something to HTTP, to aiohttp or to us, and may be set.
KNOWN = st.sampled_from(
    "Accept Accept-Encoding Authorization Content-Encoding Content-Type Cookie Date "
    "Idempotency-Key If-None-Match Range Referer User-Agent X-Request-Id".split()
)
#: Names that belong to the connection.
OURS = (
    "Connection Content-Length Expect Host Keep-Alive Proxy-Authorization TE Trailer "
    "Transfer-Encoding Upgrade".split()
)


class Wire:
    """One client and one server for all examples, and what came on the wire."""

    def __init__(self, server, client, runner):
        self.url = server.url
        self._server, self._client, self._runner = server, client, runner

    def send(self, request):
        """Send a request; the one that arrived: its first line, its headers, its body."""
        before = len(self._server.requests)
        self._runner.run(self._client.send(request, request_id="id-1"))
        [arrived] = self._server.requests[before:]
        head, _, body = arrived.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return first, [tuple(line.split(": ", 1)) for line in lines], body


@pytest.fixture(scope="module")
def wire():
    with RawServer(says(response(), keep=True)) as server, asyncio.Runner() as runner:
        client = HttpClient(Settings())
        runner.run(client.__aenter__())
        try:
            yield Wire(server, client, runner)
        finally:
            runner.run(client.__aexit__(None, None, None))


def assert_sent(wire, pairs):
    first, arrived, body = wire.send(Request("GET", wire.url, headers=Headers(pairs)))

    spelling = {name.lower(): name for name, _ in reversed(pairs)}  # the first counts
    assert [pair for pair in arrived if pair[0].lower() in spelling] == [
        (spelling[name.lower()], value) for name, value in pairs
    ]
    ours = {name.lower() for name, _ in arrived} - spelling.keys()
    assert ours <= {"host", "accept", "accept-encoding", "user-agent", "x-request-id"}
    assert first == "GET / HTTP/1.1"
    assert body == b""


def is_ours(name):
    return name.lower().startswith("proxy-") or name.lower() in map(str.lower, OURS)


@given(st.lists(st.tuples(NAMES.filter(lambda name: not is_ours(name)) | KNOWN, VALUES)))
@example([("a", "b"), ("A", "c"), ("a", "d")])
@example([("X-A", "")])
def test_headers_that_http_allows_arrive_exactly(wire, pairs):
    assert_sent(wire, pairs)


@given(st.text(TOKEN + ODD, max_size=5) | st.text(max_size=10), VALUES)
@example("X-A\r\nX-B", "b")
@example("X-A:", "b")
@example("", "b")
def test_a_header_of_any_name_is_refused_or_arrives_exactly(wire, name, value):
    try:
        Request("GET", wire.url, headers={name: value})
    except ValueError:
        assert not name or set(name) - set(TOKEN) or is_ours(name)
    else:
        assert_sent(wire, [(name, value)])


@given(NAMES.filter(lambda name: not is_ours(name)), st.text("a \t" + ODD) | st.text())
@example("X-A", "a\r\nX-B: b")
@example("X-A", "a\nb")
def test_a_header_of_any_value_is_refused_or_arrives_exactly(wire, name, value):
    try:
        Request("GET", wire.url, headers={name: value})
    except ValueError:
        assert value != value.strip() or not value.isascii() or not value.isprintable()
    else:
        assert_sent(wire, [(name, value)])


@pytest.mark.parametrize("name", [*OURS, "PROXY-anything"])
def test_a_header_of_the_connection_is_refused(name):
    with pytest.raises(ValueError, match="belongs to the connection"):
        Request("GET", "http://a.test/", headers={name: "x"})


TARGETS = st.text(
    st.sampled_from("/?#&=;+%:@!$'()*,.-_~[]aZ09")
    | st.sampled_from('äß😀\ud800 \t\r\n\0<>"{}|\\^`'),
    max_size=30,
)


@given(TARGETS | st.text(max_size=20))
@example("/a/../b/./c")
@example("//a.test/b")
@example("/?")
@example("?")
@example("/a?b?c=%zz&d")
@example("/%2e%2E/%20%7E?%C3%A4")
@example("/ä?ä=%C3%A4")
@example("/#fragment?no")
def test_a_url_is_refused_or_arrives_exactly(wire, rest):
    if not rest.startswith(("/", "?", "#")):
        rest = "/" + rest
    try:
        request = Request("GET", wire.url + rest)
    except ValueError:
        return

    first, _, _ = wire.send(request)

    target, _, query = rest.partition("#")[0].partition("?")
    target = f"{target}?{query}" if query else target  # an empty query is left out
    expected = target if target.startswith("/") else "/" + target
    sent = re.fullmatch(r"GET (\S+) HTTP/1\.1", first)[1]
    if target.isascii():
        assert sent == expected
    else:  # Escaped, and nothing but what had to be.
        assert re.sub(r"(%[0-9A-F]{2})+", "", sent) == re.sub(
            r"(%[0-9A-F]{2}|[^\x00-\x7f])+", "", expected
        )
        assert unquote_to_bytes(sent) == unquote_to_bytes(expected)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_parameters_are_refused_or_arrive_exactly(wire, params):
    try:
        request = Request("GET", wire.url + "/x", params=params)
    except ValueError:
        assert any("\ud800" <= char <= "\udfff" for text in params for char in text + params[text])
        return

    first, _, _ = wire.send(request)

    query = first.split(" ")[1].partition("?")[2]
    pairs = [pair.replace("+", " ").split("=") for pair in query.split("&") if pair]
    assert [(unquote_to_bytes(n).decode(), unquote_to_bytes(v).decode()) for n, v in pairs] == list(
        params.items()
    )


@given(st.binary(max_size=200) | st.text(max_size=50))
def test_a_body_arrives_exactly(wire, body):
    try:
        request = Request("POST", wire.url, body=body)
    except ValueError:
        assert isinstance(body, str)  # a lone surrogate
        return

    _, headers, arrived = wire.send(request)

    assert arrived == (body.encode() if isinstance(body, str) else body)
    assert ("Content-Length", str(len(arrived))) in headers


@pytest.fixture(scope="module")
def answered():
    """Gives ``callback_args`` to a request, and returns those that its callback saw."""
    desk, seen = Desk(), []

    @desk.patient.callback
    def look(outcome):
        seen.append(outcome.callback_args)

    def answered(args):
        desk.ask_and_answer(look, callback_args=args)
        return seen.pop()

    return answered


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=2)
    | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def as_json(value):
    if isinstance(value, dict):
        return {key: as_json(child) for key, child in value.items()}
    return [as_json(child) for child in value] if isinstance(value, (list, tuple)) else value


def kinds(value):
    """Equal numbers of different types are different in JSON."""
    if isinstance(value, dict):
        return {key: kinds(child) for key, child in value.items()}
    return [kinds(child) for child in value] if isinstance(value, list) else type(value)


@given(st.dictionaries(st.text(max_size=3) | st.integers(), JSON, max_size=3))
@example({"a": 2**64})
@example({"a": -(2**63) - 1})
@example({"a": float("nan")})
@example({"a": -0.0, "b": 1e308, "c": 5e-324})
@example({"$secret": "a", "prefix": "", "suffix": ""})
@example({"\ud800": 1})
def test_callback_args_are_refused_or_arrive_exactly(answered, args):
    try:
        arrived = answered(args)
    except (TypeError, ValueError):
        return

    assert arrived == as_json(args)
    assert kinds(dict(arrived)) == kinds(as_json(args))
