"""One request, from sealed to sealed: opened, sent, its outcome sealed.

The I/O process and immediate mode both go through `Exchange.answer`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from .. import secret_values
from ..envelope import Keyring, read_label
from ..errors import (
    ConfigurationError,
    EnvelopeError,
    Expired,
    RequestError,
    ResponseTooLarge,
)
from ..pipe import envelope_limit
from ..request import Request
from ..response import Response
from ..settings import Settings
from ..wire import MAX_REQUEST_BYTES, Outcome, Reason, Submission, read_submission, write_outcome
from .http import HttpClient
from .preprocessors import Preprocessors
from .secrets import resolve

__all__ = ["Exchange"]

log = logging.getLogger("huey.patient")

Offload = Callable[..., Awaitable[Any]]

#: Bytes from which opening and sealing leave the loop for a thread: zstandard
#: and secretbox take about 100 us for them, and give up the GIL meanwhile.
BIG_BYTES = 65_536
#: Seconds between tries to seal an outcome when the application's own cipher fails:
#: what it asks (a key service, perhaps) may be away, and the call was made.
SEAL_PAUSES = (0.1, 0.5, 2.0, 8.0, 30.0)


class Exchange:
    """Answers the requests of one queue."""

    def __init__(
        self,
        client: HttpClient,
        keyring: Keyring,
        settings: Settings,
        *,
        queue: str,
        preprocessors: Preprocessors,
    ) -> None:
        self._client = client
        self._preprocessors = preprocessors
        self._keyring = keyring
        self._settings = settings
        self._queue = queue
        self._limit = envelope_limit(settings.max_response_size)

    async def answer(
        self, id: str, sealed: bytes, secrets: bytes, *, offload: Offload | None = None
    ) -> tuple[Reason, bytes]:
        """Return why it ended, and the envelope that says how.

        A request that cannot be opened comes back as it was, as does one whose
        outcome the application's own cipher does not seal.

        Args:
            secrets: What `SecretValues.resolved` gave for it.
            offload: Awaits a function elsewhere than on the loop; used for
                opening and sealing from `BIG_BYTES` on.
        """
        submission = await self._call(offload, len(sealed), self._open, id, sealed)
        if submission is None:
            return Reason.UNREADABLE, sealed
        outcome = await self._perform(id, submission, secrets)
        log.debug("Request %s: %s", id, _describe(outcome))
        envelope = await self._sealed(id, sealed, outcome, offload)
        if envelope is None:
            return Reason.UNSEALED, sealed
        return Reason.OUTCOME, envelope

    def _open(self, id: str, sealed: bytes) -> Submission | None:
        """Unseal a request; None when that is not possible (it is logged)."""
        try:
            head, body = self._keyring.unseal(
                sealed,
                purpose="request",
                queue=self._queue,
                id=id,
                max_body_bytes=MAX_REQUEST_BYTES,
            )
            return read_submission(head, body)
        except (EnvelopeError, KeyError, TypeError, ValueError) as reason:
            text = str(reason) if isinstance(reason, EnvelopeError) else type(reason).__name__
            log.error("Request %s could not be opened: %s", id, text)
            return None

    async def _perform(self, id: str, submission: Submission, secrets: bytes) -> Outcome:
        """Send the request; returns how it ended, whatever that is."""
        outcome: Outcome
        try:
            if submission.expires is not None and time.time() >= submission.expires:
                raise Expired("expired before it was sent")
            request, secret_params = resolve(submission.request, secret_values.read(secrets))
            response = await self._client.send(
                request,
                request_id=id,
                preprocessors=self._preprocessors.named(request.preprocessors),
                secret_params=secret_params,
            )
            wants_error = self._wants_error(request) and response.is_error
            outcome = response.as_error() if wants_error else response
        except RequestError as error:
            outcome = error
        except Exception as error:
            # A fault of ours must end this request, not the others.  The text
            # of a foreign exception may hold anything, so it is not repeated.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("Request %s failed with %s in\n%s", id, type(error).__name__, where)
            outcome = RequestError(f"failed inside the I/O process ({type(error).__name__})")
        return _complete(outcome, id, submission)

    async def _sealed(
        self, id: str, request_sealed: bytes, outcome: Outcome, offload: Offload | None
    ) -> bytes | None:
        """Seal an outcome; None when the application's cipher goes on failing (it is logged)."""
        for pause in (*SEAL_PAUSES, None):
            try:
                envelope: bytes = await self._call(
                    offload, _size(outcome), self._fitting, id, request_sealed, outcome
                )
            except (EnvelopeError, ConfigurationError) as reason:
                log.error("The outcome of request %s cannot be sealed: %s", id, reason)
                if pause is None or isinstance(reason, ConfigurationError):
                    break
                await asyncio.sleep(pause)
            else:
                return envelope
        return None

    def _fitting(self, id: str, request_sealed: bytes, outcome: Outcome) -> bytes:
        """Seal an outcome, or an error in its place when it is too large for the pipe."""
        envelope = self._seal(id, request_sealed, outcome)
        if len(envelope) <= self._limit:
            return envelope
        # Nothing that a server says may break the pipe, and with it all others.
        log.error("Request %s: its sealed outcome is too large to be handed over", id)
        return self._seal(id, request_sealed, _too_large(outcome))

    def _seal(self, id: str, request_sealed: bytes, outcome: Outcome) -> bytes:
        """Seal the outcome of a request under the label of the request."""
        head, body = write_outcome(outcome)
        response = _response(outcome)
        return self._keyring.seal(
            head,
            body,
            purpose="outcome",
            queue=self._queue,
            id=id,
            label=read_label(request_sealed),
            media_type=None if response is None else response.content_type,
        )

    async def _call(
        self, offload: Offload | None, size: int, work: Callable[..., Any], *args: Any
    ) -> Any:
        # How long the application's own ciphers take, nobody knows.
        quick = size < BIG_BYTES and not self._keyring.is_custom
        if offload is None or quick:
            return work(*args)
        return await offload(work, *args)

    def _wants_error(self, request: Request) -> bool:
        asked = request.raise_error_responses
        return self._settings.raise_error_responses if asked is None else asked


