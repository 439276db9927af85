"""The options of a call, typed, and the verbs that take them."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

from .request import SecretReference
from .urls import Params

__all__ = ["Options", "RequestOptions", "SubmitOptions", "Verbs"]

T = TypeVar("T")


class RequestOptions(TypedDict, total=False):
    """What a `Request` may be given; see there."""

    params: Params | None
    headers: Mapping[str, str | SecretReference] | None
    json: Any
    body: str | bytes | None
    timeout: float | None
    max_redirects: int | None
    raise_error_responses: bool | None
    preprocessors: str | Iterable[str]
    stream: Literal["sse"] | None
    idle_timeout: float | None
    retries: int | Literal["never"] | None
    retry_statuses: Iterable[int]
    proxy_url: str | None


class SubmitOptions(TypedDict, total=False):
    """How a request is carried and answered; see `Patient.execute`."""

    callback: Any
    callback_args: Mapping[str, Any] | None
    priority: float | None
    delay: float | datetime.timedelta | None
    eta: datetime.datetime | None
    expires: float | datetime.timedelta | datetime.datetime | None
    id: str | None
    connection: Any


class Options(RequestOptions, SubmitOptions, total=False):
    """Everything that a call may say beside method and URL."""


class Verbs(ABC, Generic[T]):
    """One method for each HTTP verb, all made of `request`."""

    @abstractmethod
    def request(self, method: str, url: Any, **options: Unpack[Options]) -> T:
        """What becomes of a method and a URL."""

    def get(self, url: Any = "", **options: Unpack[Options]) -> T:
        """GET; see `request`."""
        return self.request("GET", url, **options)

    def post(self, url: Any = "", **options: Unpack[Options]) -> T:
        """POST; see `request`."""
        return self.request("POST", url, **options)

    def put(self, url: Any = "", **options: Unpack[Options]) -> T:
        """PUT; see `request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: Any = "", **options: Unpack[Options]) -> T:
        """PATCH; see `request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: Any = "", **options: Unpack[Options]) -> T:
        """DELETE; see `request`."""
        return self.request("DELETE", url, **options)

    def head(self, url: Any = "", **options: Unpack[Options]) -> T:
        """HEAD; see `request`."""
        return self.request("HEAD", url, **options)

    def options(self, url: Any = "", **options: Unpack[Options]) -> T:
        """OPTIONS; see `request`."""
        return self.request("OPTIONS", url, **options)
