"""The courier's ear: hears the store's bell on a thread of its own."""

from __future__ import annotations

import select

from .errors import StoreUnavailable
from .native import NativeThread, WakePipe, original
from .stores.base import Store

__all__ = ["Bell"]

#: The longest wait of the thread, so that it sees within that time that it is to end.
LONGEST_WAIT = 0.5


class Bell:
    """Waits for the store's bell on a thread of its own, and wakes the courier."""

    def __init__(self, store: Store, wake: WakePipe) -> None:
        self._store = store
        self._wake = wake
        self._go = WakePipe()
        self._listening = False
        self._rang = False
        self._stopped = False
        self._thread = NativeThread(self._run, name="huey-patient-bell")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def listen(self, on: bool) -> None:
        """Whether a ring is wanted: who is full leaves it to other consumers."""
        if on and not self._listening:
            self._listening = True
            self._go.ring()
        self._listening = on

    def take(self) -> bool:
        """Whether it rang since the last call."""
        rang, self._rang = self._rang, False
        return rang

    def stop(self) -> None:
        """End, within the wait that is going on."""
        self._stopped = True
        self._go.ring()

    def _run(self) -> None:
        poller = original("select", "poll")()
        poller.register(self._go.fileno(), select.POLLIN)
        while not self._stopped:
            if not self._listening:
                poller.poll(LONGEST_WAIT * 1000)
                self._go.hush()
                continue
            try:
                rang = self._store.wait(LONGEST_WAIT)
            except StoreUnavailable:
                # The courier meets the same trouble and tells of it.
                poller.poll(LONGEST_WAIT * 1000)
                continue
            if rang:
                self._rang, self._listening = True, False
                self._wake.ring()
