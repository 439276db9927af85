"""What may be shared, with a forked child and between threads and greenlets.

A fork copies locks that some other thread held, and connections that belong to
the parent.  Huey forks its process workers from a consumer full of threads, so
each store asks here to be told, and starts anew in the child.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import Any, Protocol

__all__ = [
    "gevent_has_patched",
    "keep_untouched",
    "kind_of_thread",
    "native_lock",
    "tell_after_fork",
    "tell_before_fork",
]


class _Forgetful(Protocol):
    def forget_parent(self) -> None:
        """Drop locks and connections of the parent process, without using them."""


class _Interruptible(Protocol):
    def before_fork(self) -> None:
        """Bring this to a state that may be copied, and keep it there."""

    def after_fork(self) -> None:
        """Go on, in the parent."""


_forgetful: weakref.WeakSet[_Forgetful] = weakref.WeakSet()
_interruptible: weakref.WeakSet[_Interruptible] = weakref.WeakSet()

# A connection that is garbage-collected is closed, and a parent's connection
# closed in the child says goodbye to the server, or drops SQLite's locks, in
# the parent's name.  So the child holds on to them until it ends.
_inherited: list[object] = []


def tell_after_fork(link: _Forgetful) -> None:
    """Call ``link.forget_parent()`` in every forked child, while ``link`` lives."""
    _forgetful.add(link)


def tell_before_fork(link: _Interruptible) -> None:
    """Call ``link.before_fork()`` and ``after_fork()`` around every fork."""
    _interruptible.add(link)


def keep_untouched(inherited: object) -> None:
    """Keep ``inherited``, and what it refers to, from being closed in this process."""
    _inherited.append(inherited)


def kind_of_thread() -> int:
    """Return what threads must have in common to share a lock or a connection.

    All threads are of one kind, until gevent's monkey-patching: then a lock or
    a socket belongs to the native thread whose hub made it, and the courier's
    native thread must wait for nothing that a greenlet holds.
    """
    return threading.get_native_id() if gevent_has_patched() else 0


def gevent_has_patched() -> bool:
    """Return whether gevent has replaced `threading`, so that threads are greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def native_lock() -> Any:
    """Return a lock that greenlets and native threads may share.

    A greenlet that waits for it stops all others, so whoever holds it does
    nothing but a few steps in memory.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original("_thread", "allocate_lock")()
    return threading.Lock()


def _before() -> None:
    for link in list(_interruptible):
        link.before_fork()


def _after_in_parent() -> None:
    for link in list(_interruptible):
        link.after_fork()


def _after_in_child() -> None:
    for link in list(_forgetful):
        link.forget_parent()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
