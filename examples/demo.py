"""See it work: 200 slow calls, two workers, a few seconds.

    make demo                 200 calls of 2 s each, to a slow API on this machine
    make demo URLS=file       a list of your own: one URL a line, # for comments

It starts the slow API, and a consumer with two worker threads on a SQLite file
(`demo_app`), submits the calls, shows how they come back, and counts.  Whatever
happens, everything it started is stopped at the end.

Exit status: 0 when every call came back exactly once, 1 when not, 2 for a list
that cannot be read, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_processes import Trouble, running_consumer, slow_api, stop, tail

from huey_patient import Request

CALLS, SECONDS, WORKERS = 200, 2.0, 2

#: Seconds for the consumer to start; a busy machine takes a few.
START = 60.0
#: Seconds without an answer after which the demo gives up.  A call has 60.
PATIENCE = 90.0
#: Seconds between two looks at how far it is; on a terminal, and line by line.
LOOK, LOOK_LINE_BY_LINE = 0.1, 0.5


@dataclass(frozen=True)
class Answer:
    """What one callback noted."""

    number: int
    outcome: str  #: A status, or the kind of an error.
    seconds: float  #: How long the call took.


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--urls", metavar="FILE", help="call these URLs: one a line")
    file = parser.parse_args().urls
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        own = read_urls(Path(file)) if file else None
    except OSError as reason:
        print(f"demo: {file}: {reason.strerror}", file=sys.stderr)
        return 2
    except ValueError as reason:
        print(f"demo: {reason}", file=sys.stderr)
        return 2
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="patient-", ignore_cleanup_errors=True)
        log = Path(stack.enter_context(folder)) / "consumer.log"
        try:
            return run(stack, log, own)
        except Trouble as reason:
            print(f"\ndemo: {reason}\n{tail(log)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            return 130


def interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does: what was started is stopped."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def read_urls(file: Path) -> list[str]:
    """The URLs in ``file``.

    Raises:
        ValueError: There are none, or one cannot be called.
    """
    urls = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        url = line.strip()
        if not url or url.startswith("#"):
            continue
        try:
            Request("GET", url)
        except ValueError as reason:
            raise ValueError(f"{file}, line {number}: {reason}") from None
        urls.append(url)
    if not urls:
        raise ValueError(f"{file} holds no URL")
    return urls


def run(stack: contextlib.ExitStack, log: Path, own: list[str] | None) -> int:
    if own is None:
        api = stack.enter_context(slow_api(SECONDS))
        print(f"A slow API runs at {api}: each answer takes {SECONDS:g} s.")
    urls = own or [f"{api}/{number}" for number in range(CALLS)]
    consumer = stack.enter_context(running_consumer(log.parent, log, WORKERS))
    os.environ["DEMO_FOLDER"] = str(log.parent)
    app = importlib.import_module("demo_app")
    wait_for_consumer(app, consumer)
    print(f"A consumer runs: {WORKERS} worker threads, and one I/O process beside them.")

    began = time.monotonic()
    for number, url in enumerate(urls):
        app.patient.get(url, callback=app.NoteAnswer, callback_args={"number": number})
    print(f"{len(urls)} calls are submitted; that took {time.monotonic() - began:.2f} s.\n")
    most = watch(app, consumer, len(urls), began)
    wall = time.monotonic() - began

    # Counted when no callback can run any more, so that one too many would show.
    stop(consumer, signal.SIGINT)
    answers = noted(app)
    if own is None:
        tell_of_slow_calls(wall, most)
    else:
        tell_of_own_calls(urls, answers, wall, most)
    return verdict(answers, len(urls))


def wait_for_consumer(app: Any, consumer: subprocess.Popen) -> None:
    deadline = time.monotonic() + START
    while not app.patient.processes():
        check(consumer)
        if time.monotonic() > deadline:
            raise Trouble(f"the consumer was not there after {START:g} s")
        time.sleep(LOOK)


def check(consumer: subprocess.Popen) -> None:
    if consumer.poll() is not None:
        raise Trouble(f"the consumer ended with status {consumer.returncode}")


def watch(app: Any, consumer: subprocess.Popen, total: int, began: float) -> int:
    """Show how far it is until all are back; returns how many were in flight at most."""
    progress = Progress(total, began)
    done, most, moved_at = 0, 0, began
    while done < total:
        time.sleep(progress.pause)
        check(consumer)
        now = time.monotonic()
        before, done = done, len({answer.number for answer in noted(app)})
        in_flight = app.patient.stats()["held"]
        most = max(most, in_flight)
        moved_at = now if done > before else moved_at
        progress.show(now, done, in_flight)
        if now - moved_at > PATIENCE:
            raise Trouble(f"nothing came back for {PATIENCE:g} s; {total - done} calls are missing")
    progress.end()
    return most


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line now and then."""

    def __init__(self, total: int, began: float) -> None:
        self._total = total
        self._began = began
        self._rewrite = sys.stdout.isatty()
        self.pause = LOOK if self._rewrite else LOOK_LINE_BY_LINE
        self._last_second = deque([(began, 0)], maxlen=round(1 / self.pause))

    def show(self, now: float, done: int, in_flight: int) -> None:
        then, had = self._last_second[0]
        self._last_second.append((now, done))
        rate = (done - had) / (now - then)
        text = (
            f"{now - self._began:5.1f} s   in flight {in_flight:3}   "
            f"done {done:3} of {self._total}   {rate:5.1f} per second"
        )
        print(
            f"\r{text} " if self._rewrite else text, end="" if self._rewrite else "\n", flush=True
        )

    def end(self) -> None:
        print("\n" if self._rewrite else "")


def noted(app: Any) -> list[Answer]:
    """What the callbacks have written so far."""
    db = app.answers()
    rows = db.execute("select number, outcome, seconds from answer").fetchall()
    db.close()
    return [Answer(*row) for row in rows]


def tell_of_slow_calls(wall: float, most: int) -> None:
    alone = CALLS * SECONDS / WORKERS
    print(
        f"{CALLS} calls of {SECONDS:g} s came back in {wall:.1f} s; {most} were in flight at once."
    )
    print(f"{WORKERS} workers that make the calls themselves need {alone:g} s")
    print(f"(computed, not measured: {CALLS} x {SECONDS:g} s / {WORKERS} workers).")


def tell_of_own_calls(urls: list[str], answers: list[Answer], wall: float, most: int) -> None:
    for answer in sorted(answers, key=lambda one: one.number):
        print(f"{answer.outcome:>20}  {answer.seconds:6.2f} s  {urls[answer.number]}")
    outcomes = Counter(answer.outcome for answer in answers)
    print("\n" + ", ".join(f"{outcome}: {n}" for outcome, n in outcomes.most_common()))
    busy = sum(answer.seconds for answer in answers)
    print(f"{len(urls)} calls came back in {wall:.1f} s; {most} were in flight at once.")
    print(f"{WORKERS} workers that make the calls themselves need about {busy / WORKERS:.1f} s")
    print(f"(computed, not measured: the calls took {busy:.1f} s in all / {WORKERS} workers).")


def verdict(answers: list[Answer], total: int) -> int:
    """Say whether each call came back exactly once; returns the exit status."""
    times = Counter(answer.number for answer in answers)
    twice = [number for number, count in times.items() if count > 1]
    missing = total - len(times)
    print(
        f"{len(answers)} callbacks ran, {len(twice) or 'none'} twice; {missing or 'none'} missing."
    )
    return 1 if twice or missing else 0


if __name__ == "__main__":
    sys.exit(main())
