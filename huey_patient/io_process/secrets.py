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
    """Return ``request`` with values in place of its secrets, and the values of its
    secret parameters, which no URL that is shown may hold.

    The URL of the request decides whether a secret may go there.  Where a
    redirect leads does not matter: secrets do not cross origins.

    Raises:
        SecretNotFound: One is not there, is not for that host, or is not a
            string that fits its place.
    """
    if not request.secret_names():
        return request, []

    def value(reference: SecretReference) -> str:
        known = secrets.get(reference.name)
        if known is None:
            raise SecretNotFound(f"no secret {reference.name!r} is registered in the consumer")
        if not known.may_go_to(request.url):
            raise SecretNotFound(f"the secret {reference.name!r} is not for this host")
        return f"{reference.prefix}{known.value}{reference.suffix}"

    headers: Headers[str | SecretReference] = Headers(
        (name, value(field) if isinstance(field, SecretReference) else field)
        for name, field in request.headers.pairs()
    )
    params = [(name, value(reference)) for name, reference in request.secret_params]
    body = request.body
    if request.json_secrets and body:
        body = orjson.dumps(_inside(orjson.loads(body), value))
    problem = None
    try:
        resolved = dataclasses.replace(request, headers=headers, body=body, secret_params=())
    except ValueError as reason:
        problem = str(reason)
    # Outside the clause above, so that the error has no context: its frames hold values.
    if problem is not None:
        raise SecretNotFound(f"a secret does not fit its place: {problem}")
    return resolved, params


def _inside(node: Any, value: Callable[[SecretReference], str]) -> Any:
    """Return JSON values with every marker replaced."""
    if reference := SecretReference.from_json(node):
        return value(reference)
    if isinstance(node, dict):
        return {key: _inside(child, value) for key, child in node.items()}
    if isinstance(node, list):
        return [_inside(child, value) for child in node]
    return node
