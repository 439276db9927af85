"""What leaves for one hop: the request with what we add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from multidict import CIMultiDict

from ..errors import PreprocessorFailed, without_query
from ..headers import check_name, check_value
from ..settings import Settings
from ..urls import checked_url, with_params
from .bodies import ACCEPT_ENCODING
from .failures import Failure
from .redirects import Hop

__all__ = ["Outgoing", "Preprocessor", "outgoing"]


class Outgoing:
    """One send, as a preprocessor sees it: it may change headers and add parameters."""

    __slots__ = ("_url", "body", "headers", "method")

    def __init__(
        self, method: str, url: str, headers: CIMultiDict[str], body: bytes | None
    ) -> None:
        self.method = method
        self._url = url
        self.headers = headers  #: Found in any spelling; ``headers[name] = value`` sets.
        self.body = body

    @property
    def url(self) -> str:
        """The URL with all its parameters, secret ones included."""
        return self._url

    def add_param(self, name: str, value: str) -> None:
        """Append one parameter to the query."""
        self._url = with_params(self._url, [(name, value)])

    def __repr__(self) -> str:
        names = ", ".join(self.headers)
        return f"Outgoing({self.method!r}, {without_query(self._url)!r}, headers=[{names}])"


#: Changes an `Outgoing` in place: signs it, for example.
Preprocessor = Callable[[Outgoing], None]


def outgoing(
    hop: Hop, settings: Settings, *, request_id: str, preprocessors: Iterable[Preprocessor] = ()
) -> Outgoing:
    """Return what is sent for ``hop``.

    Raises:
        Failure: A preprocessor raised, or set what cannot be sent.
    """
    headers: CIMultiDict[str] = CIMultiDict(hop.headers.pairs())
    headers.setdefault("X-Request-Id", request_id)
    headers.setdefault("Accept-Encoding", ACCEPT_ENCODING)
    if hop.method in ("POST", "PATCH"):
        headers.setdefault("Idempotency-Key", request_id)
    if settings.user_agent is not None:
        headers.setdefault("User-Agent", settings.user_agent)
    leaving = Outgoing(hop.method, hop.url, headers, hop.body)
    if hop.crossed:
        return leaving  # A signature is for the origin that it was asked for.
    for preprocess in preprocessors:
        _run(preprocess, leaving)
    return leaving


def _run(preprocess: Preprocessor, leaving: Outgoing) -> None:
    problem = None
    try:
        preprocess(leaving)
        checked_url(leaving.url)
        for name, value in leaving.headers.items():
            check_name(name)
            check_value(name, value)
    except Exception as reason:
        # Its text may hold what it signed with; the name of its class may not.
        problem = type(reason).__name__
    # Outside the clause above, so that no context keeps the exception alive.
    if problem is not None:
        raise Failure(PreprocessorFailed, f"a preprocessor raised {problem}")
