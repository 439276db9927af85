"""Responses: text, JSON, statuses, errors."""

import pickle

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huey_patient.errors import ClientError, HttpError, InvalidResponse, ServerError
from huey_patient.headers import Headers
from huey_patient.response import CallbackArgs, Response
from huey_patient.wire import read_outcome, write_outcome


def answered(content=b"", content_type=None, status=200, **fields):
    headers = Headers({"Content-Type": content_type} if content_type else {})
    return Response(
        status=status, headers=headers, content=content, url="http://a.test/x?q=1", **fields
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (199, []),
        (200, ["is_success"]),
        (299, ["is_success"]),
        (300, ["is_redirect"]),
        (399, ["is_redirect"]),
        (400, ["is_client_error", "is_error"]),
        (499, ["is_client_error", "is_error"]),
        (500, ["is_error", "is_server_error"]),
        (599, ["is_error", "is_server_error"]),
        (600, []),
    ],
)
def test_a_status_has_its_words(status, words):
    response = answered(status=status)
    known = ["is_client_error", "is_error", "is_redirect", "is_server_error", "is_success"]

    assert [word for word in known if getattr(response, word)] == words
    assert response.ok is (status < 400)


@pytest.mark.parametrize(
    ("content", "content_type", "text"),
    [
        (b"caf\xc3\xa9", None, "café"),
        (b"caf\xc3\xa9", "text/plain", "café"),
        (b"caf\xe9", None, "café"),
        (b"\xef\xbb\xbfx", None, "x"),
        (b"caf\xe9", "text/plain; charset=ISO-8859-1", "café"),
        (b"caf\xe9", "text/plain;charset=iso-8859-1", "café"),
        (b"caf\xc3\xa9", 'text/plain; charset="utf-8"', "café"),
        (b"caf\xc3\xa9", "text/plain; CHARSET=UTF-8", "café"),
        (b"\xe9\x00", "text/plain; charset=UTF-16LE", "é"),
        (b"caf\xe9", "text/plain; charset=utf-8", "caf\ufffd"),
        (b"\x82\xa0", "text/html; charset=Shift_JIS", "あ"),
        (b"\x80", "text/html; charset=windows-1252", "€"),
        (b"", None, ""),
        (b"\xef\xbb\xbfx", "text/plain; charset=utf-8", "x"),
        (b"\xef\xbb\xbfx\xe9", "text/plain; charset=ISO-8859-1", "x\ufffd"),
        (b"\xff\xfex\x00", "text/plain; charset=utf-16le", "x"),
        (b"\xff\xfex\x00", "text/plain; charset=utf-16", "x"),
        (b"caf\xe9", 'text/plain; name="; charset=utf-8"; charset=latin-1', "café"),
        (b"caf\xe9", r'text/plain; name="\"; charset=utf-8"; charset=latin-1', "café"),
        (b"caf\xe9", 'text/plain; charset="utf-8', "caf\ufffd"),
        (b"caf\xe9", "text/plain; charset = utf-8 ; x", "caf\ufffd"),
        (b"caf\xe9", "text/plain; charset=latin-1; charset=utf-8", "café"),
        (b"caf\xe9", "text/plain; charset*=utf-8''utf-8; xcharset=utf-8", "café"),
    ],
)
def test_text_is_read_in_the_charset_that_is_named_or_else_found(content, content_type, text):
    response = answered(content, content_type)

    assert response.text == text


@pytest.mark.parametrize("charset", ["nope", "idna", "zlib", "utf-7", "rot13", "", "hex", "../x"])
def test_a_charset_that_is_none_is_as_if_not_named(charset):
    response = answered(b"+AGE- caf\xc3\xa9", f"text/plain; charset={charset}")

    assert response.charset is None
    assert response.text == "+AGE- café"


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [
        ("application/json", True),
        ("APPLICATION/JSON; charset=utf-8", True),
        ("text/json", True),
        ("application/problem+json", True),
        ("text/plain", False),
        ("application/jsonp", False),
        (None, False),
    ],
)
def test_json_is_known_by_its_type(content_type, is_json):
    assert answered(b"{}", content_type).is_json is is_json


def test_json_is_read():
    assert answered('{"ä": [1]}'.encode(), "application/json").json() == {"ä": [1]}
    latin = answered('"ä"'.encode("latin-1"), "application/json; charset=latin-1")
    assert latin.json() == "ä"


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=utf8", "; charset=ascii"])
def test_json_may_begin_with_a_byte_order_mark(charset):
    assert answered(b'\xef\xbb\xbf{"a": 1}', f"application/json{charset}").json() == {"a": 1}


