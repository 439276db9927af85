"""What every benchmark needs: a server that answers, a Redis, and a consumer.

Each of them is a process of its own, started by `contextlib` managers and gone
when a benchmark ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent

#: Counts callbacks in the consumer, and tells the benchmark when all have run.
#: One Redis list for that, whatever database the Huey under test lives in.
COUNTING = """
import os, threading, time
from redis import Redis
from huey import RedisHuey, SqliteHuey

wanted = int(os.environ["BENCH_COUNT"])
bell = Redis(port=int(os.environ["BENCH_REDIS"]))
lock = threading.Lock()
done = 0

def count():
    global done
    with lock:
        done += 1
        if done == wanted:
            bell.lpush("bench.done", repr(time.time()))
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def process(*command: str, env: dict[str, str] | None = None, cwd: str | None = None):
    """Run a command until the block ends; its output goes to a file, shown if it fails."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, cwd=cwd, stdout=output, stderr=output
        )
        try:
            yield child
            if child.poll() is not None:
                output.seek(0)
                raise SystemExit(f"{command[0]} ended early:\n{output.read().decode()[-4000:]}")
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def await_port(port: int) -> None:
    """Return when somebody listens on ``port``."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """Run a Redis of our own, without persistence; gives its port."""
    server = shutil.which("redis-server")
    if server is None:
        raise SystemExit("redis-server is needed: apt-get install redis-server")
    port = free_port()
    with process(server, "--port", str(port), "--save", "", "--bind", "127.0.0.1"):
        await_port(port)
        yield port


@contextlib.contextmanager
def web() -> Iterator[str]:
    """Run a server that answers ``/?s=SECONDS``, at once by default; gives its address."""
    port = free_port()
    with process(sys.executable, str(HERE / "server.py"), str(port)):
        await_port(port)
        yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def consumer(
    app: str, *options: str, count: int, redis_port: int, **variables: str
) -> Iterator[subprocess.Popen]:
    """Run ``huey_consumer`` on the module text ``app``; give its process and folder.

    The module is also importable here, as ``bench_app``, while the block runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench_app.py").write_text(COUNTING + textwrap.dedent(app))
        env = {
            "BENCH_COUNT": str(count),
            "BENCH_REDIS": str(redis_port),
            "BENCH_FOLDER": folder,
            "PYTHONPATH": folder,
            **variables,
        }
        os.environ.update(env)
        sys.path.insert(0, folder)
        sys.modules.pop("bench_app", None)
        command = [
            str(Path(sys.executable).parent / "huey_consumer"),
            "bench_app.huey",
            "-q",
            *options,
        ]
        try:
            with process(*command, env=env, cwd=folder) as child:
                time.sleep(2)  # workers and I/O process are up; not part of any figure
                yield child
        finally:
            sys.path.remove(folder)


def await_all(redis_port: int, *, timeout: float = 300) -> float:
    """Return the wall-clock time at which the last callback ran."""
    from redis import Redis

    answer = Redis(port=redis_port, socket_timeout=timeout + 5).blpop(
        ["bench.done"], timeout=timeout
    )
    if answer is None:
        raise SystemExit(f"not all callbacks ran within {timeout} s")
    return float(answer[1])


def children_of(pid: int) -> list[int]:
    """Return every process below ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path(entry, "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid:
                    found += [int(entry.name), *children_of(int(entry.name))]
    return found


def private_kb(pid: int) -> int:
    """Return the memory that only ``pid`` uses, in KB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
