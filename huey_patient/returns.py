"""Requests on their way back to the store: which, why, and for how long.

A request goes back when its process died under it (with a strike), when its
consumer stops or begins anew (without one), or when only a newer consumer can
open it (after a pause).  Whoever gives it back holds it until the store has
confirmed that, so none is forgotten when the store is away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .lines import Flight
from .stores.base import Store

__all__ = ["Returns"]

#: Pauses of a request that only a newer consumer can open, doubling with each claim.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0


@dataclass(frozen=True, slots=True)
class _How:
    """What one call of the store says of all that it gives back."""

    owner: str
    strike: bool
    pause: float


class Returns:
    """What is to be given back by the next call of `give_back`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[_How, list[Flight]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def flights(self) -> Iterator[Flight]:
        """Everything that the store has not taken back yet."""
        for flights in self._waiting.values():
            yield from flights

    def add(self, flights: Iterable[Flight], *, strike: bool) -> None:
        """Have them given back, each to its old place."""
        for flight in flights:
            self._add(flight, strike=strike, pause=0.0)

    def put_off(self, flight: Flight) -> float:
        """Have a request given back for later, and later again; the seconds until then.

        It would be claimed again at once otherwise, before all others.
        """
        doublings = min(flight.lease.epoch - 1, 10)
        pause = min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)
        self._add(flight, strike=False, pause=pause)
        return pause

    def _add(self, flight: Flight, *, strike: bool, pause: float) -> None:
        self._waiting.setdefault(_How(flight.owner, strike, pause), []).append(flight)

    def give_back(self) -> bool:
        """Give everything back; whether the store has suspects now.

        Raises:
            StoreUnavailable: What was not given back is kept; call again.
        """
        struck = False
        while self._waiting:
            how, flights = next(iter(self._waiting.items()))
            leases = [flight.key for flight in flights]
            self._store.release(how.owner, leases, strike=how.strike, pause=how.pause)
            del self._waiting[how]
            struck = struck or how.strike
        return struck
