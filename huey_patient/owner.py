"""A consumer's life as the store sees it: registered, beating, perhaps fenced.

And its eye on the others: who has shown the same beat for too long is reaped.
Silence is measured on our own monotonic clock between two looks of our own, so
a clock that jumps, or differs from machine to machine, can kill nobody.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from .stores.base import Beat, Store

__all__ = ["Owner", "Watch"]

#: Silence by the database's clock that is death even for one who has just begun to
#: watch: ten thresholds, at least five minutes.
COARSE_THRESHOLDS, COARSE_SECONDS = 10, 300.0

log = logging.getLogger("huey.patient")


class Owner:
    """The name under which this consumer holds requests."""

    def __init__(
        self,
        store: Store,
        *,
        info: Callable[[], bytes],
        orphan_threshold: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._info = info
        self._clock = clock
        # Two thirds: what is left is longer than a send that has just begun
        # takes to be told that it is over.
        self._patience = orphan_threshold * 2 / 3
        self.beat_at = 0.0  #: When the store last confirmed that we live.
        self.id = ""
        self.registered = False

    def register(self) -> None:
        """Announce ourselves under a new name, as one that was never fenced."""
        self.id = uuid.uuid4().hex
        began = self._clock()
        self._store.register(self.id, self._info())
        self.registered = True
        self.beat_at = began

    def beat(self) -> Beat:
        """Say that we live; raises `Fenced` when others have decided otherwise."""
        # Counted from before the call: a reply may come long after the beat.
        began = self._clock()
        beat = self._store.beat(self.id, self._info())
        self.beat_at = began
        return beat

    @property
    def out_of_touch(self) -> bool:
        """Whether others may soon take us for dead: we must stop sending first."""
        return self.registered and self._clock() - self.beat_at > self._patience


@dataclass(slots=True)
class _Sight:
    beat: int
    since: float


class Watch:
    """Reaps owners whose beat has stood still for ``orphan_threshold`` seconds."""

    def __init__(
        self, store: Store, *, orphan_threshold: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._threshold = orphan_threshold
        self._coarse = max(COARSE_THRESHOLDS * orphan_threshold, COARSE_SECONDS)
        self._clock = clock
        self._sights: dict[str, _Sight] = {}

    def look(self, own: str) -> int:
        """Look at every owner but ``own`` once; returns how many were reaped."""
        now = self._clock()
        owners = {seen.id: seen for seen in self._store.owners() if seen.id != own}
        self._sights = {id: sight for id, sight in self._sights.items() if id in owners}
        reaped = 0
        for id, seen in owners.items():
            sight = self._sights.setdefault(id, _Sight(seen.beat, now))
            if sight.beat != seen.beat:
                sight.beat, sight.since = seen.beat, now
            silent = now - sight.since
            if seen.silent > self._coarse:
                # Nobody lives long enough to watch: consumers that crash again
                # and again.  By the clock of the database alone, so only after
                # a time that no clock is set back by.
                silent = seen.silent
            if silent >= self._threshold and self._store.reap(id, seen.beat):
                reaped += 1
                log.warning(
                    "Consumer %s has been silent for %.0f s; its %d requests are ready again.",
                    id,
                    silent,
                    seen.held,
                )
        return reaped
