"""The second half of the contract: answers that are kept until they are delivered.

    settle, with a receipt --> waiting --begin--> running --confirm--> forgotten
                                 ^  ^                |
                                 |  +-- postpone ----+
                                 +-- redeliver_due --+   when it is overdue
                                                     |
                                 +-- give_up --------+
                                 v
                                dead --discard--> forgotten;  --revive--> waiting

Huey takes a message off its queue before it runs the task, so a worker that is
killed takes the message along.  A settlement with a receipt therefore leaves a
copy of its message in the store.  It has a time by which somebody must have
said something of it; when that has passed, the copy goes on Huey's queue once
more.  So one answer may have several messages there, and `begin` decides which
of them runs: one at a time, and none after the answer was confirmed.

Two things may have happened to one that is overdue.  It was *running*, and its
worker is lost, perhaps by what it ran: that is counted, and the answer given up
in the end.  Or it was *waiting*: its message was lost, or the queue is long,
and nobody has had it in his hands.  That says nothing against it, so it is
never given up, and waits twice as long the next time.

Times are by the clock of the database, as ``due`` of `Store.submit` is.  A
clock that jumps ahead costs a message too many, which `begin` tells to do
nothing or, in the worst case, a callback that runs beside itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

__all__ = ["MOST_DOUBLINGS", "BeginAnswer", "DeadLetter", "ReceiptStore"]

#: How often the time that an answer waits is doubled.  256 times five minutes are
#: a day: of the longest queue each message then gets one copy a day.
MOST_DOUBLINGS = 8

#: "run": it is yours.  "busy": another run of it is going on.  "gone": delivered
#: before, a dead letter, or never kept.
BeginAnswer = Literal["run", "busy", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An answer that could not be delivered."""

    id: str
    deliveries: int  #: How often its message was put on the queue.
    since: float  #: Unix time at which it was given up.


class ReceiptStore(ABC):
    """Keeps answers, from their settlement until somebody confirms them.

    As for all of a store: every method may be called from any thread and be
    repeated after a failure, and raises `StoreUnavailable` with nothing or
    everything done.
    """

    @abstractmethod
    def begin(self, id: str, seconds: float) -> BeginAnswer:
        """Start to deliver an answer, and be trusted with it for ``seconds``.

        "busy" while another run is going on, also one that is overdue, until
        `redeliver_due` takes it for lost: nobody else counts the lost ones.  A
        worker whose reply to "run" was lost hears "busy" too, until then.
        """

    @abstractmethod
    def extend(self, id: str, seconds: float) -> bool:
        """Be trusted with a running answer for ``seconds`` from now.

        Returns:
            Whether it is running.  It is not any more when it was overdue, and
            somebody put it on the queue again.
        """

    @abstractmethod
    def postpone(self, id: str, seconds: float) -> bool:
        """Let a running answer wait for its next run: Huey has its message again.

        Args:
            seconds: After how many the message counts as lost.

        Returns:
            Whether it was running; else nothing was changed.
        """

    @abstractmethod
    def confirm(self, id: str) -> bool:
        """Forget an answer, because it was delivered, whatever became of it since.

        Also one that was put on the queue again, or was given up, while it was
        being delivered.

        Returns:
            Whether it was there: False for the second time.
        """

    @abstractmethod
    def give_up(self, id: str) -> bool:
        """Make an answer a dead letter: it is delivered no more, and kept.

        Returns:
            Whether it was waiting or running; else nothing was changed.
        """

    @abstractmethod
    def redeliver_due(self, limit: int, seconds: float, most: int) -> tuple[int, int]:
        """Put messages on Huey's queue again whose time has passed, the longest overdue first.

        Each of them waits then, with one delivery more; the message and the new
        time are one step.  One whose run was lost for the time number ``most``
        becomes a dead letter instead.  Of several callers one redelivers what
        is due.

        Args:
            limit: How many to look at.
            seconds: How long each of them waits then.  This doubles with each time
                that it was overdue while it waited, this time included, and up to
                `MOST_DOUBLINGS` times.
            most: How many runs may be lost.

        Returns:
            How many were put on the queue, and how many became dead letters.
        """

    @abstractmethod
    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The dead letters, those that were given up first first."""

    @abstractmethod
    def revive(self, id: str, seconds: float) -> bool:
        """Put the message of a dead letter on the queue again, as its first delivery.

        It waits then, for ``seconds``.

        Returns:
            Whether it was a dead letter; else nothing was changed.
        """

    @abstractmethod
    def discard(self, id: str) -> bool:
        """Forget a dead letter.

        Returns:
            Whether it was one; else nothing was changed.
        """
