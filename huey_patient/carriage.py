"""What a consumer needs to carry the requests of one Huey, put together.

The courier may not open an envelope and knows no Huey, so this is where it is
given the few functions that do.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from huey import Huey
from huey.constants import WORKER_PROCESS
from huey.storage import MemoryStorage

from .callbacks import Callbacks
from .consumer import PatientConsumer
from .courier import Courier, Ports
from .envelope import Keyring, is_newer
from .errors import ConfigurationError, StoreUnavailable
from .io_process.handle import ChildConfig, IoProcess, descriptors_for
from .references import References
from .secret_values import SecretValues
from .settings import Settings
from .stores.base import Store
from .tls import client_context
from .version import __version__

__all__ = ["Carriage"]

log = logging.getLogger("huey.patient")


class Carriage:
    """Makes consumers, and couriers for them."""

    def __init__(
        self,
        huey: Huey,
        settings: Settings,
        keyring: Keyring,
        callbacks: Callbacks,
        *,
        secrets: SecretValues,
        preprocessors: Mapping[str, str],
        store: Callable[[], Store],
        references: References,
    ) -> None:
        self._huey = huey
        self._settings = settings
        self._keyring = keyring
        self._callbacks = callbacks
        self._secrets = secrets
        self._preprocessors = preprocessors
        self._store = store
        self._references = references
        self._consumer: PatientConsumer | None = None
        self._unchecked = False  # The database was away when the consumer started.

    def create_consumer(self, **options: Any) -> PatientConsumer:
        """What ``huey.create_consumer`` becomes: takes the same options."""
        self._consumer = PatientConsumer(
            self._huey,
            make_courier=self._courier,
            check=partial(self._check, worker_type=options.get("worker_type")),
            drain_seconds=self._settings.shutdown_timeout,
            **options,
        )
        return self._consumer

    def _check(self, *, worker_type: str | None) -> None:
        """Say what weakens a promise, and refuse to start where one cannot hold."""
        store = self._store()
        if worker_type == WORKER_PROCESS and isinstance(self._huey.storage, MemoryStorage):
            raise ConfigurationError(
                "a Huey in memory has its queue in one process: use -k thread, or SqliteHuey"
            )
        # While it waits for the database the courier stops no call, and after two thirds of
        # the time in which others take it for dead it must.
        store.limit_patience(self._settings.orphan_threshold / 3)
        try:
            self._say_weaknesses(store)
        except StoreUnavailable as reason:
            log.warning("The database cannot be checked yet: %s", reason)
            self._unchecked = True
        self._check_descriptors()
        # The I/O process would die of a mistake in them, over and over.
        if self._settings.ca_file is not None or self._settings.client_cert is not None:
            client_context(self._settings)

    def _say_weaknesses(self, store: Store) -> None:
        for sentence in store.check():
            log.warning("%s", sentence)
        self._unchecked = False

    def _check_late(self) -> None:
        """Check a database that was away at the start."""
        try:
            self._say_weaknesses(self._store())
        except StoreUnavailable:
            pass  # The beat that comes next says so.
        except ConfigurationError as reason:
            # Too late to refuse: requests are accepted, and without us nobody sends them.
            log.error("This should not have started: %s", reason)
            self._unchecked = False

    def _check_descriptors(self) -> None:
        connections = self._settings.max_connections
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or hard >= descriptors_for(connections):
            return
        advice = f"raise it (ulimit -Hn {descriptors_for(connections)}) or lower max_connections"
        if hard <= connections:
            raise ConfigurationError(
                f"max_connections is {connections}, but a process may open {hard} files: {advice}"
            )
        log.warning(
            "A process may open %d files, which is few for %d connections: %s.",
            hard,
            connections,
            advice,
        )

    def quiet(self) -> None:
        """See `Patient.quiet`."""
        if self._consumer is None or self._consumer.courier is None:
            raise RuntimeError("no consumer runs in this process; send SIGTSTP to its process")
        self._consumer.quiet()

    def secrets(self, sealed: bytes) -> bytes:
        """Resolve the secrets that a request names in its label."""
        names = self._callbacks.label_of(sealed).secrets
        return self._secrets.resolved(names) if names else b""

    def _courier(self, consumer: PatientConsumer) -> Courier:
        config = ChildConfig(
            queue=self._huey.name,
            settings=self._keyring.for_child(self._settings),
            parent_pid=os.getpid(),
            preprocessors=dict(self._preprocessors),
        )
        fresh = IoProcess(config, name="I/O process")
        fresh.start()
        ports = Ports(
            settlement=self._callbacks.settlement,
            secrets=self.secrets,
            once=lambda sealed: self._callbacks.label_of(sealed).never,
            is_newer=is_newer,
            settled=lambda ids: self._settled(consumer, ids),
            info=lambda: self._info(consumer),
            payloads=self._references,
        )
        suspects = IoProcess(config, name="I/O process for suspects")
        return Courier(self._store(), self._settings, ports, fresh=fresh, suspects=suspects)

    def _settled(self, consumer: PatientConsumer, ids: list[str]) -> None:
        if not self._huey.storage.blocking:
            consumer.workers_wake.ring(len(ids))

    def _info(self, consumer: PatientConsumer) -> bytes:
        # Asked for at each beat, in the courier's thread, which may wait for the database.
        if self._unchecked:
            self._check_late()
        return orjson.dumps(
            {
                **consumer.describe(),
                "version": __version__,
                "max_connections": self._settings.max_connections,
                # For others, who judge by them how long we may be silent.
                "heartbeat_interval": self._settings.heartbeat_interval,
                "orphan_threshold": self._settings.orphan_threshold,
            }
        )
