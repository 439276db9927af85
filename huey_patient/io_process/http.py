"""One request, performed: deadline, attempts, redirects, limits, outcome.

    send      the deadline, and the outcome in our own words
    _follow   hop after hop, until an answer is no redirect to follow
    _persist  attempt after attempt at one hop, until one is final
    _once     one send, and its answer read within its limits

It knows nothing of callbacks, stores or seals.  It imports no application code:
preprocessors are handed in.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import Blocked, InvalidResponse, RequestTimeout
from ..headers import Headers
from ..request import Request
from ..response import Response
from ..settings import Settings
from ..tls import client_context
from . import addresses, retries
from .connections import new_session, refused
from .decoding import Turns
from .failures import Failure, failure_of
from .journey import Answer, Journey
from .outgoing import Outgoing, Preprocessor
from .proxies import Proxy
from .receiving import is_event_stream, receive
from .redirects import next_hop
from .resolving import Resolver, threads_for

__all__ = ["HttpClient"]

_STEP_BYTES = 65_536
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f]")  # C0 without the tab


class HttpClient:
    """Sends requests, any number at once, in one event loop.

    Use it as an asynchronous context manager; what is sent must have been
    answered or cancelled before it is left.
    """

    def __init__(
        self, settings: Settings, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._proxy = Proxy.from_url(settings.proxy_url)
        self._session: aiohttp.ClientSession | None = None
        self._unkept: aiohttp.ClientSession | None = None
        self._resolver: Resolver | None = None
        self._turns = Turns()

    async def __aenter__(self) -> HttpClient:
        self._resolver = Resolver(threads_for(self._settings.max_connections))
        tls = client_context(self._settings)
        self._session = new_session(self._settings, self._resolver, tls)
        # For what is sent at most once: a kept connection may be dead already, and
        # one that died under a request cannot be told from one that died before.
        self._unkept = new_session(self._settings, self._resolver, tls, keeps=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for session in (self._session, self._unkept):
            if session is not None:
                await session.close()
        if self._resolver is not None:
            await self._resolver.close()
        self._turns.close()

    async def send(
        self,
        request: Request,
        *,
        request_id: str,
        preprocessors: Iterable[Preprocessor] = (),
        secret_params: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Perform ``request`` and return its response, whatever the status.

        Cancelling the task closes the connection.

        Args:
            request: With the values of its secrets in its headers and body.
            request_id: Goes out as X-Request-Id, and as Idempotency-Key of POST
                and PATCH, unless the request has its own.
            preprocessors: Run on each send, as long as it stays at its origin.
            secret_params: Query parameters that stand in no response or error,
                and are not sent to where a redirect leads.

        Raises:
            RequestError: One of its subclasses, which say what happened.
        """
        journey = Journey(
            request,
            self._settings,
            request_id=request_id,
            preprocessors=tuple(preprocessors),
            secret_params=tuple(secret_params),
        )
        failure = None
        try:
            async with asyncio.timeout_at(journey.deadline):
                answer = await self._follow(journey)
        except Failure as reason:
            failure = reason
        except TimeoutError:
            missing = "answer" if journey.stream is None else "end of the stream"
            failure = Failure(RequestTimeout, f"no {missing} within {journey.timeout:g} s")
        # Raised outside the clauses above: no context of the error may hold what
        # aiohttp said, nor the frames it said it in.
        if failure is not None:
            raise journey.error(failure)
        return journey.response(answer)

    async def _follow(self, journey: Journey) -> Answer:
        while True:
            answer = await self._persist(journey)
            hop = next_hop(
                journey.hop,
                answer.status,
                answer.headers.get("location"),
                visited=journey.visited,
                limit=journey.max_redirects,
            )
            if hop is None:
                return answer
            journey.go(hop)

    async def _persist(self, journey: Journey) -> Answer:
        while True:
            outcome = await self._once(journey)
            wait = _wait(journey, outcome)
            if wait is None:
                break
            await self._sleep(wait)
            journey.attempts += 1
        if isinstance(outcome, Failure):
            raise outcome
        return outcome

    async def _once(self, journey: Journey) -> Answer | Failure:
        """One send.  What stands in the way comes back as a `Failure`, not raised:
        an exception would keep what it was made of in its context."""
        refusal = addresses.refusal(journey.hop.url, self._settings)
        if refusal is not None:
            return Failure(Blocked, refusal)
        proxy = Proxy.from_url(journey.request.proxy_url) or self._proxy
        if proxy is not None and self._settings.block_private_addresses:
            return Failure(Blocked, "private addresses cannot be blocked behind a proxy")
        not_allowed: list[str] = []
        refused.set(not_allowed)
        answered = False
        try:
            once = journey.request.retries == "never"
            response = await self._ask(journey.leaving(), proxy, once=once)
            answered = True
            try:
                return await self._read(journey, response)
            finally:
                response.close()  # Back in the pool already if its body was complete.
        except Failure as failure:
            # Without the frames that it came through: they hold the body.
            failure.__context__ = None
            return failure.with_traceback(None)
        except (aiohttp.ClientError, OSError, ValueError) as reason:
            if not_allowed:
                return Failure(Blocked, "the address is private")
            secure = journey.hop.url.startswith("https:")
            return failure_of(reason, answered=answered, secure=secure)

    async def _ask(
        self, leaving: Outgoing, proxy: Proxy | None, *, once: bool
    ) -> aiohttp.ClientResponse:
        session = self._unkept if once else self._session
        if session is None:
            raise RuntimeError("use HttpClient as an asynchronous context manager")
        headers = _spelled_alike(leaving.headers)
        # Credentials belong to whoever reads the request line: the proxy itself
        # reads it for http, and only the CONNECT before it for https.
        if proxy is not None and leaving.url.startswith("http:"):
            headers.update(proxy.headers)
        return await session.request(
            leaving.method,
            URL(leaving.url, encoded=True),
            headers=headers,
            data=_payload(leaving.body),
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=None if proxy is None else proxy.headers,
        )

    async def _read(self, journey: Journey, response: aiohttp.ClientResponse) -> Answer:
        if not 200 <= response.status <= 599:
            raise Failure(InvalidResponse, f"status {response.status} is no status of an answer")
        answer = Answer(response.status, _headers(response.headers))
        if response.method == "HEAD" or response.status in (204, 304):
            return answer
        idle = None
        if journey.request.stream is not None and is_event_stream(answer.headers):
            journey.stream = answer
            idle = journey.idle_timeout
        limit = self._settings.max_response_size
        await receive(response.content, answer, limit=limit, turns=self._turns, idle=idle)
        journey.stream = None  # It came to its end.
        return answer


