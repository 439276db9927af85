"""What leaves for one hop: the request with what we add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from multidict import CIMultiDict

from ..errors import PreprocessorFailed, without_query
from ..headers import check_name, check_value
from ..settings import Settings
from ..urls import checked_url, param_texts, with_params
from .bodies import ACCEPT_ENCODING
from .failures import Failure
from .redirects import Hop

__all__ = ["Outgoing", "Preprocessor", "outgoing"]


class Outgoing:
    """One send, as a preprocessor sees it: it may change headers and add parameters."""

    __slots__ = ("_added", "_body", "_headers", "_method", "_url")

    def __init__(
        self, method: str, url: str, headers: CIMultiDict[str], body: bytes | None
    ) -> None:
        self._method = method
        self._url = url
        self._headers = headers
        self._body = body
        self._added: list[tuple[str, str]] = []

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self._method

    @property
    def url(self) -> str:
        """The URL with all its parameters, secret ones included."""
        return with_params(self._url, self._added)

    @property
    def headers(self) -> CIMultiDict[str]:
        """Found in any spelling; ``headers[name] = value`` sets."""
        return self._headers

    @property
    def body(self) -> bytes | None:
        """The body as it is sent, or None."""
        return self._body

    def add_param(self, name: str, value: str) -> None:
        """Append one parameter to the query."""
        self._added += [(name, text) for text in param_texts(name, value)]

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
    # A signature is for the origin that it was asked for.
    signing = () if hop.crossed else tuple(preprocessors)
    leaving = Outgoing(hop.method, hop.url, headers, hop.body)
    return _changed(leaving, hop, signing) if signing else leaving


def _changed(leaving: Outgoing, hop: Hop, preprocessors: Iterable[Preprocessor]) -> Outgoing:
    problem = None
    try:
        for preprocess in preprocessors:
            preprocess(leaving)
        # Made anew from what was checked before: a preprocessor that reached into
        # `leaving` changes neither host, method nor body.
        url = checked_url(with_params(hop.url, leaving._added))
        leaving = Outgoing(hop.method, url, leaving.headers, hop.body)
        for name, value in leaving.headers.items():
            check_name(name)
            check_value(name, value)
    # One that calls sys.exit() must not end everybody else's requests.
    except (Exception, SystemExit) as reason:
        # Its text may hold what it signed with; the name of its class may not.
        problem = type(reason).__name__
    # Outside the clause above, so that no context keeps the exception alive.
    if problem is not None:
        raise Failure(PreprocessorFailed, f"a preprocessor raised {problem}")
    return leaving
