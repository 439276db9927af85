"""Calls a second, end to end: from the first submit to the last callback.

    python benchmarks/throughput.py [calls]

RedisHuey, four worker threads, a local server that answers at once.  Beside it,
in the same run: as many no-op tasks through plain Huey, and a bare aiohttp
client with as many connections.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

import aiohttp
from common import await_all, consumer, redis, web

APP = """
from huey_patient import Patient
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
patient = Patient(huey, encryption_key=os.environ.get("BENCH_KEY") or None)

@patient.callback()
def answered(response):
    response.raise_for_status()
    count()
"""
PLAIN = """
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))

@huey.task()
def noop():
    count()
"""


def through_patient(calls: int, *, key: str = "") -> float:
    """Seconds for ``calls`` requests through huey_patient."""
    with redis() as port, web() as url:
        with consumer(APP, "-w", "4", count=calls, redis_port=port, BENCH_KEY=key):
            import bench_app

            began = time.time()
            for _ in range(calls):
                bench_app.patient.get(url, callback=bench_app.answered)
            return await_all(port) - began


def through_plain_huey(calls: int) -> float:
    """Seconds for ``calls`` tasks that do nothing."""
    with redis() as port, consumer(PLAIN, "-w", "4", count=calls, redis_port=port):
        import bench_app

        began = time.time()
        for _ in range(calls):
            bench_app.noop()
        return await_all(port) - began


def through_aiohttp(calls: int, *, at_once: int = 256) -> float:
    """Seconds for ``calls`` requests of a program that does nothing else."""

    async def run(url: str) -> float:
        connector = aiohttp.TCPConnector(limit=at_once)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one() -> None:
                async with session.get(url) as response:
                    await response.read()

            began = time.time()
            await asyncio.gather(*(one() for _ in range(calls)))
            return time.time() - began

    with web() as url:
        return asyncio.run(run(url))


def main(calls: int) -> None:
    rows = {
        "plain Huey, no-op tasks": through_plain_huey(calls),
        "bare aiohttp client": through_aiohttp(calls),
        "huey_patient": through_patient(calls),
        "huey_patient, sealed": through_patient(calls, key=secrets.token_hex(32)),
    }
    plain = rows["plain Huey, no-op tasks"]
    print(f"{calls} calls, RedisHuey, 4 threads:")
    for name, seconds in rows.items():
        print(f"  {name:26} {calls / seconds:7.0f} /s   {plain / seconds:5.2f} of plain Huey")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
