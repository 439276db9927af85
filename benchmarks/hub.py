"""How long the hub of greenlet workers is held, and by whom.

    python benchmarks/hub.py [calls]

A greenlet in the consumer ticks every five milliseconds; as much as a tick is
late, so long the hub was held.  *Waiting* is the part of it in which the kernel
had given the processors to others: the machine's, and not counted as *held*.
Beside huey_patient, in the same run: Huey without a Patient, with as many tasks
at the same pace, each doing what a callback does.

SQLite lies in memory (/dev/shm): on a disk, Huey's own greenlets hold the hub
for each commit until the disk has it.  The rows "on disk" show that.

*Away*: SQLite is locked by another connection, Redis is stopped, for two seconds.
Huey's greenlets hold the hub when SQLite makes them wait, so they are left with
nothing to do in the rows that have an aim: no task, and a scheduler that looks
once a minute.  The last row is what that scheduler does by default.

Where the hub was held for more than the aim, a native thread has seen what the
main thread and the courier were doing then, the innermost call first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import HERE, await_all, consumer, redis, web
from redis import Redis

#: Seconds that the hub may be held, and between two ticks.
AIM, TICK = 0.050, 0.005
#: As many are submitted, so that some 120 of them are in flight.
CALLS_A_SECOND = 400
AWAY_SECONDS = 2.0
#: Calls in flight while the database is away; they are answered in the middle of it.
IN_FLIGHT, IN_FLIGHT_SECONDS = 256, 1.5
MOST_CALLS = 6  #: that are shown of what held the hub

APP = f"""
import sys
sys.path.append({str(HERE)!r})
GREEN = "huey_consumer" in sys.argv[0]
if GREEN:
    from gevent import monkey
    monkey.patch_all()
    # Those from before the patching would stop the hub.
    lock, bell = threading.Lock(), Redis(port=int(os.environ["BENCH_REDIS"]))
if os.environ["BENCH_KIND"] == "redis":
    huey = RedisHuey("bench", port=int(os.environ["BENCH_HUEY"]))
else:
    huey = SqliteHuey("bench", filename=os.path.join(os.environ["BENCH_FOLDER"], "bench.db"))
"""
PATIENT = """
from huey_patient import Patient
patient = Patient(huey, max_connections=256)

@patient.callback()
def answered(response):
    response.raise_for_status()
    count()

@patient.callback()
def uncounted(outcome):
    pass

if GREEN:
    import hub
    hub.Watch(lambda: patient.get(os.environ["BENCH_URL"], callback=uncounted)).start()
"""
PLAIN = """
@huey.task()
def answered(text):
    count()

if GREEN:
    import hub
    hub.Watch().start()
