"""Standard Webhooks (https://www.standardwebhooks.com), as a preprocessor.

    patient.register_preprocessor("webhook", "signing_webhooks:sign")
    patient.post(subscriber_url, json={"type": "user.created", …}, preprocessors="webhook")

The id of the message is the id of the request: each attempt has the same, so the
receiver knows a message that it has seen.  The time and the signature are those of
the attempt.  The key is in the consumer's environment (WEBHOOK_SECRET); no request
holds it.  The I/O process imports this file, so it imports little itself.
"""

import base64
import hmac
import os
import time


def sign(outgoing):
    """Set the three headers that a receiver verifies."""
    id = outgoing.headers["X-Request-Id"]
    moment = str(int(time.time()))
    key = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
    content = f"{id}.{moment}.".encode() + (outgoing.body or b"")
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    outgoing.headers["Webhook-Id"] = id
    outgoing.headers["Webhook-Timestamp"] = moment
    outgoing.headers["Webhook-Signature"] = f"v1,{signature}"
