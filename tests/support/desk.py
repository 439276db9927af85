"""An application in this process, and a consumer that the test plays by hand.

desk = Desk()
result = desk.patient.get("http://example.com/", callback=Save)
desk.answer(result.id, status=404)
desk.work()
"""

from __future__ import annotations

import uuid
from typing import Any

from huey import Huey, MemoryHuey

from huey_patient import Patient, RequestError, Response
from huey_patient.callbacks import MARK
from huey_patient.envelope import read_label
from huey_patient.stores.base import Lease
from huey_patient.wire import Reason, read_submission, write_outcome

URL = "http://example.com/path?query=1"


class Desk:
    """A MemoryHuey, or ``huey``, with a Patient of these settings."""

    def __init__(self, huey: Huey | None = None, **settings: Any) -> None:
        self.huey = huey or MemoryHuey(f"desk-{uuid.uuid4().hex}", immediate=False)
        self.patient = Patient(self.huey, **settings)
        self._leases: dict[str, Lease] = {}

    def stored(self) -> int:
        """How many requests are in the store."""
        counts = self.patient.store.counts()
        return counts.fresh + counts.suspect + counts.later + counts.held

    def lease(self, id: str) -> Lease:
        """Claim what waits, as a consumer would, and return one of them."""
        store = self.patient.store
        store.register("desk", b"")
        for lane in ("fresh", "suspect"):
            self._leases |= {lease.id: lease for lease in store.claim("desk", lane, 1000)}
        return self._leases[id]

    def submission(self, id: str) -> Any:
        """What was stored as ``id``, opened."""
        sealed = self.patient.store.read(id)
        assert sealed is not None
        opened = self.patient._keyring.unseal(
            sealed, purpose="request", queue=self.huey.name, id=id, max_body_bytes=10**8
        )
        return read_submission(*opened)

    def answer(self, id: str, outcome: Response | RequestError | None = None, **response: Any):
        """Settle a request with an outcome: a response unless one is given."""
        lease = self.lease(id)
        given = self.submission(id)
        if outcome is None:
            outcome = Response(
                **{"status": 200, "url": given.request.url, "request_id": id, **response},
                callback_args=given.callback_args,
            )
        else:
            outcome.request_id, outcome.callback_args = id, given.callback_args
            outcome.method, outcome.url = given.request.method, given.request.url
        head, body = write_outcome(outcome)
        sealed = self.patient._keyring.seal(
            head,
            body,
            purpose="outcome",
            queue=self.huey.name,
            id=id,
            label=read_label(lease.sealed),
        )
        self.settle(id, Reason.OUTCOME, sealed)

    def settle(self, id: str, reason: Reason, sealed: bytes) -> None:
        """Put any outcome on Huey's queue as the courier does."""
        lease = self.lease(id)
        settlement = self.patient._callbacks.settlement(id, lease.epoch, reason, sealed)
        [answer] = self.patient.store.settle("desk", [settlement])
        assert answer == "ok"

    def work(self) -> int:
        """Run what is on Huey's queue, retries included, as a worker does; how many runs."""
        runs = 0
        while (task := self.huey.dequeue()) is not None:
            self.huey.execute(task)
            runs += 1
        return runs

    def ask_and_answer(self, callback: Any, outcome: RequestError | None = None, **options: Any):
        """Submit with ``callback``, answer, run it; its Result."""
        result = self.patient.get(URL, callback=callback, **options)
        self.answer(result.id, outcome)
        self.work()
        return result


__all__ = ["MARK", "URL", "Desk"]
