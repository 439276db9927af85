"""An application that has its own rows in the database of Huey's queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
from support.backends import dsn

#: Kind -> (name of the fixture of its server, how to open a connection there).
APPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "sqlite": (
        "tmp_path",
        lambda folder: sqlite3.connect(
            str(folder / "huey.db"), isolation_level=None, check_same_thread=False
        ),
    ),
    "postgres": (
        "postgres_server",
        lambda server, **options: psycopg.connect(dsn(server.port), **options),
    ),
}


class App:
    """One connection, and a table of orders that nobody else sees."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        connection.execute("drop table if exists orders")
        connection.execute("create table orders (n integer)")
        connection.commit()

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def begin(self) -> None:
        # psycopg begins by itself.
        if isinstance(self.connection, sqlite3.Connection):
            self.connection.execute("begin")

    def in_transaction(self) -> bool:
        if isinstance(self.connection, sqlite3.Connection):
            return self.connection.in_transaction
        return self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS

    def execute(self, statement: str) -> Any:
        return self.connection.execute(statement)

    def order(self, n: int) -> None:
        self.execute(f"insert into orders values ({n})")

    def orders(self) -> list[int]:
        return [n for (n,) in self.execute("select n from orders order by n")]
