"""Memory of the HTTP client: 1000 TLS calls at once.

    python benchmarks/tls_memory.py

Private memory of a process with the client in it, on uvloop and on asyncio, while
all wait for their answers, less that of the same process after one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from common import await_port, free_port, private_kb, process
from server import Answering

CALLS = 1_000


async def serve(port: int, certificate: str) -> None:
    """Answer on ``port``, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", port, backlog=8192, ssl=context)
    await server.serve_forever()


@contextlib.contextmanager
def serving(certificate: str) -> Iterator[int]:
    """Run `serve` in a process of its own; gives its port."""
    port = free_port()
    with process(sys.executable, __file__, "tls", str(port), certificate):
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
        with serving(certificate) as port:
            for loop in ("uvloop", "asyncio"):
                command = [sys.executable, __file__, loop, f"https://127.0.0.1:{port}/", ca_file]
                cost = float(subprocess.run(command, capture_output=True, check=True).stdout)
                print(f"{CALLS} TLS calls at once on {loop:7}: {cost:5.1f} KB each (aim: 90)")


def main(kind: str, *rest: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match kind:
        case "tls":
            asyncio.run(serve(int(rest[0]), rest[1]))
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
