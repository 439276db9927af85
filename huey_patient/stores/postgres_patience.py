"""A connection that gives up on a server which has fallen silent.

On the client, since a limit on the server ends with the server's own process: one that
is stopped, or behind a network that drops everything, looks at no clock.  Nor could it
be set: a session of a pooler's is not ours to change, and a statement that is a
transaction of its own has nowhere to say ``set local``.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Generator
from time import monotonic
from typing import Any

import psycopg
from psycopg.waiting import Wait

from ..native import original

__all__ = ["NoAnswer", "limit"]

#: Seconds for the server to take back a statement that nobody waits for any more.
CANCEL_SECONDS = 1.0


class NoAnswer(psycopg.OperationalError):
    """The server has said nothing for too long; it may have acted, or may still."""


def limit(db: Any, patience: float) -> None:
    """Have every statement on ``db`` raise `NoAnswer` after ``patience`` seconds of silence.

    Silence, not work: an answer that comes slowly is waited for as long as it comes.
    The connection is of no use then, and must be closed.
    """
    plain = db.wait

    def wait(gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(_impatient(gen, db.fileno(), patience), *args, **kwargs)
        except NoAnswer:
            _take_back(db)
            raise

    db.wait = wait


def _impatient(gen: Any, fd: int, patience: float) -> Generator[Any, Any, Any]:
    """Pass on what psycopg's ``gen`` waits for; it asks ten times a second."""
    heard_at = monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            # Looked at here, because older ones say "ready" when they mean "not yet".
            if _is_ready(fd, wanted):
                heard_at = monotonic()
            elif monotonic() - heard_at > patience:
                raise NoAnswer(
                    f"no answer within {patience:g} s, and whether the server acted is not known"
                )
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


def _is_ready(fd: int, wanted: int) -> bool:
    poller = original("select", "poll")()
    reading = select.POLLIN if wanted & Wait.R else 0
    writing = select.POLLOUT if wanted & Wait.W else 0
    poller.register(fd, reading | writing)
    return bool(poller.poll(0))


def _take_back(db: Any) -> None:
    # A statement that waits for somebody's lock would keep its server process for as long
    # as the lock is held, and with each further try there would be one more of them.
    # Before libpq 17 asking for it may itself wait for ever.
    if psycopg.capabilities.has_cancel_safe():
        with contextlib.suppress(psycopg.Error):
            db.cancel_safe(timeout=CANCEL_SECONDS)
