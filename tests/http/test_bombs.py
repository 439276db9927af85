"""A hundred answers at once that are made to cost memory: each its error, and a bound."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.bombs import BOMBS
from support.raw import RawServer, response, says, says_for_ever
from support.sending import with_client

from huey_patient.errors import InvalidResponse, ResponseTooLarge
from huey_patient.request import Request

TESTS = Path(__file__).parent.parent
COUNT = 100
MB = 1_024  # KB


def error_of(bomb):
    return InvalidResponse if bomb in ("headers", "hints") else ResponseTooLarge


def script_of(bomb):
    answer = BOMBS[bomb]()
    return says_for_ever(b"", answer) if bomb == "hints" else says(answer)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hundred_bombs_at_once_end_in_their_error_and_others_are_answered(bomb):
    with RawServer(script_of(bomb)) as server, RawServer(says(response(b"good"))) as good:

        async def use(client):
            sends = [client.send(Request("GET", server.url), request_id="b") for _ in range(COUNT)]
            other = asyncio.create_task(client.send(Request("GET", good.url), request_id="o"))
            return await asyncio.gather(*sends, return_exceptions=True), await other

        ended, other = with_client(use)

    assert {type(one) for one in ended} == {error_of(bomb)}
    assert other.content == b"good"


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hundred_bombs_at_once_need_less_than_200_mb(bomb):
    with RawServer(script_of(bomb)) as server:
        told = subprocess.run(
            [sys.executable, "-m", "support.bombs", server.url, str(COUNT)],
            cwd=TESTS,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    ended, highest = json.loads(told)

    assert ended == {error_of(bomb).__name__: COUNT}
    assert highest < 200 * MB
