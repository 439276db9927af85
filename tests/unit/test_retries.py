"""Whether and when a request is sent again: the rules alone."""

from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huey_patient.headers import Headers
from huey_patient.io_process import retries
from huey_patient.request import LLM_STATUSES, Request
from huey_patient.settings import Settings

NOW = 1_800_000_000.0


def asked(**headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return retries.asked_wait(Headers(named), now=NOW)


def test_a_request_without_retries_of_its_own_has_those_of_the_settings():
    assert retries.further_attempts(Request("GET", "http://a.test"), Settings(retries=7)) == 7


@pytest.mark.parametrize(("own", "further"), [(0, 0), (2, 2), ("never", 0)])
def test_the_retries_of_a_request_win(own, further):
    request = Request("GET", "http://a.test", retries=own)

    assert retries.further_attempts(request, Settings(retries=7)) == further


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_an_idempotent_method_may_be_repeated(method):
    assert retries.may_repeat(method, Headers())


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_another_method_may_be_repeated_only_with_an_idempotency_key(method):
    assert not retries.may_repeat(method, Headers())
    assert not retries.may_repeat(method, Headers({"Idempotency-Key": ""}))
    assert retries.may_repeat(method, Headers({"Idempotency-Key": "k"}))


@pytest.mark.parametrize(
    ("attempts", "limit"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (1000, 30.0)]
)
def test_the_backoff_is_anywhere_from_nothing_to_a_doubling_limit(attempts, limit, monkeypatch):
    monkeypatch.setattr(retries.random, "uniform", lambda *ends: ends)

    assert retries.backoff(attempts) == (0.0, limit)


@pytest.mark.parametrize(
    ("value", "wait"),
    [("5", 5.0), ("0", 1.0), ("0.2", 1.0), ("600", 600.0), ("601", 600.0), ("86400", 600.0)],
)
def test_retry_after_in_seconds_is_clamped(value, wait):
    assert asked(Retry_After=value) == wait


@pytest.mark.parametrize(("ahead", "wait"), [(30, 30.0), (-30, 1.0), (0, 1.0), (86_400, 600.0)])
def test_retry_after_as_a_date_is_clamped(ahead, wait):
    assert asked(Retry_After=formatdate(NOW + ahead, usegmt=True)) == pytest.approx(wait)


def test_a_date_without_a_zone_is_gmt():
    assert asked(Retry_After=formatdate(NOW + 30)) == pytest.approx(30.0)


@pytest.mark.parametrize(
    "value",
    [
        *["", "soon", "-5", "+5", "nan", "inf", "1_0", "1e3", "5.", ".5", "1" * 10, "\u0661"],
        "Fri, 99 Foo 2026 00:00:00 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +9999999999999999",
        "Mon, 01 Jan 2024 00:00:00 +99999",
    ],
)
def test_a_retry_after_that_says_nothing_is_ignored(value):
    assert asked(Retry_After=value) is None


@pytest.mark.parametrize("value", ["", "1_0", "1e3", "nan", "inf", "-1", "soon", "9" * 400])
def test_milliseconds_that_say_nothing_leave_it_to_retry_after(value):
    assert asked(Retry_After_Ms=value, Retry_After="9") == 9.0


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "x", ""]),
    st.integers(),
    st.sampled_from(["Jan", "Foo", "13"]),
    st.integers(),
    *[st.integers(-1, 100)] * 3,
    st.one_of(st.sampled_from(["GMT", "-0000", "EST"]), st.integers().map("{:+}".format)),
)


@given(st.one_of(st.text(), st.from_regex(r"[\d.eE+_-]*", fullmatch=True), DATES))
@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
@example("Mon, 01 Jan 2024 00:00:00 +9999999999999999")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_whatever_a_server_says_is_a_wait_within_the_limits_or_none(text):
    seconds = asked(Retry_After=text)
    milliseconds = asked(Retry_After_Ms=text)

    assert seconds is None or 1.0 <= seconds <= 600.0
    assert milliseconds is None or 0.0 < milliseconds <= 600.0


def test_retry_after_ms_wins_and_may_be_short():
    assert asked(Retry_After_Ms="250", Retry_After="9") == 0.25


def test_retry_after_ms_is_clamped_above():
    assert asked(Retry_After_Ms="9000000") == 600.0


def test_an_answer_without_those_headers_asks_for_nothing():
    assert asked() is None


def test_only_statuses_that_the_caller_named_are_worth_another_attempt():
    assert retries.wants_another(503, Headers(), frozenset({503}))
    assert not retries.wants_another(500, Headers(), frozenset({503}))
    assert not retries.wants_another(200, Headers(), frozenset({503}))
    assert not retries.wants_another(503, Headers(), frozenset())


@pytest.mark.parametrize(
    ("status", "word", "another"),
    [
        (503, "false", False),
        (500, "true", True),
        (500, "TRUE ", True),
        (503, "maybe", True),
        (200, "true", False),
    ],
)
def test_x_should_retry_has_the_last_word_once_statuses_are_named(status, word, another):
    headers = Headers({"X-Should-Retry": word})

    assert retries.wants_another(status, headers, frozenset({503})) is another


def test_x_should_retry_does_nothing_when_no_statuses_are_named():
    assert not retries.wants_another(503, Headers({"X-Should-Retry": "true"}), frozenset())


def test_the_ready_made_statuses_are_those_of_llm_services():
    assert {408, 409, 425, 429, 500, 502, 503, 504, 529} == LLM_STATUSES
    assert (
        Request("GET", "http://a.test", retry_statuses=LLM_STATUSES).retry_statuses == LLM_STATUSES
    )
