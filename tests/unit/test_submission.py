"""What a caller says beside the request: callback_args, ids, priorities, moments."""

from __future__ import annotations

import datetime
import enum
import json
import math
import time
from collections import OrderedDict
from types import MappingProxyType

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huey_patient.submission import (
    MAX_CALLBACK_ARGS_BYTES,
    checked_args,
    checked_id,
    checked_priority,
    moment,
)


def test_no_arguments_are_none():
    assert checked_args(None) == {}
    assert checked_args({}) == {}


def test_native_values_pass_as_they_are():
    args = {
        "none": None,
        "bool": True,
        "text": "größer",
        "int": 2**64 - 1,
        "negative": -(2**63),
        "float": 0.1,
        "list": [1, ["deep", {"deeper": None}]],
        "empty": {},
    }

    assert checked_args(args) == args
    assert orjson.loads(orjson.dumps(checked_args(args))) == args


def test_any_mapping_will_do_and_tuples_become_lists():
    assert checked_args(MappingProxyType({"a": OrderedDict(b=1)})) == {"a": {"b": 1}}
    assert checked_args({"a": (1, (2,))}) == {"a": [1, [2]]}


def test_a_change_after_the_call_changes_nothing():
    inner: list[int] = []
    copied = checked_args({"a": inner})

    inner.append(1)

    assert copied == {"a": []}


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize("args", [[], "text", 5, b"bytes", {"a"}, [("a", 1)]])
def test_what_is_no_mapping_is_refused(args):
    with pytest.raises(TypeError, match="must be a mapping"):
        checked_args(args)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (datetime.datetime(2026, 1, 1), "datetime"),
        (datetime.date(2026, 1, 1), "date"),
        (object(), "object"),
        (Color.RED, "Color"),
        (1j, "complex"),
        (iter([]), "list_iterator"),
    ],
)
@pytest.mark.parametrize("place", [lambda v: v, lambda v: [v], lambda v: {"deep": [{"er": v}]}])
def test_what_json_has_no_word_for_is_refused_wherever_it_stands(value, name, place):
    with pytest.raises(TypeError, match=f"JSON-native type .* got {name}"):
        checked_args({"key": place(value)})


@pytest.mark.parametrize("key", [1, None, ("a",), b"a", 1.5, True])
@pytest.mark.parametrize("place", [lambda v: v, lambda v: {"deep": [v]}])
def test_keys_that_are_no_strings_are_refused(key, place):
    with pytest.raises(TypeError, match="must be strings"):
        checked_args(place({key: 1}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1])
def test_numbers_that_json_would_change_are_refused(value):
    with pytest.raises(ValueError, match="callback_args"):
        checked_args({"a": [value]})


@pytest.mark.parametrize("args", [{"a": "\ud800"}, {"\ud800": 1}])
def test_a_lone_surrogate_is_refused(args):
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        checked_args(args)


def test_they_may_be_64_kib_in_all_and_no_more():
    frame = len(orjson.dumps({"a": ""}))
    exact = {"a": "x" * (MAX_CALLBACK_ARGS_BYTES - frame)}

    assert checked_args(exact) == exact
    with pytest.raises(ValueError, match="65537 bytes, at most 65536"):
        checked_args({"a": exact["a"] + "x"})


def test_nesting_without_end_is_refused():
    endless: dict = {}
    endless["again"] = endless

    with pytest.raises((ValueError, RecursionError)):
        checked_args(endless)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), json_values))
def test_what_is_taken_comes_back_equal_and_the_rest_is_refused(args):
    try:
        taken = checked_args(args)
    except ValueError:
        return
    assert orjson.loads(orjson.dumps(taken)) == args == json.loads(json.dumps(args))


@pytest.mark.parametrize("id", ["a", "A-1_b.c:d", "x" * 128])
def test_an_id_of_plain_characters_is_taken(id):
    assert checked_id(id) == id


@pytest.mark.parametrize(
    "id", ["", "x" * 129, "with space", "new\nline", "größe", "a/b", 5, b"a", "a\n"]
)
def test_an_id_that_could_be_misread_is_refused(id):
    with pytest.raises(ValueError, match="id must be 1 to 128"):
        checked_id(id)


def test_a_priority_is_a_number_where_there_are_priorities():
    assert checked_priority(None, supported=False) is None
    assert checked_priority(5, supported=True) == 5
    assert checked_priority(0.5, supported=True) == 0.5
    assert checked_priority(0, supported=False) == 0
    with pytest.raises(ValueError, match="PriorityRedisHuey"):
        checked_priority(5, supported=False)
    for wrong in ("high", True, [1]):
        with pytest.raises(TypeError):
            checked_priority(wrong, supported=True)


@pytest.mark.parametrize("priority", [math.nan, math.inf])
def test_a_priority_that_no_queue_can_sort_is_refused(priority):
    with pytest.raises(ValueError, match="finite"):
        checked_priority(priority, supported=True)


def test_a_moment_is_seconds_from_now_a_timedelta_or_a_datetime():
    before = time.time()
    assert moment("delay", None) is None
    assert before + 10 <= moment("delay", 10) <= time.time() + 10
    assert before + 60 <= moment("delay", datetime.timedelta(minutes=1)) <= time.time() + 60
    zoned = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert moment("eta", zoned) == zoned.timestamp()
    naive = datetime.datetime(2030, 1, 1, 12)
    assert moment("eta", naive) == time.mktime(naive.timetuple())  # local, as for Huey


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, datetime.timedelta(seconds=-1)])
def test_a_moment_that_never_comes_or_is_past_is_refused(value):
    with pytest.raises(ValueError, match="delay must be zero or more"):
        moment("delay", value)


@pytest.mark.parametrize("value", ["5", True, datetime.date(2030, 1, 1), [5]])
def test_a_moment_of_another_type_is_refused(value):
    with pytest.raises(TypeError, match="seconds, a timedelta or a datetime"):
        moment("delay", value)
