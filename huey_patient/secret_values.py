"""Secrets that were registered, and how their values go to the I/O process.

    application     registers a value, or a function that returns it
    consumer        resolves those that a request names, when it hands it over
    pipe            carries them beside the sealed request, as JSON
    I/O process     puts them in their places, if the request goes where they may go

They are in no envelope, no database, no log and no `repr`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from . import checks
from .urls import is_host_listed, origin

__all__ = ["SecretValue", "SecretValues", "read"]

log = logging.getLogger("huey.patient")


@dataclass(frozen=True, slots=True)
class SecretValue:
    """One secret, and where it may be sent."""

    value: str | Callable[[], Any] = field(repr=False)
    hosts: tuple[str, ...] = ()  #: Names, or ``*.example.com``; empty: anywhere.

    def may_go_to(self, url: str) -> bool:
        """Whether its hosts include that of ``url``."""
        return not self.hosts or is_host_listed(origin(url)[1], self.hosts)


class SecretValues:
    """What one application registered."""

    def __init__(self) -> None:
        self._known: dict[str, SecretValue] = {}

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(map(repr, self._known))})"

    def register(self, name: str, value: str | Callable[[], Any], hosts: Iterable[str]) -> None:
        """Keep a value under ``name``; the last call counts.

        Raises:
            ValueError: No name, no value, or a host that is none.
        """
        if not isinstance(name, str) or not name:
            raise ValueError("a secret needs a name")
        if value is None or value == "":
            raise ValueError(f"secret {name!r} needs a value or a function that returns it")
        self._known[name] = SecretValue(value, checks.hosts(f"hosts of secret {name!r}", hosts))

    def resolved(self, names: Iterable[str]) -> bytes:
        """Return the secrets called ``names`` as JSON; `read` is the reverse.

        One that is unknown, or whose function fails, is left out: the request
        then ends as `SecretNotFound`.
        """
        found: dict[str, Any] = {}
        for name in names:
            secret = self._known.get(name)
            if secret is None:
                log.error("A request names the secret %r, which is not registered here.", name)
                continue
            try:
                text = str(secret.value() if callable(secret.value) else secret.value)
                text.encode()  # a lone surrogate would end the courier, not the request
            except Exception as reason:
                # The application's own function; its text may hold the secret.
                log.error("The secret %r cannot be resolved: %s", name, type(reason).__name__)
                continue
            found[name] = {"value": text, "hosts": secret.hosts}
        return orjson.dumps(found)


def read(resolved: bytes) -> dict[str, SecretValue]:
    """Return what `SecretValues.resolved` gave, by name; nothing for nothing."""
    if not resolved:
        return {}
    return {
        name: SecretValue(one["value"], tuple(one["hosts"]))
        for name, one in orjson.loads(resolved).items()
    }
