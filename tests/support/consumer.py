"""A real application in a folder, its real consumers, and what its callbacks tell.

    with App(tmp_path) as app, app.consumer("-w", "2") as consumer:
        ids = [app.patient.get(url, callback=app.module.Tell).id]
        app.answers.collect(ids)
        consumer.send(signal.SIGINT)
        assert consumer.wait() == 0

The module of the application is imported here, where the test submits, and by
the consumer, which is a process of its own.  Callbacks tell the test over a
socket, so nothing here sleeps and looks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

#: Seconds until something that never comes counts as lost; never waited for in full.
LIMIT = 40.0

#: First in the module of an application with greenlet workers, as Huey asks for;
#: not where the test submits.
GREEN = """\
import sys
if "huey_consumer" in sys.argv[0]:
    from gevent import monkey
    monkey.patch_all()
"""

#: Each type of worker, with what the module of its application begins with.
WORKERS = {"thread": "", "process": "", "greenlet": GREEN}

#: ``QUEUE``, ``SETTINGS`` and ``PORT`` are put in front of it.
SOURCE = """
import json, os, socket
from huey_patient import Patient

{huey}
patient = Patient(huey, **SETTINGS) if ATTACH else None


def tell(*words):
    with socket.create_connection(("127.0.0.1", PORT)) as test:
        test.sendall(json.dumps([os.getpid(), *words]).encode())


class Tell:
    def on_complete(self, response):
        tell(response.request_id, response.status, response.callback_args)

    def on_error(self, error):
        tell(error.request_id, error.kind, error.callback_args)


if ATTACH:
    patient.callback(Tell)


@huey.task()
def plain(word):
    tell(word, "task", {{}})
"""

_HUEYS = {
    "sqlite": "from huey import SqliteHuey\nhuey = SqliteHuey(QUEUE, filename=DATABASE)",
    "redis": "from huey import RedisHuey\nhuey = RedisHuey(QUEUE, port=DATABASE)",
    "redis-priority": (
        "from huey import PriorityRedisHuey\nhuey = PriorityRedisHuey(QUEUE, port=DATABASE)"
    ),
    "redis-expire": (
        "from huey import RedisExpireHuey\nhuey = RedisExpireHuey(QUEUE, port=DATABASE)"
    ),
    "postgres": "from huey import PostgresHuey\nhuey = PostgresHuey(QUEUE, dsn=DATABASE)",
    # For greenlets: `huey_consumer` imports psycopg before the application can patch, and
    # then a worker that waits for a message stops all others.
    "postgres-not-blocking": (
        "from huey import PostgresHuey\nhuey = PostgresHuey(QUEUE, dsn=DATABASE, blocking=False)"
    ),
    "pgbouncer": (
        "from huey import PostgresHuey\n"
        "huey = PostgresHuey(QUEUE, dsn=DATABASE, blocking=False, prepare_threshold=None)"
    ),
}


class App:
    """One application: its module, its database, and the answers its callbacks got.

    Args:
        head: Source that comes first in the module.
        tail: Source that comes last.
        database: What kind of Huey it has.
        place: Of its database: the port of Redis, the dsn of PostgreSQL; None: a file
            in ``folder``.
        attach: Whether the module makes its own Patient.
        environ: Further variables of its consumers.
        settings: Of its Patient.
    """

    def __init__(
        self,
        folder: Path,
        *,
        head: str = "",
        tail: str = "",
        database: str = "sqlite",
        place: int | str | None = None,
        attach: bool = True,
        environ: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.name = f"app_{uuid.uuid4().hex[:12]}"
        self.database = folder / "app.db"
        self.answers = Answers()
        self._environ = environ or {}
        known = {
            "QUEUE": self.name,
            "PORT": self.answers.port,
            "SETTINGS": settings,
            "DATABASE": place or str(self.database),
            "ATTACH": attach,
        }
        constants = "".join(f"{name} = {value!r}\n" for name, value in known.items())
        source = SOURCE.format(huey=_HUEYS[database])
        (folder / f"{self.name}.py").write_text(head + constants + source + tail)

    def __enter__(self) -> App:
        self._modules = set(sys.modules)
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        self.module: Any = importlib.import_module(self.name)
        self.huey = self.module.huey
        self.patient = self.module.patient
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.patient is not None:
            self.patient.store.close()
        self.huey.storage.flush_all()
        self.huey.storage.close()
        self.answers.close()
        sys.path.remove(str(self.folder))
        for name in set(sys.modules) - self._modules:
            if getattr(sys.modules[name], "__file__", None) in self._files():
                del sys.modules[name]

    def _files(self) -> list[str]:
        return [str(path) for path in self.folder.glob("*.py")]

    @contextlib.contextmanager
    def consumer(self, *options: str, ready: bool = True) -> Iterator[Consumer]:
        """Run ``huey_consumer`` until the end of the block."""
        command = [script("huey_consumer"), f"{self.name}.huey", *options]
        with self.run(*command, ready=ready) as consumer:
            yield consumer

    @contextlib.contextmanager
    def run(self, *command: str, ready: bool = True) -> Iterator[Consumer]:
        """Run any consumer's command until the end of the block."""
        consumer = Consumer(list(command), self.folder, self._environ)
        try:
            if ready:
                consumer.wait_until_ready()
            yield consumer
        except BaseException:
            print(consumer.log)  # pytest shows it with the failure
            raise
        finally:
            consumer.close()

    def nothing_is_left(self) -> bool:
        """Whether no request waits or is held, and no message is on Huey's queue."""
        counts = self.patient.store.counts()
        requests = counts.fresh + counts.suspect + counts.later + counts.held
        return requests == 0 and self.huey.pending_count() == 0 and not self.huey.scheduled()


