"""What the tests with a real consumer are given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.backends import dsn
from support.consumer import App
from support.fixtures import pgbouncer
from support.gate import Gate

__all__ = ["app", "gate", "new_app", "pgbouncer"]

NewApp = Callable[..., App]


@pytest.fixture
def new_app(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NewApp]:
    """Makes an application: ``new_app("redis", max_connections=10)``; one for each test."""
    with contextlib.ExitStack() as stack:

        def make(database: str = "sqlite", **options: Any) -> App:
            if database != "sqlite":
                kind = database.partition("-")[0]
                server = "pgbouncer" if kind == "pgbouncer" else f"{kind}_server"
                port = request.getfixturevalue(server).port
                options["place"] = port if kind == "redis" else dsn(port)
            return stack.enter_context(App(tmp_path, database=database, **options))

        yield make


@pytest.fixture
def app(new_app: NewApp) -> App:
    """An application on SQLite, with the settings that are the default."""
    return new_app()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A server that holds its answers until the test opens it."""
    with Gate() as started:
        yield started
