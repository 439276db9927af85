"""Payloads for a courier without envelopes: what begins with ``ref:`` is a reference."""

from __future__ import annotations

import threading

from huey_patient.errors import EnvelopeError, PayloadLost, StoreUnavailable

#: What is longer is stowed.
THRESHOLD = 20


class FakePayloads:
    """Does what the test says (see `porters.Payloads`); called from the porters' threads."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.away: set[str] = set()  #: Errands that fail: "fetch", "stow", "discard", "sweep".
        self.broken: set[bytes] = set()  #: References that do not open.
        self.calls: list[tuple[str, str]] = []
        self.swept: list[float] = []
        self.open = threading.Event()  #: While it is not set, fetches and stows take for ever.
        self.open.set()

    def put(self, name: str, data: bytes) -> bytes:
        """Stow something by hand; its reference."""
        reference = b"ref:" + name.encode()
        self.objects[reference] = data
        return reference

    def takes(self, sealed: bytes) -> bool:
        return len(sealed) > THRESHOLD

    def is_reference(self, sealed: bytes) -> bool:
        return sealed.startswith(b"ref:")

    def fetch(self, id: str, sealed: bytes, purpose: str) -> bytes:
        self._begin("fetch", id)
        if sealed in self.broken:
            raise EnvelopeError("it does not open")
        if sealed not in self.objects:
            raise PayloadLost("it is gone")
        return self.objects[sealed]

    def stow(self, id: str, sealed: bytes, purpose: str) -> bytes:
        self._begin("stow", id)
        return self.put(f"{purpose}-{id}", sealed)

    def discard(self, id: str, sealed: bytes, purpose: str) -> None:
        self._begin("discard", id)
        self.objects.pop(sealed, None)

    def sweep(self, older_than: float) -> None:
        self._begin("sweep", "")
        self.swept.append(older_than)

    def times(self, errand: str) -> int:
        """How often an errand was begun."""
        return sum(name == errand for name, _ in self.calls)

    def _begin(self, errand: str, id: str) -> None:
        self.calls.append((errand, id))
        assert self.open.wait(40)
        if errand in self.away:
            raise StoreUnavailable("away")
