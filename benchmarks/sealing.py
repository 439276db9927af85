"""What sealing costs a call: its request and its response, sealed and opened once each.

    python benchmarks/sealing.py

Beside it, in the same run: the same envelopes without a key, the same without a
key and uncompressed (media type of an image), and what queues of JSON do with
bytes, gzip and base64.  CPU time of one core, the best of five; the text is
JSON as LLM APIs answer it.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import secrets
import time
from collections.abc import Callable

from huey_patient.envelope import Keyring

HEAD = {
    "method": "POST",
    "url": "https://api.example.com/v1/chat/completions",
    "headers": [["Content-Type", "application/json"], ["X-Request-Id", "0" * 36]] * 4,
    "callback_args": {"document": 7},
}
WORDS = "the of and to in is that for it as was with be by on not he his but at are this".split()
CONTEXT = {"queue": "bench", "id": "0" * 36}


def text(size: int) -> bytes:
    """JSON of about ``size`` bytes, of words and numbers."""
    random.seed(size)
    choices = []
    while len(json.dumps(choices)) < size:
        words = [random.choice(WORDS) + random.choice("abcdefgh") for _ in range(40)]
        choices.append({"index": random.randrange(10**6), "text": " ".join(words)})
    return json.dumps(choices).encode()[:size]


def enveloped(keyring: Keyring, media_type: str) -> Callable[[bytes], int]:
    """One call through ``keyring``; returns the bytes that are stored for it."""

    def call(body: bytes) -> int:
        stored = 0
        for purpose in ("request", "outcome"):
            sealed = keyring.seal(HEAD, body, purpose=purpose, media_type=media_type, **CONTEXT)
            keyring.unseal(sealed, purpose=purpose, max_body_bytes=10**7, **CONTEXT)
            stored += len(sealed)
        return stored

    return call


def gzip_base64(body: bytes) -> int:
    """One call as a queue of JSON carries it."""
    stored = 0
    for _ in range(2):
        packed = base64.b64encode(gzip.compress(body, 6)).decode()
        message = json.dumps({**HEAD, "body": packed})
        gzip.decompress(base64.b64decode(json.loads(message)["body"]))
        stored += len(message)
    return stored


def seconds(call: Callable[[bytes], int], body: bytes) -> float:
    """CPU seconds of one call."""
    best = float("inf")
    for _ in range(5):
        times = max(1, 2_000_000 // (len(body) + 2_000))
        began = time.process_time()
        for _ in range(times):
            call(body)
        best = min(best, (time.process_time() - began) / times)
    return best


def main() -> None:
    plain, sealing = Keyring(), Keyring([secrets.token_bytes(32)])
    ways = {
        "plain": enveloped(plain, "application/json"),
        "sealed": enveloped(sealing, "application/json"),
        "plain, not compressed": enveloped(plain, "image/png"),
        "sealed, not compressed": enveloped(sealing, "image/png"),
        "gzip + base64": gzip_base64,
    }
    for kilobytes in (1, 20, 200):
        body = text(kilobytes * 1000)
        taken = {name: seconds(call, body) for name, call in ways.items()}
        print(f"{kilobytes} KB, request and response:")
        for name, call in ways.items():
            print(
                f"  {name:24} {1e6 * taken[name]:8.0f} us   {taken[name] / taken['plain']:5.2f} of "
                f"plain   {call(body) / 1000:6.1f} KB stored"
            )


if __name__ == "__main__":
    main()
