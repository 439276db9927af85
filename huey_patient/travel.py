"""How a value that must not be readable at rest crosses a pickle.

Huey pickles what a callback returns and what it hands down a pipeline.  A
`Response` or a `RequestError` pickles as its sealed envelope, and opens again
in any process that made a `Patient` for the same Huey name.  This module is
the meeting point: the values below know only that somebody may have registered
a `Sealer` for their queue, and the `Patient` above registers one.

A value that no `Patient` has delivered (made by hand, in a test) names no queue
and pickles as it stands: nobody sealed it, so nobody could open it.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Sealer", "UnknownQueue", "register", "reopen", "sealed_state"]


class UnknownQueue(LookupError):
    """No `Patient` for this Huey name was made in this process."""


class Sealer(Protocol):
    """Seals and opens the values of one queue; a `Patient` is behind it."""

    def seal_value(self, value: Any) -> bytes:
        """Return ``value`` as a sealed envelope bound to its request id."""

    def open_value(self, request_id: str, sealed: bytes) -> Any:
        """Return the value that `seal_value` was given."""


_sealers: dict[str, Sealer] = {}


def register(queue: str, sealer: Sealer) -> None:
    """Let values of ``queue`` be pickled and unpickled; the last call counts."""
    _sealers[queue] = sealer


def sealed_state(value: Any, queue: str, request_id: str) -> tuple[Any, ...]:
    """What ``value.__reduce__`` returns: how to rebuild it from its envelope."""
    return reopen, (queue, request_id, _sealer(queue).seal_value(value))


def reopen(queue: str, request_id: str, sealed: bytes) -> Any:
    """Return the value that was pickled as ``sealed``.

    Raises:
        UnknownQueue: This process made no `Patient` for ``queue``.
        EnvelopeError: The envelope is damaged, or sealed with a key that this
            process does not have.
    """
    return _sealer(queue).open_value(request_id, sealed)


def _sealer(queue: str) -> Sealer:
    try:
        return _sealers[queue]
    except KeyError:
        raise UnknownQueue(
            f"a value of the Huey {queue!r} cannot be opened here: this process made "
            f"no Patient for it.  Import the module that calls Patient(huey) first."
        ) from None
