"""Every knob, in one frozen object: its default, its unit, where the number comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from . import checks
from .errors import ConfigurationError
from .version import __version__

__all__ = ["FENCED_AFTER", "Cipher", "Settings"]

#: A transformation of bytes, or its dotted name ("pkg.module:function").
Cipher = Callable[[bytes], bytes] | str

#: The part of ``orphan_threshold`` after which a consumer without a confirmed beat
#: stops its calls, and an I/O process that has not heard of its consumer ends.  What
#: is left is longer than a send that has just begun takes to be told that it is over.
FENCED_AFTER = 2 / 3

_START_METHODS = ("forkserver", "spawn")
_ENVIRON_PREFIX = "HUEY_PATIENT_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How requests are carried and sent.

    The application and the consumer should be given the same settings: the
    application uses them when it seals, the consumer for everything else.

    Raises:
        ConfigurationError: A value is out of its range; the message says which.
    """

    #: Requests at once in the I/O process.  256 sockets fit under the usual
    #: limit of 1024 file descriptors; raise both together.
    max_connections: int = 256
    #: Seconds for a whole exchange: attempts, redirects and body included.
    request_timeout: float = 60.0
    #: Seconds for one connection to be made (DNS included); None: the deadline alone.
    connection_timeout: float | None = None
    #: Seconds that a stream may be silent once it has begun.  Load balancers give
    #: up on a silent server after 60, so one that goes on says something sooner.
    stream_idle_timeout: float = 60.0
    #: Hosts whose connections are kept alive; the least recently used goes first.
    connection_pool_size: int = 100
    #: Further attempts after a connection failure (see README, "Retries").
    retries: int = 3
    #: Proxy for every request: ``http://user:password@host:port``.
    proxy_url: str | None = field(default=None, repr=False)
    #: File of the authorities (PEM) that servers are verified by, in place of the system's.
    ca_file: str | None = None
    #: File (PEM) of a client certificate with its key, or the files of both.
    client_cert: str | tuple[str, str] | None = None
    #: Sent unless the request has its own; None sends none.
    user_agent: str | None = f"huey-patient/{__version__}"
    #: Seconds that calls in flight get when the consumer stops; None: what
    #: ``huey_consumer -t`` says, else 25 s, under the 30 s that Docker and
    #: Kubernetes wait before they kill.
    shutdown_timeout: float | None = None
    #: Bytes of a body, decoded; what is larger ends as `ResponseTooLarge`.
    max_response_size: int = 1_048_576
    #: Redirects followed; 0 hands the redirect over as the response.
    max_redirects: int = 5
    #: Whether a status of 400 or more goes to ``on_error``.
    raise_error_responses: bool = False
    #: Seconds between two signs of life of a consumer.
    heartbeat_interval: float = 5.0
    #: Seconds without a sign of life after which another consumer takes over.
    #: Six intervals: a database that is away for a while does not look like death.
    orphan_threshold: float = 30.0
    #: One key or a list of them: the first seals, all open.  32 bytes as base64,
    #: hex or raw, or a passphrase (weaker).  None: nothing is sealed.
    encryption_key: str | bytes | tuple[str | bytes, ...] | None = field(default=None, repr=False)
    #: Sealing of your own instead of ``encryption_key``: functions from bytes to bytes,
    #: importable by name, called from any thread.  When ``encryption`` raises, an
    #: outcome is kept for 40 s and tried again, then the request ends as an error;
    #: when ``decryption`` raises, it cannot be opened and ends so at once.
    encryption: Cipher | None = field(default=None, repr=False)
    decryption: Cipher | None = field(default=None, repr=False)
    #: Whether plain envelopes are opened although there is a key: for the roll-out.
    accept_plaintext: bool = False
    #: Where large envelopes lie outside of the database: "huey" (its key/value
    #: storage) or a URL of fsspec (``file:///...``, ``s3://...``); None: nowhere.
    payload_store: str | None = field(default=None, repr=False)
    #: Bytes of a sealed envelope above which it lies there.  64 KiB: most calls to
    #: an API stay below, and need nothing but the database.
    payload_store_threshold: int = 65_536
    #: Seconds until an object that nobody deleted is swept.  It must be longer than
    #: anything waits (a backlog, a retry, a dead letter), for that finds its object
    #: gone; a week outlasts an outage over a long weekend.
    payload_store_keep: float = 604_800.0
    #: Zstandard's level, 1 to 22.  3 is its default: 60 us for 20 KB of JSON.
    compression_level: int = 3
    #: Huey's priority of callbacks, unless the request has one.
    callback_priority: int | None = None
    #: Host names that may be asked (``*.example.com`` for all below); None: any.
    allow_hosts: tuple[str, ...] | None = None
    #: Refuse loopback, private, link-local and metadata addresses.
    block_private_addresses: bool = False
    #: Ports that are never asked.
    deny_ports: tuple[int, ...] = ()
    #: Times that a request may lose its I/O process before it ends as `Abandoned`.
    max_attempts: int = 3
    #: How the I/O process is made: "forkserver", or "spawn" where there is no fork.
    start_method: str = "forkserver"

    def __post_init__(self) -> None:
        try:
            self._check()
        except (TypeError, ValueError) as reason:
            raise ConfigurationError(str(reason)) from None

    def _check(self) -> None:
        self._check_counts()
        self._check_times()
        for name in ("raise_error_responses", "block_private_addresses", "accept_plaintext"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.start_method not in _START_METHODS:
            raise ValueError(
                f"start_method must be one of {_START_METHODS}, got {self.start_method!r}"
            )
        self._check_network()
        self._check_sealing()
        self._check_payload_store()

    def _check_counts(self) -> None:
        for name in (
            "max_connections",
            "connection_pool_size",
            "max_response_size",
            "max_attempts",
            "payload_store_threshold",
        ):
            _positive_integer(name, getattr(self, name))
        for name in ("retries", "max_redirects"):
            checks.count(name, getattr(self, name))
        if not 1 <= checks.count("compression_level", self.compression_level) <= 22:
            raise ValueError(f"compression_level must be 1 to 22, got {self.compression_level}")

    def _check_times(self) -> None:
        for name in (
            "request_timeout",
            "stream_idle_timeout",
            "heartbeat_interval",
            "orphan_threshold",
            "payload_store_keep",
        ):
            if getattr(self, name) is None:
                raise ValueError(f"{name} must be a positive number of seconds, got None")
        for name in (
            "request_timeout",
            "connection_timeout",
            "stream_idle_timeout",
            "shutdown_timeout",
            "heartbeat_interval",
            "orphan_threshold",
            "payload_store_keep",
        ):
            checks.seconds(name, getattr(self, name))
        if self.orphan_threshold <= 2 * self.heartbeat_interval:
            raise ValueError(
                f"orphan_threshold ({self.orphan_threshold}) must be more than twice "
                f"heartbeat_interval ({self.heartbeat_interval})"
            )

    def _check_network(self) -> None:
        checks.proxy_url(self.proxy_url)
        if self.proxy_url is not None and self.block_private_addresses:
            # The proxy resolves the name and makes the connection; we see its address alone.
            raise ValueError("block_private_addresses cannot hold behind a proxy; leave one out")
        _set(self, "client_cert", _certificate(self.client_cert))
        _set(self, "allow_hosts", _strings("allow_hosts", self.allow_hosts))
        ports = tuple(self.deny_ports)
        if not all(isinstance(port, int) and 0 < port < 65536 for port in ports):
            raise ValueError(f"deny_ports are numbers from 1 to 65535, got {ports}")
        _set(self, "deny_ports", ports)

    def _check_sealing(self) -> None:
        key = self.encryption_key
        if key is not None and not isinstance(key, (str, bytes)):
            _set(self, "encryption_key", tuple(key))
        if (self.encryption is None) != (self.decryption is None):
            raise ValueError("encryption and decryption belong together; give both or neither")
        if self.encryption is not None and key is not None:
            raise ValueError("give encryption_key, or encryption and decryption, not both")

    def _check_payload_store(self) -> None:
        store = self.payload_store
        known = store is None or store == "huey" or (isinstance(store, str) and "://" in store)
        if not known:
            # Without what was given, which may be a URL with a password in it.
            raise ValueError("payload_store must be 'huey', or a URL like 'file:///folder'")

    def as_dict(self) -> dict[str, Any]:
        """Every option by its name, but for keys and credentials."""
        hidden = {one.name for one in fields(self) if not one.repr}
        return {name: value for name, value in asdict(self).items() if name not in hidden}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read ``HUEY_PATIENT_MAX_CONNECTIONS=1000`` and the like.

        Lists are separated by commas; true and false are 1 and 0.

        Raises:
            ConfigurationError: An unknown name, or a value out of its range.
        """
        known = {one.name: one for one in fields(cls)}
        options: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(_ENVIRON_PREFIX):
                continue
            name = variable.removeprefix(_ENVIRON_PREFIX).lower()
            if name not in known:
                raise ConfigurationError(f"{variable} names no setting; known: {', '.join(known)}")
            options[name] = _read(variable, str(known[name].type), text)
        return cls(**options)


def _set(target: Settings, name: str, value: Any) -> None:
    object.__setattr__(target, name, value)


def _positive_integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _certificate(value: Any) -> str | tuple[str, str] | None:
    if value is None or isinstance(value, str):
        return value
    files = tuple(value)
    if len(files) not in (1, 2) or not all(isinstance(one, str) for one in files):
        raise ValueError("client_cert is one file name, or the two of certificate and key")
    return files[0] if len(files) == 1 else files


def _strings(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must be a list of strings")
    return tuple(value)


def _read(variable: str, type_: str, text: str) -> Any:
    """Read ``text`` as a field annotated ``type_`` wants it."""
    try:
        if type_.startswith("bool"):
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        if type_.startswith("int"):
            return int(text)
        if type_.startswith("float"):
            return float(text)
        if type_.startswith("tuple[int"):
            return tuple(int(part) for part in text.split(","))
        if "tuple" in type_:
            return tuple(part.strip() for part in text.split(","))
    except (KeyError, ValueError):
        raise ConfigurationError(f"{variable} is not what its setting takes: {type_}") from None
    return text
