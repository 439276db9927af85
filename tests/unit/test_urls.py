"""URLs: refused or made sendable."""

import urllib.parse

import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from huey_patient.urls import MAX_URL_CHARS, checked_url, origin, params_dict, with_params


@pytest.mark.parametrize(
    "url",
    [
        "http://a.test",
        "https://a.test:8443/x/y?z=1&z=2",
        "http://127.0.0.1/",
        "http://[::1]:80/",
        "http://xn--bcher-kva.test/",
        "http://under_score.test/",
        "http://a.test./",
        f"http://{'a' * 63}.test/",
        f"http://{'a.' * 126}b/",
        "http://a.test/%2F%41;p=1?q=%20+'()*!$",
    ],
)
def test_a_url_that_can_be_sent_is_left_as_it_is(url):
    assert checked_url(url) == url


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("HTTP://A.test/", "http://A.test/"),
        ("http://a.test/#fragment", "http://a.test/"),
        ("http://a.test/café?ä=ö", "http://a.test/caf%C3%A9?%C3%A4=%C3%B6"),
        ("http://a.test/%41é", "http://a.test/%41%C3%A9"),
    ],
)
def test_a_url_is_made_sendable_where_its_meaning_stays(url, sent):
    assert checked_url(url) == sent


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_is_refused(url):
    with pytest.raises(ValueError, match="url is required"):
        checked_url(url)


@pytest.mark.parametrize("url", [7, b"http://a.test", ["http://a.test"]])
def test_another_type_is_refused(url):
    with pytest.raises(TypeError, match="url must be a string or a URL object"):
        checked_url(url)


def test_url_objects_are_taken():
    assert checked_url(yarl.URL("http://a.test/x")) == "http://a.test/x"
    assert checked_url(urllib.parse.urlsplit("http://a.test/x")) == "http://a.test/x"


@pytest.mark.parametrize(
    "url",
    [
        "/relative",
        "a.test",
        "//a.test/",
        "ftp://a.test/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http:///path",
        "http://",
        "http://./",
        "http://user@a.test/",
        "http://user:pw@a.test/",
        "http://a..b/",
        "http://.a.test/",
        "http://a.test../",
        f"http://{'a' * 64}.test/",
        f"http://{'a.' * 127}b/",
        "http://a.test:0/",
        "http://a.test:65536/",
        "http://a.test:x/",
        "http://[::1/",
        "http://[::1%25eth0]/",
        "http://[v1.x]/",
        "http://bücher.test/",
        "http://①②⑦.⓪.⓪.①/",
        "http://%61.test/",
        "http://a.test;x/",
        "http://a*b/",
        "http://a.test/a b",
        "http://a.test/\r\nX: y",
        "http://a.test/\0",
        "http://a.test/\\x",
        "http://a.test/<x>",
        "http://a.test/\ud800",
        "http://a.test/" + "x" * MAX_URL_CHARS,
    ],
)
def test_what_could_not_be_sent_as_it_stands_is_refused(url):
    with pytest.raises(ValueError, match=r"(?i)url"):
        checked_url(url)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_path_is_refused_or_visible_ascii_without_a_change_of_host(text):
    try:
        url = checked_url("http://a.test/" + text)
    except ValueError:
        return
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert origin(url) == ("http", "a.test", 80)
    assert checked_url(url) == url


@pytest.mark.parametrize(
    ("url", "params", "joined"),
    [
        ("http://a.test", {"page": 1, "q": "hello world"}, "http://a.test?page=1&q=hello+world"),
        ("http://a.test/?a=1", {"b": 2}, "http://a.test/?a=1&b=2"),
        ("http://a.test/?", {"b": 2}, "http://a.test/?b=2"),
        ("http://a.test/?a=1&", {"b": 2}, "http://a.test/?a=1&b=2"),
        ("http://a.test/#f", {"b": 2}, "http://a.test/?b=2#f"),
        ("http://a.test/", {"b": [1, 2]}, "http://a.test/?b=1&b=2"),
        ("http://a.test/", {"b": None, "c": True, "d": False}, "http://a.test/?c=true&d=false"),
        ("http://a.test/", [("b", 1), ("b", 2)], "http://a.test/?b=1&b=2"),
        ("http://a.test/", {"ä&": "=ö"}, "http://a.test/?%C3%A4%26=%3D%C3%B6"),
        ("http://a.test/", {}, "http://a.test/"),
        ("http://a.test/", None, "http://a.test/"),
    ],
)
def test_params_are_appended_form_encoded(url, params, joined):
    assert with_params(url, params) == joined


@pytest.mark.parametrize("value", [b"CANARY", {"a": 1}, {1}, [["x"]], [b"x"], object(), object])
def test_a_parameter_that_has_no_text_of_its_own_is_refused(value):
    with pytest.raises(TypeError, match="parameter 'key' must be a string, a number") as caught:
        with_params("http://a.test/", {"key": value})

    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_a_parameter_that_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="parameter 'key' is no finite number"):
        with_params("http://a.test/", {"key": value})


@pytest.mark.parametrize("name", [b"a", 1, None])
def test_a_parameter_is_named_by_a_string(name):
    with pytest.raises(TypeError, match="name of a parameter"):
        with_params("http://a.test/", {name: "x"})


@pytest.mark.parametrize(
    ("params", "merged"),
    [
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ([("a", 1), ("b", 2), ("a", 3), ("a", 4)], {"a": [1, 3, 4], "b": 2}),
        ([("a", 1), ("a", [2, 3]), ("b", (4, 5)), ("b", 6)], {"a": [1, 2, 3], "b": [4, 5, 6]}),
    ],
)
def test_params_become_a_dictionary_that_repeats_nothing(params, merged):
    assert params_dict(params) == merged


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://a.test/x", "http://a.test:80/y?z", True),
        ("https://a.test", "https://A.TEST:443/", True),
        ("http://a.test", "https://a.test", False),
        ("http://a.test", "http://a.test:8080", False),
        ("http://a.test", "http://b.a.test", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one, other, same):
    assert (origin(one) == origin(other)) is same
