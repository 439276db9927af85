"""What came back: `Response`, and the arguments that a callback gets with it."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from . import travel
from .errors import ClientError, HttpError, InvalidResponse, ServerError
from .events import EventParser, ServerSentEvent
from .headers import Headers, media_type

__all__ = ["CallbackArgs", "Response"]

#: Charsets that a body may be read as.  Python knows more names, but some of
#: them are no charsets (idna, zlib) or read text as something else (utf-7).
_CHARSETS = frozenset(
    """
    utf-8 utf8 us-ascii ascii utf-16 utf-16le utf-16be utf-32 iso-8859-1 latin-1 latin1
    iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 iso-8859-9
    iso-8859-10 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16 windows-1250 windows-1251
    windows-1252 windows-1253 windows-1254 windows-1255 windows-1256 windows-1257 windows-1258
    cp1250 cp1251 cp1252 koi8-r koi8-u shift_jis shift-jis euc-jp iso-2022-jp gb2312 gbk gb18030
    big5 euc-kr tis-620 macintosh
    """.split()
)


class CallbackArgs(dict[str, Any]):
    """The ``callback_args`` of the request; says what there is when a key is missing."""

    def __missing__(self, key: str) -> Any:
        known = ", ".join(map(str, self)) or "none"
        raise KeyError(f"{key!r} is not in callback_args (available: {known})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The answer to a request, whatever its status."""

    status: int
    headers: Headers[str] = field(default_factory=Headers)
    content: bytes = field(default=b"", repr=False)  #: The body, decoded once as its coding says.
    url: str = field(repr=False)  #: Final, after redirects; secret parameters are not in it.
    method: str = "GET"  #: The method used last.
    request_id: str = ""
    duration: float = 0.0  #: Seconds from the first send to the end of the body.
    attempts: int = 1  #: How often the request was put on the wire, hops not counted.
    redirects: tuple[str, ...] = field(default=(), repr=False)  #: URLs left behind, oldest first.
    decoded: bool = True  #: False when the body came in a coding that we do not undo.
    callback_args: Mapping[str, Any] = field(default_factory=CallbackArgs, repr=False)
    queue: str | None = field(default=None, repr=False)  #: Name of the Huey that delivered it.

    @property
    def content_type(self) -> str | None:
        """The Content-Type header as it came, or None."""
        return self.headers.get("content-type")

    @property
    def text(self) -> str:
        """The body as text; never raises.

        Read as UTF-8 when it begins with the byte order mark of that, else as the
        charset of the Content-Type when that is one we know, else as UTF-8, else
        as Latin-1.  Bytes that the charset does not have become U+FFFD; the mark
        is not part of the text.
        """
        charset = "utf-8" if self.content.startswith(codecs.BOM_UTF8) else self.charset
        if charset is not None:
            return self.content.decode(charset, errors="replace").removeprefix("\ufeff")
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            return self.content.decode("latin-1")

    @property
    def charset(self) -> str | None:
        """The charset that the Content-Type names, or None when it names none we know."""
        _, name = media_type(self.content_type)
        return name if name in _CHARSETS else None

    @property
    def is_json(self) -> bool:
        """Whether the Content-Type says JSON: application/json, text/json or +json."""
        media, _ = media_type(self.content_type)
        return media in ("application/json", "text/json") or media.endswith("+json")

    def json(self, *, force: bool = False) -> Any:
        """Return the body read as JSON.

        Args:
            force: Read it even when the Content-Type says something else.

        Raises:
            InvalidResponse: Another Content-Type, or a body that is not JSON.
                Sending the same request again may help when a proxy answered
                in the server's place.
        """
        if not force and not self.is_json:
            raise self._invalid(f"Content-Type is not application/json (got: {self.content_type})")
        try:
            if self.charset in (None, "utf-8"):  # orjson tells better where bytes are not UTF-8
                return orjson.loads(self.content.removeprefix(codecs.BOM_UTF8))
            return orjson.loads(self.text)
        except orjson.JSONDecodeError as reason:
            raise self._invalid(f"the body is not JSON ({reason})") from None

    def events(self, *, force: bool = False) -> list[ServerSentEvent]:
        """Return the body read as server-sent events, oldest first.

        Args:
            force: Read it even when the Content-Type says something else.

        Raises:
            InvalidResponse: Another Content-Type: an error in JSON, for example; or
                a body that came in a coding that we do not undo.
        """
        if not self.decoded:  # It would be an empty list, and look like a stream without events.
            raise self._invalid("the body came in a coding that is not undone")
        if not force and not self.is_event_stream:
            raise self._invalid(f"Content-Type is not text/event-stream (got: {self.content_type})")
        return EventParser().feed(self.content)

    @property
    def is_event_stream(self) -> bool:
        """Whether the Content-Type says text/event-stream."""
        return media_type(self.content_type)[0] == "text/event-stream"

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def is_success(self) -> bool:
        """Whether the status is from 200 to 299."""
        return 200 <= self.status <= 299

    @property
    def is_redirect(self) -> bool:
        """Whether the status is from 300 to 399."""
        return 300 <= self.status <= 399

    @property
    def is_client_error(self) -> bool:
        """Whether the status is from 400 to 499."""
        return 400 <= self.status <= 499

    @property
    def is_server_error(self) -> bool:
        """Whether the status is from 500 to 599."""
        return 500 <= self.status <= 599

    @property
    def is_error(self) -> bool:
        """Whether the status is from 400 to 599."""
        return 400 <= self.status <= 599

    def raise_for_status(self) -> Response:
        """Return this response, or raise it as an error when its status says error.

        Raises:
            ClientError: 400 to 499.
            ServerError: 500 to 599.
        """
        if self.is_error:
            raise self.as_error()
        return self

    def as_error(self) -> HttpError:
        """This response as the error that ``raise_error_responses`` makes of it."""
        kind = (
            ClientError
            if self.is_client_error
            else ServerError
            if self.is_server_error
            else HttpError
        )
        error = kind(f"HTTP {self.status} response", response=self, **self._details())
        error.queue = self.queue
        return error

    def __reduce__(self) -> Any:
        if self.queue is None:
            names = self.__slots__
            return _rebuild, ({name: getattr(self, name) for name in names},)
        return travel.sealed_state(self, self.queue, self.request_id)

    def _details(self) -> dict[str, Any]:
        names = (
            "request_id",
            "method",
            "url",
            "duration",
            "attempts",
            "redirects",
            "callback_args",
        )
        return {name: getattr(self, name) for name in names}

    def _invalid(self, message: str) -> InvalidResponse:
        return InvalidResponse(message, **self._details())


def _rebuild(fields: dict[str, Any]) -> Response:
    return Response(**fields)
