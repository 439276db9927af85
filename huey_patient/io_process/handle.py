"""The parent's side of an I/O process: start, watch, replace, stop.

The process is forked from a fork server (`fork_server`): a clean, single-threaded
Python that has imported our modules and nothing of the application.  So it can be
replaced at any time from a consumer full of threads, and holds no database handle,
no monkey-patching and no inherited descriptor but its end of the pipe.

An `IoProcess` is used by one thread, the courier's, and never blocks it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import multiprocessing
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any, Literal

from ..pipe import Frame, FrameError, Kind, Pipe, encode, fields, frame_limit
from ..settings import Settings
from ..wire import Reason
from . import forking

__all__ = ["EXIT_UNHEARD", "Arrival", "ChildConfig", "IoProcess", "descriptors_for"]

log = logging.getLogger("huey.patient")

#: Seconds from the start of a process to its first frame: an import of aiohttp
#: on a busy machine takes two.
READY_SECONDS = 20.0
#: Seconds between two pings, and without any sign of life until it counts as stuck.
#: The loop of the process does no step longer than some milliseconds.
PING_SECONDS = 1.0
PONG_SECONDS = 5.0
#: Seconds that half a frame may lie in the pipe and not grow.
HALF_FRAME_SECONDS = 5.0
#: Seconds from one `tend` to the next that count against the process, at most.  In
#: longer ones it was the courier that did not listen: a database held it up, or all
#: of the consumer was stopped.
LONGEST_ATTENTION = 1.0
#: How the process ends that has not heard of its consumer for too long.
EXIT_UNHEARD = 76
#: Pause before a replacement, doubled while it keeps dying.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
#: A process that lived so long was well; the next death begins with the first pause.
WELL_SECONDS = 10.0


#: "left": it had not heard of its consumer, so no request is to blame.
Death = Literal["failed", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """What an I/O process is told when it starts; it asks for nothing later."""

    queue: str  #: Name of the Huey, part of every envelope's context.
    settings: Settings = field(repr=False)  #: With derived keys.
    parent_pid: int
    preprocessors: Mapping[str, str]  #: Name -> "pkg.module:function".


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request ended, as it came over the pipe."""

    id: str
    epoch: int
    reason: Reason
    sealed: bytes = field(repr=False)


def descriptors_for(connections: int) -> int:
    """Descriptors that an I/O process needs: a socket for each connection, as many
    kept alive or on their way, and what Python itself has open."""
    return 2 * connections + 256


