"""From what is stored to what a callback is given: envelopes opened, in a worker.

The last place on the way where an envelope is opened.  Also seals and opens the
values that Huey pickles (see `travel`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .envelope import Keyring
from .errors import (
    Abandoned,
    Canceled,
    EnvelopeError,
    Interrupted,
    PayloadLost,
    RequestError,
)
from .references import About, References
from .response import CallbackArgs
from .settings import Settings
from .wire import Outcome, Reason, read_outcome, read_submission, write_outcome

__all__ = ["Outcomes"]

log = logging.getLogger("huey.patient")

#: Bodies up to this size are opened whatever the settings of this process say.
MOST_BODY_BYTES = 64 * 1024 * 1024

#: How outcomes that no I/O process made are told to the callback.
_DECIDED: dict[Reason, tuple[type[RequestError], str]] = {
    Reason.ABANDONED: (Abandoned, "lost its I/O process too often"),
    Reason.CANCELED: (Canceled, "was canceled"),
    Reason.INTERRUPTED: (Interrupted, "was perhaps sent before its consumer was lost"),
    Reason.PAYLOAD_LOST: (PayloadLost, "its payload is damaged or not there any more"),
    Reason.UNSEALED: (RequestError, "was answered, but encryption failed; see the consumer's log"),
    Reason.UNREADABLE: (RequestError, "the consumer could not open the request; see its log"),
}


class Outcomes:
    """Opens the outcomes of one queue (and is its `travel.Sealer`)."""

    def __init__(
        self, keyring: Keyring, references: References, settings: Settings, *, queue: str
    ) -> None:
        self._keyring = keyring
        self._references = references
        self._queue = queue
        # A body was bounded when it was read or submitted, perhaps by a process
        # with larger settings; this stops what no process of ours would make.
        self._max_body_bytes = max(settings.max_response_size, MOST_BODY_BYTES)

    def open(self, id: str, reason: Reason, envelope: bytes) -> Outcome:
        """Return what an envelope from a message says.

        Raises:
            EnvelopeError: It is damaged, alien, or sealed with an unknown key.
            StoreUnavailable: It refers to a payload store that does not answer.
        """
        if reason is Reason.OUTCOME:
            try:
                sealed = self._references.fetch(id, envelope, "outcome")
            except PayloadLost as lost:
                return self._delivered(lost, lost.callback_args)
            outcome = read_outcome(*self._unseal(id, sealed, "outcome"), queue=self._queue)
            return self._marked(outcome)
        kind, message = _DECIDED[reason]
        error = kind(message, request_id=id)
        try:
            about = self._about(id, envelope)
        except EnvelopeError as trouble:
            log.error("Request %s cannot be opened: %s", id, trouble)
            return self._delivered(error, {})
        error.method, error.url = about.method, about.url
        return self._delivered(error, about.callback_args)

    def _about(self, id: str, envelope: bytes) -> About:
        if self._references.is_reference(envelope):
            return self._references.about(id, envelope, "request")
        given = read_submission(*self._unseal(id, envelope, "request"))
        return About(
            method=given.request.method, url=given.request.url, callback_args=given.callback_args
        )

    def _delivered(self, error: RequestError, callback_args: Mapping[str, Any]) -> Outcome:
        error.callback_args = CallbackArgs(callback_args)
        error.queue = self._queue
        return self._marked(error)

    def seal_value(self, value: Outcome) -> bytes:
        """Seal an outcome that Huey is about to pickle (`travel.Sealer`)."""
        head, body = write_outcome(value)
        return self._keyring.seal(
            head, body, purpose="value", queue=self._queue, id=value.request_id
        )

    def open_value(self, request_id: str, sealed: bytes) -> Outcome:
        """The reverse of `seal_value` (`travel.Sealer`)."""
        head, body = self._unseal(request_id, sealed, "value")
        return self._marked(read_outcome(head, body, queue=self._queue))

    def _unseal(self, id: str, envelope: bytes, purpose: str) -> tuple[dict[str, Any], bytes]:
        return self._keyring.unseal(
            envelope,
            purpose=purpose,
            queue=self._queue,
            id=id,
            max_body_bytes=self._max_body_bytes,
        )

    def _marked(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, RequestError):
            outcome.confidential = self._keyring.seals
        return outcome
