"""The memory store's answers that are kept until they are delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import BeginAnswer, DeadLetter, Settlement, Store
from .memory_shelf import Answer, Shelf
from .receipts import MOST_DOUBLINGS

__all__ = ["MemoryReceipts"]


class MemoryReceipts(Store):
    """This half of `MemoryStore`."""

    _storage: Any
    _clock: Callable[[], float]
    _shelf: Shelf

    def _keep(self, one: Settlement, due: float) -> None:
        self._shelf.answers[one.id] = Answer(one.epoch, one.message, one.priority, due)
        self._shelf.answers_due.add(one.id, due)
        # It is its own tombstone now.
        del self._shelf.tombs[one.id]

    def begin(self, id: str, seconds: float) -> BeginAnswer:
        with self._shelf.changed:
            answer = self._shelf.answers.get(id)
            if answer is None:
                return "gone"
            if answer.running:
                return "busy"
            self._wait(id, answer, seconds, running=True)
            return "run"

    def extend(self, id: str, seconds: float) -> bool:
        return self._renew(id, seconds, running=True)

    def postpone(self, id: str, seconds: float) -> bool:
        return self._renew(id, seconds, running=False)

    def _renew(self, id: str, seconds: float, *, running: bool) -> bool:
        with self._shelf.changed:
            answer = self._shelf.answers.get(id)
            if answer is None or not answer.running:
                return False
            self._wait(id, answer, seconds, running=running)
            return True

    def confirm(self, id: str) -> bool:
        with self._shelf.changed:
            self._shelf.answers_due.remove(id)
            return self._forget(id, self._shelf.answers.pop(id, None)) or self._forget(
                id, self._shelf.dead.pop(id, None)
            )

    def give_up(self, id: str) -> bool:
        with self._shelf.changed:
            if id not in self._shelf.answers:
                return False
            self._bury_letter(id)
            return True

    def redeliver_due(self, limit: int, seconds: float, most: int) -> tuple[int, int]:
        with self._shelf.changed:
            now, row, due = self._clock(), self._shelf.answers_due, list[str]()
            while len(due) < limit and (id := row.pop(now)) is not None:
                due.append(id)
            done = queued = 0
            try:
                for id in due:
                    queued += self._redeliver(id, seconds, most)
                    done += 1
            finally:
                # What Huey's queue did not take is due as before.
                for id in due[done:]:
                    row.add(id, self._shelf.answers[id].due)
            return queued, done - queued

    def _redeliver(self, id: str, seconds: float, most: int) -> bool:
        answer = self._shelf.answers[id]
        lost = answer.lost + answer.running
        if answer.running and lost >= most:
            self._bury_letter(id)
            return False
        # First what may fail; then nothing is half done.
        self._storage.enqueue(answer.message, answer.priority)
        doublings = min(answer.deliveries - lost, MOST_DOUBLINGS)
        answer.lost = lost
        answer.deliveries += 1
        self._wait(id, answer, seconds * 2**doublings, running=False)
        return True

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        with self._shelf.changed:
            return [
                DeadLetter(id=id, deliveries=letter.deliveries, since=letter.due)
                for id, letter in list(self._shelf.dead.items())[:limit]
            ]

    def revive(self, id: str, seconds: float) -> bool:
        with self._shelf.changed:
            letter = self._shelf.dead.get(id)
            if letter is None:
                return False
            self._storage.enqueue(letter.message, letter.priority)
            self._shelf.answers[id] = self._shelf.dead.pop(id)
            letter.deliveries, letter.lost = 1, 0
            self._wait(id, letter, seconds, running=False)
            return True

    def discard(self, id: str) -> bool:
        with self._shelf.changed:
            return self._forget(id, self._shelf.dead.pop(id, None))

    def _wait(self, id: str, answer: Answer, seconds: float, *, running: bool) -> None:
        answer.running, answer.due = running, self._clock() + seconds
        self._shelf.answers_due.add(id, answer.due)

    def _bury_letter(self, id: str) -> None:
        self._shelf.answers_due.remove(id)
        letter = self._shelf.dead[id] = self._shelf.answers.pop(id)
        letter.running, letter.due = False, self._clock()

    def _forget(self, id: str, answer: Answer | None) -> bool:
        if answer is None:
            return False
        self._shelf.tombs[id] = (answer.epoch, self._clock())
        return True
