"""Slow calls: how long 1000 calls of one second take.

    python benchmarks/waiting.py

RedisHuey, four worker threads, ``max_connections`` 256 and 1000.  Beside it
plain Huey with eight threads that make the calls themselves: 80 calls are
measured, since 1000 would take two minutes, and the rate is what counts.
"""

from __future__ import annotations

import time

from common import await_all, consumer, redis, web

APP = """
from huey_patient import Patient
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
patient = Patient(huey, max_connections=int(os.environ["BENCH_CONNECTIONS"]))

@patient.callback()
def answered(response):
    response.raise_for_status()
    count()
"""
PLAIN = """
import urllib.request
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))

@huey.task()
def call(url):
    urllib.request.urlopen(url).read()
    count()
"""


def patient(calls: int, connections: int) -> float:
    """Seconds for ``calls`` calls of one second through huey_patient."""
    with redis() as port, web() as url:
        options = {"BENCH_CONNECTIONS": str(connections)}
        with consumer(APP, "-w", "4", count=calls, redis_port=port, **options):
            import bench_app

            began = time.time()
            for _ in range(calls):
                bench_app.patient.get(f"{url}?s=1", callback=bench_app.answered)
            return await_all(port) - began


def plain_huey(calls: int) -> float:
    """Seconds for ``calls`` calls of one second in eight workers."""
    with redis() as port, web() as url:
        with consumer(PLAIN, "-w", "8", count=calls, redis_port=port):
            import bench_app

            began = time.time()
            for _ in range(calls):
                bench_app.call(f"{url}?s=1")
            return await_all(port) - began


def main() -> None:
    plain = 80 / plain_huey(80)
    print(f"plain Huey, 8 threads:             {plain:7.1f} calls/s (80 calls measured)")
    for connections in (256, 1000):
        seconds = patient(1000, connections)
        bound = -(-1000 // connections)
        print(
            f"huey_patient, {connections:4} connections: {1000 / seconds:7.1f} calls/s, "
            f"1000 in {seconds:.2f} s (bound {bound} s), {1000 / seconds / plain:.0f} times plain"
        )


if __name__ == "__main__":
    main()
