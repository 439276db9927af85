"""URLs: refused or made sendable at the call, so that what is stored is what is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

__all__ = [
    "MAX_URL_CHARS",
    "Params",
    "checked_url",
    "is_host_listed",
    "origin",
    "param_texts",
    "params_dict",
    "url_text",
    "with_params",
]

#: What may stand for query parameters; a list repeats its name, None leaves it out.
Params = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: Servers stop at 8 to 64 KiB; a longer URL is a mistake, not a request.
MAX_URL_CHARS = 65_536

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\^`{|}<>\"]")
#: A host and its port.  No percent-encoding: what a host is called differs from
#: reader to reader then, and so does what is allowed.
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
#: What DNS can be asked for; more is an error deep in the resolver.
_MAX_LABEL_CHARS, _MAX_NAME_CHARS = 63, 253
#: Left as they stand when a path or query is made ASCII: "%" so that what the
#: caller has escaped is not escaped twice.
_KEEP = "/:?#[]@!$&'()*+,;=-._~%"


def checked_url(url: object) -> str:
    """Return ``url`` ready to be sent, without its fragment and without an empty query.

    Characters beyond ASCII in path and query are percent-encoded (UTF-8);
    everything else goes out exactly as given.

    Args:
        url: A string, or an object of `urllib.parse` or yarl.

    Raises:
        TypeError: Something else than a URL.
        ValueError: Empty, relative, too long, not http or https, with user
            name or password, with control characters or spaces, or with a
            host name beyond ASCII.
    """
    text = url_text(url)
    if not text:
        raise ValueError("url is required")
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"url has {len(text)} characters; at most {MAX_URL_CHARS} are sent")
    if found := _UNSAFE.search(text):
        raise ValueError(
            f"url has {found.group()!r} at position {found.start()}; percent-encode it"
        )
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError(
            f"url must begin with http:// or https://, not {parts.scheme or 'nothing'!r}"
        )
    _check_host(parts)
    _check_port(parts.netloc, parts)
    return urlunsplit(
        (parts.scheme.lower(), parts.netloc, _ascii(parts.path), _ascii(parts.query), "")
    )


def with_params(url: str, params: Params | None) -> str:
    """Return ``url`` with ``params`` appended to its query (form encoding).

    Raises:
        TypeError, ValueError: As `param_texts`.
    """
    items = (params.items() if isinstance(params, Mapping) else params) or ()
    pairs = [(name, text) for name, value in items for text in param_texts(name, value)]
    if not pairs:
        return url
    query = urlencode(pairs)
    base, mark, fragment = url.partition("#")
    joint = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return f"{base}{joint}{query}{mark}{fragment}"


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what two URLs share when they trust each other."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default


def is_host_listed(host: str, patterns: Iterable[str]) -> bool:
    """Whether ``host`` is one of ``patterns``: names, or ``*.example.com`` for all below."""
    name = host.lower().rstrip(".")
    for pattern in patterns:
        wanted = pattern.lower().strip("[]").rstrip(".")
        if wanted.startswith("*."):
            # The dot belongs to the comparison: evilexample.com is not below example.com.
            if name.endswith(wanted[1:]) and name != wanted[1:]:
                return True
        elif name == wanted:
            return True
    return False


def url_text(url: object) -> str:
    """Return ``url`` as a string; `TypeError` for what is no URL, `ValueError` for None."""
    if url is None:
        raise ValueError("url is required")
    if isinstance(url, str):
        return url
    if callable(geturl := getattr(url, "geturl", None)):
        return str(geturl())
    if type(url).__module__.partition(".")[0] == "yarl":
        return str(url)
    raise TypeError(f"url must be a string or a URL object, got {type(url).__name__}")


def params_dict(params: Params | None) -> dict[str, Any]:
    """Return ``params`` as a dictionary in which a repeated name has a list."""
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return dict(params)
    merged: dict[str, Any] = {}
    for name, value in params:  # a name given twice is sent twice
        merged[name] = [*_listed(merged[name]), *_listed(value)] if name in merged else value
    return merged


def param_texts(name: Any, value: Any) -> list[str]:
    """Return the texts that a parameter is sent as: several for a list, none for None.

    Raises:
        TypeError: A name that is no string, or a value that has no text of its
            own; that of Python is not what anybody means to send.
        ValueError: A number that is not finite.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a parameter must be a string, got {type(name).__name__}")
    return [_param_text(name, one) for one in _listed(value) if one is not None]


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _param_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise TypeError(
            f"parameter {name!r} must be a string, a number, True, False, None or a list of "
            f"these, got {type(value).__name__}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"parameter {name!r} is no finite number")
    return str(value)


def _check_host(parts: Any) -> None:
    if "@" in parts.netloc:
        raise ValueError("url must not hold a user name or password; use an Authorization header")
    if not parts.hostname or parts.hostname.strip(".") == "":
        raise ValueError("url has no host")
    if not parts.netloc.isascii():
        raise ValueError("the host of the url must be ASCII; write it in its xn-- form (IDNA)")
    if not _HOST.fullmatch(parts.netloc):
        raise ValueError("the host of the url is no host name, IPv4 address or [IPv6 address]")
    if ":" not in parts.hostname:
        _check_name(parts.hostname.removesuffix("."))


def _check_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > _MAX_NAME_CHARS or not all(0 < len(one) <= _MAX_LABEL_CHARS for one in labels):
        raise ValueError(
            "the host of the url has an empty part between dots, one of more than "
            f"{_MAX_LABEL_CHARS} characters, or more than {_MAX_NAME_CHARS} in all"
        )


def _check_port(netloc: str, parts: Any) -> None:
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"url has a port that is no number from 1 to 65535: {netloc!r}") from None
    if port == 0:
        raise ValueError("url has port 0")


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    try:
        return quote(text, safe=_KEEP)
    except UnicodeEncodeError:
        raise ValueError("url has a lone surrogate, which has no UTF-8 form") from None
