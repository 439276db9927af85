"""Secret references, and the values that take their place just before a send."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson

from ..errors import SecretNotFound
from ..headers import Headers
from ..request import Request, SecretReference

__all__ = ["resolve"]


def resolve(request: Request, secrets: Mapping[str, str]) -> tuple[Request, list[tuple[str, str]]]:
    """Return ``request`` with values in place of its secrets, and the values of its
    secret parameters, which no URL that is shown may hold.

    Raises:
        SecretNotFound: One is not there, or is not a string that fits its place.
    """
    if not request.secret_names():
        return request, []
    headers: Headers[str | SecretReference] = Headers(
        (name, _value(field, secrets) if isinstance(field, SecretReference) else field)
        for name, field in request.headers.pairs()
    )
    params = [(name, _value(reference, secrets)) for name, reference in request.secret_params]
    body = request.body
    if request.json_secrets and body:
        body = orjson.dumps(_inside(orjson.loads(body), secrets))
    try:
        resolved = dataclasses.replace(request, headers=headers, body=body, secret_params=())
    except ValueError as reason:
        raise SecretNotFound(f"a secret does not fit its place: {reason}") from None
    return resolved, params


def _value(reference: SecretReference, secrets: Mapping[str, str]) -> str:
    if reference.name not in secrets:
        raise SecretNotFound(f"no secret {reference.name!r} is registered in the consumer")
    return f"{reference.prefix}{secrets[reference.name]}{reference.suffix}"


def _inside(node: Any, secrets: Mapping[str, str]) -> Any:
    """Return JSON values with every marker replaced."""
    if reference := SecretReference.from_json(node):
        return _value(reference, secrets)
    if isinstance(node, dict):
        return {key: _inside(child, secrets) for key, child in node.items()}
    if isinstance(node, list):
        return [_inside(child, secrets) for child in node]
    return node
