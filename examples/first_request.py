"""A first request: ask, go on, and look at the answer when it is there.

In three terminals, in this folder:

    python slow_api.py
    huey_consumer first_request.huey
    python first_request.py

The requests wait in the SQLite file, so the last two may start in any order.
"""

import os

from huey import SqliteHuey

from huey_patient import Patient

API = os.environ.get("API_URL", "http://127.0.0.1:8000")

huey = SqliteHuey("first_request", filename="first_request.db")
patient = Patient(huey)


def ask():
    # Nothing is sent yet: the request is stored, and a consumer will send it.
    results = [patient.get(f"{API}/{number}") for number in range(5)]
    print("Submitted:", *(result.id for result in results))

    # No callback was named, so the response itself is the result.  An
    # application would rather keep the id and look later, or name a callback.
    for result in results:
        response = result.get(blocking=True, timeout=60)
        print(response.status, response.json()["path"], f"in {response.duration:.1f} s")


if __name__ == "__main__":
    ask()
