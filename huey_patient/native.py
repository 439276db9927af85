"""Threads of the operating system, also where gevent has replaced `threading`.

The courier blocks: in the database, in ``poll``.  As a greenlet it would stop
every greenlet worker with it, so it runs on a thread that the hub never sees.
What such a thread shares with greenlets is only ever set and read, never
locked: a lock of one kind means nothing to the other.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["NativeThread", "WakePipe", "original"]


def original(module: str, name: str) -> Any:
    """Return ``module.name`` as it was before gevent replaced it, if it did."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


class NativeThread:
    """A daemon thread that may block without stopping greenlets."""

    def __init__(self, target: Callable[[], None], *, name: str) -> None:
        self._target = target
        self._name = name
        self.running = False

    def start(self) -> None:
        """Run the target; returns at once."""
        _load_what_gevent_loads_late()
        if (gevent := sys.modules.get("gevent")) is not None:
            # Two native threads that make gevent's first hub at the same time
            # wait for each other's import lock for ever; so it is made here.
            gevent.get_hub()
        self.running = True
        try:
            original("_thread", "start_new_thread")(self._run, ())
        except BaseException:
            self.running = False  # or nobody would ever try again
            raise

    def join(self, timeout: float) -> bool:
        """Wait until the target has returned; whether it has."""
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)  # gevent's, under gevent: other greenlets go on.
        return not self.running

    def _run(self) -> None:
        try:
            threading.current_thread().name = self._name  # for the log
            self._target()
        finally:
            self.running = False


def _load_what_gevent_loads_late() -> None:
    """Import what gevent, once it has patched, imports at the first use of a socket.

    Import locks are gevent's own from then on.  A greenlet and a native thread
    that import one module at the same moment may wait for each other for ever:
    both do when they connect to the database for the first time.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        importlib.import_module("gevent").get_hub().resolver  # noqa: B018  (imports its class)
        importlib.import_module("encodings.idna")


class WakePipe:
    """Lets any thread, greenlet or forked child end the wait of another."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._read

    def ring(self, times: int = 1) -> None:
        """Wake as many waiters, or let as many next waits end at once."""
        try:
            os.write(self._write, b"\0" * times)
        except BlockingIOError:
            pass  # Full of rings that nobody has heard yet: one more says nothing new.

    def hush(self, count: int = 65_536) -> int:
        """Take back up to ``count`` rings; how many there were."""
        try:
            return len(os.read(self._read, count))
        except BlockingIOError:
            return 0

    def wait(self, timeout: float) -> bool:
        """Wait for a ring and take it; whether there was one."""
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        return bool(poller.poll(timeout * 1000)) and self.hush(1) == 1

    def __del__(self) -> None:
        # Whoever may still ring holds a reference, so nobody rings a closed pipe.
        os.close(self._read)
        os.close(self._write)
