"""Sealing of the application's own: two functions of bytes, and their names.

A function is configured by name or as itself; the I/O process is given names
alone and imports them, so nothing is pickled on the way there.
"""

from __future__ import annotations

from collections.abc import Callable

from . import dotted
from .settings import Cipher, Settings

__all__ = ["Function", "configured", "name_of"]

Function = Callable[[bytes], bytes]


def configured(settings: Settings) -> tuple[Function, Function] | None:
    """``encryption`` and ``decryption`` of ``settings``, imported; None without them.

    Raises:
        ConfigurationError: One cannot be imported, or is not callable.
    """
    if settings.encryption is None or settings.decryption is None:
        return None
    encrypt = dotted.imported("encryption", settings.encryption)
    return encrypt, dotted.imported("decryption", settings.decryption)


def name_of(setting: str, cipher: Cipher | None) -> str | None:
    """``cipher`` as a name that another process can import."""
    return None if cipher is None else dotted.name_of(setting, cipher)
