"""Sealed on Redis: whoever reads the database reads no request and no answer.

    export PATIENT_KEY=$(huey_patient key)
    python slow_api.py
    huey_consumer sealed_redis.huey -w 4
    python sealed_redis.py jane.doe@example.com

Every process needs the same key: make it once, and keep it where you keep the
password of the database.
"""

import os
import sys

from huey import RedisHuey

from huey_patient import Patient

API = os.environ.get("API_URL", "http://127.0.0.1:8000")

huey = RedisHuey("checks", url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))

# URL, headers, body, callback arguments and the response are sealed with the
# first key.  To change keys, put the new one first and keep the old ones until
# what they sealed is answered.
patient = Patient(huey, encryption_key=os.environ["PATIENT_KEY"].split(","))


@patient.callback(retries=3, retry_delay=10)
class Checked:
    def on_complete(self, response):
        print(f"{response.callback_args['email']} was checked: HTTP {response.status}")
        # Huey stores what a callback returns as it stands.  A response is
        # sealed there too; anything else is not, so return no secrets.
        return response

    def on_error(self, error):
        print(f"{error.callback_args['email']} could not be checked: {error.kind}")


#: What all calls to this service share.
service = patient.client(
    base_url=f"{API}/v1/", headers={"Accept": "application/json"}, timeout=30, callback=Checked
)


def check(email):
    return service.post("checks", json={"email": email}, callback_args={"email": email})


if __name__ == "__main__":
    check(sys.argv[1])
