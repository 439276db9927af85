"""Header fields: in order, with their own spelling, found in any spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

__all__ = ["Headers", "check_name", "check_value", "media_type"]

V = TypeVar("V")

#: A field name is a token (RFC 9110, section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: A field value is visible ASCII, space and tab (RFC 9110, section 5.5, without
#: obs-text: bytes above 127 have no agreed meaning).
_VALUE = re.compile(r"[\t\x20-\x7e]*")
#: The connection is ours to manage, and so is the framing of the body.
_OURS = frozenset(
    "connection content-length expect host keep-alive te trailer transfer-encoding upgrade".split()
)

#: One parameter of a field value.  What stands in quotes is taken as one piece,
#: so that nothing in it is read as a parameter.
_PARAMETER = re.compile(r';[ \t]*([^\s;="]*)[ \t]*(?:=[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^\s;"]*)))?')
#: Characters of a Content-Type that are read.  Real ones have less than a hundred;
#: who sends more wants to be expensive.
_MOST_CHARS = 1_024


def media_type(value: str | None) -> tuple[str, str | None]:
    """Return the media type that a Content-Type names, and its charset, in lower case.

    "" and None for what it does not say.  Never raises, and takes time in
    proportion to the length: the value is a server's, and the standard library's
    reader fails on some and takes a second for others.
    """
    text = (value or "")[:_MOST_CHARS]
    media = text.partition(";")[0].strip().lower()
    charset = None
    for name, quoted, plain in _PARAMETER.findall(text):
        if name.lower() == "charset":
            charset = (quoted or plain).strip().lower()
            break
    return media if media.count("/") == 1 else "", charset


def check_name(name: str) -> None:
    """Refuse a field name that could not be sent exactly as it stands.

    Raises:
        ValueError: Not a token, or a field that the connection manages.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a token (letters, digits, !#$%&'*+-.^_`|~)")
    if name.lower() in _OURS or name.lower().startswith("proxy-"):
        raise ValueError(f"header {name!r} belongs to the connection and cannot be set")


def check_value(name: str, value: str) -> None:
    """Refuse a field value that could not be sent exactly as it stands.

    Raises:
        ValueError: Control characters (CR, LF, NUL, ...), characters beyond
            ASCII, or space at an end, which a receiver strips.  The message
            names the header and never its value.
    """
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"the value of header {name!r} has control characters or characters beyond ASCII; "
            "encode it first (percent-encoding, or base64)"
        )
    if value != value.strip(" \t"):
        raise ValueError(f"the value of header {name!r} begins or ends with space")


class Headers(Mapping[str, V], Generic[V]):
    """An unchangeable mapping of header fields, found in any spelling.

    A name may occur more than once: ``headers[name]`` joins its values with
    ", ", as RFC 9110 section 5.3 allows; `get_all` gives them one by one, which
    Set-Cookie needs.
    """

    __slots__ = ("_index", "_pairs")

    def __init__(self, fields: Mapping[str, V] | Iterable[tuple[str, V]] = ()) -> None:
        if isinstance(fields, Headers):
            pairs = fields._pairs
        elif isinstance(fields, Mapping):
            pairs = tuple(fields.items())
        else:
            pairs = tuple(fields)
        self._pairs: tuple[tuple[str, V], ...] = pairs
        self._index: dict[str, list[V]] = {}
        for name, value in pairs:
            if not isinstance(name, str):
                raise TypeError(f"a header name must be a string, got {type(name).__name__}")
            self._index.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> V:
        values = self._index[name.lower()]
        if len(values) == 1:
            return values[0]
        return ", ".join(map(str, values))  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._index == other._index
        if isinstance(other, Mapping):
            return self._index == Headers(other)._index
        return NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset((name, len(values)) for name, values in self._index.items()))

    def __repr__(self) -> str:
        # Names only: values hold tokens and cookies.
        return f"Headers({', '.join(name for name, _ in self._pairs)})"

    def __reduce__(self) -> tuple[type[Headers[V]], tuple[tuple[tuple[str, V], ...]]]:
        return Headers, (self._pairs,)

    def pairs(self) -> tuple[tuple[str, V], ...]:
        """Every field in its order and its own spelling."""
        return self._pairs

    def get_all(self, name: str) -> list[V]:
        """The values of ``name`` one by one; empty when it is missing."""
        return list(self._index.get(name.lower(), ()))

    def merged(self, other: Mapping[str, V]) -> Headers[V]:
        """A new object in which the fields of ``other`` replace those here."""
        newer = Headers(other)
        kept = tuple(pair for pair in self._pairs if pair[0] not in newer)
        return Headers(kept + newer._pairs)

    def without(self, *names: str) -> Headers[V]:
        """A new object that lacks ``names``."""
        gone = {name.lower() for name in names}
        return Headers(pair for pair in self._pairs if pair[0].lower() not in gone)
