"""Preprocessors by name: imported when a request first names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import dotted
from ..errors import ConfigurationError, PreprocessorFailed
from .outgoing import Preprocessor

__all__ = ["Preprocessors"]


class Preprocessors:
    """The preprocessors that the application registered."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = paths
        self._loaded: dict[str, Preprocessor] = {}

    def named(self, names: Iterable[str]) -> tuple[Preprocessor, ...]:
        """Return the functions called ``names``, in that order.

        Raises:
            PreprocessorFailed: One is not registered in the consumer, or its
                module does not import there.
        """
        return tuple(self._one(name) for name in names)

    def _one(self, name: str) -> Preprocessor:
        if name not in self._loaded:
            if name not in self._paths:
                raise PreprocessorFailed(f"no preprocessor {name!r} is registered in the consumer")
            try:
                self._loaded[name] = dotted.imported("a preprocessor", self._paths[name])
            except ConfigurationError as reason:
                raise PreprocessorFailed(str(reason)) from None
            # A module may raise anything at its import, and even leave.
            except (Exception, SystemExit) as reason:
                raise PreprocessorFailed(
                    f"a preprocessor {self._paths[name]!r} cannot be imported "
                    f"({type(reason).__name__})"
                ) from None
        return self._loaded[name]
