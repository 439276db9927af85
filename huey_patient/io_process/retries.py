"""Whether, and when, a request is sent again: rules without a clock of their own.

The deadline of the request bounds everything here; who asks compares the wait
with the time that is left.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from ..request import Request
from ..settings import Settings

__all__ = ["asked_wait", "backoff", "further_attempts", "may_repeat", "wants_another"]

#: Seconds.  Half a second lets a restarting server come back; half a minute is
#: where waiting longer stops to help.
_BASE, _CEILING = 0.5, 30.0
#: Seconds that a Retry-After may ask for: not a hammering, not a day.
_SHORTEST, _LONGEST = 1.0, 600.0
#: What `float` takes besides ("1_0", "1e3", "nan", digits of other scripts) is no
#: number of HTTP's, and nobody means more than nine digits.
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")

#: Methods that may be repeated without harm (RFC 9110, section 9.2.2).
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))


def further_attempts(request: Request, settings: Settings) -> int:
    """How often ``request`` may be sent again after its first send."""
    if request.retries == "never":
        return 0
    return settings.retries if request.retries is None else request.retries


def may_repeat(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a send that may have reached the server can be repeated.

    Args:
        method: As it was sent.
        headers: As they were sent, found in any spelling; a preprocessor may have
            taken the key away.
    """
    return method in _IDEMPOTENT or bool(headers.get("idempotency-key"))


def wants_another(status: int, headers: Mapping[str, str], statuses: frozenset[int]) -> bool:
    """Whether an answer is worth another attempt.

    ``statuses`` are those that the caller named.  Only when there are any does
    the server's own word count, which is then the last one.
    """
    if not statuses or status < 400:
        return False
    word = headers.get("x-should-retry", "").strip().lower()
    if word in ("true", "false"):
        return word == "true"
    return status in statuses


def backoff(attempts: int) -> float:
    """Seconds to wait after ``attempts`` sends: full jitter, doubling.

    Full jitter spreads a crowd that failed together evenly over the time.
    """
    # Beyond 2**10 the ceiling holds anyway; a large power would overflow.
    return random.uniform(0.0, min(_CEILING, _BASE * 2.0 ** min(attempts - 1, 10)))


def asked_wait(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that the server asked to wait, clamped; None when it did not ask.

    Args:
        headers: Of the answer.
        now: Unix time, which a date is compared with.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        # Whoever speaks in milliseconds means less than a second; zero is up to us.
        return min(milliseconds / 1000.0, _LONGEST) or None
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is None:
        seconds = _seconds_until(text, now)
    return None if seconds is None else min(max(seconds, _SHORTEST), _LONGEST)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _seconds_until(text: str, now: float) -> float | None:
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:  # "-0000": a date that does not say where; HTTP means GMT
            when = when.replace(tzinfo=UTC)
        return when.timestamp() - now
    # The standard library raises each of them for some text that is no date.
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
