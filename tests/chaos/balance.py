"""One run, and its books."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

from .databases import database
from .world import TESTS, World

#: Seconds until the store must be empty once it is left alone.
QUIET_SECONDS = 90.0

#: Run in a process of its own, so that each run opens its own database: waits
#: until nothing is left in the store, then takes every message off the queue.
COUNT = """
import sys, time
from chaos.app import huey, patient
from huey_patient import StoreUnavailable
deadline = time.monotonic() + float(sys.argv[1])
while True:
    try:
        counts = patient.store.counts()
        if not any((counts.fresh, counts.suspect, counts.later, counts.held)):
            break
    except StoreUnavailable:
        pass
    if time.monotonic() > deadline:
        sys.exit(f"after {sys.argv[1]} s still in the store: {counts}")
    time.sleep(0.1)
huey.storage.blocking = False
while (data := huey.storage.dequeue()) is not None:
    if data:
        print(huey.deserialize_task(bytes(data)).id)
"""


@dataclass(frozen=True)
class Books:
    """What was accepted, what was answered, and what was done meanwhile."""

    accepted: int
    answered: int
    lost: int
    twice: int
    alien: int
    sent_again: int
    left_over: int
    done: dict[str, int] = field(default_factory=dict)

    @property
    def balance(self) -> bool:
        """Whether every accepted request has exactly one answer, and nothing is left."""
        return not (self.lost or self.twice or self.alien or self.left_over)


def run(kind: str, *, seconds: float, seed: int, control: bool = False) -> Books:
    """Let chaos reign for ``seconds``, then count.

    Raises:
        RuntimeError: The store did not become empty when it was left alone.
    """
    with database(kind) as opened:
        world = World(kind, opened, seed, control=control)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(world.random.uniform(0.1, 0.6))
                world.act()
            world.let_go(all_of_it=True)
            world.stop_submitting()
            answers = _count(world)
            sends = urllib.request.urlopen(f"{world.url}sends").read().split()
            for consumer in world.consumers:
                consumer.stop()
            accepted = world.ledger.read_text().split()
            return Books(
                accepted=len(accepted),
                answered=len(answers),
                lost=len(set(accepted) - set(answers)),
                twice=sum(1 for count in answers.values() if count > 1),
                alien=len(set(answers) - set(accepted)),
                sent_again=int(sends[0]),
                left_over=_left_over(world),
                done=world.done,
            )
        finally:
            world.stop()


def _left_over(world: World) -> int:
    deadline = time.monotonic() + 5  # what is promised: no longer than that
    while world.left_over() and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(world.left_over())


def _count(world: World) -> Counter[str]:
    result = subprocess.run(
        [sys.executable, "-c", COUNT, str(QUIET_SECONDS)],
        env=world.env,
        cwd=TESTS,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip()[-2000:])
    return Counter(result.stdout.split())
