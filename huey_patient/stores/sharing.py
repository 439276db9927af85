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
from typing import Protocol

__all__ = ["keep_untouched", "kind_of_thread", "tell_after_fork"]


class _Forgetful(Protocol):
    def forget_parent(self) -> None:
        """Drop locks and connections of the parent process, without using them."""


_stores: weakref.WeakSet[_Forgetful] = weakref.WeakSet()

# A connection that is garbage-collected is closed, and a parent's connection
# closed in the child says goodbye to the server, or drops SQLite's locks, in
# the parent's name.  So the child holds on to them until it ends.
_inherited: list[object] = []


def tell_after_fork(store: _Forgetful) -> None:
    """Call ``store.forget_parent()`` in every forked child, while ``store`` lives."""
    _stores.add(store)


def keep_untouched(inherited: object) -> None:
    """Keep ``inherited``, and what it refers to, from being closed in this process."""
    _inherited.append(inherited)


def kind_of_thread() -> int:
    """Return what threads must have in common to share a lock or a connection.

    All threads are of one kind, until gevent's monkey-patching: then a lock or
    a socket belongs to the native thread whose hub made it, and the courier's
    native thread must wait for nothing that a greenlet holds.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return threading.get_native_id()
    return 0


def _start_anew() -> None:
    for store in list(_stores):
        store.forget_parent()


os.register_at_fork(after_in_child=_start_anew)
