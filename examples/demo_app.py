"""The application of the demo: what a project's own ``app.py`` would be.

``demo.py`` imports it to submit calls, and the consumer that ``demo.py`` starts
imports it to run the callbacks.  Both find their database in ``DEMO_FOLDER``.
"""

import os
import sqlite3
from pathlib import Path

from huey import SqliteHuey

from huey_patient import Patient

FOLDER = Path(os.environ["DEMO_FOLDER"])

huey = SqliteHuey("demo", filename=str(FOLDER / "huey.db"))
patient = Patient(huey)


def answers() -> sqlite3.Connection:
    """Where the callbacks write: one row for each time that one of them ran."""
    db = sqlite3.connect(FOLDER / "answers.db", timeout=30, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = normal")
    db.execute("create table if not exists answer (number integer, outcome text, seconds real)")
    return db


@patient.callback()
class NoteAnswer:
    def on_complete(self, response):
        self.note(response, str(response.status))

    def on_error(self, error):
        self.note(error, error.kind)

    def note(self, outcome, what):
        db = answers()
        row = (outcome.callback_args["number"], what, outcome.duration)
        db.execute("insert into answer values (?, ?, ?)", row)
        db.close()