HOSTILE = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            """
            text/plain application/json ; charset * *0 = " \\ '' / , utf-8 utf-16 utf-32
            iso-2022-jp gb18030 utf-7 idna
            """.split()
        )
    ).map("".join),
)


@given(HOSTILE, st.binary())
@example("text/plain; charset*=a; charset*0=b", b"")
@example("text/plain; charset*" + "1" * 5000 + "=x", b"")
@example('a/b;"' + ";" * 32_000, b"")
@example("application/json; charset=utf-16", b"\x00\xd8")
def test_no_header_and_no_body_makes_reading_raise(content_type, content):
    response = answered(content, content_type)

    assert isinstance(response.text, str)
    assert response.charset is None or content.decode(response.charset, "replace") is not None
    assert isinstance(response.is_json or response.is_event_stream, bool)
    for force in (False, True):
        try:
            response.json(force=force)
        except InvalidResponse:
            pass


def test_a_long_content_type_is_read_no_further_than_its_first_kilobyte():
    padding = ";" * 1024

    assert answered(b"", f"text/plain{padding}charset=utf-8").charset is None
    assert answered(b"", f"text/plain{padding[:900]}charset=utf-8").charset == "utf-8"


@pytest.mark.parametrize("force", [False, True])
def test_events_of_a_body_that_was_not_decoded_are_no_empty_list(force):
    response = answered(b"\x1f\x8bdata: 1\n\n", "text/event-stream", decoded=False)

    with pytest.raises(InvalidResponse, match="came in a coding"):
        response.events(force=force)


def test_json_of_another_type_is_read_only_on_demand():
    response = answered(b"[1]", "text/plain")

    with pytest.raises(InvalidResponse, match=r"not application/json \(got: text/plain\)"):
        response.json()
    assert response.json(force=True) == [1]


def test_what_is_no_json_is_an_invalid_response_that_does_not_repeat_it():
    with pytest.raises(InvalidResponse, match="not JSON") as caught:
        answered(b"{CANARY", "application/json", request_id="id-1").json()

    assert "CANARY" not in str(caught.value)
    assert caught.value.request_id == "id-1"


@pytest.mark.parametrize(("status", "kind"), [(404, ClientError), (503, ServerError)])
def test_an_error_status_can_be_raised(status, kind):
    response = answered(status=status, method="POST", request_id="id-1", attempts=2)

    with pytest.raises(kind) as caught:
        response.raise_for_status()

    error = caught.value
    assert isinstance(error, HttpError)
    assert error.kind == "http_error"
    assert (error.status, error.response, error.attempts) == (status, response, 2)
    assert str(error) == f"HTTP {status} response from POST http://a.test/x"


def test_another_status_is_the_response_itself():
    response = answered(status=302)

    assert response.raise_for_status() is response


def test_repr_shows_no_body_value_or_url():
    response = Response(
        status=200, headers=Headers({"Set-Cookie": "CANARY"}), content=b"CANARY", url="CANARY"
    )

    assert "CANARY" not in repr(response)


def test_a_response_survives_being_written_and_read():
    response = answered(
        b"\xff\x00",
        "image/png",
        method="PUT",
        request_id="id-1",
        duration=1.5,
        attempts=2,
        redirects=("http://a.test/0",),
        decoded=False,
        callback_args=CallbackArgs({"a": 1}),
    )
    head, body = write_outcome(response)

    read = read_outcome(orjson.loads(orjson.dumps(head)), body, queue="app")

    assert read.queue == "app"
    for name in Response.__slots__:
        if name != "queue":
            assert getattr(read, name) == getattr(response, name)


def test_an_error_survives_being_written_and_read():
    error = answered(b"no", status=404, request_id="id-1").as_error()
    head, body = write_outcome(error)

    read = read_outcome(orjson.loads(orjson.dumps(head)), body, queue="app")

    assert type(read) is ClientError
    assert str(read) == str(error)
    assert read.response.content == b"no"


def test_a_response_of_no_queue_survives_pickling():
    response = answered(b"x", "text/plain", status=404)

    assert pickle.loads(pickle.dumps(response)) == response


def test_a_missing_callback_argument_says_what_there_is():
    args = CallbackArgs({"user_id": 1, "name": "x"})

    assert args["user_id"] == 1
    assert args.get("missing", 2) == 2
    with pytest.raises(KeyError, match="available: user_id, name"):
        args["missing"]
    with pytest.raises(KeyError, match="available: none"):
        CallbackArgs()["missing"]
