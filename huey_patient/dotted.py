"""Functions named as ``"pkg.module:function"``, for processes that share no memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import reduce
from typing import Any

from .errors import ConfigurationError

__all__ = ["imported", "name_of"]


def imported(what: str, named: Any) -> Callable[..., Any]:
    """The function that ``named`` is or names; ``what`` is the setting to blame.

    Raises:
        ConfigurationError: It cannot be imported, or is not callable.
    """
    found: Any = named
    if isinstance(named, str):
        module, _, path = named.partition(":")
        if not module or not path:
            raise ConfigurationError(f"{what} must look like 'pkg.module:function': {named!r}")
        try:
            found = reduce(getattr, path.split("."), importlib.import_module(module))
        except (ImportError, AttributeError) as reason:
            raise ConfigurationError(f"{what} {named!r} cannot be imported: {reason}") from reason
    if not callable(found):
        raise ConfigurationError(f"{what} must be callable, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def name_of(what: str, function: Any) -> str:
    """``function``, or the name that it already is, as a name that another process
    can import.

    Raises:
        ConfigurationError: There is none: a lambda, or a function of the main script.
    """
    if isinstance(function, str):
        return function
    name = f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', None)}"
    try:
        found = None if name.startswith("__main__:") else imported(what, name)
    except ConfigurationError:
        found = None
    if found is not function:
        raise ConfigurationError(
            f"{what} must be a function of a module that the I/O process can import, or the "
            f"name of one ('pkg.module:function'); this one cannot be found as {name!r}"
        )
    return name
