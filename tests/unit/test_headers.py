"""Header fields: what may be one, and how they are found."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huey_patient.headers import Headers, check_name, check_value

FIELDS = [("Content-Type", "a/b"), ("X-Two", "1"), ("x-two", "2")]


def test_a_name_is_found_in_any_spelling():
    headers = Headers(FIELDS)

    assert headers["content-TYPE"] == "a/b"
    assert "CONTENT-type" in headers
    assert headers.get("missing", "default") == "default"
    with pytest.raises(KeyError):
        headers["missing"]


def test_a_repeated_name_is_joined_or_listed():
    headers = Headers(FIELDS)

    assert headers["X-Two"] == "1, 2"
    assert headers.get_all("X-Two") == ["1", "2"]
    assert headers.get_all("missing") == []
    assert len(headers) == 2
    assert list(headers) == ["content-type", "x-two"]


def test_fields_keep_their_order_and_their_spelling():
    assert Headers(FIELDS).pairs() == tuple(FIELDS)
    assert Headers({"B": "1", "A": "2"}).pairs() == (("B", "1"), ("A", "2"))
    assert Headers().pairs() == ()


def test_merging_replaces_and_changes_neither():
    first, second = Headers(FIELDS), Headers({"X-TWO": "3", "New": "4"})

    merged = first.merged(second)

    assert merged.pairs() == (("Content-Type", "a/b"), ("X-TWO", "3"), ("New", "4"))
    assert first.pairs() == tuple(FIELDS)
    assert second.pairs() == (("X-TWO", "3"), ("New", "4"))


def test_leaving_out_makes_a_new_object():
    first = Headers(FIELDS)

    assert first.without("x-TWO", "missing").pairs() == (("Content-Type", "a/b"),)
    assert first.pairs() == tuple(FIELDS)


def test_equality_ignores_spelling_and_hash_goes_with_it():
    assert Headers({"A": "1"}) == Headers({"a": "1"}) == {"A": "1"}
    assert hash(Headers({"A": "1"})) == hash(Headers({"a": "1"}))
    assert Headers({"A": "1"}) != Headers({"A": "2"})
    assert Headers() != 1


def test_repr_shows_names_and_no_value():
    assert repr(Headers({"Authorization": "Bearer CANARY"})) == "Headers(Authorization)"


def test_headers_survive_pickling_and_copying():
    headers = Headers(FIELDS)

    assert pickle.loads(pickle.dumps(headers)).pairs() == headers.pairs()
    assert copy.deepcopy(headers).pairs() == headers.pairs()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "a\0", "ä", "(a)", "a\t", " a", "a,b"])
def test_a_name_that_is_no_token_is_refused(name):
    with pytest.raises(ValueError, match="token"):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
    ],
)
def test_a_name_that_belongs_to_the_connection_is_refused(name):
    with pytest.raises(ValueError, match="connection"):
        check_name(name)


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0", "a\x7f", "\x1b[0m", "ä", "\ud800", "€"])
def test_a_value_that_could_not_be_sent_is_refused_without_being_shown(value):
    with pytest.raises(ValueError, match="'X-Name'") as caught:
        check_value("X-Name", "CANARY" + value)

    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("value", [" a", "a ", "\ta", "a\t", " "])
def test_a_value_that_a_receiver_would_strip_is_refused(value):
    with pytest.raises(ValueError, match="begins or ends with space"):
        check_value("X", value)


@given(st.text())
def test_a_value_is_refused_or_printable(value):
    try:
        check_value("X", value)
    except ValueError:
        return
    assert value == value.strip()
    assert value.replace("\t", " ").isprintable()
    assert value.isascii()
