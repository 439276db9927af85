"""What is asked: `Request`, and the reference to a secret in it.

Everything a caller can get wrong about a request is refused here, at the call,
before anything is stored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Any, Literal

import orjson

from . import checks
from .errors import without_query
from .headers import Headers, check_name, check_value
from .urls import Params, checked_url, param_texts, params_dict, url_text, with_params

__all__ = ["LLM_STATUSES", "Request", "SecretReference", "checked_headers", "secret"]

#: Statuses that LLM services answer when another attempt may help: a ready-made
#: ``retry_statuses``.  529 is Anthropic's "overloaded".
LLM_STATUSES = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))

_BODILESS = ("GET", "HEAD", "DELETE")


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Stands for a secret value in a header, a query parameter or a JSON string.

    The reference travels and is stored; the value is put in its place just
    before the request is sent, and is never stored.
    """

    name: str
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError("a secret needs a name")
        for text in (self.prefix, self.suffix):
            if not isinstance(text, str):
                raise TypeError("prefix and suffix of a secret are strings")

    def as_json(self) -> dict[str, str]:
        """The marker that stands for the secret where only JSON can stand."""
        return {"$secret": self.name, "prefix": self.prefix, "suffix": self.suffix}

    @classmethod
    def from_json(cls, value: object) -> SecretReference | None:
        """The reference that ``value`` is the marker of, or None."""
        if isinstance(value, dict) and value.keys() == {"$secret", "prefix", "suffix"}:
            return cls(value["$secret"], value["prefix"], value["suffix"])
        return None


