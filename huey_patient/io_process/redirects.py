"""Where a redirect leads, and what goes along: rules without a network.

What crosses to another origin is an allow list.  A list of what to remove would
miss each header that it does not know, and an API key may be in any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urljoin, urlsplit

from ..errors import Blocked, InvalidResponse, RedirectLoop, TooManyRedirects
from ..headers import Headers
from ..urls import checked_url, origin
from .failures import Failure

__all__ = ["Hop", "next_hop"]

_FOLLOWED = frozenset((301, 302, 303, 307, 308))
#: What another origin may see; ``content-type`` too while there is a body.
_CROSSING = frozenset(
    "accept accept-charset accept-encoding accept-language user-agent content-type".split()
)
#: Everything that printable ASCII has, but for what `checked_url` refuses.
_SENDABLE = "!#$%&'()*+,-./:;=?@[]_~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One URL of a request's way, and what is sent there."""

    method: str
    url: str = field(repr=False)
    headers: Headers[str]
    body: bytes | None = field(repr=False)
    crossed: bool = False  #: Whether an origin was left on the way; never undone.
    secret_body: bool = False  #: Whether the body holds a secret.


def next_hop(
    hop: Hop, status: int, location: str | None, *, visited: list[Hop], limit: int
) -> Hop | None:
    """Return the hop that an answer to ``hop`` leads to, or None when it is the response.

    Args:
        visited: The hops before this one, oldest first.
        limit: How many redirects are followed; 0 follows none.

    Raises:
        Failure: It leads where we do not go: too far, round in a circle, from
            https to http, or to what is no http URL.
    """
    if status not in _FOLLOWED or not location or not limit:
        return None
    if len(visited) >= limit:
        raise Failure(TooManyRedirects, f"Too many redirects ({limit + 1})", left_behind=True)
    url = _target(hop.url, location)
    if hop.url.startswith("https:") and url.startswith("http:"):
        raise Failure(RedirectLoop, "a redirect from https to http is not followed")
    following = _rewritten(hop, status, url)
    # The method counts: after a POST, "303 See Other" to the same URL is a page
    # to GET, not a circle.
    if any((one.method, one.url) == (following.method, url) for one in [*visited, hop]):
        raise Failure(RedirectLoop, "Recursive redirect to a URL already visited")
    return following


def _target(current: str, location: str) -> str:
    """Return what ``location`` means at ``current``, ready to be sent."""
    # Bytes that are not ASCII reach us as UTF-8 with surrogates for the rest;
    # browsers send them on percent-encoded, and so do spaces.
    text = quote(location.strip().encode("utf-8", "surrogateescape"), safe=_SENDABLE)
    try:
        url = urljoin(current, text)
        scheme = urlsplit(url).scheme
    except ValueError:
        raise Failure(InvalidResponse, "a redirect to what is no URL") from None
    if scheme not in ("http", "https"):
        raise Failure(Blocked, "a redirect to what is neither http nor https")
    try:
        return checked_url(url)
    except ValueError:
        raise Failure(InvalidResponse, "a redirect to a URL that cannot be asked") from None


def _rewritten(hop: Hop, status: int, url: str) -> Hop:
    method, body, headers = hop.method, hop.body, hop.headers
    see_other = status == 303 and method != "HEAD"
    if see_other or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
    if body is None:
        headers = Headers(pair for pair in headers.pairs() if not _of_a_body(pair[0]))
    crosses = origin(hop.url) != origin(url)
    if crosses:
        if body is not None and hop.secret_body:
            raise Failure(Blocked, "a body with a secret in it is not sent to another origin")
        headers = Headers(pair for pair in headers.pairs() if pair[0].lower() in _CROSSING)
    return replace(
        hop, method=method, url=url, headers=headers, body=body, crossed=hop.crossed or crosses
    )


_BODY_FIELD = re.compile("content-|digest$|idempotency-key$", re.IGNORECASE)


def _of_a_body(name: str) -> bool:
    # An Idempotency-Key names what was done by the POST; the GET after it is not that.
    return _BODY_FIELD.match(name) is not None
