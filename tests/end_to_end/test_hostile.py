"""Hostile servers: what they answer ends their own calls, and nobody else's."""

from __future__ import annotations

import signal

import pytest
from support.bombs import BOMBS
from support.consumer import App
from support.gate import Gate
from support.raw import RawServer, says, says_for_ever

FLOODS = {
    "headers of control characters": says(BOMBS["headers"]()),
    "one control character": says(b"HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 0\r\n\r\n"),
    "100 for ever": says_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_hostile_answer_ends_its_own_call_and_takes_no_others_along(
    app: App, gate: Gate, flood: str
) -> None:
    with RawServer(FLOODS[flood]) as hostile, app.consumer("-w", "2") as consumer:
        consumer.wait_until_ready()
        innocent = [app.patient.get(gate.url(), callback="Tell").id for _ in range(10)]
        gate.wait_for(10)
        ids = [app.patient.get(hostile.url, callback="Tell").id for _ in range(20)]

        assert set(app.answers.collect(ids).values()) == {"invalid_response"}
        gate.open()
        assert set(app.answers.collect(innocent).values()) == {200}
        assert max(gate.sends().values()) == 1
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0
        assert "broke the protocol" not in consumer.log
        assert "exit code" not in consumer.log
