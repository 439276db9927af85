"""What several requests to one service share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack
from urllib.parse import urljoin

from .headers import Headers
from .options import Options, Verbs
from .request import Request, SecretReference, checked_headers
from .urls import Params, checked_url, params_dict, url_text

__all__ = ["RequestTemplate"]

#: The options of a `Request` that a template may set for all its requests.
_TEMPLATE_OPTIONS = (
    "timeout",
    "max_redirects",
    "raise_error_responses",
    "retries",
    "retry_statuses",
    "preprocessors",
    "stream",
    "idle_timeout",
    "proxy_url",
)


class RequestTemplate(Verbs[Request]):
    """What several requests share: a base URL, headers, parameters, options.

    ``template.get("/users/1")`` makes a `Request`; what the call names wins over
    what the template has.  Making a request never changes the template.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str | SecretReference] | None = None,
        params: Params | None = None,
        **options: Any,
    ) -> None:
        unknown = options.keys() - set(_TEMPLATE_OPTIONS)
        if unknown:
            raise TypeError(f"a template has no option {sorted(unknown)[0]!r}")
        self.base_url = None if base_url is None else checked_url(base_url)
        self.headers = checked_headers(Headers(headers or {}))
        self.params = params_dict(params)
        self.defaults = options
        Request("GET", self.base_url or "http://template.invalid", **options)  # checks the options

    def request(self, method: str, url: Any = "", **options: Unpack[Options]) -> Request:
        """Make a `Request`; ``url`` is joined to the base URL as a link on that page is."""
        given: dict[str, Any] = {**self.defaults, **options}
        headers = checked_headers(Headers(given.pop("headers", None) or {}))
        params = params_dict(given.pop("params", None))
        return Request(
            method,
            urljoin(self.base_url, url_text(url)) if self.base_url else url,
            headers=self.headers.merged(headers),
            params=self.params | params,
            **given,
        )
