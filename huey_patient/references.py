"""References: small envelopes that stand for large ones in a payload store.

    small envelope                      travels as it is
    large envelope  --stow-->  object in a payload store, and a reference to it
    reference       --fetch--> the large envelope again
    reference       --discard--> nothing

A reference is sealed like what it stands for, bound to the same queue, request
and purpose, under the same label with one word more: carriers route it, and see
that it is one.  Inside are the name of the store, the key, the size and the
digest of the object, which are compared after reading, so an object that was
damaged, or swapped for another of ours, is refused.  It also repeats what an
error callback must know (method, URL, callback_args), for when the object is
lost, or when nobody ever needs to read it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .envelope import Keyring, read_label
from .errors import EnvelopeError, PatientError, PayloadLost, StoreUnavailable
from .label import as_reference, is_reference
from .payloads import PayloadStore, checked_key, made_at, new_key

__all__ = ["About", "References"]

log = logging.getLogger("huey.patient")

T = TypeVar("T")

_DIGEST_BYTES = 32
#: Characters of a foreign error that a log line repeats.
_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a reference says of the request, its object unread."""

    method: str = ""
    url: str = ""
    callback_args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an object lies, and how it is known."""

    store: str
    key: str
    size: int
    digest: str
    about: About


class References:
    """Stows, fetches and discards the large envelopes of one queue.

    Any thread may use it.  What it does takes as long as its stores take.
    """

    def __init__(
        self, keyring: Keyring, *, queue: str, threshold: int, max_body_bytes: int
    ) -> None:
        self._keyring = keyring
        self._queue = queue
        self._threshold = threshold
        self._max_body_bytes = max_body_bytes
        self._stores: dict[str, PayloadStore] = {}

    def register(self, name: str, store: PayloadStore) -> None:
        """Read from ``store`` what refers to ``name``; and write there from now on."""
        self._stores.pop(name, None)  # so that it becomes the last one
        self._stores[name] = store

    def takes(self, sealed: bytes) -> bool:
        """Whether an envelope is too large to travel, and there is a place for it."""
        return bool(self._stores) and len(sealed) > self._threshold

    def is_reference(self, sealed: bytes) -> bool:
        """Whether an envelope is a reference; says nothing about its truth."""
        try:
            return is_reference(read_label(sealed))
        except EnvelopeError:
            return False

    def stow(
        self,
        id: str,
        sealed: bytes,
        purpose: str,
        *,
        about: About | None = None,
        due: float | None = None,
    ) -> bytes:
        """Write a large envelope to the last payload store; return its reference.

        An envelope that `takes` does not want is returned as it is.

        Args:
            about: Read from the envelope when it is not given.
            due: Unix time before which it is not needed; it ages from then on.

        Raises:
            StoreUnavailable: It was perhaps written, and nothing refers to it.
                Calling again is safe.
        """
        if not self.takes(sealed):
            return sealed
        if about is None:
            about = self._read_about(id, sealed, purpose)
        name = next(reversed(self._stores))
        key = new_key(max(time.time(), due or 0.0))
        return self._stowed(id, sealed, purpose, name=name, key=key, about=about)

    def _stowed(
        self, id: str, sealed: bytes, purpose: str, *, name: str, key: str, about: About
    ) -> bytes:
        reference = self._keyring.seal(
            {
                "store": name,
                "key": key,
                "size": len(sealed),
                "digest": _digest(sealed),
                "method": about.method,
                "url": about.url,
                "callback_args": dict(about.callback_args),
            },
            b"",
            purpose=_reference_to(purpose),
            queue=self._queue,
            id=id,
            label=as_reference(read_label(sealed)),
        )
        self._ask(name, lambda store: store.put(key, sealed))
        return reference

    def fetch(self, id: str, sealed: bytes, purpose: str) -> bytes:
        """Return the envelope that ``sealed`` stands for; itself, if it is no reference.

        Raises:
            PayloadLost: The object is not there, or is not what was stowed.
            EnvelopeError: The reference itself does not open.
            StoreUnavailable: Not now; calling again may help.
        """
        if not self.is_reference(sealed):
            return sealed
        place = self._place(id, sealed, purpose)
        found = self._ask(place.store, lambda store: store.get(place.key))
        if found is None:
            raise self._lost(id, place, f"the object of the {purpose} is not there any more")
        if len(found) != place.size or _digest(found) != place.digest:
            raise self._lost(id, place, f"the object of the {purpose} is damaged")
        return found

    def about(self, id: str, reference: bytes, purpose: str) -> About:
        """What a reference says of its request; no payload store is asked.

        Raises:
            EnvelopeError: It does not open.
        """
        return self._place(id, reference, purpose).about

    def discard(self, id: str, sealed: bytes, purpose: str) -> None:
        """Delete the object of a reference; nothing for what is none.

        What cannot be deleted now is left to the sweep, and logged.
        """
        if not self.is_reference(sealed):
            return
        try:
            place = self._place(id, sealed, purpose)
            self._ask(place.store, lambda store: store.delete(place.key))
        except PatientError as reason:
            log.warning("The object of request %s is left to the sweep: %s", id, reason)

    def restow(self, id: str, reference: bytes, purpose: str) -> bytes:
        """Return a reference to a copy of the object, both sealed with the first key.

        The object of the old reference stays, for a consumer may be reading it.

        Raises:
            PayloadLost, EnvelopeError, StoreUnavailable: As `fetch`.
        """
        place = self._place(id, reference, purpose)
        found = self.fetch(id, reference, purpose)
        sealed = self._keyring.reseal(found, purpose=purpose, queue=self._queue, id=id)
        key = new_key(made_at(place.key))
        return self._stowed(id, sealed, purpose, name=place.store, key=key, about=place.about)

    def sweep(self, older_than: float) -> None:
        """Delete what is older than so many seconds, from every store."""
        for name in list(self._stores):
            try:
                swept = self._ask(name, lambda store: store.sweep(older_than))
            except StoreUnavailable as reason:
                log.warning("Payloads were not swept: %s", reason)
            else:
                if swept:
                    log.info("%d old objects were swept from the payload store %r.", swept, name)

    def _place(self, id: str, reference: bytes, purpose: str) -> _Place:
        head, _ = self._keyring.unseal(
            reference,
            purpose=_reference_to(purpose),
            queue=self._queue,
            id=id,
            max_body_bytes=0,
        )
        try:
            return _Place(
                store=str(head["store"]),
                key=checked_key(head["key"]),
                size=int(head["size"]),
                digest=str(head["digest"]),
                about=_about(head),
            )
        except (KeyError, TypeError, ValueError):
            # Without a key anybody may have written it.
            raise EnvelopeError("the reference names no object") from None

    def _read_about(self, id: str, sealed: bytes, purpose: str) -> About:
        # Stowing an outcome must not depend on reading it: whoever does not know
        # its cipher passes it on as well.
        try:
            head, _ = self._keyring.unseal(
                sealed,
                purpose=purpose,
                queue=self._queue,
                id=id,
                max_body_bytes=self._max_body_bytes,
            )
        except EnvelopeError:
            head = {}
        return _about(head)

    def _ask(self, name: str, ask: Callable[[PayloadStore], T]) -> T:
        store = self._stores.get(name)
        if store is None:
            raise StoreUnavailable(
                f"no payload store {name!r} is registered in this process; "
                "register it where envelopes are read, under the same name"
            )
        try:
            return ask(store)
        except Exception as reason:
            # The contract lets a store raise what it likes, and the text is not ours.
            text = f"{type(reason).__name__}: {reason}"[:_MOST_CHARACTERS]
            raise StoreUnavailable(f"the payload store {name!r} failed: {text!r}") from reason

    def _lost(self, id: str, place: _Place, message: str) -> PayloadLost:
        log.error("Request %s: %s (store %r).", id, message, place.store)
        return PayloadLost(
            message,
            request_id=id,
            method=place.about.method,
            url=place.about.url,
            callback_args=place.about.callback_args,
        )


def _about(head: dict[str, Any]) -> About:
    return About(
        method=str(head.get("method", "")),
        url=str(head.get("url", "")),
        callback_args=dict(head.get("callback_args", {})),
    )


def _reference_to(purpose: str) -> str:
    return f"reference to {'an' if purpose == 'outcome' else 'a'} {purpose}"


def _digest(sealed: bytes) -> str:
    return hashlib.blake2b(sealed, digest_size=_DIGEST_BYTES).hexdigest()
