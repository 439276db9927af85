"""Frames between the courier and the I/O process.

    frame = magic (2 bytes) | version (1) | kind (1) | length of the body (4) | body
    body  = fields, each with its length (4 bytes) before it

The two ends are the two sockets of a ``multiprocessing.Pipe``, used through our
own frames: `Connection.recv_bytes` blocks for ever on half a frame, and unpickles
in its other form.  Both ends never block.  A frame that is too long, unknown or
of another version cannot be followed by anything that makes sense, so it is an
error of the whole pipe, not of one request.

This module carries bytes and never opens an envelope.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.connection import Connection
from time import monotonic

from .errors import PatientError

__all__ = [
    "Decoder",
    "Frame",
    "FrameError",
    "Kind",
    "Pipe",
    "encode",
    "envelope_limit",
    "fields",
    "frame_limit",
]

MAGIC = 0x4850  # "HP"
VERSION = 1
_HEADER = struct.Struct("!HBBI")
_LENGTH = struct.Struct("!I")

#: Bytes asked of the kernel at once.  Batches near 64 to 200 KB travel
#: fastest between two cores; larger ones get slower again.
_READ_BYTES = 131_072
#: Reads in one `Pipe.receive`, so that a flood cannot keep the courier from its beat.
_READS_AT_ONCE = 32
#: Ids, epochs, reasons and lengths of fields; an id has at most 128.
_BESIDE_BYTES = 4_096


class Kind(IntEnum):
    """What a frame is for.  C: courier to I/O process.  P: I/O process to courier."""

    READY = 1  #: P: about itself (JSON).  The first frame of a life.
    SEND = 2  #: C: id, epoch, secrets (JSON), sealed request.
    CANCEL = 3  #: C: id.  Drop it; no outcome is wanted.
    ABORT = 4  #: C: drop everything.  (To end it, the courier closes the pipe.)
    OUTCOME = 5  #: P: id, epoch, reason, sealed outcome.
    PING = 6  #: C: are you alive?
    PONG = 7  #: P: yes; counters (JSON).
    LOG = 8  #: P: level, text.


class FrameError(PatientError):
    """The other end does not speak our protocol, or broke off inside a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message, its fields not yet taken apart."""

    kind: Kind
    body: bytes


def frame_limit(max_response_bytes: int) -> int:
    """The longest body of a frame: a whole response, or the largest request.

    16 MiB is the largest request (the client refuses larger ones), whose
    ``callback_args`` come back with the response.  One more covers the head of
    the response twice over, for what JSON escapes, and the names of redirects.
    """
    return 17 * 1024 * 1024 + max_response_bytes


def envelope_limit(max_response_bytes: int) -> int:
    """The longest envelope that fits into a frame, with what stands beside it."""
    return frame_limit(max_response_bytes) - _BESIDE_BYTES


def encode(kind: Kind, *parts: bytes) -> bytes:
    """Return a whole frame that holds ``parts``."""
    body = b"".join([piece for part in parts for piece in (_LENGTH.pack(len(part)), part)])
    return _HEADER.pack(MAGIC, VERSION, kind, len(body)) + body


def fields(frame: Frame, count: int) -> list[bytes]:
    """Return the fields of ``frame``.

    Raises:
        FrameError: There are not exactly ``count`` of them.
    """
    found, position, body = [], 0, frame.body
    while position < len(body):
        if position + _LENGTH.size > len(body):
            raise FrameError(f"a {frame.kind.name} frame ends inside a length")
        (length,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        if position + length > len(body):
            raise FrameError(f"a {frame.kind.name} frame ends inside a field")
        found.append(body[position : position + length])
        position += length
    if len(found) != count:
        raise FrameError(f"a {frame.kind.name} frame has {len(found)} fields instead of {count}")
    return found


class Decoder:
    """Bytes in, frames out; no I/O."""

    def __init__(self, *, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()

    @property
    def inside_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes.

        Raises:
            FrameError: These bytes are no frame.  Nothing after them can be
                trusted, so the pipe must be given up.
        """
        self._buffer += data
        frames, position = [], 0
        while len(self._buffer) - position >= _HEADER.size:
            kind, length = self._header(position)
            end = position + _HEADER.size + length
            if end > len(self._buffer):
                break
            frames.append(Frame(kind, bytes(self._buffer[position + _HEADER.size : end])))
            position = end
        del self._buffer[:position]
        return frames

    def _header(self, position: int) -> tuple[Kind, int]:
        magic, version, kind, length = _HEADER.unpack_from(self._buffer, position)
        if magic != MAGIC:
            raise FrameError("what came over the pipe does not begin like a frame")
        if version != VERSION:
            raise FrameError(f"a frame of version {version} came, this is version {VERSION}")
        if length > self._max_body_bytes:
            raise FrameError(
                f"a frame of {length} bytes was announced; the limit is {self._max_body_bytes}"
            )
        try:
            return Kind(kind), length
        except ValueError:
            raise FrameError(f"a frame of the unknown kind {kind} came") from None


