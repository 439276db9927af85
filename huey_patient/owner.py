"""A consumer's life as the store sees it: registered, beating, perhaps fenced.

And its eye on the others: who has shown the same beat for too long is reaped.
Silence is measured on our own monotonic clock between two looks of our own, so
a clock that jumps, or differs from machine to machine, can kill nobody.  Each says
of itself how long it may be silent, since settings change while others run.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson

from .settings import FENCED_AFTER
from .stores.base import Beat, OwnerSeen, Store

__all__ = ["Owner", "Watch"]

#: Silence by the database's clock after which a shorter look is enough: ten thresholds,
#: at least five minutes.
COARSE_THRESHOLDS, COARSE_SECONDS = 10, 300.0
#: That look: so many heartbeats of the other, none of which came.
COARSE_BEATS = 2

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
        self._patience = orphan_threshold * FENCED_AFTER
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
    """Reaps owners whose beat has stood still for ``orphan_threshold`` seconds: for
    their own or for ours, whichever is longer."""

    def __init__(
        self, store: Store, *, orphan_threshold: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._threshold = orphan_threshold
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
            if self._is_long(silent, seen) and self._store.reap(id, seen.beat):
                reaped += 1
                log.warning(
                    "Consumer %s has been silent for %.0f s; its %d requests are ready again.",
                    id,
                    max(silent, seen.silent),
                    seen.held,
                )
        return reaped

    def _is_long(self, silent: float, seen: OwnerSeen) -> bool:
        """Whether who has shown us the same beat for ``silent`` seconds is dead."""
        said = _said(seen.info)
        # It stops by itself after two thirds of its own time, which may be longer than
        # ours: a deploy that shortens it runs beside the consumers that it replaces.
        threshold = max(self._threshold, _seconds(said, "orphan_threshold", 0.0))
        if seen.silent > max(COARSE_THRESHOLDS * threshold, COARSE_SECONDS):
            # Perhaps nobody lives long enough to watch: consumers that crash again and
            # again.  But this is the clock of the database, which may have jumped just
            # now, so whoever lives must have the time to show us a beat.
            beat = _seconds(said, "heartbeat_interval", threshold)
            threshold = min(threshold, COARSE_BEATS * beat)
        return silent >= threshold


def _said(info: bytes) -> dict[str, Any]:
    """Read what an owner says of itself; of another version, it may say anything."""
    try:
        said = orjson.loads(info)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(said: dict[str, Any], name: str, unsaid: float) -> float:
    value = said.get(name)
    return float(value) if isinstance(value, (int, float)) and value > 0 else unsaid
