"""Memory of calls that only wait: 1000 and 5000 calls of five seconds at once.

    python benchmarks/in_flight.py

Private memory of the I/O process and of the consumer while all are in flight,
less that of the same processes idle, for each call.
"""

from __future__ import annotations

import time

from common import await_all, children_of, consumer, private_kb, redis, web

APP = """
from huey_patient import Patient
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
patient = Patient(huey, max_connections=int(os.environ["BENCH_COUNT"]))

@patient.callback()
def answered(response):
    response.raise_for_status()
    count()
"""


def measure(calls: int) -> None:
    with redis() as port, web() as url:
        with consumer(APP, "-w", "4", count=calls, redis_port=port) as process:
            import bench_app

            child = bench_app.patient.processes()[0]["io"]["pid"]
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
