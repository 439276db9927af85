"""Preprocessors for tests: named as an application names its own."""

from __future__ import annotations

import hmac
import sys
from typing import Any

KEY = b"signing-key"
seen: list[dict[str, Any]] = []  #: What each run of `look` saw.


def look(outgoing: Any) -> None:
    """Remember what leaves."""
    seen.append(
        {
            "method": outgoing.method,
            "url": outgoing.url,
            "headers": dict(outgoing.headers),
            "body": outgoing.body,
            "repr": repr(outgoing),
        }
    )


def stamp(outgoing: Any) -> None:
    """Set a header and add a parameter."""
    outgoing.headers["X-Stamp"] = str(len(seen))
    outgoing.add_param("stamp", "a b&c")


def sign(outgoing: Any) -> None:
    """Sign everything that a server would verify."""
    outgoing.headers["X-Signature"] = signature(
        outgoing.method, outgoing.url, outgoing.headers["X-Request-Id"], outgoing.body
    )


def signature(method: str, url: str, request_id: str, body: bytes | None) -> str:
    text = f"{method}\n{url}\n{request_id}\n".encode() + (body or b"")
    return hmac.new(KEY, text, "sha256").hexdigest()


def fail(outgoing: Any) -> None:
    """Raise with what must not be told."""
    raise ValueError(outgoing.url)


def break_a_header(outgoing: Any) -> None:
    """Set what cannot be sent."""
    outgoing.headers["X-Broken"] = "a\r\nb"


def set_method(outgoing: Any) -> None:
    """Change what is not its own to change; so do the next three."""
    outgoing.method = "PUT"


def set_body(outgoing: Any) -> None:
    outgoing.body = b"changed"


def set_url(outgoing: Any) -> None:
    outgoing.url = "http://other.test/"


def set_headers(outgoing: Any) -> None:
    outgoing.headers = {"X-Only": "this"}


def reach_in(outgoing: Any) -> None:
    """Change it where no preprocessor should look."""
    for name, value in {"method": "PUT", "body": b"changed", "url": "http://a.test/"}.items():
        setattr(outgoing, f"_{name}", value)


def add_bytes(outgoing: Any) -> None:
    """Add what has no text of its own."""
    outgoing.add_param("a", b"x")


def add_a_line(outgoing: Any) -> None:
    """Name a header that is none."""
    outgoing.headers["X: y\r\nZ"] = "1"


def leave(outgoing: Any) -> None:
    """Try to end the process."""
    sys.exit(1)


def no_argument() -> None:
    """Not a preprocessor."""


def two_arguments(outgoing: Any, other: Any) -> None:
    """Not a preprocessor."""


not_a_function = "text"
