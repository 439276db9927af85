"""Keys: how they are written down, derived, named and made.

A key is 32 random bytes.  In settings and environment variables it is written
as base64 or hex; this is the only place where either occurs.  Any other text
is a passphrase, which is weaker: whoever steals a sealed envelope can try
passphrases on it, and the salt is the same for every installation (each
process of an application must derive the same key, and there is no place that
all of them can read before they have it).  argon2id makes each try cost 60 ms
and 64 MiB, which a guessable phrase does not survive.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os
import re

from nacl.pwhash import argon2id

from .errors import ConfigurationError
from .settings import Settings

__all__ = ["KEY_BYTES", "configured", "generate_key", "key_id", "key_text", "parse_key"]

KEY_BYTES = 32
MIN_PASSPHRASE_CHARACTERS = 12

#: 32 random bytes have about 30 different values.  Fewer than this many were
#: typed, not drawn.
_MIN_DIFFERENT_BYTES = 16
_MIN_DIFFERENT_CHARACTERS = 6
_SALT = hashlib.blake2b(b"huey_patient passphrase 1", digest_size=argon2id.SALTBYTES).digest()
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{43}|[A-Za-z0-9_-]{43})=?")


def generate_key() -> str:
    """A new random key, as base64: what ``encryption_key`` takes."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def key_id(key: bytes) -> bytes:
    """The four bytes that name ``key`` in the clear; they do not give it away."""
    return hashlib.blake2b(key).digest()[:4]


def key_text(key: bytes) -> str:
    """``key`` as text that `parse_key` reads as nothing but these very bytes."""
    return key.hex()


def configured(settings: Settings) -> tuple[bytes, ...]:
    """The raw keys of ``settings``, the one that seals first; none in plain mode.

    Raises:
        ConfigurationError: See `parse_key`; also an empty list, which might be
            a variable that was forgotten.
    """
    written = settings.encryption_key
    if written is None:
        return ()
    if isinstance(written, (str, bytes)):
        written = (written,)
    if not written:
        raise ConfigurationError("encryption_key is an empty list; give a key, or None for plain")
    return tuple(parse_key(one) for one in written)


def parse_key(written: str | bytes) -> bytes:
    """Return the 32 bytes that ``written`` stands for.

    Raises:
        ConfigurationError: Too short, of the wrong length, or not random.  The
            message never carries any of it.
    """
    if not isinstance(written, (str, bytes)):
        raise ConfigurationError(f"a key is bytes or text, got {type(written).__name__}")
    if isinstance(written, bytes) and not _reads_as_text(written):
        return _checked(written)
    text = (written if isinstance(written, str) else written.decode()).strip()
    key = _decoded(text)
    return _derived(_checked_passphrase(text)) if key is None else _checked(key)


def _reads_as_text(written: bytes) -> bool:
    # Bytes that read as text were read from somewhere as text.  Among random
    # keys that happens once in 10**13, and never to the 32 bytes of a phrase.
    return written.isascii() and written.decode().strip().isprintable()


def _decoded(text: str) -> bytes | None:
    """The key that ``text`` is the hex or base64 of, or None when it is a passphrase."""
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    # Forty-three letters may as well be words-joined-by-hyphens.  A random key
    # without one letter of either case occurs once in 10**9, and would merely
    # be derived from like a passphrase, in each process alike.
    if not _BASE64.fullmatch(text) or text in (text.lower(), text.upper()):
        return None
    standard = text.rstrip("=").replace("-", "+").replace("_", "/") + "="
    return binascii.a2b_base64(standard)


def _checked_passphrase(text: str) -> str:
    if len(text) < MIN_PASSPHRASE_CHARACTERS:
        raise ConfigurationError(
            f"encryption_key is shorter than {MIN_PASSPHRASE_CHARACTERS} characters; "
            "make a key with `huey_patient key`"
        )
    if len(set(text)) < _MIN_DIFFERENT_CHARACTERS:
        raise ConfigurationError("encryption_key repeats a few characters; it would be guessed")
    return text


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"a raw key has {KEY_BYTES} bytes, got {len(key)}")
    if len(set(key)) < _MIN_DIFFERENT_BYTES:
        raise ConfigurationError(
            "encryption_key repeats a few bytes, which nothing random does; "
            "make a key with `huey_patient key`"
        )
    return key


@functools.lru_cache(maxsize=64)  # 60 ms each; a process has a few phrases at most
def _derived(passphrase: str) -> bytes:
    return argon2id.kdf(
        KEY_BYTES,
        passphrase.encode(errors="surrogatepass"),
        _SALT,
        opslimit=argon2id.OPSLIMIT_INTERACTIVE,
        memlimit=argon2id.MEMLIMIT_INTERACTIVE,
    )
