"""The application's own code: what may be a callback, how it is called, what follows.

Pure of envelopes and stores; knows Huey's tasks and how they are retried.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from huey.api import Task
from huey.exceptions import CancelExecution, RateLimitExceeded, RetryTask

from .errors import RequestError
from .response import Response
from .wire import Outcome

__all__ = [
    "Hooks",
    "call_instance",
    "call_plain",
    "check_call",
    "check_class",
    "checked_delivery",
    "is_final",
    "retry_in",
    "run",
    "value_of",
]

log = logging.getLogger("huey.patient")


@dataclass(slots=True)
class Hooks:
    """Functions that see every outcome, in the worker that runs the callback."""

    after_completion: list[Callable[[Response], Any]] = field(default_factory=list)
    after_error: list[Callable[[RequestError], Any]] = field(default_factory=list)
    retries_exhausted: list[Callable[[RequestError], Any]] = field(default_factory=list)


def run(task: Task, outcome: Outcome, hooks: Hooks, call: Callable[[], Any]) -> Any:
    """Run a callback between its hooks; returns what it returns."""
    error = outcome if isinstance(outcome, RequestError) else None
    watching: list[Any] = hooks.after_error if error else hooks.after_completion
    for hook in watching:
        _run_hook(hook, outcome)
    try:
        return call()
    except Exception as reason:
        if error is not None and is_final(task, reason):
            for hook in hooks.retries_exhausted:
                _run_hook(hook, error)
        raise


def checked_delivery(delivery: Any) -> bool:
    if delivery not in (None, "at_least_once"):
        raise ValueError(f"delivery must be 'at_least_once' or left out, got {delivery!r}")
    return delivery is not None


def retry_in(task: Task, reason: Exception) -> float | None:
    """Seconds until Huey runs ``task`` again after ``reason``; None when it does not."""
    if is_final(task, reason):
        return None
    delay = getattr(reason, "delay", None)
    return float(task.retry_delay if delay is None else delay)


def is_final(task: Task, reason: Exception) -> bool:
    """Whether Huey will not run ``task`` again after ``reason``."""
    if isinstance(reason, RetryTask) or (isinstance(reason, RateLimitExceeded) and reason.retry):
        return False
    if isinstance(reason, CancelExecution) and reason.retry is not None:
        return not reason.retry
    return not task.retries


def _run_hook(hook: Callable[[Any], Any], outcome: Outcome) -> None:
    try:
        hook(outcome)
    except Exception:
        # A hook watches; the callback runs whatever it does.
        log.exception("The hook %s failed", getattr(hook, "__qualname__", hook))


def value_of(outcome: Outcome) -> Response:
    if isinstance(outcome, RequestError):
        raise outcome
    return outcome


def call_plain(function: Callable[..., Any], task: Task, outcome: Outcome) -> Any:
    response = value_of(outcome)
    args, task.args = task.args, (response,)
    try:
        return function(task)
    finally:
        task.args = args


def call_instance(cls: type, outcome: Outcome, **extra: Any) -> Any:
    instance = cls()
    if isinstance(outcome, RequestError):
        return instance.on_error(outcome, **extra)
    return instance.on_complete(outcome, **extra)


def check_class(cls: type, *, with_task: bool) -> None:
    for name in ("on_complete", "on_error"):
        method = getattr(cls, name, None)
        if not callable(method):
            raise TypeError(f"callback class {cls.__name__} must define {name}(self, outcome)")
        check_call(f"{cls.__name__}.{name}", method, 2, with_task=with_task)
    try:
        inspect.signature(cls).bind()
    except TypeError:
        raise TypeError(f"callback class {cls.__name__} must be made without arguments") from None


def check_call(what: str, function: Callable[..., Any], count: int, *, with_task: bool) -> None:
    if inspect.iscoroutinefunction(function):
        # It would return a coroutine that nobody runs, and look successful.
        raise TypeError(f"{what} must not be async; let it call asyncio.run()")
    extra = {"task": None} if with_task else {}
    try:
        inspect.signature(function).bind(*[None] * count, **extra)
    except TypeError:
        besides = (" besides self" if count == 2 else "") + (" and task" if with_task else "")
        raise TypeError(f"{what} must take one argument{besides}") from None
