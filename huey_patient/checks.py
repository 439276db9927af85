"""Checks that more than one door makes of what a caller gives."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "MAX_HEADERS",
    "MAX_HEADER_BYTES",
    "METHODS",
    "count",
    "hosts",
    "method",
    "names",
    "proxy_url",
    "seconds",
    "statuses",
]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
#: Far above any API, and small enough for one header block of a server.
MAX_HEADERS = 256
#: Names and values in all.  Servers stop at 8 to 64 KB.
MAX_HEADER_BYTES = 65_536

_HOST_PATTERN = re.compile(r"(\*\.)?[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
#: A proxy's URL has no path, no query and no space.  What is between "//" and "@"
#: is the user's and may hold an unescaped "@"; the parts of a host are those of DNS.
_PROXY_URL = re.compile(
    r"""https?://
    ([^\s\x00-\x1f\x7f/?\#]*@)?
    ([A-Za-z0-9_-]{1,63} (\.[A-Za-z0-9_-]{1,63})* \.? | \[[0-9A-Fa-f:.]+\])
    (:[0-9]+)? /?""",
    re.VERBOSE | re.IGNORECASE,
)


def seconds(name: str, value: Any) -> float | None:
    """Return ``value`` as positive, finite seconds, or None for None.

    Raises:
        TypeError, ValueError: Not a number; not above zero, or endless.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {type(value).__name__}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive number of seconds, got {value}")
    return float(value)


def count(name: str, value: Any) -> int:
    """Return ``value`` if it is an integer of zero or more.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a non-negative integer, got {value!r}")
    return value


def method(value: Any) -> str:
    """Return ``value`` in upper case, or raise `ValueError` for a method we do not send."""
    if not isinstance(value, str) or value.upper() not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {value!r}")
    return value.upper()


def statuses(value: Any) -> frozenset[int]:
    """Return ``value`` as a set of error statuses, or raise `ValueError`."""
    found = frozenset(value)
    for status in found:
        if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"retry_statuses are numbers from 400 to 599, got {status!r}")
    return found


def proxy_url(value: Any) -> str | None:
    """Return ``value`` if it is the URL of a proxy, or None for None.

    Raises:
        ValueError: It is not, or has more than host, port, user and password; the
            message does not hold it, for its password.
    """
    if value is None:
        return None
    try:
        # Another port than 1 to 65535 is an error when it is read.
        usable = _PROXY_URL.fullmatch(value) is not None and urlsplit(value).port != 0
    except (TypeError, ValueError):
        usable = False
    if not usable or not isinstance(value, str):
        raise ValueError("proxy_url must be an HTTP or HTTPS URL")
    return value


def names(value: Any) -> tuple[str, ...]:
    """Return one name or several as a tuple, or raise `ValueError` for an empty one."""
    listed = (value,) if isinstance(value, str) else tuple(value or ())
    for name in listed:
        if not isinstance(name, str) or not name.strip():
            raise ValueError("the name of a preprocessor cannot be empty")
    return listed


def hosts(name: str, value: Any) -> tuple[str, ...]:
    """Return ``value`` as a tuple of host names and ``*.example.com``.

    Raises:
        ValueError: A single string, or something else than a host in it: a URL,
            a port, a star elsewhere.
    """
    listed = () if isinstance(value, str) else tuple(value)
    if isinstance(value, str) or not all(
        isinstance(one, str) and _HOST_PATTERN.fullmatch(one) for one in listed
    ):
        raise ValueError(f"{name} must be a list of host names, or *.example.com: {value!r}")
    return listed