def _spelled_alike(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    # aiohttp takes a second spelling of a name for the replacement of the first.
    first: dict[str, str] = {}
    return CIMultiDict(
        (first.setdefault(name.lower(), name), value) for name, value in headers.items()
    )


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp writes bytes in one step; from a file it takes turns with others.
    return io.BytesIO(body) if body and len(body) > _STEP_BYTES else body


def _wait(journey: Journey, outcome: Answer | Failure) -> float | None:
    """Seconds until the next attempt; None when ``outcome`` is the last."""
    if isinstance(outcome, Failure):
        again = outcome.before_answer and journey.may_repeat()
        return journey.wait(None) if again else None
    statuses = journey.request.retry_statuses
    if not retries.wants_another(outcome.status, outcome.headers, statuses):
        return None
    return journey.wait(retries.asked_wait(outcome.headers, now=time.time()))


def _headers(received: CIMultiDictProxy[str]) -> Headers[str]:
    return Headers((name, _text(value)) for name, value in received.items())


def _text(value: str) -> str:
    """Return a header value without the surrogates by which aiohttp marks bytes
    that are not UTF-8; neither JSON nor a database takes those.

    Raises:
        Failure: It holds a control character.  No header may, and JSON writes
            six bytes for each.
    """
    if _CONTROL.search(value):
        raise Failure(InvalidResponse, "a header of the answer holds a control character")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value
