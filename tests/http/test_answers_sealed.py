"""Answers as they leave the I/O process: sealed, and no larger than its pipe takes."""

import asyncio
import os

from support.raw import RawServer, response, says

from huey_patient.envelope import Keyring
from huey_patient.errors import InvalidResponse, ResponseTooLarge
from huey_patient.io_process.exchange import BIG_BYTES, Exchange
from huey_patient.io_process.http import HttpClient
from huey_patient.io_process.preprocessors import Preprocessors
from huey_patient.pipe import envelope_limit
from huey_patient.request import Request
from huey_patient.settings import Settings
from huey_patient.wire import Submission, read_outcome, write_submission

LABEL = {"purpose": "request", "queue": "q", "id": "x"}


def answered(url, *, offload=None, **options):
    """The sealed outcome of a GET, and what it is when it is opened."""
    settings = Settings(**options)
    keyring = Keyring.from_settings(settings)
    head, body = write_submission(
        Submission(request=Request("GET", url), callback_args={"order": 5})
    )
    sealed = keyring.seal(head, body, **LABEL)

    async def run():
        async with HttpClient(settings) as client:
            exchange = Exchange(
                client, keyring, settings, queue="q", preprocessors=Preprocessors({})
            )
            return await exchange.answer("x", sealed, b"", offload=offload)

    _, envelope = asyncio.run(run())
    opened = keyring.unseal(
        envelope, **{**LABEL, "purpose": "outcome"}, max_body_bytes=settings.max_response_size
    )
    return envelope, read_outcome(*opened, queue="q")


def padded(data):
    """A cipher of the caller's: what is large comes to more than any frame holds."""
    return len(data).to_bytes(4) + data + b"\0" * (30_000_000 if len(data) > 100_000 else 0)


def unpadded(data):
    return data[4 : 4 + int.from_bytes(data[:4])]


def test_an_outcome_that_outgrows_the_pipe_ends_as_too_large_and_breaks_nothing():
    with RawServer(says(response(os.urandom(200_000)))) as server:
        envelope, outcome = answered(server.url, encryption=padded, decryption=unpadded)

    assert type(outcome) is ResponseTooLarge
    assert outcome.request_id == "x"
    assert outcome.url == server.url
    assert outcome.callback_args == {"order": 5}
    assert len(envelope) < envelope_limit(1_048_576)


def test_the_worst_head_that_came_once_is_an_answer_and_not_a_broken_pipe():
    head = [b"X-%d: " % n + b"\x01" * 32_700 for n in range(120)]
    with RawServer(says(response(b"", *head))) as server:
        envelope, outcome = answered(server.url)

    assert isinstance(outcome, InvalidResponse)
    assert len(envelope) < envelope_limit(1_048_576)


def test_a_large_head_is_sealed_elsewhere_than_on_the_loop():
    elsewhere = []

    async def offload(work, *args):
        elsewhere.append(work.__name__)
        return work(*args)

    lines = [b"X-%d: " % n + b"x" * 30_000 for n in range(3)]
    assert sum(map(len, lines)) > BIG_BYTES
    with RawServer(says(response(b"", *lines))) as server:
        answered(server.url, offload=offload)

    assert elsewhere == ["_fitting"]