def _response(outcome: Outcome) -> Response | None:
    return outcome if isinstance(outcome, Response) else outcome.response


def _size(outcome: Outcome) -> int:
    """Bytes that are to be sealed, about."""
    response = _response(outcome)
    if response is None:
        return 0
    head = sum(len(name) + len(value) for name, value in response.headers.pairs())
    return head + len(response.content)


def _too_large(outcome: Outcome) -> ResponseTooLarge:
    """What takes the place of an outcome that is too large for the pipe."""
    return ResponseTooLarge(
        "the response is too large to be handed over once it is sealed",
        request_id=outcome.request_id,
        method=outcome.method,
        url=outcome.url,
        duration=outcome.duration,
        attempts=outcome.attempts,
        callback_args=outcome.callback_args,
    )


def _describe(outcome: Outcome) -> str:
    """Return an outcome as it may stand in a log: nothing that a key would seal."""
    if isinstance(outcome, Response):
        return f"status {outcome.status} in {outcome.duration:.3f} s"
    return f"{outcome.kind} after {outcome.duration:.3f} s"


def _complete(outcome: Outcome, id: str, submission: Submission) -> Outcome:
    """Add what only the submission knows."""
    shared: dict[str, Any] = {"request_id": id, "callback_args": submission.callback_args}
    if isinstance(outcome, Response):
        return dataclasses.replace(outcome, **shared)
    for name, value in shared.items():
        setattr(outcome, name, value)
    # An error from before the first send knows of no hop yet.
    outcome.method = outcome.method or submission.request.method
    outcome.url = outcome.url or submission.request.url
    if outcome.response is not None:
        outcome.response = dataclasses.replace(outcome.response, **shared)
    return outcome
