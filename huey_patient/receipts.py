"""Keeping an outcome until its callback has returned.

Huey takes a task off its queue before it runs it, so a consumer that is killed
inside a callback loses that run.  A callback registered with
``delivery="at_least_once"`` has a *receipt* in the store: its message is kept
there, and a courier puts it on the queue again

    when no worker has begun it for ten times ``orphan_threshold``, or
    when the one that began it has shown no sign of life for ``orphan_threshold``.

A message that turns out to be one too many does nothing.  What Huey decides not
to run (revoked, expired, canceled by a hook) is forgotten.  When it has lost
`MOST_DELIVERIES` workers, or when the callback has failed for good, the receipt
becomes a dead letter, to be looked at and sent again by hand.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from .errors import StoreUnavailable
from .native import NativeThread, original
from .settings import Settings
from .stores.base import Store

__all__ = ["MOST_DELIVERIES", "Receipts", "waiting_seconds"]

log = logging.getLogger("huey.patient")

#: A callback that takes its worker down five times is not tried a sixth time.
MOST_DELIVERIES = 5


def waiting_seconds(settings: Settings) -> float:
    """Seconds for a worker to come to a message.

    A longer queue costs a second message, and a third after twice the time; they
    do nothing when the first has been served.
    """
    return 10 * settings.orphan_threshold


class Receipts:
    """Runs callbacks under their receipts, in a worker."""

    def __init__(self, store: Callable[[], Store], settings: Settings) -> None:
        self._store = store
        self._running_seconds = settings.orphan_threshold
        self._waiting_seconds = waiting_seconds(settings)
        self._running: set[str] = set()
        self._thread: NativeThread | None = None  # extends receipts
        self._thread_of: int | None = None  # the process that it is in

    def begin(self, id: str) -> bool:
        """Be trusted with an outcome, unless another run of it is, or was for good.

        Raises:
            StoreUnavailable: Its message comes again.
        """
        match self._store().begin(id, self._running_seconds):
            case "gone":
                log.info("The outcome of request %s was delivered before.", id)
                return False
            case "busy":
                log.info("The outcome of request %s is just being delivered.", id)
                return False
        return True

    def run(
        self,
        id: str,
        call: Callable[[], Any],
        *,
        retry_in: Callable[[Exception], float | None],
        served: Callable[[], object],
    ) -> Any:
        """Run a callback that was begun; its receipt goes when it returns.

        Args:
            retry_in: Given what the callback raised: seconds until Huey runs it
                again, or None when it does not.
            served: Called when it can never run again: it returned, and its
                receipt is gone.
        """
        self._extend_while_running(id)
        try:
            value = call()
        except Exception as reason:
            self._after_failure(id, retry_in(reason))
            raise
        except BaseException:
            # The worker is being ended: another one takes over at once.
            self._quietly(id, lambda store: store.postpone(id, 0.0))
            raise
        else:
            if self._quietly(id, lambda store: store.confirm(id)):
                served()
            return value
        finally:
            self._running.discard(id)

    def forget(self, id: str, *, begun: bool, served: Callable[[], object]) -> None:
        """Let go of an outcome that is not to be delivered, unless another run has it.

        A dead letter stays one: what is not delivered now was not delivered then.
        """

        def note(store: Store) -> None:
            if (begun or store.begin(id, self._running_seconds) == "run") and store.confirm(id):
                served()

        self._quietly(id, note)

    def _after_failure(self, id: str, seconds: float | None) -> None:
        if seconds is None:
            if self._quietly(id, lambda store: store.give_up(id)):
                log.error(
                    "The callback of request %s failed for good; it is a dead letter now.", id
                )
        else:
            self._quietly(id, lambda store: store.postpone(id, seconds + self._waiting_seconds))

    def _quietly(self, id: str, note: Callable[[Store], object]) -> bool:
        """Note in the store how a run ended, and say whether that worked.

        What cannot be noted means one run more, not that the callback failed.
        """
        try:
            note(self._store())
        except StoreUnavailable as reason:
            log.warning("Request %s will be delivered once more: %s", id, reason)
            return False
        return True

    def _extend_while_running(self, id: str) -> None:
        self._running.add(id)
        if self._thread and self._thread.running and self._thread_of == os.getpid():
            return
        # There was none yet, or it ended, or stayed behind at a fork.
        thread = NativeThread(self._extend, name="huey-patient-receipts")
        try:
            thread.start()
        except RuntimeError as reason:
            # A callback that may run twice is better than one that does not run.
            log.warning("Request %s may be delivered once more: %s", id, reason)
        else:
            self._thread, self._thread_of = thread, os.getpid()

    def _extend(self) -> None:
        sleep = original("time", "sleep")
        while True:
            sleep(self._running_seconds / 3)
            for id in list(self._running):
                try:
                    self._quietly(id, partial(_extend, id=id, seconds=self._running_seconds))
                except Exception:
                    # Nobody would begin another thread for those that run already.
                    log.exception("The receipt of request %s could not be extended", id)


def _extend(store: Store, *, id: str, seconds: float) -> bool:
    return store.extend(id, seconds)
