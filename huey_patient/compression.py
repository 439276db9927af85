"""When a body is compressed, and how much may come out of one again.

Zstandard alone.  Its objects must not be shared between threads (four threads
on one compressor gave corrupt data within 2000 calls), so each call makes its
own.
"""

from __future__ import annotations

import zstandard

from .errors import EnvelopeError

__all__ = ["RAW", "ZSTD", "pack", "unpack"]

RAW = 0
ZSTD = 1

#: Below this a frame saves less than a packet, and costs its own header.
_MIN_BYTES = 512

_TEXT_TYPES = frozenset(
    [
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/jsonl",
        "application/sql",
        "application/toml",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/yaml",
    ]
)
#: Types whose formats compress by themselves; a second pass only costs time.
_COMPRESSED_TYPES = frozenset(
    [
        "application/brotli",
        "application/epub+zip",
        "application/gzip",
        "application/java-archive",
        "application/pdf",
        "application/vnd.rar",
        "application/x-7z-compressed",
        "application/x-bzip2",
        "application/x-gzip",
        "application/x-rar-compressed",
        "application/x-xz",
        "application/zip",
        "application/zstd",
        "font/woff",
        "font/woff2",
    ]
)
_COMPRESSED_FAMILIES = ("audio/", "image/", "video/", "application/vnd.openxmlformats-")


def pack(body: bytes, media_type: str | None, level: int) -> tuple[int, bytes]:
    """Return how ``body`` is coded (`RAW` or `ZSTD`), and the coded bytes.

    It is compressed when it is text of more than 512 bytes and becomes smaller
    thereby.  Text is what ``media_type`` calls so, or what is UTF-8 when that
    says nothing either way.
    """
    if len(body) <= _MIN_BYTES or not _is_text(body, media_type):
        return RAW, body
    frame = zstandard.ZstdCompressor(level=level, write_content_size=True).compress(body)
    return (ZSTD, frame) if len(frame) < len(body) else (RAW, body)


def unpack(coding: int, packed: bytes, max_body_bytes: int) -> bytes:
    """The reverse of `pack`; nothing larger than ``max_body_bytes`` is ever allocated.

    Raises:
        EnvelopeError: A larger body, a damaged frame, or an unknown coding.
    """
    if coding == RAW:
        _refuse_larger(len(packed), max_body_bytes)
        return packed
    if coding != ZSTD:
        raise EnvelopeError("the body is coded in a way that this version does not know")
    try:
        declared = zstandard.frame_content_size(packed)
        # The size is checked before anything is allocated: `decompress` ignores
        # max_output_size when the frame declares its size, and a frame that
        # declares none (-1) could hold anything.
        if declared < 0:
            raise EnvelopeError("the compressed body does not declare its size")
        _refuse_larger(declared, max_body_bytes)
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError:
        raise EnvelopeError("the compressed body is damaged") from None


def _refuse_larger(size: int, max_body_bytes: int) -> None:
    if size > max_body_bytes:
        raise EnvelopeError(f"the body has {size} bytes; at most {max_body_bytes} are taken")


def _is_text(body: bytes, media_type: str | None) -> bool:
    media = (media_type or "").partition(";")[0].strip().lower()
    if media.startswith("text/") or media.endswith(("+json", "+xml")) or media in _TEXT_TYPES:
        return True
    if media in _COMPRESSED_TYPES or media.startswith(_COMPRESSED_FAMILIES):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
