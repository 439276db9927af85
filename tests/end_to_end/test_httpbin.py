"""Calls to httpbin, a server that nobody wrote for this package."""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.consumer import LIMIT, App, script

from huey_patient import Response

KIND = """
@patient.callback()
def kind(outcome):
    return getattr(outcome, "kind", None) or outcome.status
"""


@pytest.fixture(scope="module")
def httpbin() -> Iterator[str]:
    """The URL of an httpbin under gunicorn."""
    command = [script("gunicorn"), "-b", "127.0.0.1:0", "--threads", "8", "httpbin:app"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if found := re.search(r"Listening at: (http://\S+)", line):
                    break
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            yield found[1]
        finally:
            process.send_signal(signal.SIGQUIT)  # does not wait for kept-alive connections
            process.wait(LIMIT)
            drain.join()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application whose consumer runs, sealed, for all tests of this module."""
    settings: dict[str, Any] = {"encryption_key": "a passphrase for these tests"}
    with App(tmp_path_factory.mktemp("httpbin"), tail=KIND, **settings) as app:
        with app.consumer("-w", "4"):
            yield app


def answer(result: Any) -> Any:
    return result.get(blocking=True, timeout=LIMIT)


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete"])
def test_each_verb_arrives_with_parameters_and_headers(app: App, httpbin: str, verb):
    response = answer(
        getattr(app.patient, verb)(
            httpbin + "/anything?show_env=1", params={"b": "two words"}, headers={"X-Own": "value"}
        )
    )

    said = response.json()
    assert said["method"] == verb.upper()
    assert said["args"] == {"show_env": "1", "b": "two words"}
    assert said["headers"]["X-Own"] == "value"
    assert said["headers"]["X-Request-Id"] == response.request_id
    assert said["headers"]["User-Agent"].startswith("huey-patient/")


def test_head_has_no_body_and_options_names_the_methods(app: App, httpbin: str):
    head = answer(app.patient.head(httpbin + "/get"))
    options = answer(app.patient.options(httpbin + "/get"))

    assert (head.status, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert set(options.headers["allow"].split(", ")) >= {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("verb", ["post", "put", "patch"])
def test_json_text_and_bytes_arrive_as_they_were_given(app: App, httpbin: str, verb):
    send = getattr(app.patient, verb)
    document = {"text": "größer ∮", "list": [1, None, True]}
    raw = bytes(range(256))

    assert answer(send(httpbin + "/anything", json=document)).json()["json"] == document
    assert answer(send(httpbin + "/anything", body="größer")).json()["data"] == "größer"
    said = answer(send(httpbin + "/anything", body=raw)).json()["data"]
    assert base64.b64decode(said.partition("base64,")[2]) == raw


@pytest.mark.parametrize(
    ("path", "sign"), [("/gzip", "gzipped"), ("/deflate", "deflated"), ("/brotli", "brotli")]
)
def test_compressed_answers_come_decoded(app: App, httpbin: str, path, sign):
    response = answer(app.patient.get(httpbin + path))

    assert response.json()[sign] is True
    assert response.decoded


def test_text_beyond_ascii_is_read_as_its_charset_says(app: App, httpbin: str):
    response = answer(app.patient.get(httpbin + "/encoding/utf8"))

    assert response.charset == "utf-8"
    assert "∮ E⋅da = Q" in response.text


@pytest.mark.parametrize(
    ("kind", "begin"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF")]
)
def test_images_come_byte_for_byte(app: App, httpbin: str, kind, begin):
    response = answer(app.patient.get(f"{httpbin}/image/{kind}"))

    assert response.content.startswith(begin)
    assert response.content_type == f"image/{kind}"
    assert len(response.content) == int(response.headers["content-length"])


def test_streams_are_read_to_their_end(app: App, httpbin: str):
    lines = answer(app.patient.get(httpbin + "/stream/7"))
    chunks = answer(app.patient.get(httpbin + "/stream-bytes/50000?chunk_size=999&seed=1"))
    drip = answer(app.patient.get(httpbin + "/drip?duration=0.2&numbytes=5&code=200"))

    assert len(lines.text.splitlines()) == 7
    assert len(chunks.content) == 50_000
    assert drip.content == b"*****"


@pytest.mark.parametrize("kind", ["redirect", "absolute-redirect", "relative-redirect"])
def test_redirects_are_followed_and_listed(app: App, httpbin: str, kind):
    response = answer(app.patient.get(f"{httpbin}/{kind}/3"))

    assert response.status == 200
    assert response.url == httpbin + "/get"
    assert [url.rpartition("/")[2] for url in response.redirects] == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_a_redirected_post_stays_one_or_becomes_a_get(app: App, httpbin: str, status, method):
    to = {"url": httpbin + "/anything", "status_code": status}
    response = answer(app.patient.post(httpbin + "/redirect-to", params=to, body="kept?"))

    said = response.json()
    assert (said["method"], said["data"]) == (method, "kept?" if method == "POST" else "")


def test_too_many_redirects_are_an_error_and_none_followed_are_an_answer(app: App, httpbin: str):
    assert answer(app.patient.get(httpbin + "/redirect/6", callback="kind")) == "redirect"
    assert answer(app.patient.get(httpbin + "/redirect/2", callback="kind", max_redirects=0)) == 302


@pytest.mark.parametrize("status", [201, 204, 304, 400, 404, 418, 429, 500, 503])
def test_any_status_is_an_answer(app: App, httpbin: str, status):
    response: Response = answer(app.patient.get(f"{httpbin}/status/{status}"))

    assert response.status == status
    assert response.is_error == (status >= 400)


def test_a_status_is_an_error_where_that_was_asked_for(app: App, httpbin: str):
    ask = {"callback": "kind", "raise_error_responses": True}

    assert answer(app.patient.get(httpbin + "/status/404", **ask)) == "http_error"
    assert answer(app.patient.get(httpbin + "/status/503", **ask)) == "http_error"
    assert answer(app.patient.get(httpbin + "/status/204", **ask)) == 204


def test_basic_authorization_is_a_header_like_any_other(app: App, httpbin: str):
    def get(credentials: bytes) -> int:
        headers = {"Authorization": "Basic " + base64.b64encode(credentials).decode()}
        return answer(app.patient.get(httpbin + "/basic-auth/me/word", headers=headers)).status

    assert get(b"me:word") == 200
    assert get(b"me:wrong") == 401


def test_cookies_are_shared_by_no_two_calls(app: App, httpbin: str):
    set_ = answer(app.patient.get(httpbin + "/cookies/set?a=1", max_redirects=0))
    after = answer(app.patient.get(httpbin + "/cookies"))

    assert "a=1" in set_.headers["set-cookie"]
    assert after.json() == {"cookies": {}}


def test_what_cannot_be_answered_ends_as_an_error_of_its_kind(app: App, httpbin: str):
    get = app.patient.get
    slow = get(httpbin + "/delay/2", callback="kind", timeout=0.2)
    refused = get("http://127.0.0.1:1/", callback="kind", retries=0)
    unknown = get("http://nobody.invalid/", callback="kind", retries=0)

    assert answer(slow) == "timeout"
    assert answer(refused) == "connection"
    assert answer(unknown) == "connection"
