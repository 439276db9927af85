"""The door in: `Patient` takes requests and stores them.

Every mistake that a caller can make is refused here, before anything is stored.
"""

from __future__ import annotations

import inspect
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, Unpack, overload

import orjson
from huey import Huey
from huey.api import Result
from huey.storage import MemoryStorage

from . import dotted, travel
from .callbacks import Callbacks, Hooks
from .carriage import Carriage
from .envelope import Keyring
from .errors import ConfigurationError
from .label import Label
from .options import Options, RequestOptions, SubmitOptions, Verbs
from .payloads import PayloadStore, payload_store_for
from .receipts import waiting_seconds
from .references import About, References
from .rekey import Rekeyed, rekey
from .request import Request
from .secret_values import SecretValues
from .settings import Settings
from .stores import store_for
from .stores.base import DeadLetter, Store
from .submission import checked_args, checked_id, checked_priority, moment
from .template import RequestTemplate
from .wire import MAX_REQUEST_BYTES, Reason, Submission, write_submission

__all__ = ["BoundClient", "Patient"]

log = logging.getLogger("huey.patient")

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


class Patient(Verbs[Result]):
    """Makes slow HTTP calls of a Huey application without holding a worker.

    Making one attaches it to ``huey``: every consumer of that instance, however
    it is started, carries its requests from then on.

    Args:
        huey: On SQLite, Redis, PostgreSQL or memory.
        settings: All of them; or give single ones as keyword arguments.

    Raises:
        ConfigurationError: A setting is wrong, the storage cannot hold
            requests, or this Huey has a `Patient` already.
    """

    def __init__(self, huey: Huey, settings: Settings | None = None, **options: Any) -> None:
        if settings is not None and options:
            raise ConfigurationError("give Settings or single settings, not both")
        if getattr(huey, "patient", None) is not None:
            raise ConfigurationError(f"the Huey {huey.name!r} has a Patient already: huey.patient")
        self.huey = huey
        self.settings = settings if settings is not None else _settings(options)
        self._keyring = Keyring.from_settings(self.settings)
        self._hooks = Hooks()
        self._secrets = SecretValues()
        self._preprocessors: dict[str, str] = {}
        self._stores: dict[int, tuple[Any, Store]] = {}
        self._private = threading.local()
        self._references = References(
            self._keyring,
            queue=huey.name,
            threshold=self.settings.payload_store_threshold,
            max_body_bytes=max(self.settings.max_response_size, MAX_REQUEST_BYTES),
        )
        if self.settings.payload_store is not None:
            self.register_payload_store("default", self.settings.payload_store)
        store_for(huey.storage)  # refuses one that cannot hold requests
        self._callbacks = Callbacks(
            huey,
            self._keyring,
            self._hooks,
            store=lambda: self.store,
            references=self._references,
            settings=self.settings,
        )
        travel.register(huey.name, self._callbacks)
        self._carriage = Carriage(
            huey,
            self.settings,
            self._keyring,
            self._callbacks,
            secrets=self._secrets,
            preprocessors=self._preprocessors,
            store=lambda: self.store,
            references=self._references,
        )
        huey.create_consumer = self._carriage.create_consumer
        huey.patient = self

    # Submitting

    def request(self, method: str, url: Any, **options: Unpack[Options]) -> Result:
        """Make an HTTP request later, without holding a worker while it runs.

        The same as `execute` with a `Request` of these options.
        """
        submit = {name: value for name, value in options.items() if name in _SUBMIT_OPTIONS}
        rest: Any = {name: value for name, value in options.items() if name not in submit}
        return self.execute(Request(method, url, **_request_options(rest)), **submit)  # type: ignore[arg-type]

    def execute(self, request: Request, **options: Unpack[SubmitOptions]) -> Result:
        """Store ``request`` to be sent, and return at once.

        From then on it is answered exactly once, whatever is killed: its
        callback gets a `Response` or a `RequestError`.  It is *sent* at least
        once: a crash may repeat it, with the same ``X-Request-Id``.

        Args:
            callback: Who gets the outcome: a class or function decorated with
                `callback`, its name, or a plain ``@huey.task`` (called with the
                response; an error fails the task).  None: the response itself
                becomes the result.
            callback_args: JSON values, at most 64 KiB; `Response.callback_args`.
            priority: Of the callback, as Huey takes it.
            delay: Seconds (or a timedelta) before which it is not sent.
            eta: The same as a datetime; without a zone it is local time.
            expires: Seconds, a timedelta or a datetime after which it is not
                sent any more; it then ends as `Expired`.
            id: Your own id for it.  Submitting an id again stores nothing new.
            connection: An open transaction of your own on the same SQLite or
                PostgreSQL database (`sqlite3.Connection`, `psycopg.Connection`):
                the request is committed, or rolled back, with your rows.

        Returns:
            A Huey `Result`: its ``id`` is the request's, its value what the
            callback returned.

        Raises:
            ValueError, TypeError: An argument is wrong.
            UnknownCallback: Nobody of that name is registered with this Huey.
            StoreUnavailable: It may not have been stored.  Submitting again
                with the same ``id`` is safe.
        """
        if not isinstance(request, Request):
            raise TypeError(f"execute takes a Request, got {type(request).__name__}")
        if unknown := options.keys() - _SUBMIT_OPTIONS:
            raise TypeError(f"unknown option {sorted(unknown)[0]!r}")
        for name in request.preprocessors:
            if name not in self._preprocessors:
                raise ConfigurationError(f"no preprocessor {name!r} is registered")
        callback = self._callbacks.name_of(options.get("callback"))
        given = options.get("id")
        id = str(uuid.uuid4()) if given is None else checked_id(given)
        submission = Submission(
            request=request,
            callback_args=checked_args(options.get("callback_args")),
            expires=moment("expires", options.get("expires")),
        )
        sealed = self._seal(id, submission, self._label(callback, request, options))
        self._submit(id, submission, sealed, _due(options), options.get("connection"))
        return Result(self.huey, self._callbacks.task_of(callback, id))

    def client(
        self,
        *,
        base_url: str | None = None,
        callback: Any = None,
        callback_args: Mapping[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> BoundClient:
        """A `RequestTemplate` that submits: ``.get("/users/1")`` and the like.

        Args:
            base_url: Joined with the URL of each call.
            callback, callback_args: For every call that does not name its own.
        """
        self._callbacks.name_of(callback)
        shared = {"callback": callback, "callback_args": checked_args(callback_args)}
        return BoundClient(self, RequestTemplate(base_url=base_url, **options), shared)

    def _label(self, callback: str, request: Request, options: SubmitOptions) -> bytes:
        priority = options.get("priority", None)
        if priority is None:
            priority = self.settings.callback_priority
        supported = self.huey.storage.priority
        label = Label(
            callback=callback,
            priority=checked_priority(priority, supported=supported),
            secrets=request.secret_names(),
            never=request.retries == "never",
        )
        return label.to_bytes()

    def _seal(self, id: str, submission: Submission, label: bytes) -> bytes:
        head, body = write_submission(submission)
        if len(body) > MAX_REQUEST_BYTES:
            raise ValueError(
                f"the body has {len(body)} bytes; at most {MAX_REQUEST_BYTES} are sent"
            )
        sealed = self._keyring.seal(
            head,
            body,
            purpose="request",
            queue=self.huey.name,
            id=id,
            label=label,
            media_type=submission.request.headers.get("content-type"),  # type: ignore[arg-type]
        )
        if len(sealed) > MAX_REQUEST_BYTES:
            raise ValueError(
                f"the request has {len(sealed)} bytes in all; at most {MAX_REQUEST_BYTES} fit"
            )
        return sealed

    def _submit(
        self, id: str, submission: Submission, sealed: bytes, due: float | None, connection: Any
    ) -> None:
        about = About(
            method=submission.request.method,
            url=submission.request.url,
            callback_args=submission.callback_args,
        )
        # Before the request: one whose object is not there yet must not be found.
        sealed = self._references.stow(id, sealed, "request", about=about, due=due)
        if connection is not None:
            answer = self.store.submit_within(connection, id, sealed, due=due)
        else:
            answer = self.store.submit(id, sealed, due=due)
        if answer != "new":
            self._references.discard(id, sealed, "request")
        if self.huey.immediate:
            # Imported late: an application that only submits loads no aiohttp.
            from .immediate import perform_all

            perform_all(
                self.huey,
                self.store,
                self._private.storage,
                self.settings,
                self._keyring,
                settlement=self._callbacks.settlement,
                secrets=self._carriage.secrets,
                references=self._references,
                preprocessors=self._preprocessors,
            )

    @property
    def store(self) -> Store:
        """Where requests wait; follows ``huey.storage`` and ``huey.immediate``."""
        storage = self.huey.storage
        if self.huey.immediate:
            # Its own memory, also where Huey keeps a real storage in immediate
            # mode: requests of a running application are not ours to perform.
            # One for each thread, so that a call returns with its own answer.
            if not hasattr(self._private, "storage"):
                self._private.storage = MemoryStorage(self.huey.name)
            storage = self._private.storage
        known = self._stores.get(id(storage))
        if known is None or known[0] is not storage:
            self._stores = {id(storage): (storage, store_for(storage))}
        return self._stores[id(storage)][1]

    # Registering

    @overload
    def callback(self, target: C, /) -> C: ...
    @overload
    def callback(self, /, **options: Any) -> Callable[[C], C]: ...
    def callback(self, target: Any = None, /, **options: Any) -> Any:
        """Register a class or function as a callback, with the options of ``@huey.task``.

        A class has ``on_complete(self, response)`` and ``on_error(self, error)``
        and is made anew for each outcome; a function is called with the
        `Response` or the `RequestError`.  The class or function stays as it is.

        Args:
            delivery: ``"at_least_once"`` keeps the outcome until the callback
                has returned: a consumer killed inside it loses nothing, and the
                callback may run twice.  Without it a callback runs as any Huey
                task does: at most once.

        Raises:
            TypeError: A method is missing or takes other arguments.
            ValueError: A task of that name is registered already.
        """
        if target is not None and not options:
            return self._callbacks.register(target, {})

        def decorate(decorated: C) -> C:
            self._callbacks.register(decorated, dict(options))
            return decorated

        return decorate

    def after_completion(self, function: Callable[..., T]) -> Callable[..., T]:
        """Call ``function(response)`` before each callback that gets a response."""
        return _add(self._hooks.after_completion, function)

    def after_error(self, function: Callable[..., T]) -> Callable[..., T]:
        """Call ``function(error)`` before each callback that gets an error."""
        return _add(self._hooks.after_error, function)

    def on_retries_exhausted(self, function: Callable[..., T]) -> Callable[..., T]:
        """Call ``function(error)`` when the callback of an error failed for good."""
        return _add(self._hooks.retries_exhausted, function)

    def register_secret(
        self, name: str, value: str | Callable[[], Any], *, hosts: Iterable[str] = ()
    ) -> None:
        """Let requests refer to a secret by name; see `secret`.

        The value stays in this process.  The consumer resolves it when it
        hands a request to the I/O process, so register it where the consumer
        imports it.

        Args:
            value: The secret, or a function called for each request.  It is
                called by the courier, and everything waits for it: keep what
                takes long to fetch.
            hosts: The hosts that it may be sent to, ``*.example.com`` for all
                below; empty: any.  A request with it to another host ends as
                `SecretNotFound`.

        Raises:
            ValueError: No name, no value, or a host that is none.
        """
        self._secrets.register(name, value, hosts)

    def register_preprocessor(self, name: str, function: str | Callable[..., Any]) -> None:
        """Let requests name a function that changes them just before they are sent.

        It is called in the I/O process with the outgoing request: it may read
        ``method``, ``url`` and ``body``, set ``headers`` and ``add_param``; a
        signature is what it is for.  It runs on the loop, once for each send,
        so it must be quick; it does not follow a redirect to another origin.

        Args:
            function: ``"pkg.module:function"``, or that function itself.

        Raises:
            ConfigurationError: It cannot be imported by that name, or does not
                take one argument.
        """
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError("a preprocessor needs a name")
        path = dotted.name_of(f"preprocessor {name!r}", function)
        found = dotted.imported(f"preprocessor {name!r}", path)
        try:
            inspect.signature(found).bind(None)
        except TypeError:
            raise ConfigurationError(f"preprocessor {name!r} must take one argument") from None
        self._preprocessors[name] = path

    def register_payload_store(self, name: str, store: PayloadStore | str) -> None:
        """Let large envelopes lie outside of the database; see `Settings.payload_store`.

        Of several, all are read, and the last one registered is written to: to
        move, register the new one after the old one.  Register the same ones,
        under the same names, wherever requests are made and answered.
        ``Settings.payload_store`` has the name "default".

        Args:
            store: ``"huey"``, a URL of fsspec, or a `PayloadStore`.

        Raises:
            ConfigurationError: No name, or no such store.
        """
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError("a payload store needs a name")
        self._references.register(name, payload_store_for(self.huey, store))

    # Looking and steering

    def cancel(self, id: str) -> bool:
        """Answer a request with `Canceled` instead of its response.

        Returns:
            Whether it was still unanswered.  A call in flight is dropped within
            a heartbeat; the server may have seen it.
        """
        sealed = self.store.read(id)
        if sealed is None:
            return False
        answer = self._callbacks.settlement(id, 0, Reason.CANCELED, sealed)
        canceled = self.store.cancel(id, answer.message, answer.priority)
        if canceled:
            self._references.discard(id, sealed, "request")
        return canceled

    def pending_count(self) -> int:
        """How many requests wait to be sent, those that are not due yet included."""
        counts = self.store.counts()
        return counts.fresh + counts.suspect + counts.later

    def in_flight(self) -> list[dict[str, Any]]:
        """The requests in consumers' hands: id, owner, epoch, strikes."""
        return [
            {"id": one.id, "owner": one.owner, "epoch": one.epoch, "strikes": one.strikes}
            for one in self.store.held()
        ]

    def processes(self) -> list[dict[str, Any]]:
        """The consumers: what each says of itself, and how many requests it holds."""
        return [
            {**orjson.loads(seen.info or b"{}"), "id": seen.id, "held": seen.held}
            for seen in self.store.owners()
        ]

    def dead_letters(self) -> list[DeadLetter]:
        """Outcomes whose ``delivery="at_least_once"`` callback failed for good, or took
        its worker down too often; at most 100, the oldest first."""
        return self.store.dead_letters()

    def redeliver(self, id: str) -> bool:
        """Deliver a dead letter again; whether there was one of this id."""
        return self.store.revive(id, waiting_seconds(self.settings))

    def discard(self, id: str) -> bool:
        """Forget a dead letter; whether there was one of this id."""
        return self.store.discard(id)

    def stats(self) -> dict[str, int]:
        """How many requests are where (fresh, suspect, later, held), how many outcomes
        are kept (receipts, dead), and how many consumers there are."""
        counts = self.store.counts()
        return {
            "fresh": counts.fresh,
            "suspect": counts.suspect,
            "later": counts.later,
            "held": counts.held,
            "receipts": counts.receipts,
            "dead": counts.dead,
            "processes": len(self.store.owners()),
        }

    def rekey(self) -> Rekeyed:
        """Seal what waits with the first of the configured keys, where an older one did.

        Returns:
            How many were sealed again, and how many need a key that is not here.
            The payloads that the old key sealed stay, for a consumer may be
            reading one, until they are swept.
        """
        return rekey(self.store, self._keyring, self._references, queue=self.huey.name)

    def quiet(self) -> None:
        """Let the consumer of this process claim no more requests.

        Raises:
            RuntimeError: None runs in this process; send SIGTSTP to its own.
        """
        self._carriage.quiet()


class BoundClient(Verbs[Result]):
    """A `RequestTemplate` with a `Patient` behind it; made by `Patient.client`."""

    def __init__(self, patient: Patient, template: RequestTemplate, shared: dict[str, Any]) -> None:
        self._patient = patient
        self._template = template
        self._shared = shared

    def request(self, method: str, url: Any = "", **options: Unpack[Options]) -> Result:
        """Submit a request of the template; see `Patient.execute`."""
        submit: Any = {**self._shared}
        rest: Any = {}
        for name, value in options.items():
            (submit if name in _SUBMIT_OPTIONS else rest)[name] = value
        request = self._template.request(method, url, **_request_options(rest))
        return self._patient.execute(request, **submit)


_SUBMIT_OPTIONS = SubmitOptions.__annotations__.keys()
_REQUEST_OPTIONS = RequestOptions.__annotations__.keys()


def _request_options(options: dict[str, Any]) -> Any:
    if unknown := options.keys() - _REQUEST_OPTIONS:
        known = sorted([*_REQUEST_OPTIONS, *_SUBMIT_OPTIONS])
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; known: {', '.join(known)}")
    return options


def _settings(options: dict[str, Any]) -> Settings:
    try:
        return Settings(**options)
    except TypeError:
        known = Settings.__slots__
        name = sorted(options.keys() - set(known))[0]
        raise ConfigurationError(
            f"there is no setting {name!r}; known: {', '.join(known)}"
        ) from None


def _due(options: SubmitOptions) -> float | None:
    delay, eta = options.get("delay"), options.get("eta")
    if delay is not None and eta is not None:
        raise ValueError("give delay or eta, not both")
    return moment("delay", delay) if eta is None else moment("eta", eta)


def _add(hooks: list[Any], function: Callable[..., T]) -> Callable[..., T]:
    if not callable(function):
        raise TypeError(f"a hook must be callable, got {type(function).__name__}")
    hooks.append(function)
    return function
