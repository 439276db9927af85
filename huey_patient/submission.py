"""What a caller says beside the request, checked: who is answered, when, with what."""

from __future__ import annotations

import datetime
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["MAX_CALLBACK_ARGS_BYTES", "checked_args", "checked_id", "checked_priority", "moment"]

#: Enough for ids and small state.  What is larger belongs in the database of
#: the application, and its key in the arguments.
MAX_CALLBACK_ARGS_BYTES = 65_536

#: Readable in a log and safe in a key of any database.
_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,128}")
_INT64 = range(-(2**63), 2**64)


def checked_id(id: Any) -> str:
    """Return ``id`` if it can name a request.

    Raises:
        ValueError: Not 1 to 128 letters, digits, ``_ . : -``.
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(f"id must be 1 to 128 letters, digits or any of _.:- , got {id!r}")
    return id


def checked_args(args: Any) -> dict[str, Any]:
    """Return ``callback_args`` as the callback will see them.

    Raises:
        TypeError: Not a mapping, or a value in it that JSON cannot express.
        ValueError: A number that JSON cannot express, or too large in all.
    """
    if args is None:
        return {}
    if not isinstance(args, Mapping):
        raise TypeError(f"callback_args must be a mapping, got {type(args).__name__}")
    copied: dict[str, Any] = _json_value(args, "callback_args")
    try:
        size = len(orjson.dumps(copied))
    except orjson.JSONEncodeError as reason:  # a lone surrogate
        raise ValueError(f"callback_args cannot be written as JSON: {reason}") from None
    if size > MAX_CALLBACK_ARGS_BYTES:
        raise ValueError(
            f"callback_args have {size} bytes, at most {MAX_CALLBACK_ARGS_BYTES} are carried; "
            "store the data and pass its key"
        )
    return copied


def checked_priority(priority: Any, *, supported: bool) -> float | None:
    """Return Huey's priority of the callback.

    Raises:
        TypeError: Not a number.
        ValueError: Endless, or this Huey's storage knows no priorities.
    """
    if priority is None:
        return None
    if isinstance(priority, bool) or not isinstance(priority, (int, float)):
        raise TypeError(f"priority must be a number, got {type(priority).__name__}")
    if not math.isfinite(priority):
        raise ValueError(f"priority must be a finite number, got {priority}")
    if priority and not supported:
        raise ValueError("this Huey knows no priorities; use PriorityRedisHuey")
    return priority


def moment(name: str, value: Any) -> float | None:
    """Return seconds from now, a timedelta or a datetime as Unix time.

    A datetime without a zone is local time, as for Huey.

    Raises:
        TypeError, ValueError: Something else; seconds that are negative or endless.
    """
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, a timedelta or a datetime")
    if value < 0 or not math.isfinite(value):
        raise ValueError(f"{name} must be zero or more seconds, got {value}")
    return time.time() + value


def _json_value(value: Any, where: str) -> Any:
    """Return a deep copy of ``value`` in which everything is native to JSON."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if value not in _INT64:
            raise ValueError(f"{where} holds an integer of more than 64 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} holds {value}, which JSON cannot express")
        return value
    if isinstance(value, Mapping):
        return {
            _key(key, where): _json_value(child, f"{where}[{key!r}]")
            for key, child in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_json_value(child, f"{where}[{index}]") for index, child in enumerate(value)]
    raise TypeError(
        f"{where} must be a JSON-native type (None, bool, str, int, float, list, dict), "
        f"got {type(value).__name__}"
    )


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the keys of {where} must be strings, got {type(key).__name__}")
    return key
