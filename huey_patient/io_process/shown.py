"""A URL as it may be shown: in a response, an error, a log.  Rules without a network.

Servers like to repeat what they were sent in a Location: a key from the query in
a path, or a login's token in a ``next=`` that is encoded once more.  So every
secret of a request is looked for in each URL, in whatever encoding, and the part
that holds one is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["shown"]

MASK = "***"
#: Characters.  A shorter value stands in many URLs by chance: a secret "a" would
#: leave none of them readable, and what is so short protects nothing.
_SHORTEST = 4
#: How often a text is unquoted: a URL in a parameter of a URL in a parameter.
_TIMES = 3


def shown(url: str, secrets: Iterable[str]) -> str:
    """Return ``url`` with `MASK` for each part of it that holds one of ``secrets``.

    A part is the host, a segment of the path, the value of a parameter; or all of
    the path or the query, when a secret is spread over several.  Secrets of less
    than four characters are not looked for.
    """
    wanted = {reading for value in secrets for reading in _readings(value)}
    wanted = {reading for reading in wanted if len(reading) >= _SHORTEST}

    def holds(text: str) -> bool:
        return any(secret in reading for reading in _readings(text) for secret in wanted)

    if not wanted or not holds(url):
        return url
    parts = urlsplit(url)
    host = MASK if holds(parts.netloc) else parts.netloc
    path = _masked(parts.path, "/", _segment, holds)
    query = _masked(parts.query, "&", _parameter, holds)
    if holds(f"{path}?{query}"):  # A secret with a question mark in it.
        path = query = MASK
    return urlunsplit((parts.scheme, host, path, query, ""))


Holds = Callable[[str], bool]


def _masked(text: str, joint: str, mask: Callable[[str, Holds], str], holds: Holds) -> str:
    masked = joint.join(mask(part, holds) for part in text.split(joint))
    return MASK if holds(masked) else masked


def _segment(text: str, holds: Holds) -> str:
    return MASK if holds(text) else text


def _parameter(text: str, holds: Holds) -> str:
    name, equals, _ = text.partition("=")
    if not holds(text):
        return text
    return MASK if holds(name) or not equals else f"{name}={MASK}"


def _readings(text: str) -> set[str]:
    """What ``text`` may mean to somebody: unquoted from never to `_TIMES` times.

    "+" is read as a space, in a secret as in a URL, since it may be either; and
    hosts are written in any case.
    """
    found = set()
    for _ in range(_TIMES + 1):
        found.add(text.replace("+", " ").casefold())
        text = unquote(text)
    return found
