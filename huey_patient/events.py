"""Server-sent events: bytes in, events out.

Read by the rules of the WHATWG (HTML standard, section 9.2.6), as a browser
reads them.  Nothing here waits for bytes or knows where they come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EventParser", "ServerSentEvent"]

_LINE_END = re.compile(rb"\r\n?|\n")
_BOM = b"\xef\xbb\xbf"
#: More digits than any time has.  Python refuses to read thousands of them.
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One event of a stream."""

    event: str = "message"  #: Its type.
    data: str = ""  #: Its lines of data, joined by line feeds.
    id: str = ""  #: The last id that the stream gave, to this event or an earlier one.
    retry: int | None = None  #: Milliseconds before a reconnect, as the stream last said.


class EventParser:
    """Reads one stream.  `feed` it what comes, in pieces of any size.

    An event counts when the empty line after it has come; what is left at the
    end of the bytes is half an event, and is none.
    """

    def __init__(self) -> None:
        self._line = bytearray()  # begun and not ended
        self._first = True
        self._after_cr = False
        self._data: list[str] = []
        self._type = ""
        self._id = ""
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that ``data`` completes."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")  # CR and LF came apart
        if data.endswith(b"\r"):
            self._after_cr = True
        *ended, begun = _LINE_END.split(data)
        if not ended:
            self._line += begun
            return []
        ended[0] = bytes(self._line) + ended[0]
        self._line = bytearray(begun)
        found = [self._take(line) for line in ended]
        return [event for event in found if event is not None]

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatched()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        self._take_field(name, value.removeprefix(" "))
        return None

    def _take_field(self, name: str, value: str) -> None:
        # A comment is a field without a name; unknown names are ignored alike.
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._type = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
                self._retry = int(value)

    def _dispatched(self) -> ServerSentEvent | None:
        data, self._data = self._data, []
        type_, self._type = self._type, ""
        if not data:
            return None
        return ServerSentEvent(
            event=type_ or "message", data="\n".join(data), id=self._id, retry=self._retry
        )
