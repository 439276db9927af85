"""What an application tells its `Patient` once: callbacks, hooks, secrets, signers, stores."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from . import dotted
from .callbacks import Callbacks
from .errors import ConfigurationError
from .payloads import PayloadStore, payload_store_for
from .references import References
from .running import Hooks
from .secret_values import SecretValues

__all__ = ["Registering"]

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


class Registering:
    """The half of `Patient` that is used while modules are imported."""

    huey: Any
    _callbacks: Callbacks
    _hooks: Hooks
    _secrets: SecretValues
    _preprocessors: dict[str, str]
    _references: References

    @overload
    def callback(self, target: C, /) -> C: ...
    @overload
    def callback(self, /, **options: Any) -> Callable[[C], C]: ...
    def callback(self, target: Any = None, /, **options: Any) -> Any:
        """Register a class or function as a callback, with the options of ``@huey.task``.

        A class has ``on_complete(self, response)`` and ``on_error(self, error)``
        and is made anew for each outcome; a function is called with the
        `Response` or the `RequestError`.  The class or function stays as it is.

        Args:
            delivery: ``"at_least_once"`` keeps the outcome until the callback
                has returned: a consumer killed inside it loses nothing, and the
                callback may run twice.  Without it a callback runs as any Huey
                task does: at most once.

        Raises:
            TypeError: A method is missing or takes other arguments.
            ValueError: A task of that name is registered already.
        """
        if target is not None and not options:
            return self._callbacks.register(target, {})

        def decorate(decorated: C) -> C:
            self._callbacks.register(decorated, dict(options))
            return decorated

        return decorate

    def after_completion(self, function: Callable[..., T]) -> Callable[..., T]:
        """Call ``function(response)`` before each callback that gets a response."""
        return _add(self._hooks.after_completion, function)

    def after_error(self, function: Callable[..., T]) -> Callable[..., T]:
        """Call ``function(error)`` before each callback that gets an error."""
        return _add(self._hooks.after_error, function)

    def on_retries_exhausted(self, function: Callable[..., T]) -> Callable[..., T]:
        """Call ``function(error)`` when the callback of an error failed for good."""
        return _add(self._hooks.retries_exhausted, function)

    def register_secret(
        self, name: str, value: str | Callable[[], Any], *, hosts: Iterable[str] = ()
    ) -> None:
        """Let requests refer to a secret by name; see `secret`.

        The value stays in this process.  The consumer resolves it when it
        hands a request to the I/O process, so register it where the consumer
        imports it.

        Args:
            value: The secret, or a function called for each request.  It is
                called by the courier, and everything waits for it: keep what
                takes long to fetch.
            hosts: The hosts that it may be sent to, ``*.example.com`` for all
                below; empty: any.  A request with it to another host ends as
                `SecretNotFound`.

        Raises:
            ValueError: No name, no value, or a host that is none.
        """
        self._secrets.register(name, value, hosts)

    def register_preprocessor(self, name: str, function: str | Callable[..., Any]) -> None:
        """Let requests name a function that changes them just before they are sent.

        It is called in the I/O process with the outgoing request: it may read
        ``method``, ``url`` and ``body``, set ``headers`` and ``add_param``; a
        signature is what it is for.  It runs on the loop, once for each send,
        so it must be quick; it does not follow a redirect to another origin.

        Args:
            function: ``"pkg.module:function"``, or that function itself.

        Raises:
            ConfigurationError: It cannot be imported by that name, or does not
                take one argument.
        """
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError("a preprocessor needs a name")
        path = dotted.name_of(f"preprocessor {name!r}", function)
        found = dotted.imported(f"preprocessor {name!r}", path)
        try:
            inspect.signature(found).bind(None)
        except TypeError:
            raise ConfigurationError(f"preprocessor {name!r} must take one argument") from None
        self._preprocessors[name] = path

    def register_payload_store(self, name: str, store: PayloadStore | str) -> None:
        """Let large envelopes lie outside of the database; see `Settings.payload_store`.

        Of several, all are read, and the last one registered is written to: to
        move, register the new one after the old one.  Register the same ones,
        under the same names, wherever requests are made and answered.
        ``Settings.payload_store`` has the name "default".

        Args:
            store: ``"huey"``, a URL of fsspec, or a `PayloadStore`.

        Raises:
            ConfigurationError: No name, or no such store.
        """
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError("a payload store needs a name")
        self._references.register(name, payload_store_for(self.huey, store))


def _add(hooks: list[Any], function: Callable[..., T]) -> Callable[..., T]:
    if not callable(function):
        raise TypeError(f"a hook must be callable, got {type(function).__name__}")
    hooks.append(function)
    return function
