"""An LLM: a call of many seconds, a secret, and retries while it is overloaded.

    export OPENAI_API_KEY=sk-…
    huey_consumer chat_completion.huey -w 2
    python chat_completion.py 7 < a_long_text.txt

Any service with the same interface will do: set OPENAI_BASE_URL.
"""

import os
import sys

from huey import SqliteHuey

from huey_patient import LLM_STATUSES, Patient, secret

BASE_URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")

huey = SqliteHuey("chat", filename="chat.db")
patient = Patient(huey, max_connections=500)

# The database holds its name alone.  The consumer puts the value in just before
# the request is sent, so only the consumer needs it.
patient.register_secret("openai", lambda: os.environ["OPENAI_API_KEY"])

completions = patient.client(
    base_url=f"{BASE_URL}/",
    headers={"Authorization": secret("openai", prefix="Bearer ")},
    timeout=180,  # seconds, all attempts together
    raise_error_responses=True,
    retry_statuses=LLM_STATUSES,  # 429, 503 and the like; Retry-After is honoured
)


@patient.callback(retries=3, retry_delay=10)
class SaveSummary:
    def on_complete(self, response):
        choice = response.json()["choices"][0]
        print(f"{response.callback_args['document']}: {choice['message']['content']}")

    def on_error(self, error):
        print(f"{error.callback_args['document']}: no summary, {error}")


def summarize(document, text):
    return completions.post(
        "chat/completions",
        json={
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Summarize in one sentence."},
                {"role": "user", "content": text},
            ],
        },
        callback=SaveSummary,
        callback_args={"document": document},
    )


if __name__ == "__main__":
    summarize(sys.argv[1], sys.stdin.read())