def script(name: str) -> str:
    """A command of the environment that the tests run in."""
    return str(Path(sys.executable).with_name(name))


class Consumer:
    """A consumer in a process of its own, and all it starts.

    Everything it starts inherits its output, so the end of the output is the
    end of the last of them.
    """

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that it has written so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Wait for the ``times``-th line that ``pattern`` is found in."""
        found: list[re.Match[str]] = []

        def arrived() -> bool:
            found[:] = [m for line in self._lines if (m := re.search(pattern, line))]
            return len(found) >= times or self._ended

        with self._news:
            self._news.wait_for(arrived, LIMIT)
        assert len(found) >= times, f"{pattern!r} came {len(found)} times of {times}"
        return found[times - 1]

    def wait_until_ready(self, *, times: int = 1) -> int:
        """Wait for its I/O process, or for the ``times``-th of them; its pid."""
        return int(self.wait_for(r"I/O process is ready, PID (\d+)", times=times)[1])

    def send_to_all(self, sign: signal.Signals) -> None:
        """Send a signal to the consumer and whatever it started, once to each.

        To its process group, as a terminal does, ``tini -g`` and ``supervisord``;
        and to those that have left it, as systemd does, in whatever order.  They
        are the first here: what they suffer is seen before all is given back.
        """
        group = self._process.pid
        elsewhere = [pid for pid in descendants_of(group) if os.getpgid(pid) != group]
        for pid in elsewhere:
            os.kill(pid, sign)
        os.killpg(group, sign)

    def send(self, sign: signal.Signals) -> None:
        """Send a signal to the consumer alone, not to what it started."""
        self._process.send_signal(sign)

    def wait(self) -> int:
        """Wait for its end; the exit status."""
        return self._process.wait(LIMIT)

    def close(self) -> None:
        """End it, and see that nothing which it started is left."""
        # Workers that are processes outlive a consumer that was killed; the
        # I/O process leaves the group and must end by itself.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        assert not self._reader.is_alive(), "something that the consumer started outlived it"
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Answers:
    """What callbacks tell the test: ``[pid, id, status or kind, callback_args]``."""

    def __init__(self) -> None:
        self.told: list[list[Any]] = []
        self._queue: queue.Queue[list[Any]] = queue.Queue()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def collect(self, ids: Iterable[str]) -> dict[str, Any]:
        """Wait until each of ``ids`` was told of; the status or kind of each.

        Fails when one of them came twice, or one that was not asked for.
        """
        missing = set(ids)
        deadline = time.monotonic() + LIMIT
        told: dict[str, Any] = {}
        while missing:
            try:
                _, id, how, _ = words = self._queue.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{len(missing)} were not answered") from None
            self.told.append(words)
            assert id in missing, f"{id} was told of twice, or never asked for"
            missing.remove(id)
            told[id] = how
        return told

    def next(self) -> list[Any]:
        """Wait for the next thing told: what stands behind the pid."""
        self.told.append(self._queue.get(timeout=LIMIT))
        return self.told[-1][1:]

    def once_each(self) -> bool:
        """Whether nothing was told twice, up to now; call it when all has ended."""
        while not self._queue.empty():
            self.told.append(self._queue.get())
        return max(Counter(id for _, id, *_ in self.told).values(), default=1) == 1

    def close(self) -> None:
        # Wakes the thread out of its accept, which closing alone would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(LIMIT)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as words:
                said = words.read()
            if said:
                self._queue.put(json.loads(said))


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Any]:
    """Give a function that waits for the end of the process that is now ``pid``.

    It waits as long as for anything, or as many seconds as were promised.
    """
    handle = os.pidfd_open(pid)

    def ended(within: float = LIMIT) -> bool:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return bool(poller.poll(within * 1000))

    try:
        yield ended
    finally:
        os.close(handle)


def parent_of(pid: int) -> int:
    """The process that started ``pid``; of an I/O process its fork server."""
    return int(_stat(pid)[1])


def children_of(pid: int) -> dict[int, str]:
    """What ``pid`` started and has not been rid of, each with its state: "Z" is dead."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            state, parent = _stat(int(entry.name))[:2]
            if int(parent) == pid:
                found[int(entry.name)] = state
    return found


def descendants_of(pid: int) -> list[int]:
    """All that ``pid`` started, and what those started."""
    children = list(children_of(pid))
    return children + [other for child in children for other in descendants_of(child)]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
