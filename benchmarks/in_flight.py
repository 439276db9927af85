"""Memory of calls that only wait: 1000 and 5000 calls of five seconds at once.

    python benchmarks/in_flight.py

Private memory of the I/O process and of the consumer while all are in flight,
less that of the same processes after their first hundred calls, for each call: what
is not yet shared with the fork server any more is not the price of a call.
"""

from __future__ import annotations

import time

from common import await_all, children_of, consumer, private_kb, redis, web

from huey_patient import Patient

APP = """
from huey_patient import Patient
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
patient = Patient(huey, max_connections=wanted)

@patient.callback()
def answered(response):
    response.raise_for_status()
    count()
"""


WARM_UP = 100


def io_process(patient: Patient) -> int:
    """Return the pid of the I/O process, once the consumer has told of it."""
    while True:
        for told in patient.processes():
            if told["io"]:
                return int(told["io"]["pid"])
        time.sleep(0.1)


def measure(calls: int) -> None:
    with redis() as port, web() as url:
        with consumer(APP, "-w", "4", count=calls + WARM_UP, redis_port=port) as process:
            import bench_app

            child = io_process(bench_app.patient)
            for _ in range(WARM_UP):
                bench_app.patient.get(url, callback=bench_app.answered)
            while any(bench_app.patient.stats()[name] for name in ("fresh", "held")):
                time.sleep(0.1)
            idle = private_kb(process.pid), private_kb(child)
            began = time.time()
            for _ in range(calls):
                bench_app.patient.get(f"{url}?s=5", callback=bench_app.answered)
            peak = (0, 0)
            while bench_app.patient.pending_count() or time.time() - began < 4:
                peak = max(peak[0], private_kb(process.pid)), max(peak[1], private_kb(child))
                time.sleep(0.1)
            seconds = await_all(port) - began
            mine, its = ((peak[i] - idle[i]) / calls for i in (0, 1))
            print(
                f"{calls} calls of 5 s: {seconds:.1f} s; KB a call: {its:.1f} in the I/O process "
                f"({idle[1] / 1024:.0f} MB idle), {mine:.1f} in the consumer "
                f"({idle[0] / 1024:.0f} MB idle), {mine + its:.1f} together"
            )
            assert children_of(process.pid)


if __name__ == "__main__":
    for calls in (1000, 5000):
        measure(calls)
