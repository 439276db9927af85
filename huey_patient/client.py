"""The door in: `Patient` takes requests and stores them.

Every mistake that a caller can make is refused here, before anything is stored.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any, Unpack

from huey import Huey
from huey.api import Result
from huey.storage import MemoryStorage

from . import travel
from .callbacks import Callbacks
from .carriage import Carriage
from .envelope import Keyring
from .errors import ConfigurationError
from .label import Label
from .options import Options, RequestOptions, SubmitOptions, Verbs
from .outcomes import Outcomes
from .references import About, References
from .registering import Registering
from .request import Request
from .running import Hooks
from .secret_values import SecretValues
from .settings import Settings
from .steering import Steering
from .stores import store_for
from .stores.base import Store
from .submission import checked_args, checked_id, checked_priority, moment
from .template import RequestTemplate
from .wire import MAX_REQUEST_BYTES, Submission, write_submission

__all__ = ["BoundClient", "Patient"]


class Patient(Registering, Steering, Verbs[Result]):
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
        self._store_of: tuple[Any, Store] | None = None  # a storage, and its store
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
        outcomes = Outcomes(self._keyring, self._references, self.settings, queue=huey.name)
        travel.register(huey.name, outcomes)
        self._callbacks = Callbacks(
            huey,
            outcomes,
            self._hooks,
            store=lambda: self.store,
            references=self._references,
            settings=self.settings,
        )
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
        asked, submit = _apart(options)
        return self.execute(Request(method, url, **asked), **submit)

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
        # Read once and replaced whole: other threads may do the same meanwhile.
        known = self._store_of
        if known is None or known[0] is not storage:
            known = self._store_of = storage, store_for(storage)
        return known[1]


class BoundClient(Verbs[Result]):
    """A `RequestTemplate` with a `Patient` behind it; made by `Patient.client`."""

    def __init__(self, patient: Patient, template: RequestTemplate, shared: dict[str, Any]) -> None:
        self._patient = patient
        self._template = template
        self._shared = shared

    def request(self, method: str, url: Any = "", **options: Unpack[Options]) -> Result:
        """Submit a request of the template; see `Patient.execute`."""
        asked, submit = _apart(options)
        request = self._template.request(method, url, **asked)
        return self._patient.execute(request, **{**self._shared, **submit})


_SUBMIT_OPTIONS = SubmitOptions.__annotations__.keys()
_REQUEST_OPTIONS = RequestOptions.__annotations__.keys()


def _apart(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a call says of the request, and what it says of carrying it."""
    if unknown := options.keys() - _REQUEST_OPTIONS - _SUBMIT_OPTIONS:
        known = sorted([*_REQUEST_OPTIONS, *_SUBMIT_OPTIONS])
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; known: {', '.join(known)}")
    submit = {name: value for name, value in options.items() if name in _SUBMIT_OPTIONS}
    return {name: value for name, value in options.items() if name not in submit}, submit


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
