"""The application under chaos, and its submitter (``python -m chaos.app``)."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

import psycopg
from huey import Huey, PostgresHuey, PriorityRedisHuey, RedisHuey, SqliteHuey

from huey_patient import Patient, StoreUnavailable
from huey_patient.stores.base import Settlement

KIND, ADDRESS = os.environ["CHAOS_KIND"], os.environ["CHAOS_ADDRESS"]


def open_huey() -> Huey:
    """Huey on the database under chaos; waits for one that is just starting."""
    match KIND:
        case "sqlite":
            return SqliteHuey("chaos", filename=ADDRESS)
        case "redis":
            return RedisHuey("chaos", port=int(ADDRESS))
        case "redis-priority":
            return PriorityRedisHuey("chaos", port=int(ADDRESS))
    while True:
        try:
            return PostgresHuey("chaos", dsn=ADDRESS)  # creates its tables at once
        except psycopg.Error:  # or others are just creating them
            time.sleep(0.1)


huey = open_huey()
patient = Patient(
    huey,
    encryption_key="3kM2bq0oQ1v3p1v0m1mZr4xk5d6J7y8H9a0BcDeFgHI=",
    max_connections=64,
    heartbeat_interval=0.3,
    orphan_threshold=1.5,
    request_timeout=20,
    max_attempts=1_000_000,  # what is counted here is answers, not patience
)


@patient.callback()
def answered(outcome):
    """Never run: the messages are counted on the queue."""


def settle_in_two_steps() -> None:
    """The control: remove the request, and only then push its message."""
    settle = type(patient.store).settle

    def two_steps(self, owner, settlements: list[Settlement]):
        answers = settle(self, owner, [replace(one, message=b"") for one in settlements])
        time.sleep(0.05)  # a round trip to a database that is not on this machine
        for one, answer in zip(settlements, answers, strict=True):
            if answer == "ok":
                huey.storage.enqueue(one.message)
        return answers

    type(patient.store).settle = two_steps


if os.environ.get("CHAOS_CONTROL"):
    settle_in_two_steps()


def submit_until_told(url: str, ledger: str, prefix: str, pause: float) -> None:
    """Submit; write down each id when the store has it; stop when stdin ends."""
    os.set_blocking(0, False)
    with open(ledger, "a", buffering=1) as accepted:
        for number in range(10**9):
            id = f"{prefix}-{number}"
            while True:
                try:
                    patient.get(url, callback=answered, callback_args={"n": number}, id=id)
                    break
                except StoreUnavailable:
                    time.sleep(0.05)  # its advice: the same id again
            accepted.write(id + "\n")
            try:
                if os.read(0, 1) == b"":
                    return
            except BlockingIOError:
                time.sleep(pause)


if __name__ == "__main__":
    submit_until_told(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