"""
#: What a plain task is given: as much as a callback gets from `server`.
TEXT = "x" * 500


class Watch:
    """In the consumer: ticks, and tells the benchmark how late the ticks were."""

    def __init__(self, request: Callable[[], Any] | None = None) -> None:
        from gevent.monkey import get_original

        self._request = request
        self._bell = Redis(port=int(os.environ["BENCH_REDIS"]))
        self._sleep = get_original("time", "sleep")
        self._start_native = get_original("_thread", "start_new_thread")
        self._main = get_original("_thread", "get_ident")()
        self._schedstat = os.open("/proc/self/schedstat", os.O_RDONLY)
        self._ticks: list[tuple[float, float, str]] = []  # held, waited, where
        self._due, self._waited, self._where = time.monotonic(), 0.0, ""

    def start(self) -> None:
        import gevent

        gevent.spawn(self._tick)
        gevent.spawn(self._serve)
        self._start_native(self._look, ())

    def _tick(self) -> None:
        import gevent

        while True:
            self._waited = self._without_processor()
            self._due = time.monotonic() + TICK
            gevent.sleep(TICK)
            self._note()

    def _note(self) -> None:
        late = max(0.0, time.monotonic() - self._due)
        waited = min(late, self._without_processor() - self._waited)
        self._ticks.append((late - waited, waited, self._where))
        self._where = ""

    def _without_processor(self) -> float:
        """Seconds that the main thread has waited for a processor in all."""
        return int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9

    def _look(self) -> None:
        """On a native thread: see what the main thread does while a tick is late."""
        while True:
            self._sleep(TICK)
            if not self._where and time.monotonic() - self._due > AIM / 2:
                frames = sys._current_frames()
                held_in = _calls(frames.pop(self._main))
                couriers = [one for one in map(_calls, frames.values()) if "courier" in str(one)]
                texts = [" < ".join(calls[:MOST_CALLS]) for calls in (held_in, *couriers)]
                self._where = "\n      the courier in ".join(texts)

    def _serve(self) -> None:
        """Do what the benchmark asks for, one after the other."""
        while True:
            asked = self._bell.brpop(["bench.ask"], timeout=1)
            match asked and asked[1]:
                case b"begin":
                    self._ticks.clear()
                case b"request" if self._request:
                    self._request()
                case b"end":
                    self._note()  # of the tick that is due, should it not have come yet
                    self._bell.lpush("bench.told", json.dumps(self._ticks))


def _calls(frame: Any) -> list[str]:
    """The calls that ``frame`` stands in, the innermost first; not those of Python's own."""
    calls = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent != Path(os.__file__).parent:
            calls.append(f"{path.parent.name}/{path.name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return calls


def _delay(number: int) -> float:
    """Seconds that the server takes for a call: 0.1 to 0.5."""
    return 0.1 + 0.4 * (number % 100) / 100


class Bench:
    """One consumer with greenlet workers, and what it is asked."""

    def __init__(self, kind: str, bell: int, database: int, url: str, *, aims: bool) -> None:
        self._kind = kind.split()[0]
        self._aims = aims
        self._bell = Redis(port=bell, socket_timeout=60)
        self._database = Redis(port=database)
        self._bell_port, self._url = bell, url
        self._variables = {"BENCH_KIND": self._kind, "BENCH_HUEY": str(database), "BENCH_URL": url}

    @contextlib.contextmanager
    def consumer(self, app: str, *options: str, count: int = 0) -> Iterator[Any]:
        """Run it on ``app``; gives the module of the application."""
        options = ("-k", "greenlet", "-w", "8", "-n", *options)
        port, env = self._bell_port, self._variables
        with consumer(APP + app, *options, count=count, redis_port=port, **env):
            import bench_app

            yield bench_app
            bench_app.huey.storage.flush_all()

    def load(self, calls: int, app: str) -> None:
        """Have so many answered, submitted at an even pace; prints the ticks."""
        with self.consumer(app, "-s", "60", count=calls) as module:
            self._ask("begin")
            began = time.monotonic()
            for n in range(calls):
                if app is PATIENT:
                    module.patient.get(f"{self._url}?s={_delay(n)}", callback=module.answered)
                else:
                    module.answered(TEXT)
                time.sleep(max(0.0, began + n / CALLS_A_SECOND - time.monotonic()))
            await_all(self._bell_port)
            self._ask("end")
            name = "calls of huey_patient" if app is PATIENT else "tasks of plain Huey"
            self._print(f"{calls} {name}", aim=app is PATIENT)

    def away(self, name: str, app: str, *, scheduler: int = 60, request: bool = False) -> None:
        """Take the database away for a while; prints the ticks meanwhile, and when it is back."""
        with self.consumer(app, "-s", str(scheduler)) as module:
            if app is PATIENT:
                self._put_into_the_air(module)
            self._ask("begin")
            with self._taken_away(module):
                if request:
                    self._ask("request")
                time.sleep(AWAY_SECONDS)
                for word in ("end", "begin"):  # are heard only now if the hub is held
                    self._ask(word)
            self._print(f"away: {name}", aim=app is PATIENT)
            if app is PATIENT and not request:
                self._await_the_rest(module)
                self._ask("end")
                self._print(f"back: {IN_FLIGHT} callbacks at once", aim=True)

    def _put_into_the_air(self, module: Any) -> None:
        url = f"{self._url}?s={IN_FLIGHT_SECONDS}"
        for _ in range(IN_FLIGHT):
            module.patient.get(url, callback=module.uncounted)
        while module.patient.stats()["fresh"]:
            time.sleep(0.01)

    def _await_the_rest(self, module: Any) -> None:
        while any(module.patient.stats()[one] for one in ("fresh", "held")):
            time.sleep(0.01)
        while module.huey.pending_count():
            time.sleep(0.01)

    @contextlib.contextmanager
    def _taken_away(self, module: Any) -> Iterator[None]:
        if self._kind == "redis":
            pid = self._database.info("server")["process_id"]
            os.kill(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(pid, signal.SIGCONT)
        else:
            filename = module.huey.storage.filename
            with contextlib.closing(sqlite3.connect(filename, isolation_level=None)) as db:
                db.execute("begin exclusive")
                yield
                db.execute("rollback")

    def _ask(self, word: str) -> None:
        self._bell.lpush("bench.ask", word)

    def _print(self, name: str, *, aim: bool) -> None:
        ticks = json.loads(self._bell.brpop(["bench.told"], timeout=60)[1])
        held, _, where = max(ticks)
        gap = max(held + waited for held, waited, _ in ticks)
        often = sum(held > AIM for held, *_ in ticks)
        print(
            f"  {name:42} {1000 * gap:8.1f} ms {1000 * held:8.1f} ms {often:6} of {len(ticks):5}"
            + (f"   (aim: {1000 * AIM:.0f} ms)" if aim and self._aims else "")
        )
        if held > AIM:
            print(f"      held in {where or 'nothing that was seen: no thread of it could run'}")


def measure(kind: str, calls: int, *, aims: bool = True) -> None:
    print(f"{kind:44} largest gap      of it held  held over {1000 * AIM:.0f} ms")
    with redis() as bell, redis() as database, web() as url:
        bench = Bench(kind, bell, database, url, aims=aims)
        bench.load(calls, PATIENT)
        bench.load(calls, PLAIN)
        bench.away(f"huey_patient, {IN_FLIGHT} calls in flight", PATIENT)
        if aims:
            bench.away("huey_patient, a greenlet makes a request", PATIENT, request=True)
            bench.away("plain Huey at rest", PLAIN)
            bench.away("plain Huey, its scheduler", PLAIN, scheduler=1)


def main(calls: int) -> None:
    if os.path.isdir("/dev/shm"):
        tempfile.tempdir = "/dev/shm"
    measure("sqlite", calls)
    tempfile.tempdir = None
    measure("sqlite on disk", calls, aims=False)
    measure("redis", calls)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
