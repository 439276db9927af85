"""Answers that cost their reader more than they look like, and a reader of many.

    python -m support.bombs URL COUNT

prints, as JSON, how COUNT requests at once ended, and the most memory (KB) that
the process then had: a client with the settings that it has by default.
"""

from __future__ import annotations

import asyncio
import collections
import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import brotlicffi
import zstandard

from huey_patient.io_process.connections import smaller_tls_buffers
from huey_patient.io_process.http import HttpClient
from huey_patient.request import Request
from huey_patient.settings import Settings

MIB = 1_048_576


def _zeros() -> bytes:
    # Not a constant: it would be in the memory that is measured.
    return b"\0" * (20 * MIB)  # More than the widest window.


def _after_noise() -> bytes:
    """What makes a decoder use the window that it was told of."""
    return os.urandom(900_000) + _zeros()


def _coded(coding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _wide_zstd() -> bytes:
    wide = zstandard.ZstdCompressionParameters(window_log=23, compression_level=1)
    return zstandard.ZstdCompressor(compression_params=wide).compress(_after_noise())


def _wide_brotli() -> bytes:
    packer = brotlicffi.Compressor(lgwin=24, quality=2)
    return bytes(packer.compress(_after_noise()) + packer.finish())


def _head(status: bytes, value: bytes, count: int) -> bytes:
    lines = [b"X-%d: " % n + value * 30_000 for n in range(count)]
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


#: What makes each answer.
BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: _coded("gzip", gzip.compress(_zeros())),
    "deflate": lambda: _coded("deflate", zlib.compress(_zeros())),
    "zstd": lambda: _coded("zstd", zstandard.compress(_zeros())),
    "zstd, 8 MiB window": lambda: _coded("zstd", _wide_zstd()),
    "br": lambda: _coded("br", brotlicffi.compress(_zeros(), quality=9)),
    "br, 16 MiB window": lambda: _coded("br", _wide_brotli()),
    "headers": lambda: _head(b"200 OK", b"\x01", 120),
    "hints": lambda: _head(b"103 Early Hints", b"x", 100),
}


async def outcomes(url: str, count: int) -> dict[str, int]:
    """How ``count`` requests at once end, and how many each way."""
    async with HttpClient(Settings()) as client:
        ended = await asyncio.gather(
            *(client.send(Request("GET", url), request_id=str(n)) for n in range(count)),
            return_exceptions=True,
        )
    return dict(collections.Counter(type(one).__name__ for one in ended))


def highest_kb() -> int:
    """The most memory that this process had at any time; Linux alone tells."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


if __name__ == "__main__":
    smaller_tls_buffers()
    ended = asyncio.run(outcomes(sys.argv[1], int(sys.argv[2])))
    print(json.dumps([ended, highest_kb()]))
