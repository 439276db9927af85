"""The door out: callbacks as Huey tasks.

A callback *is* a registered Huey task: logs, signals, revocation, retries and
results treat it like any other.  Its message on Huey's queue holds

    args = (MARK, reason, envelope)
    args = (MARK, reason, envelope, KEPT)    if it has a receipt (`receipts`)

and nothing readable.  The worker that runs it opens the envelope and calls the
callback with a `Response` or a `RequestError`.  Huey's registry is the only way
from a stored name to code: nothing is imported by name.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from huey import Huey
from huey.api import Task, TaskWrapper
from huey.exceptions import RetryTask

from . import running
from .envelope import read_label
from .errors import EnvelopeError, StoreUnavailable, UnknownCallback
from .label import Label
from .outcomes import Outcomes
from .receipts import Receipts, waiting_seconds
from .references import References
from .response import Response
from .running import KEPT, MARK
from .settings import Settings
from .stores.base import Settlement, Store
from .wire import Outcome, Reason

__all__ = ["MARK", "Callbacks"]

log = logging.getLogger("huey.patient")

#: Seconds until a callback is tried again whose payload store does not answer.
#: It waits in Huey's schedule and takes no worker meanwhile.
PAYLOAD_PAUSE = 30.0


class Callbacks:
    """The callbacks of one Huey: registered, answered, run."""

    def __init__(
        self,
        huey: Huey,
        outcomes: Outcomes,
        hooks: running.Hooks,
        *,
        store: Callable[[], Store],
        references: References,
        settings: Settings,
    ) -> None:
        self._huey = huey
        self._outcomes = outcomes
        self._hooks = hooks
        self._deliveries = running.Deliveries(huey, Receipts(store, settings), references)
        self._waiting_seconds = waiting_seconds(settings)
        self._with_receipt: set[str] = set()
        self._by_target: dict[Any, str] = {}
        self._own_classes: set[type[Task]] = set()  # those that open envelopes themselves
        self._returning = self._builtin("ReturnResponse", self._return_response)
        self._undelivered = self._builtin(
            # Ten minutes in all: as long as a deployment of new code may take.
            "UndeliveredOutcome",
            self._deliver_late,
            retries=10,
            retry_delay=60,
        )
        huey.pre_execute(MARK)(self._before)

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
            running.check_class(target, with_task=with_task)
            call: Callable[..., Any] = partial(running.call_instance, target)
        elif inspect.isfunction(target):
            running.check_call(f"callback {target.__name__}", target, 1, with_task=with_task)
            call = target
        else:
            raise TypeError(
                f"a callback is a class with on_complete and on_error, or a function, "
                f"got {type(target).__name__}"
            )
        name = options.pop("name", None) or target.__name__
        keep = running.checked_delivery(options.pop("delivery", None))
        run = self._runner(call, with_task=with_task)
        run.__module__, run.__doc__ = target.__module__, target.__doc__
        full_name = self._task(run, name=name, **options)
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

        An outcome whose callback this process does not know (a consumer older than
        the application) goes to a task that tries again until it does, and is kept
        meanwhile.
        """
        label = self.label_of(envelope)
        name = self._known_as(label.callback)
        if name is None:
            log.error("No callback %.200r is registered here; it is tried later.", label.callback)
        # Immediate mode runs the callback before it returns, and keeps nothing.
        kept = not self._huey.immediate and (name is None or name in self._with_receipt)
        args = (MARK, str(reason), envelope, *([KEPT] if kept else []))
        task_class = self._huey._registry.string_to_task(name or self._undelivered)
        task = task_class(args=args, id=id, priority=label.priority)
        if task.expires:
            task.resolve_expires(self._huey.utc)
        return Settlement(
            id=id,
            epoch=epoch,
            message=self._huey.serialize_task(task),
            priority=task.priority,
            receipt=self._waiting_seconds if kept else None,
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

    def _runner(self, call: Callable[..., Any], *, with_task: bool) -> Callable[..., Any]:
        def run(*args: Any, task: Task) -> Any:
            extra = {"task": task} if with_task else {}

            def deliver() -> Any:
                outcome = self._outcome_of(task, args)
                return running.run(task, outcome, self._hooks, partial(call, outcome, **extra))

            return self._deliveries.run(task, args, deliver)

        return run

    def _outcome_of(self, task: Task, args: tuple[Any, ...]) -> Outcome:
        if not running.is_ours(args):
            raise TypeError(
                f"{task.name} is a callback: it runs when a request is answered; "
                "call the function or the methods themselves in a test"
            )
        try:
            return self._outcomes.open(task.id, Reason(args[1]), bytes(args[2]))
        except StoreUnavailable as reason:
            log.warning("The callback of request %s is put off: %s", task.id, reason)
            raise RetryTask(str(reason), delay=PAYLOAD_PAUSE) from reason

    def _before(self, task: Task) -> None:
        if running.is_ours(task.args):
            self._deliveries.begin(task)
            self._open_for_plain_task(task)

    def _open_for_plain_task(self, task: Task) -> None:
        """Let a plain ``@huey.task`` be a callback: it is called with the response.

        Only this run is changed, not the task's arguments, so that a retry
        finds the envelope again.
        """
        if type(task) in self._own_classes:
            return
        function = type(task).execute

        def deliver() -> Any:
            outcome = self._outcome_of(task, task.args)
            return running.run(
                task, outcome, self._hooks, partial(running.call_plain, function, task, outcome)
            )

        task.execute = partial(self._deliveries.run, task, task.args, deliver)

    # Built in

    def _builtin(self, name: str, function: Callable[..., Any], **options: Any) -> str:
        def run(*args: Any, task: Task) -> Any:
            return function(task, args)

        run.__module__ = "huey_patient"
        return self._task(run, name=name, **options)

    def _task(self, run: Callable[..., Any], *, name: str, **options: Any) -> str:
        """Make a Huey task of ``run``; return the name under which Huey knows it."""
        task_class = self._huey.task(context=True, name=name, **options)(run).task_class
        self._own_classes.add(task_class)
        return str(self._huey._registry.task_to_string(task_class))

    def _return_response(self, task: Task, args: tuple[Any, ...]) -> Response:
        def deliver() -> Any:
            outcome = self._outcome_of(task, args)
            return running.run(task, outcome, self._hooks, partial(running.value_of, outcome))

        result: Response = self._deliveries.run(task, args, deliver)
        return result

    def _deliver_late(self, task: Task, args: tuple[Any, ...]) -> Any:
        def deliver() -> Any:
            try:
                asked = Label.from_bytes(read_label(args[2])).callback
            except EnvelopeError:
                task.retries = 0  # No later consumer can read it either.
                raise
            name = self._known_as(asked)
            if name is None or name == self._undelivered:
                raise UnknownCallback(f"no callback {asked!r} is registered in this consumer")
            task_class = self._huey._registry.string_to_task(name)
            late = task_class(args=args, id=task.id, retries=task.retries)
            self._deliveries.leave(late)
            self._open_for_plain_task(late)
            return late.execute()

        return self._deliveries.run(task, args, deliver)
