"""Requests that are signed just before they are sent, by functions of your own.

    export WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
    export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=eu-west-1
    huey_consumer signed_requests.huey -w 2
    python signed_requests.py webhook https://subscriber.example.com/hooks
    python signed_requests.py lambda https://….lambda-url.eu-west-1.on.aws/

Only the consumer needs the keys.
"""

import sys

from huey import SqliteHuey

from huey_patient import LLM_STATUSES, Patient

huey = SqliteHuey("signed", filename="signed.db")
patient = Patient(huey)

# By name: these functions run in the I/O process, which imports their modules alone.
patient.register_preprocessor("webhook", "signing_webhooks:sign")
patient.register_preprocessor("lambda", "signing_aws:sign_lambda")


@patient.callback
class Report:
    def on_complete(self, response):
        print(f"{response.url} answered {response.status} to attempt {response.attempts}")

    def on_error(self, error):
        print(error)


if __name__ == "__main__":
    signature, url = sys.argv[1:]
    patient.post(
        url,
        json={"type": "user.created", "data": {"id": 7}},
        preprocessors=signature,
        retry_statuses=LLM_STATUSES,
        callback=Report,
    )
