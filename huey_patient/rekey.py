"""Sealing again, with the first key, what waits in the store under an older one.

A key is rotated in three steps: the new one is put first (it seals, both open);
what still waits is sealed again here; the old one is taken away.  Between the
last two, what was on Huey's queue, kept under a receipt or stored as a result
must have been used up, for that is not reached from here.

Each request is replaced by compare-and-swap, so consumers may go on meanwhile,
and running this twice, or twice at once, is harmless.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .envelope import Keyring
from .errors import EnvelopeError, PayloadLost, StoreUnavailable
from .references import References
from .stores.base import Store

__all__ = ["Rekeyed", "rekey"]

log = logging.getLogger("huey.patient")

#: Ids asked of the store at once.
BATCH = 500
#: What stands for the key of an envelope that was sealed with none.
NO_KEY = "none"


@dataclass(slots=True)
class Rekeyed:
    """What became of the requests that were waiting."""

    resealed: int = 0
    current: int = 0  #: Sealed with the first key already.
    gone: int = 0  #: Answered, or sealed again by somebody else, meanwhile.
    failed: int = 0  #: Their payload is missing, or its store did not answer.
    #: Key id -> requests that need it, and cannot be opened here.
    unopened: Counter[str] = field(default_factory=Counter)

    @property
    def complete(self) -> bool:
        """Whether nothing that waits needs an older key any more."""
        return not self.failed and not self.unopened


def rekey(store: Store, keyring: Keyring, references: References, *, queue: str) -> Rekeyed:
    """Seal every waiting request with the first key of ``keyring``, and its payload too.

    Raises:
        StoreUnavailable: Some may have been sealed again; calling again goes on.
    """
    done = Rekeyed()
    for id in _all_ids(store):
        try:
            _rekey_one(id, store, keyring, references, queue, done)
        except EnvelopeError as reason:
            done.unopened[reason.key_id or NO_KEY] += 1
            log.warning("Request %s cannot be sealed again: %s", id, reason)
    return done


def _rekey_one(
    id: str, store: Store, keyring: Keyring, references: References, queue: str, done: Rekeyed
) -> None:
    old = store.read(id)
    if old is None:
        done.gone += 1
        return
    is_reference = references.is_reference(old)
    purpose = "reference to a request" if is_reference else "request"
    new = keyring.reseal(old, purpose=purpose, queue=queue, id=id)
    if new == old:
        done.current += 1
        return
    if is_reference:
        try:
            new = references.restow(id, old, "request")
        except (PayloadLost, StoreUnavailable) as reason:
            if store.read(id) is None:  # answered meanwhile, and its object deleted
                done.gone += 1
                return
            done.failed += 1
            log.warning("The payload of request %s cannot be sealed again: %s", id, reason)
            return
    if store.reseal(id, old, new):
        done.resealed += 1
    else:
        done.gone += 1
        if is_reference:
            references.discard(id, new, "request")


def _all_ids(store: Store) -> Iterator[str]:
    # A store may name an id twice; the second time it is found to be current.
    after = ""
    while True:
        ids, after = store.ids(after, BATCH)
        yield from ids
        if not after:
            return
