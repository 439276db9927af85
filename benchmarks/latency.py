"""What one call costs on an idle consumer, over the call itself.

    python benchmarks/latency.py

From the submit to the start of the callback, less the time of the same call by
a bare client; medians of 40, one at a time.
"""

from __future__ import annotations

import statistics
import time
import urllib.request

from common import consumer, redis, web
from redis import Redis

APP = """
from huey_patient import Patient
if os.environ["BENCH_KIND"] == "redis":
    huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
else:
    huey = SqliteHuey("bench", filename=os.path.join(os.environ["BENCH_FOLDER"], "bench.db"))
patient = Patient(huey)

@patient.callback()
def answered(response):
    bell.lpush("bench.latency", repr(time.time()))
"""


def measure(kind: str, samples: int = 40) -> tuple[float, float]:
    """Median seconds of a call by itself, and through huey_patient."""
    with redis() as port, web() as url:
        with consumer(APP, "-w", "2", count=0, redis_port=port, BENCH_KIND=kind):
            import bench_app

            bare, patient = [], []
            for _ in range(samples):
                began = time.time()
                urllib.request.urlopen(url).read()
                bare.append(time.time() - began)
                began = time.time()
                bench_app.patient.get(url, callback=bench_app.answered)
                answer = Redis(port=port, socket_timeout=40).blpop(["bench.latency"], timeout=30)
                patient.append(float(answer[1]) - began)
                time.sleep(0.3)  # idle again
            return statistics.median(bare), statistics.median(patient)


if __name__ == "__main__":
    for kind in ("sqlite", "redis"):
        bare, patient = measure(kind)
        print(
            f"{kind:6}: {1000 * (patient - bare):6.1f} ms over the call itself "
            f"({1000 * patient:.1f} ms against {1000 * bare:.1f} ms)"
        )
