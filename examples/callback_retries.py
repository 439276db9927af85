"""Callbacks: a class that takes the answer or the error, and is retried by Huey.

    python slow_api.py
    huey_consumer callback_retries.huey -w 2
    python callback_retries.py chair table

A callback is a Huey task: retries, delays, priorities, signals and results are
Huey's own.  Retrying it does not send the request again: the answer is kept.
"""

import contextlib
import logging
import os
import sqlite3
import sys

from huey import SqliteHuey

from huey_patient import Patient

API = os.environ.get("API_URL", "http://127.0.0.1:8000")
PRICES = os.environ.get("PRICES_DB", "prices.db")

log = logging.getLogger("huey.shop")

huey = SqliteHuey("shop", filename="shop.db")
patient = Patient(huey, request_timeout=30, raise_error_responses=True)


@patient.callback(retries=5, retry_delay=1)
class SavePrice:
    """Our own database may be locked for a moment: then Huey calls it again."""

    def on_complete(self, response):
        with prices() as db:
            # The same row, however often it is written: a retry does no harm.
            # (Our slow API knows no prices; the seconds it took must do.)
            row = (response.callback_args["article"], response.json()["waited"])
            db.execute("insert or replace into price values (?, ?)", row)

    def on_error(self, error):
        # A timeout, no connection, or (raise_error_responses) a status from 400.
        log.error("No price of %s: %s", error.callback_args["article"], error)


@patient.after_completion
def count(response):
    log.info("Answered with %d in %.1f s", response.status, response.duration)


def fetch_price(article):
    return patient.get(
        f"{API}/price/{article}", callback=SavePrice, callback_args={"article": article}
    )


@contextlib.contextmanager
def prices():
    with contextlib.closing(sqlite3.connect(PRICES, timeout=1)) as db, db:
        db.execute("create table if not exists price (article text primary key, price real)")
        yield db


if __name__ == "__main__":
    for article in sys.argv[1:]:
        fetch_price(article)
