"""Memory of the HTTP client: 1000 TLS calls at once, and 100 bombs at once.

    python benchmarks/tls_memory.py

The calls: private memory of a process with the client in it, on uvloop and on
asyncio, while all wait for their answers, less that of the same process after
one call.  The bombs: each decodes to a hundred times the limit, and stands one
step before it until all the others do; the highest resident size of the I/O
process of a real consumer with default settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import ssl
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from common import await_all, await_port, consumer, free_port, private_kb, process, redis
from in_flight import io_process
from server import Answering

CALLS, BOMBS = 1_000, 100
MIB = 1_048_576
APP = """
from huey_patient import Patient
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
patient = Patient(huey)

@patient.callback()
def exploded(outcome):
    assert outcome.kind == "response_too_large", outcome
    count()
"""


class Bombing(asyncio.Protocol):
    """Sends each client what decodes to almost 1 MiB; the rest when all have that."""

    waiting: list[asyncio.Transport] = []  # noqa: RUF012  (one for the whole server)
    packer = zlib.compressobj(wbits=31)
    begun = packer.compress(b"\0" * (MIB - 1)) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(b"\0" * 99 * MIB) + packer.flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        length = len(self.begun) + len(self.rest)
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % length
            + self.begun
        )
        self.waiting.append(self.transport)
        if len(self.waiting) == BOMBS:
            # Half a second: for the last of them to be read as far as the others.
            asyncio.get_running_loop().call_later(0.5, self.explode)

    def explode(self) -> None:
        for transport in self.waiting:
            transport.write(self.rest)


async def serve(protocol: type[asyncio.Protocol], port: int, certificate: str | None) -> None:
    """Answer on ``port``; over TLS with a ``certificate``."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=8192, ssl=context)
    await server.serve_forever()


@contextlib.contextmanager
def serving(kind: str, *certificate: str) -> Iterator[int]:
    """Run `serve` in a process of its own; gives its port."""
    port = free_port()
    with process(sys.executable, __file__, kind, str(port), *certificate):
        await_port(port)
        yield port


async def call(url: str, ca_file: str) -> float:
    """KB that each of `CALLS` costs while it waits."""
    from huey_patient.io_process.http import HttpClient
    from huey_patient.request import Request
    from huey_patient.settings import Settings

    def send(seconds: float) -> asyncio.Task:
        request = Request("GET", f"{url}?s={seconds}")
        return asyncio.create_task(client.send(request, request_id="x"))

    settings = Settings(max_connections=CALLS, ca_file=ca_file, request_timeout=120)
    async with HttpClient(settings) as client:
        await send(0)
        idle = peak = private_kb(os.getpid())
        sends = [send(15) for _ in range(CALLS)]
        while not any(one.done() for one in sends):
            await asyncio.sleep(0.25)
            peak = max(peak, private_kb(os.getpid()))
        for response in await asyncio.gather(*sends):
            response.raise_for_status()
        return (peak - idle) / CALLS


def measure_calls() -> None:
    import trustme

    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca_file, certificate = f"{folder}/ca.pem", f"{folder}/server.pem"
        authority.cert_pem.write_to_path(ca_file)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(certificate)
        with serving("tls", certificate) as port:
            for loop in ("uvloop", "asyncio"):
                command = [sys.executable, __file__, loop, f"https://127.0.0.1:{port}/", ca_file]
                cost = float(subprocess.run(command, capture_output=True, check=True).stdout)
                print(f"{CALLS} TLS calls at once on {loop:7}: {cost:5.1f} KB each (aim: 90)")


def measure_bombs() -> None:
    with redis() as redis_port, serving("bombs") as port:
        with consumer(APP, "-w", "2", count=BOMBS, redis_port=redis_port):
            import bench_app

            child = io_process(bench_app.patient)
            for _ in range(BOMBS):
                bench_app.patient.get(f"http://127.0.0.1:{port}/", callback=bench_app.exploded)
            await_all(redis_port)
            status = Path(f"/proc/{child}/status").read_text()
    highest = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024
    print(f"{BOMBS} gzip bombs at once: {highest:.0f} MB at most in the I/O process (aim: 200)")


def main(kind: str, *rest: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match kind:
        case "tls":
            asyncio.run(serve(Answering, int(rest[0]), rest[1]))
        case "bombs":
            asyncio.run(serve(Bombing, int(rest[0]), None))
        case "uvloop":
            import uvloop

            print(uvloop.run(call(*rest)))
        case "asyncio":
            from huey_patient.io_process.connections import smaller_tls_buffers

            smaller_tls_buffers()
            print(asyncio.run(call(*rest)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:])
    else:
        measure_calls()
        measure_bombs()
