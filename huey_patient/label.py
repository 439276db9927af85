"""What stands on the outside of a request's envelope.

The courier reads it and has no key: it holds what is needed to route, and
nothing of what is asked.  It is authenticated all the same: the envelope does
not open when its label was changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from .errors import EnvelopeError

__all__ = ["Label", "as_reference", "is_reference"]


@dataclass(frozen=True, slots=True)
class Label:
    """How a request is answered, and what must be at hand to send it."""

    callback: str  #: The name of the Huey task that receives the outcome.
    priority: float | None = None  #: Of that task, as Huey takes it.
    secrets: tuple[str, ...] = ()  #: Names to resolve at hand-over; never values.
    never: bool = False  #: Sent at most once, even when its owner is lost.

    def to_bytes(self) -> bytes:
        """This label as compact JSON; what is left at its default is left out."""
        fields: dict[str, Any] = {"callback": self.callback}
        if self.priority is not None:
            fields["priority"] = self.priority
        if self.secrets:
            fields["secrets"] = self.secrets
        if self.never:
            fields["never"] = True
        return orjson.dumps(fields)

    @classmethod
    def from_bytes(cls, label: bytes) -> Label:
        """The reverse of `to_bytes`.

        Fields that this version does not know are ignored, so that an older
        consumer serves a newer application.

        Raises:
            EnvelopeError: Not a label.
        """
        fields = _fields(label)
        if fields is None or not _well_typed(fields):
            raise EnvelopeError("the label is not readable")
        return cls(
            callback=fields["callback"],
            priority=fields.get("priority"),
            secrets=tuple(fields.get("secrets", ())),
            never=fields.get("never", False),
        )


def as_reference(label: bytes) -> bytes:
    """Return ``label`` for an envelope that stands for the one it labels now.

    Raises:
        EnvelopeError: Not a label.
    """
    # Not through `Label`: fields that this version does not know must stay.
    fields = _fields(label)
    if fields is None:
        raise EnvelopeError("the label is not readable")
    return orjson.dumps({**fields, "reference": True})


def is_reference(label: bytes) -> bool:
    """Whether the envelope of this label stands for one that lies in a payload store."""
    return (_fields(label) or {}).get("reference") is True


def _fields(label: bytes) -> dict[str, Any] | None:
    try:
        fields = orjson.loads(label)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _well_typed(fields: dict[str, Any]) -> bool:
    priority = fields.get("priority")
    secrets = fields.get("secrets", [])
    return (
        isinstance(fields.get("callback"), str)
        and (priority is None or type(priority) in (int, float))
        and isinstance(secrets, list)
        and all(isinstance(name, str) for name in secrets)
        and isinstance(fields.get("never", False), bool)
    )
