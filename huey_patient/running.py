"""The application's own code: what may be a callback, how it is called, what follows.

Opens no envelope; knows Huey's tasks, how they are retried, and which of their
messages have a receipt.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from huey import Huey
from huey import signals as huey_signals
from huey.api import Task
from huey.exceptions import CancelExecution, RateLimitExceeded, RetryTask
from huey.utils import normalize_time

from .errors import RequestError
from .receipts import Receipts
from .references import References
from .response import Response
from .wire import Outcome, Reason

__all__ = [
    "KEPT",
    "MARK",
    "Deliveries",
    "Hooks",
    "call_instance",
    "call_plain",
    "check_call",
    "check_class",
    "checked_delivery",
    "is_final",
    "is_ours",
    "retry_in",
    "run",
    "value_of",
]

log = logging.getLogger("huey.patient")

#: Tells our messages from calls of the same task by the application.
MARK = "huey_patient"

#: Says that a message has a receipt.  What is registered cannot say it: messages
#: outlive a deployment that changes ``delivery``.
KEPT = "kept"


def is_ours(args: Any) -> bool:
    """Whether these are the arguments of a message that answers a request."""
    if len(args) not in (3, 4) or not isinstance(args[0], str) or args[0] != MARK:
        return False
    return isinstance(args[2], bytes | bytearray | memoryview)


def _is_kept(args: Any) -> bool:
    return is_ours(args) and len(args) == 4 and bool(args[3] == KEPT)


class Deliveries:
    """Runs callbacks as their messages say: at most once, or under a receipt.

    Where a task stands with its receipt is noted at the task itself: several
    messages of one request may be in this process at a time.
    """

    def __init__(self, huey: Huey, receipts: Receipts, references: References) -> None:
        self._huey = huey
        self._receipts = receipts
        self._references = references
        huey.signal(
            huey_signals.SIGNAL_REVOKED, huey_signals.SIGNAL_EXPIRED, huey_signals.SIGNAL_CANCELED
        )(self._not_run)

    def begin(self, task: Task) -> None:
        """Begin the receipt of a task that Huey is about to run, if it has one.

        Raises:
            CancelExecution: It is not to run: its outcome was delivered, or is
                just being delivered, or nobody can say.  In the run itself it
                would be too late to stop without a result, and Huey would put
                that in the place of the real one.
        """
        if not _is_kept(task.args):
            return
        # Also what is not begun is done with, whatever Huey signals next.
        task.receipt = "left"
        try:
            begun = self._receipts.begin(task.id)
        except Exception as reason:
            # Any other exception Huey would log here, and run the task all the same.
            log.warning("Request %s will be delivered once more: %r", task.id, reason)
            raise CancelExecution("its receipt cannot be begun") from reason
        if not begun:
            raise CancelExecution("one message too many")
        task.receipt = "begun"

    def leave(self, task: Task) -> None:
        """Let ``task`` run inside of another one, which looks after the receipt.

        It is the other one that Huey tries again.
        """
        task.receipt = "left"

    def run(self, task: Task, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        """Run a callback; what it was given is deleted when it does not run again."""
        receipt, task.receipt = getattr(task, "receipt", None), "left"
        if receipt == "left":
            return call()
        discard = partial(self._discard, task, args)
        if receipt == "begun":
            return self._receipts.run(
                task.id, call, retry_in=partial(retry_in, self._huey, task), served=discard
            )
        try:
            value = call()
        except Exception as reason:
            if is_final(task, reason):
                discard()
            raise
        discard()
        return value

    def _not_run(self, signal: str, task: Task) -> None:
        """Forget an outcome that Huey has decided not to deliver."""
        receipt = getattr(task, "receipt", None)
        if _is_kept(task.args) and receipt != "left":
            log.info("The outcome of request %s is not delivered: %s.", task.id, signal)
            self._receipts.forget(
                task.id, begun=receipt == "begun", served=partial(self._discard, task, task.args)
            )

    def _discard(self, task: Task, args: tuple[Any, ...]) -> None:
        # The object of a request was deleted when that was answered.
        if is_ours(args) and args[1] == Reason.OUTCOME:
            self._references.discard(task.id, bytes(args[2]), "outcome")


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


def retry_in(huey: Huey, task: Task, reason: Exception) -> float | None:
    """Seconds until Huey runs ``task`` again after ``reason``; None when it does not.

    As ``Huey._execute`` and ``_requeue_task`` have it, which tell nobody.
    """
    if is_final(task, reason):
        return None
    eta, delay = None, task.retry_delay or 0
    if isinstance(reason, RateLimitExceeded):
        delay = task.retry_delay or reason.delay
    elif isinstance(reason, RetryTask) and (reason.eta or reason.delay is not None):
        eta, delay = reason.eta, reason.delay
    try:
        left = normalize_time(eta, delay, huey.utc) - normalize_time(None, 0, huey.utc)
    except (TypeError, ValueError, OverflowError):
        return None  # Huey fails in the same way, and loses the message.
    return max(0.0, float(left.total_seconds()))


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