def secret(name: str, *, prefix: str = "", suffix: str = "") -> SecretReference:
    """Refer to the secret that `Patient.register_secret` knows as ``name``.

    ``secret("openai", prefix="Bearer ")`` goes where a header value, a query
    parameter or a string inside ``json=`` would go.

    Raises:
        ValueError: No name.
    """
    return SecretReference(name, prefix, suffix)


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One HTTP request, checked and ready to be stored.

    ``params`` are appended to the URL; ``json`` becomes the body, with
    ``application/json; charset=utf-8`` as its type unless the headers name one.
    ``None`` leaves a choice to the settings of the consumer.

    Raises:
        ValueError: A method, URL, header, number or body that cannot be sent.
        TypeError: An argument of the wrong type, or JSON that is not JSON.
    """

    method: str  #: Upper case.
    url: str  #: With its parameters, but for the secret ones.
    _: KW_ONLY
    params: InitVar[Params | None] = None
    headers: Headers[str | SecretReference] = field(default_factory=Headers)
    json: InitVar[Any] = None
    body: bytes | None = None
    timeout: float | None = None  #: Seconds for the whole exchange, hops and retries included.
    max_redirects: int | None = None  #: 0 hands a redirect over as the response.
    raise_error_responses: bool | None = None  #: Whether 4xx and 5xx are errors.
    retries: int | Literal["never"] | None = None  #: Further attempts, or at most one send.
    retry_statuses: frozenset[int] = frozenset()  #: Statuses worth another attempt.
    preprocessors: tuple[str, ...] = ()  #: Names, in the order they run.
    stream: Literal["sse"] | None = None  #: Whether server-sent events are read as they come.
    idle_timeout: float | None = None  #: Seconds that a stream may be silent.
    #: Proxy of this request alone.  A password in it is stored as the body is:
    #: sealed when there is a key.
    proxy_url: str | None = None
    #: Secret parameters, and what follows them under the same name.
    secret_params: tuple[tuple[str, str | SecretReference], ...] = ()
    json_secrets: bool = False  #: Whether the body is JSON with secret markers in it.
    #: Values of the secrets, once they are in their places: no URL that is shown
    #: may hold one.  Never stored.
    hidden: frozenset[str] = frozenset()

    def __post_init__(self, params: Params | None, json: Any) -> None:
        set_ = object.__setattr__
        set_(self, "method", checks.method(self.method))
        plain, secret_params = _split_params(params)
        set_(self, "url", checked_url(with_params(url_text(self.url), plain)))
        set_(self, "secret_params", tuple(self.secret_params) + secret_params)
        set_(self, "headers", checked_headers(self.headers))
        self._take_body(json)
        set_(self, "timeout", checks.seconds("timeout", self.timeout))
        set_(self, "idle_timeout", checks.seconds("idle_timeout", self.idle_timeout))
        if self.stream not in (None, "sse"):
            raise ValueError(f"stream is 'sse' or None, got {self.stream!r}")
        if self.max_redirects is not None:
            checks.count("max_redirects", self.max_redirects)
        if self.retries is not None and self.retries != "never":
            checks.count("retries", self.retries)
        if self.raise_error_responses is not None and not isinstance(
            self.raise_error_responses, bool
        ):
            raise TypeError("raise_error_responses is True, False or None")
        set_(self, "retry_statuses", checks.statuses(self.retry_statuses))
        checks.proxy_url(self.proxy_url)
        set_(self, "preprocessors", checks.names(self.preprocessors))

    def _take_body(self, json: Any) -> None:
        set_ = object.__setattr__
        body: Any = self.body
        if json is not None and body is not None:
            raise ValueError("give json= or body=, not both")
        if json is not None:
            body, marked = _json_body(json)
            set_(self, "json_secrets", marked)
            if "content-type" not in self.headers:
                typed = self.headers.merged({"Content-Type": "application/json; charset=utf-8"})
                set_(self, "headers", typed)
        if isinstance(body, str):
            body = body.encode()
        if body is not None and not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"body must be str or bytes, got {type(body).__name__}")
        if body and self.method in _BODILESS:
            raise ValueError(f"body is not allowed for {self.method} requests")
        set_(self, "body", bytes(body) if body else None)

    @classmethod
    def stored(cls, **fields: Any) -> Request:
        """A request as it was stored: checked when it was made, and not once more.

        Checking takes 15 us, which is a good part of what the I/O process adds
        to the cost of a call.
        """
        request = object.__new__(cls)
        fields["hidden"] = frozenset()
        for name in cls.__slots__:
            object.__setattr__(request, name, fields[name])
        return request

    def __repr__(self) -> str:
        # No query, header value or body: this ends up in logs.
        return f"Request({self.method!r}, {without_query(self.url)!r}, headers={self.headers!r})"

    def secret_names(self) -> tuple[str, ...]:
        """The secrets that must be resolved before it can be sent, each once."""
        found = [
            value.name for _, value in self.headers.pairs() if isinstance(value, SecretReference)
        ]
        found += [value.name for _, value in self.secret_params if not isinstance(value, str)]
        if self.json_secrets and self.body:
            found += [reference.name for reference in _references(orjson.loads(self.body))]
        return tuple(dict.fromkeys(found))


def checked_headers(headers: Any) -> Headers[str | SecretReference]:
    """Return ``headers`` when each could be sent exactly as it stands.

    Raises:
        TypeError, ValueError: One could not; the message names it, never its value.
    """
    fields: Headers[Any] = headers if isinstance(headers, Headers) else Headers(headers or {})
    if len(fields.pairs()) > checks.MAX_HEADERS:
        raise ValueError(f"{len(fields.pairs())} headers; at most {checks.MAX_HEADERS} are sent")
    size = 0
    for name, value in fields.pairs():
        check_name(name)
        if isinstance(value, SecretReference):
            size += len(name) + len(value.prefix) + len(value.suffix)
            continue
        if not isinstance(value, str):
            raise TypeError(
                f"the value of header {name!r} must be a string, got {type(value).__name__}"
            )
        check_value(name, value)
        size += len(name) + len(value)
    if size > checks.MAX_HEADER_BYTES:
        raise ValueError(f"headers have {size} bytes; at most {checks.MAX_HEADER_BYTES} are sent")
    return fields


def _split_params(
    params: Params | None,
) -> tuple[Params, tuple[tuple[str, str | SecretReference], ...]]:
    """Return what may stand in the URL now, and what is appended just before a send.

    Of the values of one name all from the first secret on, so that they keep
    their order.
    """
    plain: list[tuple[str, str]] = []
    apart: list[tuple[str, str | SecretReference]] = []
    for name, value in params_dict(params).items():
        hidden = False
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, SecretReference):
                hidden = True
                apart.append((name, one))
                continue
            texts = ((name, text) for text in param_texts(name, [one]))
            (apart if hidden else plain).extend(texts)
    return plain, tuple(apart)


def _json_body(value: Any) -> tuple[bytes, bool]:
    """Return ``value`` as JSON, and whether a secret is marked in it."""
    marked = 0

    def other(unknown: Any) -> Any:
        nonlocal marked
        if isinstance(unknown, SecretReference):
            marked += 1
            return unknown.as_json()
        if dataclasses.is_dataclass(unknown) and not isinstance(unknown, type):
            return _fields_of(unknown)
        raise TypeError(f"json= holds a {type(unknown).__name__}, which JSON cannot express")

    encoded = orjson.dumps(value, default=other, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    # orjson writes NaN and Infinity as null; only then can one hide in there.
    if b"null" in encoded:
        _check_finite(value)
    # Somebody else's data beside a secret must not name another one.
    if marked and marked != sum(1 for _ in _references(orjson.loads(encoded))):
        raise ValueError('json= holds a mapping with the keys "$secret", "prefix" and "suffix"')
    return encoded, marked > 0


def _check_finite(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"json= holds {value}, which JSON cannot express")
    children: Iterable[Any] = ()
    if isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        children = _fields_of(value).values()
    for child in children:
        _check_finite(child)


def _fields_of(value: Any) -> dict[str, Any]:
    # dataclasses.asdict would go on inside, and make a plain mapping of a secret.
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def _references(value: Any) -> Iterable[SecretReference]:
    reference = SecretReference.from_json(value)
    if reference is not None:
        yield reference
        return
    for child in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _references(child)
