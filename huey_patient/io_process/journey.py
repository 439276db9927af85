"""What is known of one request while it is performed, and how that is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import Blocked, RequestError, ResponseTooLarge, StreamInterrupted
from ..headers import Headers
from ..request import Request
from ..response import Response
from ..settings import Settings
from ..urls import with_params
from . import retries
from .failures import Failure
from .outgoing import Outgoing, Preprocessor, outgoing
from .redirects import Hop
from .shown import shown

__all__ = ["Answer", "Journey"]


@dataclass(slots=True)
class Answer:
    """What came back at one hop; ``content`` grows while it is read."""

    status: int
    headers: Headers[str]
    content: bytearray = field(default_factory=bytearray, repr=False)
    decoded: bool = True


class Journey:
    """One request on its way: where it is, where it was, how often it was sent."""

    def __init__(
        self,
        request: Request,
        settings: Settings,
        *,
        request_id: str,
        preprocessors: tuple[Preprocessor, ...] = (),
        secret_params: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.request = request
        self._settings = settings
        self._request_id = request_id
        self._preprocessors = preprocessors
        self._secret_params = secret_params
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()
        self.timeout = settings.request_timeout if request.timeout is None else request.timeout
        self.deadline = self._started + self.timeout
        self.max_redirects = (
            settings.max_redirects if request.max_redirects is None else request.max_redirects
        )
        self.idle_timeout = (
            settings.stream_idle_timeout if request.idle_timeout is None else request.idle_timeout
        )
        self.attempts = 1
        self.stream: Answer | None = None  #: A stream that has begun and not ended.
        self._sent: Outgoing | None = None  # What left last, as preprocessors made it.
        self.visited: list[Hop] = []  #: Hops left behind, oldest first.
        self.hop = Hop(
            method=request.method,
            url=request.url,
            headers=_headers(request),
            body=request.body,
            secret_body=request.json_secrets,
        )

    def leaving(self) -> Outgoing:
        """What is sent now; preprocessors sign each send anew.

        Raises:
            Failure: A preprocessor failed.
        """
        hop = self.hop
        if self._secret_params and not self.visited:
            hop = replace(hop, url=with_params(hop.url, self._secret_params))
        self._sent = outgoing(
            hop,
            self._settings,
            request_id=self._request_id,
            preprocessors=self._preprocessors,
        )
        return self._sent

    def may_repeat(self) -> bool:
        """Whether what was sent last may be sent again though the server may have acted on it."""
        return self._sent is not None and retries.may_repeat(self._sent.method, self._sent.headers)

    def go(self, hop: Hop) -> None:
        """Leave the present hop for ``hop``."""
        self.visited.append(self.hop)
        self.hop = hop

    def wait(self, asked: float | None) -> float | None:
        """Seconds until another attempt, or None when there is none.

        Args:
            asked: Seconds that the server asked for, if it did.
        """
        if self.attempts > retries.further_attempts(self.request, self._settings):
            return None
        wait = retries.backoff(self.attempts) if asked is None else asked
        # What we have now is worth more than a timeout after a long sleep.
        return wait if wait < self.deadline - self._clock() else None

    def response(self, answer: Answer) -> Response:
        """The answer to the present hop, as the response to the request."""
        return Response(
            status=answer.status,
            headers=answer.headers,
            content=bytes(answer.content),
            decoded=answer.decoded,
            **self._details(),
        )

    def error(self, failure: Failure) -> RequestError:
        """``failure``, as the error that the request ended in."""
        details = self._details()
        if failure.error is Blocked and not self.visited:
            details["attempts"] -= 1  # It did not reach the wire.
        if failure.left_behind:
            details["redirects"] += (details["url"],)
        if self.stream is not None and failure.error is not ResponseTooLarge:
            return StreamInterrupted(
                failure.message,
                kind=failure.error.kind,
                response=self.response(self.stream),
                **details,
            )
        return failure.error(failure.message, **details)

    def _details(self) -> dict[str, Any]:
        return {
            "request_id": self._request_id,
            "method": self.hop.method,
            "url": self._shown(self.hop.url),
            "duration": self._clock() - self._started,
            "attempts": self.attempts,
            "redirects": tuple(self._shown(hop.url) for hop in self.visited),
        }

    def _shown(self, url: str) -> str:
        return shown(url, self.request.hidden)


def _headers(request: Request) -> Headers[str]:
    headers = Headers((name, str(value)) for name, value in request.headers.pairs())
    if request.stream == "sse" and "accept" not in headers:
        headers = headers.merged({"Accept": "text/event-stream"})
    return headers
