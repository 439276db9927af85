"""The door out: callbacks as Huey tasks.

A callback *is* a registered Huey task: logs, signals, revocation, retries and
results treat it like any other.  Its message on Huey's queue holds

    args = (MARK, reason, envelope)

and nothing readable.  The worker that runs it opens the envelope and calls the
callback with a `Response` or a `RequestError`.  Huey's registry is the only way
from a stored name to code: nothing is imported by name.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from huey import Huey
from huey.api import Task, TaskWrapper
from huey.exceptions import CancelExecution, RateLimitExceeded, RetryTask

from .envelope import Keyring, read_label
from .errors import (
    Abandoned,
    Canceled,
    EnvelopeError,
    Interrupted,
    PayloadLost,
    RequestError,
    StoreUnavailable,
    UnknownCallback,
)
from .label import Label
from .receipts import Receipts, waiting_seconds
from .references import About, References
from .response import CallbackArgs, Response
from .settings import Settings
from .stores.base import Settlement, Store
from .wire import Outcome, Reason, read_outcome, read_submission, write_outcome

__all__ = ["Callbacks", "Hooks"]

log = logging.getLogger("huey.patient")

#: Tells our messages from calls of the same task by the application.
MARK = "huey_patient"

#: Bodies up to this size are opened whatever the settings of this process say.
MOST_BODY_BYTES = 64 * 1024 * 1024

#: Seconds until a callback is tried again whose payload store does not answer.
#: It waits in Huey's schedule and takes no worker meanwhile.
PAYLOAD_PAUSE = 30.0

#: How outcomes that no I/O process made are told to the callback.
_DECIDED: dict[Reason, tuple[type[RequestError], str]] = {
    Reason.ABANDONED: (Abandoned, "lost its I/O process too often"),
    Reason.CANCELED: (Canceled, "was canceled"),
    Reason.INTERRUPTED: (Interrupted, "was perhaps sent before its consumer was lost"),
    Reason.PAYLOAD_LOST: (PayloadLost, "its payload is damaged or not there any more"),
    Reason.UNREADABLE: (RequestError, "the consumer could not open the request; see its log"),
}


@dataclass(slots=True)
class Hooks:
    """Functions that see every outcome, in the worker that runs the callback."""

    after_completion: list[Callable[[Response], Any]] = field(default_factory=list)
    after_error: list[Callable[[RequestError], Any]] = field(default_factory=list)
    retries_exhausted: list[Callable[[RequestError], Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Callback:
    """What a decorated class or function becomes."""

    task_class: type[Task]
    call: Callable[..., Any]  #: Given the outcome; runs the user's code.


class Callbacks:
    """The callbacks of one Huey, and the reader of what they are given."""

    def __init__(
        self,
        huey: Huey,
        keyring: Keyring,
        hooks: Hooks,
        *,
        store: Callable[[], Store],
        references: References,
        settings: Settings,
    ) -> None:
        self._huey = huey
        self._references = references
        self._keyring = keyring
        self._hooks = hooks
        # A body was bounded when it was read or submitted, perhaps by a process
        # with larger settings; this stops what no process of ours would make.
        self._max_body_bytes = max(settings.max_response_size, MOST_BODY_BYTES)
        self._receipts = Receipts(store, settings)
        self._waiting_seconds = waiting_seconds(settings)
        self._with_receipt: set[str] = set()
        self._by_target: dict[Any, str] = {}
        self._returning = self._builtin("ReturnResponse", self._return_response)
        self._undelivered = self._builtin(
            # Ten minutes in all: as long as a deployment of new code may take.
            "UndeliveredOutcome",
            self._deliver_late,
            retries=10,
            retry_delay=60,
        )
        huey.pre_execute(MARK)(self._before_plain_task)

    # Registering

    def register(self, target: Any, options: dict[str, Any]) -> Any:
        """Make ``target`` a Huey task with ``options``; returns ``target``.

        Raises:
            TypeError: Neither a function nor a class with both methods, or one
                that is async or takes other arguments.
            ValueError: A task of that name is registered already.
        """
        with_task = bool(options.pop("context", False))
        if inspect.isclass(target):
            _check_class(target, with_task=with_task)
            call: Callable[..., Any] = partial(_call_instance, target)
        elif inspect.isfunction(target):
            _check_call(f"callback {target.__name__}", target, 1, with_task=with_task)
            call = partial(_call_function, target)
        else:
            raise TypeError(
                f"a callback is a class with on_complete and on_error, or a function, "
                f"got {type(target).__name__}"
            )
        name = options.pop("name", None) or target.__name__
        keep = _checked_delivery(options.pop("delivery", None))
        run = self._runner(call, with_task=with_task, keep=keep)
        run.__module__, run.__doc__ = target.__module__, target.__doc__
        wrapper = self._huey.task(context=True, name=name, **options)(run)
        full_name = str(self._huey._registry.task_to_string(wrapper.task_class))
        self._by_target[target] = full_name
        if keep:
            self._with_receipt.add(full_name)
        return target

    def name_of(self, callback: Any) -> str:
        """Return the name under which Huey knows ``callback``.

        Raises:
            UnknownCallback: It is not registered with this Huey.
            TypeError: Something that cannot be a callback.
        """
        registry = self._huey._registry._registry
        if callback is None:
            return self._returning
        if isinstance(callback, TaskWrapper):
            name = self._huey._registry.task_to_string(callback.task_class)
            if registry.get(name) is not callback.task_class:
                raise UnknownCallback(f"the task {name} belongs to another Huey instance")
            return str(name)
        if isinstance(callback, str):
            return self._name_by_text(callback)
        if not (inspect.isclass(callback) or callable(callback)):
            raise TypeError(f"callback cannot be a {type(callback).__name__}")
        if callback not in self._by_target:
            raise UnknownCallback(
                f"{getattr(callback, '__qualname__', callback)!r} is not a callback of this Huey: "
                "decorate it with @patient.callback()"
            )
        return self._by_target[callback]

    def _name_by_text(self, text: str) -> str:
        if text in self._huey._registry._registry:
            return text
        found = [name for name in self._by_target.values() if name.rpartition(".")[2] == text]
        if len(found) == 1:
            return found[0]
        known = ", ".join(sorted(self._by_target.values())) or "none"
        trouble = "is not registered" if not found else "is the name of several callbacks"
        raise UnknownCallback(f"callback {text!r} {trouble}; registered are: {known}")

    def task_of(self, name: str, id: str) -> Task:
        """The task that will run ``name`` for the request ``id``, to make a `Result` of."""
        return self._huey._registry.string_to_task(name)(id=id)

    # Sending to a worker

    def settlement(self, id: str, epoch: int, reason: Reason, envelope: bytes) -> Settlement:
        """Return what answers a request: a message for the task that is its callback.

        A callback that this process does not know (a consumer older than the
        application) goes to a task that tries again until it does.
        """
        label = self.label_of(envelope)
        name = self._known_as(label.callback)
        if name is None:
            log.error("No callback %s is registered here; it is tried again later.", label.callback)
        task_class = self._huey._registry.string_to_task(name or self._undelivered)
        task = task_class(args=(MARK, str(reason), envelope), id=id, priority=label.priority)
        if task.expires:
            task.resolve_expires(self._huey.utc)
        return Settlement(
            id=id,
            epoch=epoch,
            message=self._huey.serialize_task(task),
            priority=task.priority,
            receipt=self._waiting_seconds if name in self._with_receipt else None,
        )

    def _known_as(self, name: str) -> str | None:
        """The name under which this process knows the callback ``name``, if it does.

        A module that was run as a script is called ``__main__`` where requests
        were submitted, and by its own name where the consumer imported it.
        """
        if name in self._huey._registry._registry:
            return name
        module, _, last = name.rpartition(".")
        alike = [one for one in self._by_target.values() if one.rpartition(".")[2] == last]
        return alike[0] if module == "__main__" and len(alike) == 1 else None

    def label_of(self, envelope: bytes) -> Label:
        """Return the label; of a damaged envelope, one that leads to a task that says so."""
        try:
            return Label.from_bytes(read_label(envelope))
        except EnvelopeError as trouble:
            log.error("The label of an envelope cannot be read: %s", trouble)
            return Label(callback=self._undelivered)

    # Running, in a worker

    def open(self, id: str, reason: Reason, envelope: bytes) -> Outcome:
        """Return what an envelope from a message says.

        Raises:
            EnvelopeError: It is damaged, alien, or sealed with an unknown key.
            StoreUnavailable: It refers to a payload store that does not answer.
        """
        if reason is Reason.OUTCOME:
            try:
                sealed = self._references.fetch(id, envelope, "outcome")
            except PayloadLost as lost:
                return self._delivered(lost, lost.callback_args)
            outcome = read_outcome(*self._unseal(id, sealed, "outcome"), queue=self._huey.name)
            return self._marked(outcome)
        kind, message = _DECIDED[reason]
        error = kind(message, request_id=id)
        try:
            about = self._about(id, envelope)
        except EnvelopeError as trouble:
            log.error("Request %s cannot be opened: %s", id, trouble)
            return self._delivered(error, {})
        error.method, error.url = about.method, about.url
        return self._delivered(error, about.callback_args)

    def _about(self, id: str, envelope: bytes) -> About:
        if self._references.is_reference(envelope):
            return self._references.about(id, envelope, "request")
        given = read_submission(*self._unseal(id, envelope, "request"))
        return About(
            method=given.request.method, url=given.request.url, callback_args=given.callback_args
        )

    def _delivered(self, error: RequestError, callback_args: Mapping[str, Any]) -> Outcome:
        error.callback_args = CallbackArgs(callback_args)
        error.queue = self._huey.name
        return self._marked(error)

    def seal_value(self, value: Outcome) -> bytes:
        """Seal an outcome that Huey is about to pickle (`travel.Sealer`)."""
        head, body = write_outcome(value)
        return self._keyring.seal(
            head, body, purpose="value", queue=self._huey.name, id=value.request_id
        )

    def open_value(self, request_id: str, sealed: bytes) -> Outcome:
        """The reverse of `seal_value` (`travel.Sealer`)."""
        head, body = self._unseal(request_id, sealed, "value")
        return self._marked(read_outcome(head, body, queue=self._huey.name))

    def _unseal(self, id: str, envelope: bytes, purpose: str) -> tuple[dict[str, Any], bytes]:
        return self._keyring.unseal(
            envelope,
            purpose=purpose,
            queue=self._huey.name,
            id=id,
            max_body_bytes=self._max_body_bytes,
        )

    def _marked(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, RequestError):
            outcome.confidential = self._keyring.seals
        return outcome

    def _runner(
        self, call: Callable[..., Any], *, with_task: bool = False, keep: bool = False
    ) -> Callable[..., Any]:
        def run(*args: Any, task: Task) -> Any:
            extra = {"task": task} if with_task else {}

            def deliver() -> Any:
                outcome = self._outcome_of(task, args)
                return self._run(task, outcome, partial(call, outcome, **extra))

            if keep and not self._huey.immediate:
                return self._receipts.run(
                    task.id,
                    deliver,
                    retry_in=partial(_retry_in, task),
                    served=partial(self._discard, task, args),
                )
            return self._at_most_once(task, args, deliver)

        return run

    def _at_most_once(self, task: Task, args: tuple[Any, ...], deliver: Callable[[], Any]) -> Any:
        """Run a callback; what it was given is deleted when it does not run again."""
        try:
            value = deliver()
        except Exception as reason:
            if _is_final(task, reason):
                self._discard(task, args)
            raise
        self._discard(task, args)
        return value

    def _discard(self, task: Task, args: tuple[Any, ...]) -> None:
        # The object of a request was deleted when that was answered.
        if _is_ours(args) and args[1] == Reason.OUTCOME:
            self._references.discard(task.id, bytes(args[2]), "outcome")

    def _outcome_of(self, task: Task, args: tuple[Any, ...]) -> Outcome:
        if not _is_ours(args):
            raise TypeError(
                f"{task.name} is a callback: it runs when a request is answered; "
                "call the function or the methods themselves in a test"
            )
        try:
            return self.open(task.id, Reason(args[1]), bytes(args[2]))
        except StoreUnavailable as reason:
            log.warning("The callback of request %s is put off: %s", task.id, reason)
            raise RetryTask(str(reason), delay=PAYLOAD_PAUSE) from reason

    def _run(self, task: Task, outcome: Outcome, call: Callable[[], Any]) -> Any:
        error = outcome if isinstance(outcome, RequestError) else None
        hooks: list[Any] = self._hooks.after_error if error else self._hooks.after_completion
        for hook in hooks:
            _run_hook(hook, outcome)
        try:
            return call()
        except Exception as reason:
            if error is not None and _is_final(task, reason):
                for hook in self._hooks.retries_exhausted:
                    _run_hook(hook, error)
            raise

    def _before_plain_task(self, task: Task) -> None:
        """Let a plain ``@huey.task`` be a callback: it is called with the response.

        Only this run is changed, not the task's arguments, so that a retry
        finds the envelope again.
        """
        if not _is_ours(task.args) or isinstance(task, self._own_classes()):
            return
        function = type(task).execute

        def deliver() -> Any:
            outcome = self._outcome_of(task, task.args)
            return self._run(task, outcome, partial(_call_plain, function, task, outcome))

        task.execute = partial(self._at_most_once, task, task.args, deliver)

    def _own_classes(self) -> tuple[type[Task], ...]:
        names = [*self._by_target.values(), self._returning, self._undelivered]
        registry = self._huey._registry._registry
        return tuple(registry[name] for name in names if name in registry)

    # Built in

    def _builtin(self, name: str, function: Callable[..., Any], **options: Any) -> str:
        def run(*args: Any, task: Task) -> Any:
            return function(task, args)

        run.__module__ = "huey_patient"
        wrapper = self._huey.task(context=True, name=name, **options)(run)
        return str(self._huey._registry.task_to_string(wrapper.task_class))

    def _return_response(self, task: Task, args: tuple[Any, ...]) -> Response:
        def deliver() -> Any:
            outcome = self._outcome_of(task, args)
            return self._run(task, outcome, partial(_value_of, outcome))

        result: Response = self._at_most_once(task, args, deliver)
        return result

    def _deliver_late(self, task: Task, args: tuple[Any, ...]) -> Any:
        try:
            asked = Label.from_bytes(read_label(args[2])).callback
        except EnvelopeError:
            task.retries = 0  # No later consumer can read it either.
            raise
        name = self._known_as(asked)
        if name is None or name == self._undelivered:
            raise UnknownCallback(f"no callback {asked} is registered in this consumer")
        task_class = self._huey._registry.string_to_task(name)
        late = task_class(args=args, id=task.id, retries=task.retries)
        self._before_plain_task(late)
        return late.execute()


def _is_ours(args: Any) -> bool:
    return len(args) == 3 and isinstance(args[0], str) and args[0] == MARK


def _checked_delivery(delivery: Any) -> bool:
    if delivery not in (None, "at_least_once"):
        raise ValueError(f"delivery must be 'at_least_once' or left out, got {delivery!r}")
    return delivery is not None


def _retry_in(task: Task, reason: Exception) -> float | None:
    """Seconds until Huey runs ``task`` again after ``reason``; None when it does not."""
    if _is_final(task, reason):
        return None
    delay = getattr(reason, "delay", None)
    return float(task.retry_delay if delay is None else delay)


def _is_final(task: Task, reason: Exception) -> bool:
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


def _value_of(outcome: Outcome) -> Response:
    if isinstance(outcome, RequestError):
        raise outcome
    return outcome


def _call_plain(function: Callable[..., Any], task: Task, outcome: Outcome) -> Any:
    response = _value_of(outcome)
    args, task.args = task.args, (response,)
    try:
        return function(task)
    finally:
        task.args = args


def _call_function(function: Callable[..., Any], outcome: Outcome, **extra: Any) -> Any:
    return function(outcome, **extra)


def _call_instance(cls: type, outcome: Outcome, **extra: Any) -> Any:
    instance = cls()
    if isinstance(outcome, RequestError):
        return instance.on_error(outcome, **extra)
    return instance.on_complete(outcome, **extra)


def _check_class(cls: type, *, with_task: bool) -> None:
    for name in ("on_complete", "on_error"):
        method = getattr(cls, name, None)
        if not callable(method):
            raise TypeError(f"callback class {cls.__name__} must define {name}(self, outcome)")
        _check_call(f"{cls.__name__}.{name}", method, 2, with_task=with_task)
    try:
        inspect.signature(cls).bind()
    except TypeError:
        raise TypeError(f"callback class {cls.__name__} must be made without arguments") from None


def _check_call(what: str, function: Callable[..., Any], count: int, *, with_task: bool) -> None:
    if inspect.iscoroutinefunction(function):
        # It would return a coroutine that nobody runs, and look successful.
        raise TypeError(f"{what} must not be async; let it call asyncio.run()")
    extra = {"task": None} if with_task else {}
    try:
        inspect.signature(function).bind(*[None] * count, **extra)
    except TypeError:
        besides = (" besides self" if count == 2 else "") + (" and task" if with_task else "")
        raise TypeError(f"{what} must take one argument{besides}") from None
