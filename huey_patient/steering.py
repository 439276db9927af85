"""What is going on, and what can be done about it: the operator's half of `Patient`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import orjson

from .callbacks import Callbacks
from .carriage import Carriage
from .envelope import Keyring
from .receipts import waiting_seconds
from .references import References
from .rekey import Rekeyed, rekey
from .settings import Settings
from .stores.base import DeadLetter, Store
from .wire import Reason

__all__ = ["Steering"]


class Steering:
    """The half of `Patient` that looks and steers."""

    huey: Any
    settings: Settings
    _callbacks: Callbacks
    _carriage: Carriage
    _keyring: Keyring
    _references: References

    @property
    @abstractmethod
    def store(self) -> Store:
        """Where requests wait."""

    def cancel(self, id: str) -> bool:
        """Answer a request with `Canceled` instead of its response.

        Returns:
            Whether it was still unanswered.  A call in flight is dropped within
            a heartbeat; the server may have seen it.
        """
        sealed = self.store.read(id)
        if sealed is None:
            return False
        answer = self._callbacks.settlement(id, 0, Reason.CANCELED, sealed)
        canceled = self.store.cancel(id, answer.message, answer.priority, receipt=answer.receipt)
        if canceled:
            self._references.discard(id, sealed, "request")
        return canceled

    def pending_count(self) -> int:
        """How many requests wait to be sent, those that are not due yet included."""
        counts = self.store.counts()
        return counts.fresh + counts.suspect + counts.later

    def in_flight(self) -> list[dict[str, Any]]:
        """The requests in consumers' hands: id, owner, epoch, strikes."""
        return [
            {"id": one.id, "owner": one.owner, "epoch": one.epoch, "strikes": one.strikes}
            for one in self.store.held()
        ]

    def processes(self) -> list[dict[str, Any]]:
        """The consumers: what each says of itself, and how many requests it holds."""
        return [
            {**orjson.loads(seen.info or b"{}"), "id": seen.id, "held": seen.held}
            for seen in self.store.owners()
        ]

    def dead_letters(self) -> list[DeadLetter]:
        """Outcomes whose ``delivery="at_least_once"`` callback failed for good, or took
        its worker down too often; at most 100, the oldest first."""
        return self.store.dead_letters()

    def redeliver(self, id: str) -> bool:
        """Deliver a dead letter again; whether there was one of this id."""
        return self.store.revive(id, waiting_seconds(self.settings))

    def discard(self, id: str) -> bool:
        """Forget a dead letter; whether there was one of this id."""
        return self.store.discard(id)

    def stats(self) -> dict[str, int]:
        """How many requests are where (fresh, suspect, later, held), how many outcomes
        are kept (receipts, dead), and how many consumers there are."""
        counts = self.store.counts()
        return {
            "fresh": counts.fresh,
            "suspect": counts.suspect,
            "later": counts.later,
            "held": counts.held,
            "receipts": counts.receipts,
            "dead": counts.dead,
            "processes": len(self.store.owners()),
        }

    def rekey(self) -> Rekeyed:
        """Seal what waits with the first of the configured keys, where an older one did.

        Returns:
            How many were sealed again, and how many need a key that is not here.
            The payloads that the old key sealed stay, for a consumer may be
            reading one, until they are swept.
        """
        return rekey(self.store, self._keyring, self._references, queue=self.huey.name)

    def quiet(self) -> None:
        """Let the consumer of this process claim no more requests.

        Raises:
            RuntimeError: None runs in this process; send SIGTSTP to its own.
        """
        self._carriage.quiet()
