"""Sealing of the application's own: two functions of bytes, and their names.

A function is configured by name or as itself; the I/O process is given names
alone and imports them, so nothing is pickled on the way there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import reduce
from typing import Any

from .errors import ConfigurationError
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
    encrypt = _imported("encryption", settings.encryption)
    return encrypt, _imported("decryption", settings.decryption)


def _imported(setting: str, cipher: Cipher) -> Function:
    """The function that ``cipher`` is or names."""
    found: Any = cipher
    if isinstance(cipher, str):
        module, _, path = cipher.partition(":")
        if not module or not path:
            raise ConfigurationError(f"{setting} must look like 'pkg.module:function': {cipher!r}")
        try:
            found = reduce(getattr, path.split("."), importlib.import_module(module))
        except (ImportError, AttributeError) as reason:
            raise ConfigurationError(
                f"{setting} {cipher!r} cannot be imported: {reason}"
            ) from reason
    if not callable(found):
        raise ConfigurationError(f"{setting} must be callable, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def name_of(setting: str, cipher: Cipher | None) -> str | None:
    """``cipher`` as a name that another process can import."""
    if cipher is None or isinstance(cipher, str):
        return cipher
    name = f"{getattr(cipher, '__module__', None)}:{getattr(cipher, '__qualname__', None)}"
    try:
        found = None if name.startswith("__main__:") else _imported(setting, name)
    except ConfigurationError:
        found = None
    if found is not cipher:
        raise ConfigurationError(
            f"{setting} must be a function of a module that the I/O process can import, or the "
            f"name of one ('pkg.module:function'); this one cannot be found as {name!r}"
        )
    return name