class Pipe:
    """One end; never blocks.

    What cannot be written at once waits in memory: its amount is bounded by
    the number of requests in flight, since each is on its way once.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        max_body_bytes: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._connection = connection
        self._fd = connection.fileno()
        os.set_blocking(self._fd, False)
        self._decoder = Decoder(max_body_bytes=max_body_bytes)
        self._outbox: deque[memoryview] = deque()
        self._clock = clock
        self.ended = False  #: The other end is closed; `receive` gives no more.
        self.half_since: float | None = None  #: When half a frame that lies here last grew.
        #: When the other end last wrote something, or took what had been too much for it.
        self.moved_at = clock()
        self._blocked = False
        _open_pipes.add(self)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    @property
    def wants_write(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._outbox)

    def send(self, frame: bytes) -> None:
        """Put a frame into the outbox; `flush` writes it."""
        self._outbox.append(memoryview(frame))

    def flush(self) -> None:
        """Write as much as the other end takes now.

        A closed other end is noticed by `receive`, not here: what it had sent
        before it closed still counts.
        """
        try:
            while self._outbox:
                # Small frames go out together: one wake-up of the other side.
                batch = self._outbox[0] if len(self._outbox[0]) >= _READ_BYTES else self._joined()
                written = os.write(self._fd, batch)
                if self._blocked:  # else it proves nothing: there was room before
                    self.moved_at = self._clock()
                self._blocked = written < len(batch)
                if self._blocked:
                    self._outbox[0] = batch[written:]
                    return
                self._outbox.popleft()
        except BlockingIOError:
            self._blocked = True
        except (BrokenPipeError, ConnectionResetError):
            self._outbox.clear()

    def _joined(self) -> memoryview:
        parts, size = [], 0
        while self._outbox and size < _READ_BYTES:
            size += len(self._outbox[0])
            parts.append(self._outbox.popleft())
        self._outbox.appendleft(memoryview(b"".join(parts)))
        return self._outbox[0]

    def receive(self) -> list[Frame]:
        """Return the frames that have arrived; sets `ended` at the end.

        Raises:
            FrameError: See `Decoder.feed`.
        """
        frames: list[Frame] = []
        now = self._clock()
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended = True
                break
            self.moved_at = self.half_since = now
            frames += self._decoder.feed(data)
        if not self._decoder.inside_frame:
            self.half_since = None
        return frames

    def close(self) -> None:
        """Close this end; the other one sees it."""
        _open_pipes.discard(self)
        self._outbox.clear()
        self.ended = True
        if not self._connection.closed:
            self._connection.close()


_open_pipes: weakref.WeakSet[Pipe] = weakref.WeakSet()


def _close_inherited() -> None:
    # A forked Huey worker must not keep the pipe open: the I/O process sees
    # the death of the consumer by the end of it.
    for pipe in list(_open_pipes):
        pipe.close()


os.register_at_fork(after_in_child=_close_inherited)
