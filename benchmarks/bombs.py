"""Memory of the I/O process under 100 bombs at once, of each kind.

    python benchmarks/bombs.py

A bomb decodes to many times the limit, with the window that its coding allows at
most, or is a head without an end.  The highest resident size of the I/O process of a
real consumer with default settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import brotlicffi
import zstandard
from common import await_all, await_port, consumer, free_port, process, redis
from in_flight import io_process

BOMBS = 100
MIB = 1_048_576
ZEROS = b"\0" * 64 * MIB
NOISE = os.urandom(900_000)  # Makes a decoder use the window that it was told of.
APP = """
from huey_patient import Patient
huey = RedisHuey("bench", port=int(os.environ["BENCH_REDIS"]))
patient = Patient(huey)

@patient.callback()
def exploded(outcome):
    assert outcome.kind in ("response_too_large", "invalid_response"), outcome
    count()
"""


def coded(coding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def wide_zstd() -> bytes:
    wide = zstandard.ZstdCompressionParameters(window_log=23, compression_level=1)
    return zstandard.ZstdCompressor(compression_params=wide).compress(NOISE + ZEROS)


def wide_brotli() -> bytes:
    packer = brotlicffi.Compressor(lgwin=24, quality=2)
    return packer.compress(NOISE + ZEROS) + packer.finish()


def headers(status: str, value: bytes) -> bytes:
    lines = b"".join(b"X-%d: %s\r\n" % (n, value * 30_000) for n in range(120))
    return f"HTTP/1.1 {status}\r\n".encode() + lines + b"\r\n"


KINDS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: coded("gzip", gzip.compress(ZEROS)),
    "deflate": lambda: coded("deflate", zlib.compress(ZEROS)),
    "zstd": lambda: coded("zstd", zstandard.compress(ZEROS)),
    "zstd-8MiB-window": lambda: coded("zstd", wide_zstd()),
    "br": lambda: coded("br", brotlicffi.compress(ZEROS, quality=9)),
    "br-16MiB-window": lambda: coded("br", wide_brotli()),
    "headers": lambda: headers("200 OK", b"\x01"),
    "hints": lambda: headers("103 Early Hints", b"x") * 10,
}


class Bombing(asyncio.Protocol):
    """Answers each request with the bomb."""

    bomb = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.bomb)


async def serve(kind: str, port: int) -> None:
    """Answer on ``port`` with bombs of that kind."""
    Bombing.bomb = KINDS[kind]()
    server = await asyncio.get_running_loop().create_server(Bombing, "127.0.0.1", port)
    await server.serve_forever()


@contextlib.contextmanager
def serving(kind: str) -> Iterator[int]:
    """Run `serve` in a process of its own; gives its port."""
    port = free_port()
    with process(sys.executable, __file__, kind, str(port)):
        await_port(port)
        yield port


def measure(kind: str) -> None:
    with redis() as redis_port, serving(kind) as port:
        with consumer(APP, "-w", "2", count=BOMBS, redis_port=redis_port):
            import bench_app

            child = io_process(bench_app.patient)
            for _ in range(BOMBS):
                bench_app.patient.get(f"http://127.0.0.1:{port}/", callback=bench_app.exploded)
            await_all(redis_port)
            status = Path(f"/proc/{child}/status").read_text()
    highest = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024
    print(f"{BOMBS} at once of {kind:16}: {highest:3.0f} MB at most (aim: 200)")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
    else:
        for kind in KINDS:
            measure(kind)
