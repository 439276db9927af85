"""Proxies: the URL to connect to, and the credentials beside it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

__all__ = ["Proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.  Its credentials travel in a header, so that no URL holds them."""

    url: str
    headers: dict[str, str] = field(repr=False)

    @classmethod
    def from_url(cls, url: str | None) -> Proxy | None:
        """Return the proxy that ``http://user:password@host:port`` names; None for None."""
        if url is None:
            return None
        parts = urlsplit(url)
        credentials, _, host = parts.netloc.rpartition("@")
        headers = {}
        if credentials:
            # Percent-encoding is how a password holds "@" or ":" in a URL.
            user, _, password = credentials.partition(":")
            pair = f"{unquote(user)}:{unquote(password)}".encode()
            headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair).decode()
        return cls(f"{parts.scheme}://{host}", headers)