class IoProcess:
    """One I/O process and its successors.

    `tend` must be called often (a few times a second, and when a descriptor of
    `fds` is readable).  After a death `take_death` gives True once; whatever had
    been sent to the process and not come back is then in nobody's hands.
    """

    def __init__(
        self, config: ChildConfig, *, name: str, clock: Callable[[], float] = monotonic
    ) -> None:
        self._config = config
        self._name = name
        self._clock = clock
        self._process: BaseProcess | None = None
        self._pipe: Pipe | None = None
        self._outcomes: list[Arrival] = []
        self._death: Death | None = None
        self._pause = FIRST_PAUSE
        self._start_at: float | None = None
        self._began_at = 0.0
        self._tended_at = clock()
        self._attended = 0.0  # Seconds in which the courier listened.
        # In these seconds:
        self._started_at = self._pinged_at = 0.0
        self._waiting_since: float | None = None  # for an answer to a ping
        self.ready = False  #: Whether requests may be sent now.
        self.counters: dict[str, Any] = {}  #: What it last said of itself.
        _handles.add(self)

    @property
    def pid(self) -> int | None:
        """Of the living process, or None."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start a process if there is none; returns before it is ready.

        What the operating system refuses (processes, memory, descriptors) is
        tried again by `tend`.
        """
        if self._process is not None:
            return
        try:
            self._fork()
        except (OSError, EOFError) as reason:
            log.error("%s cannot be started: %s; trying again.", self._name, reason)
            self._postpone(self._clock())

    def _fork(self) -> None:
        settings = self._config.settings
        forked = settings.start_method == "forkserver"
        kind = forking.Process if forked else multiprocessing.get_context("spawn").Process
        ours, theirs = multiprocessing.Pipe(duplex=True)
        process = kind(target=_run_child, args=(self._config, theirs), name=self._name, daemon=True)
        with _without_main_module():
            process.start()
        theirs.close()
        self._process = process
        self._pipe = Pipe(
            ours,
            max_body_bytes=frame_limit(settings.max_response_size),
            clock=lambda: self._attended,
        )
        self._start_at = None
        self._began_at = self._clock()
        self._started_at = self._pinged_at = self._attended
        self._waiting_since = None

    def tend(self) -> None:
        """Take in what came, ping, and replace a process that is dead or stuck."""
        now = self._clock()
        self._attended += min(now - self._tended_at, LONGEST_ATTENTION)
        self._tended_at = now
        if self._process is None:
            if self._start_at is not None and now >= self._start_at:
                self.start()
            return
        self._take_in()
        if self._process is not None and (reason := self._ailment()):
            self._take_in()  # it may have written more between the look and its end
            self._bury(reason)
        elif self.ready and self._attended - self._pinged_at >= PING_SECONDS:
            self._ping()

    def _ping(self) -> None:
        self._pinged_at = self._attended
        if self._waiting_since is None:
            self._waiting_since = self._attended
        self._write(encode(Kind.PING))
        self.flush()  # now: the courier may be held up before it comes to writing

    def take_death(self) -> Death | None:
        """How a process ended since the last call; None when none did."""
        death, self._death = self._death, None
        return death

    def take_outcomes(self) -> list[Arrival]:
        """What came back since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def send(self, id: str, epoch: int, *, secrets: bytes, sealed: bytes) -> None:
        """Hand a request over; `flush` writes it."""
        self._write(encode(Kind.SEND, id.encode(), str(epoch).encode(), secrets, sealed))

    def cancel(self, id: str) -> None:
        """Drop one request; no outcome of it is wanted."""
        self._write(encode(Kind.CANCEL, id.encode()))

    def abort(self) -> None:
        """Drop all requests."""
        self._write(encode(Kind.ABORT))

    def flush(self) -> None:
        """Write what the pipe takes."""
        if self._pipe is not None:
            self._pipe.flush()

    def fds(self) -> Sequence[tuple[int, bool]]:
        """Descriptors to wait on, and whether also for writing."""
        if self._process is None or self._pipe is None:
            return ()
        return (self._pipe.fileno(), self._pipe.wants_write), (self._process.sentinel, False)

    def seconds_to_start(self) -> float | None:
        """Until the replacement starts; None when none is due."""
        return None if self._start_at is None else max(0.0, self._start_at - self._clock())

    def stop(self) -> None:
        """End the process now, and do not replace it."""
        self._start_at = None
        self._end()

    def is_ours(self) -> bool:
        """Whether this very process started it: a forked copy of us must not end it."""
        return self._config.parent_pid == os.getpid()

    def _write(self, frame: bytes) -> None:
        if self._pipe is not None:
            self._pipe.send(frame)

    def _take_in(self) -> None:
        assert self._pipe is not None
        try:
            for frame in self._pipe.receive():
                self._waiting_since = None
                self._take_frame(frame)
        except (FrameError, ValueError) as reason:
            self._bury(f"broke the protocol ({reason})")

    def _take_frame(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.OUTCOME:
                id, epoch, reason, sealed = fields(frame, 4)
                why = Reason(reason.decode())
                self._outcomes.append(Arrival(id.decode(), int(epoch), why, sealed))
            case Kind.READY:
                self.ready = True
                self.counters = json.loads(fields(frame, 1)[0])
                log.info("%s is ready, PID %s.", self._name, self.pid)
            case Kind.PONG:
                self.counters = json.loads(fields(frame, 1)[0])
            case Kind.LOG:
                level, text = fields(frame, 2)
                log.log(int(level), "%s", text.decode())
            case _:
                raise FrameError(f"a {frame.kind.name} frame came from the I/O process")

    def _ailment(self) -> str | None:
        """Why the process must be replaced, or None."""
        assert self._process is not None
        assert self._pipe is not None
        now = self._attended
        if not self._process.is_alive():
            return f"died (exit code {self._process.exitcode})"
        if self._pipe.ended:
            # Its end of the pipe closes a moment before its exit code is known.
            self._process.join(0.2)
            return f"closed its pipe (exit code {self._process.exitcode})"
        if self._pipe.half_since is not None and now - self._pipe.half_since > HALF_FRAME_SECONDS:
            return "broke off inside a frame"
        if not self.ready and now - self._started_at > READY_SECONDS:
            return f"was not ready after {READY_SECONDS:.0f} s"
        if self._waiting_since is not None:
            heard_at = max(self._waiting_since, self._pipe.moved_at)
            if now - heard_at > PONG_SECONDS:
                return f"did not answer for {PONG_SECONDS:.0f} s"
        return None

    def _bury(self, reason: str) -> None:
        if self._process is None:
            return
        now = self._clock()
        if now - self._began_at >= WELL_SECONDS:
            self._pause = FIRST_PAUSE
        log.error("%s, PID %s, %s; a new one in %.1f s.", self._name, self.pid, reason, self._pause)
        self._death = "left" if self._process.exitcode == EXIT_UNHEARD else "failed"
        self._end()
        self._postpone(now)

    def _postpone(self, now: float) -> None:
        self._start_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _end(self) -> None:
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        self.ready = False
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            process.join(1.0)


def _run_child(config: ChildConfig, connection: Any) -> None:
    # Imported in the child only: the parent never loads aiohttp.
    from .main import main

    main(config, connection)


_start_lock = threading.Lock()


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep multiprocessing from importing the parent's main module in the child.

    It would run a script without a main guard a second time, and bring the
    application into a process that must be free of it.
    """
    main = sys.modules["__main__"]
    with _start_lock:
        spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        main.__spec__ = None
        if path is not None:
            del main.__file__
        try:
            yield
        finally:
            main.__spec__ = spec
            if path is not None:
                main.__file__ = path


_handles: weakref.WeakSet[IoProcess] = weakref.WeakSet()


def _stop_all() -> None:
    # multiprocessing waits for its children at exit, and ours obey nobody but
    # their pipe: without this a consumer that ends by an exception would hang.
    for handle in list(_handles):
        if handle.is_ours():
            handle.stop()


atexit.register(_stop_all)
