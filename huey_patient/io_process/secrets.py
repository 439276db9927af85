"""Secret references, and the values that take their place just before a send.

Here, and nowhere before, both are known: the value, and the URL it would go to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ..errors import SecretNotFound
from ..headers import Headers
from ..request import Request, SecretReference
from ..secret_values import SecretValue

__all__ = ["resolve"]


def resolve(
    request: Request, secrets: Mapping[str, SecretValue]
) -> tuple[Request, list[tuple[str, str]]]:
    """Return ``request`` with values in place of its secrets, and its secret parameters,
    which stand in no URL but the one that is sent.

    The URL of the request decides whether a secret may go there.  Where a
    redirect leads does not matter: secrets do not cross origins.

    Raises:
        SecretNotFound: One is not there, is not for that host, or is not a
            string that fits its place.
    """
    if not request.secret_names():
        return request, []

    values = {name: _value(name, request.url, secrets) for name in request.secret_names()}

    def text(field: str | SecretReference) -> str:
        if isinstance(field, str):
            return field
        return f"{field.prefix}{values[field.name]}{field.suffix}"

    headers: Headers[str | SecretReference] = Headers(
        (name, text(field)) for name, field in request.headers.pairs()
    )
    params = [(name, text(field)) for name, field in request.secret_params]
    body = request.body
    if request.json_secrets and body:
        body = orjson.dumps(_inside(orjson.loads(body), text))
    hidden = frozenset(values.values())
    problem = None
    try:
        resolved = dataclasses.replace(
            request, headers=headers, body=body, secret_params=(), hidden=hidden
        )
    except ValueError as reason:
        problem = str(reason)
    # Outside the clause above, so that the error has no context: its frames hold values.
    if problem is not None:
        raise SecretNotFound(f"a secret does not fit its place: {problem}")
    return resolved, params


def _value(name: str, url: str, secrets: Mapping[str, SecretValue]) -> str:
    known = secrets.get(name)
    if known is None:
        raise SecretNotFound(f"no secret {name!r} is registered in the consumer")
    if not known.may_go_to(url):
        raise SecretNotFound(f"the secret {name!r} is not for this host")
    return str(known.value)


def _inside(node: Any, text: Callable[[SecretReference], str]) -> Any:
    """Return JSON values with every marker replaced."""
    if reference := SecretReference.from_json(node):
        return text(reference)
    if isinstance(node, dict):
        return {key: _inside(child, text) for key, child in node.items()}
    if isinstance(node, list):
        return [_inside(child, text) for child in node]
    return node
