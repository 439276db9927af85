"""An LLM's API: fakellm, a mock of it that nobody wrote for this package, and its streams."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.consumer import LIMIT, App, script
from support.raw import RawServer, says

from huey_patient import LLM_STATUSES, StreamInterrupted

#: The first two calls of each conversation in a storm are too many.
RULES = """
version: 1
rules:
  - name: too_many
    when: {turn_in: [1, 2], messages_contain: storm}
    respond: {status: 429, error: "Rate limit reached"}
  - name: calm
    when: {messages_contain: storm}
    respond: {content: "The storm is over."}
  - name: refused
    when: {messages_contain: forbidden}
    respond: {status: 400, error: "No."}
  - name: greeting
    respond: {content: "Good morning, dear reader."}
"""

KEEP = """
@patient.callback()
def keep(outcome):
    return outcome
"""


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a fakellm."""
    rules = tmp_path_factory.mktemp("llm") / "rules.yaml"
    rules.write_text(RULES)
    command = [script("fakellm"), "serve", "--port", "0", "--config", str(rules)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **output) as process:
        try:
            for line in process.stdout:
                if found := re.search(r"running on (http://[\d.:]+)", line):
                    break
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            yield found[1]
        finally:
            process.kill()  # it keeps nothing
            process.wait(LIMIT)
            drain.join()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application whose consumer runs, sealed, for all tests of this module."""
    settings: dict[str, Any] = {"encryption_key": "a passphrase for these tests"}
    with App(tmp_path_factory.mktemp("app"), tail=KEEP, **settings) as app:
        with app.consumer("-w", "4"):
            yield app


def ask(app: App, url: str, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    body = {"model": "any", "messages": messages, "stream": "stream" in options}
    return app.patient.post(url, json=body, callback=app.module.keep, **options)


def answer(result: Any) -> Any:
    return result.get(blocking=True, timeout=LIMIT)


def test_a_storm_of_429_ends_in_answered_calls(app: App, llm: str) -> None:
    results = [
        ask(app, f"{llm}/v1/chat/completions", f"storm {number}", retry_statuses=LLM_STATUSES)
        for number in range(40)
    ]

    for result in results:
        response = answer(result)
        assert response.status == 200
        assert response.attempts == 3
        assert response.json()["choices"][0]["message"]["content"] == "The storm is over."


def test_the_events_of_a_chat_completion_come_as_one_response(app: App, llm: str) -> None:
    response = answer(ask(app, f"{llm}/v1/chat/completions", "hello", stream="sse"))

    *chunks, done = response.events()
    parts = [json.loads(one.data)["choices"][0]["delta"] for one in chunks]
    assert "".join(part.get("content", "") for part in parts) == "Good morning, dear reader."
    assert done.data == "[DONE]"


def test_the_events_of_a_message_have_their_types(app: App, llm: str) -> None:
    response = answer(ask(app, f"{llm}/v1/messages", "hello", stream="sse"))

    events = response.events()
    deltas = [json.loads(one.data) for one in events if one.event == "content_block_delta"]
    assert "".join(one["delta"]["text"] for one in deltas) == "Good morning, dear reader."
    assert (events[0].event, events[-1].event) == ("message_start", "message_stop")


def test_an_error_is_an_ordinary_response(app: App, llm: str) -> None:
    response = answer(ask(app, f"{llm}/v1/messages", "forbidden"))

    assert response.status == 400
    assert response.json()["error"]["message"] == "No."


def test_half_a_stream_reaches_the_callback_with_its_events(app: App) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n"
    with RawServer(says(head + b"data: one\n\ndata: two\n\ndata: thr")) as server:
        error = answer(ask(app, server.url, "hello", stream="sse", callback_args={"doc": 7}))

    assert isinstance(error, StreamInterrupted)
    assert error.kind == "connection"
    assert [one.data for one in error.response.events()] == ["one", "two"]
    assert error.callback_args == error.response.callback_args == {"doc": 7}
