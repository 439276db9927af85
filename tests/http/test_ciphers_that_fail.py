"""A call was made, and the application's own cipher does not seal its outcome."""

from __future__ import annotations

import pytest
from support.sending import with_client
from support.web import Answer

from huey_patient.envelope import Keyring
from huey_patient.io_process import exchange
from huey_patient.io_process.preprocessors import Preprocessors
from huey_patient.request import Request
from huey_patient.settings import Settings
from huey_patient.wire import Reason, Submission, write_submission

CANARY = "canary-1f0c"


class Cipher:
    """Reverses; but does not seal what has the canary in it, so many times."""

    def __init__(self, failures, failure):
        self.failures, self.failure = failures, failure

    def encrypt(self, text):
        if CANARY.encode() in text and self.failures:
            self.failures -= 1
            return self.failure(text)
        return text[::-1]


def raise_it(text):
    raise RuntimeError(f"no key for {text!r}")


@pytest.fixture
def url(server):
    return server.answer("/asked", Answer(200, CANARY.encode()))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(exchange, "SEAL_PAUSES", (0.0, 0.0, 0.0))


def answer(cipher, url):
    """What the I/O process says of one request to ``url``, and the request's envelope."""
    keyring = Keyring(functions=(cipher.encrypt, lambda text: text[::-1]))
    head, body = write_submission(Submission(request=Request("GET", url)))
    place = {"purpose": "request", "queue": "q", "id": "id-1"}
    sealed = keyring.seal(head, body, label=b'{"callback":"x"}', **place)

    async def ask(client):
        one = exchange.Exchange(
            client, keyring, Settings(), queue="q", preprocessors=Preprocessors({})
        )
        return await one.answer("id-1", sealed, b"")

    return with_client(ask), sealed


def test_it_is_tried_again_and_the_call_is_made_once(server, url):
    (reason, envelope), sealed = answer(Cipher(2, raise_it), url)

    assert reason is Reason.OUTCOME
    assert envelope != sealed
    assert server.hits("/asked") == 1


def test_one_that_goes_on_failing_ends_the_request_and_gives_nothing_away(server, url, caplog):
    (reason, envelope), sealed = answer(Cipher(99, raise_it), url)

    assert (reason, envelope) == (Reason.UNSEALED, sealed)
    assert server.hits("/asked") == 1
    assert "id-1 cannot be sealed: encryption failed (RuntimeError)" in caplog.text
    assert CANARY not in caplog.text


def test_one_that_returns_no_bytes_is_not_asked_again(server, url, caplog):
    cipher = Cipher(99, lambda text: "text")

    (reason, _), _ = answer(cipher, url)

    assert reason is Reason.UNSEALED
    assert cipher.failures == 98
    assert "encryption returned str, not bytes" in caplog.text
