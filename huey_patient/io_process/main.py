"""The I/O process: one asyncio loop that performs requests.

It has no database, no Huey and no application code, and it decides nothing but
how one request is sent.  It obeys its pipe alone: signals for the consumer's
process group are the consumer's business, and when the pipe ends it ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from ..envelope import Keyring
from ..pipe import Frame, FrameError, Kind, Pipe, encode, fields, frame_limit
from ..settings import FENCED_AFTER
from .connections import smaller_tls_buffers
from .exchange import Exchange
from .fork_server import STOPS
from .handle import EXIT_UNHEARD, ChildConfig, descriptors_for
from .http import HttpClient
from .preprocessors import Preprocessors

__all__ = ["main"]

log = logging.getLogger("huey.patient")

#: Seconds between two looks at whether the consumer is still there.
WATCH_SECONDS = 1.0


def main(config: ChildConfig, connection: Connection) -> None:
    """Run until the pipe ends; called in the forked child."""
    _leave_the_family()
    _allow_sockets(config.settings.max_connections)
    _give_memory_back()
    pipe = Pipe(connection, max_body_bytes=frame_limit(config.settings.max_response_size))
    logging.getLogger("huey").handlers[:] = [_PipeHandler(pipe)]
    logging.getLogger("huey").propagate = False
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_Server(config, pipe).run())


def _leave_the_family() -> None:
    """Become nobody's terminal job, and leave no core with bodies and keys in it."""
    os.setsid()
    _die_with_the_fork_server()
    for one in STOPS:
        signal.signal(one, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with_the_fork_server() -> None:
    """Have the kernel kill us when the fork server ends, as it does with its consumer.

    For a process that is stopped, or hangs, and can notice nothing itself.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _allow_sockets(connections: int) -> None:
    """Raise the soft limit of descriptors to what ``connections`` need, if it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors_for(connections)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _give_memory_back() -> None:
    """Have large bodies and windows of decoders leave the process when they are freed.

    glibc maps blocks from 128 KB by themselves, until one is freed: from then on it
    keeps blocks up to that size in its heap, whose holes under a hundred bodies at
    once come to tens of MB.  Naming the threshold holds it where it is.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        M_MMAP_THRESHOLD = -3
        libc.mallopt(M_MMAP_THRESHOLD, 131_072)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: a TLS connection costs it a quarter of the memory.

    asyncio does as well with smaller buffers.
    """
    try:
        import uvloop
    except ImportError:
        smaller_tls_buffers()
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class _PipeHandler(logging.Handler):
    """Sends log lines to the consumer, so that there is one log to look at."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record).encode(errors="replace")[:16_384]
        self._pipe.send(encode(Kind.LOG, str(record.levelno).encode(), text))


class _Server:
    """Answers the frames of the courier."""

    def __init__(self, config: ChildConfig, pipe: Pipe) -> None:
        self._config = config
        self._pipe = pipe
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._done = 0
        self._started = time.monotonic()
        self._heard = self._started
        self._end = asyncio.Event()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="sealing")
        self._writing = False
        self._exit_code = 0

    async def run(self) -> None:
        """Serve until the pipe ends or the consumer is gone."""
        settings = self._config.settings
        keyring = Keyring.from_settings(settings)
        loop = asyncio.get_running_loop()
        async with HttpClient(settings) as client:
            self._exchange = Exchange(
                client,
                keyring,
                settings,
                queue=self._config.queue,
                preprocessors=Preprocessors(self._config.preprocessors),
            )
            loop.add_reader(self._pipe.fileno(), self._read)
            watch = asyncio.create_task(self._watch())
            self._tell(Kind.READY)
            await self._end.wait()
            watch.cancel()
            # The consumer is gone, or wants no more: nobody is left to take an
            # outcome, so nothing is finished and nothing is waited for.
            sys.stderr.flush()
            os._exit(self._exit_code)

    def _read(self) -> None:
        self._heard = time.monotonic()
        try:
            for frame in self._pipe.receive():
                self._take(frame)
        except (FrameError, ValueError) as reason:
            print(f"huey_patient: the courier broke the protocol: {reason}", file=sys.stderr)
            self._end.set()
        if self._pipe.ended:
            self._end.set()

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.SEND:
                id, epoch, secrets, sealed = fields(frame, 4)
                self._begin(id.decode(), self._answer(id.decode(), epoch, secrets, sealed))
            case Kind.CANCEL:
                if task := self._tasks.get(fields(frame, 1)[0].decode()):
                    task.cancel()
            case Kind.ABORT:
                for task in self._tasks.values():
                    task.cancel()
            case Kind.PING:
                self._tell(Kind.PONG)
            case _:
                raise FrameError(f"a {frame.kind.name} frame came from the courier")

    def _begin(self, id: str, work: Coroutine[Any, Any, None]) -> None:
        if previous := self._tasks.get(id):
            previous.cancel()  # Claimed anew while its older self still ran.
        task = asyncio.create_task(work)
        self._tasks[id] = task
        task.add_done_callback(lambda done: self._forget(id, done))

    def _forget(self, id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(id) is task:
            del self._tasks[id]
        if not task.cancelled() and (error := task.exception()) is not None:
            # The courier would wait for it for ever; a new process will not.
            log.critical("The I/O process fails at request %s", id, exc_info=error)
            self._flush()
            os._exit(1)

    async def _answer(self, id: str, epoch: bytes, secrets: bytes, sealed: bytes) -> None:
        reason, envelope = await self._exchange.answer(id, sealed, secrets, offload=self._offload)
        self._done += 1
        self._send(encode(Kind.OUTCOME, id.encode(), epoch, reason.encode(), envelope))

    async def _offload(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _tell(self, kind: Kind) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counters = {
            "pid": os.getpid(),
            "in_flight": len(self._tasks),
            "done": self._done,
            "uptime": round(time.monotonic() - self._started, 1),
            "cpu": round(usage.ru_utime + usage.ru_stime, 2),
            "max_rss_kb": usage.ru_maxrss,
        }
        self._send(encode(kind, json.dumps(counters).encode()))

    def _send(self, frame: bytes) -> None:
        self._pipe.send(frame)
        if not self._writing:
            # Written at the end of this turn of the loop: what other tasks
            # send in the same turn goes out in the same write.
            self._writing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._pipe.flush()
        if self._pipe.wants_write:
            asyncio.get_running_loop().add_writer(self._pipe.fileno(), self._flush)
        elif self._writing:
            self._writing = False
            asyncio.get_running_loop().remove_writer(self._pipe.fileno())

    async def _watch(self) -> None:
        """End when the consumer is gone, even if something still holds its end of
        the pipe: forked workers that outlived it may."""
        parent = self._config.parent_pid
        if hasattr(os, "pidfd_open") and _exists(parent):
            # Tells the death of the consumer at once; the loop below within a second.
            asyncio.get_running_loop().add_reader(os.pidfd_open(parent), self._end.set)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            silence = time.monotonic() - self._heard
            # A consumer that was replaced by exec keeps its pid and closes the
            # pipe; one that hangs keeps both, and will soon lose its leases.
            if silence > self._config.settings.orphan_threshold * FENCED_AFTER:
                self._exit_code = EXIT_UNHEARD
            if not _exists(parent) or self._exit_code:
                self._end.set()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
