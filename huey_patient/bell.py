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
    """Waits for the store's bell, one stroke for each asking, and wakes the courier.

    Two threads share it without a lock, so each number has one writer: the
    courier counts what it asks for, the ear what it has heard.
    """

    def __init__(self, store: Store, wake: WakePipe) -> None:
        self._store = store
        self._wake = wake
        self._go = WakePipe()
        self._asked = 0  # by the courier
        self._wanted = self._waiting = self._stopped = False  # by the courier
        self._taken = 0  # by the courier
        self._heard = 0  # by the ear
        self._thread = NativeThread(self._run, name="huey-patient-bell")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def listen(self, on: bool) -> None:
        """Whether a stroke is wanted: who is full leaves it to other consumers."""
        self._wanted = on
        if on and not self._waiting:
            self._asked += 1
            self._go.ring()
        self._waiting = on

    def take(self) -> bool:
        """Whether it rang since the last call."""
        heard = self._heard
        if heard == self._taken:
            return False
        self._taken, self._waiting = heard, False
        return True

    def stop(self) -> None:
        """End, within the wait that is going on."""
        self._stopped = True
        self._go.ring()

    def _run(self) -> None:
        poller = original("select", "poll")()
        poller.register(self._go.fileno(), select.POLLIN)
        while not self._stopped:
            asked = self._asked
            if asked == self._heard or not self._wanted:
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
                self._heard = asked
                self._wake.ring()
