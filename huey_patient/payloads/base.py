"""The contract of a payload store: large envelopes, kept outside of the database.

A payload store holds *objects*: sealed envelopes under keys that we make.  It
is told nothing else, and needs no transaction: an object is written before
anything refers to it, and deleted when nothing does any more.  What a process
leaves behind that was killed between the two, `PayloadStore.sweep` removes by
its age.

A key says from when on its object ages, so that no store has to know when an
object was written:

    8 hex digits    Unix time, in seconds
    24 hex digits   random
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod

__all__ = ["PayloadStore", "aged", "checked_key", "made_at", "new_key"]

_KEY = re.compile(r"[0-9a-f]{32}")
_TIME_DIGITS = 8


def new_key(at: float | None = None) -> str:
    """A key that no other object has.

    Args:
        at: Unix time from which on the object ages; None: now.
    """
    seconds = int(time.time() if at is None else at)
    # Eight digits end in the year 2106; a time beyond them is never reached.
    return f"{min(max(seconds, 0), 0xFFFFFFFF):08x}{os.urandom(12).hex()}"


def made_at(key: str) -> int:
    """The Unix time from which on the object called ``key`` ages."""
    return int(checked_key(key)[:_TIME_DIGITS], 16)


def checked_key(key: str) -> str:
    """Return ``key`` if `new_key` could have made it.

    Raises:
        ValueError: It could not; it might be a path, or a name of something else.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError("the key of an object is 32 lower-case hex digits")
    return key


def aged(name: str, older_than: float) -> bool:
    """Whether ``name`` is a key whose object has aged more than ``older_than`` seconds."""
    return bool(_KEY.fullmatch(name)) and made_at(name) < time.time() - older_than


class PayloadStore(ABC):
    """Keeps objects under keys; make one of your own by these four methods.

    Every method may be called from any thread or greenlet, in a forked child of
    the process that made the store, and by several processes at once.

    Raises (every method):
        ValueError: The key is none of ours; nothing was read or changed.
        Exception: Any other means "not now": it is asked again later, so a
            method that has failed half-way may simply be repeated.
    """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Keep ``data`` as ``key``, as durably as this store can, before returning.

        An object that is there already is replaced, in one step: nobody reads a
        mixture of both, or half of one.
        """

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return what was put as ``key``, or None when it is not there."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Forget ``key``; that it is not there (any more) is no error."""

    @abstractmethod
    def sweep(self, older_than: float) -> int:
        """Forget every object whose key was made more than ``older_than`` seconds ago.

        What is younger stays, and so does whatever else lies in the same place.
        Several may sweep at once.

        Returns:
            How many were forgotten; of several that sweep, all may count one.
        """
