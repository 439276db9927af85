"""Whether a request may be stored through a connection of the application, and where.

Its search path, roles and settings are its own, so the schema of our tables is
looked up on a connection of ours, and named.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ..errors import ConfigurationError
from .postgres_link import Link

__all__ = ["Outbox"]

# The moment a server was started is known to anybody, and to no other server.
_HERE = """
select (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
    (select oid::bigint from pg_database where datname = current_database()),
    to_regclass(%(table)s)::oid::bigint
"""
_SCHEMA = """
select quote_ident(n.nspname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = %(oid)s
"""


class _Place(NamedTuple):
    """Where our tables are."""

    server: int
    database: int
    oid: int
    table: str  #: With its schema.
    schema: str


class Outbox:
    """Looks at connections of the application; remembers those it has looked at."""

    def __init__(self, link: Link, table: str) -> None:
        self._link = link
        self._table = table
        self._place: _Place | None = None
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def schema(self, connection: Any) -> str:
        """Return the schema of our tables, as ``connection`` must name it.

        Makes sure that the tables are there, on a connection of our own.

        Raises:
            ConfigurationError: It is something else, or to another database, or
                its transaction is over, or it commits each statement at once.
        """
        if not isinstance(connection, psycopg.Connection):
            kind = type(connection).__name__
            raise ConfigurationError(f"connection must be a psycopg.Connection, not a {kind}")
        _check_transaction(connection)
        place = self._place or self._look()
        if connection in self._known:
            return place.schema
        if not _is_at(connection, place):
            # Our own may have been looked at before the server was restarted.
            place = self._look()
            if not _is_at(connection, place):
                raise ConfigurationError(
                    f"connection is to the database {connection.info.dbname!r} on "
                    f"{connection.info.host or 'this machine'}, and Huey's queue is in another: "
                    "a transaction cannot span both"
                )
        self._known.add(connection)
        return place.schema

    def _look(self) -> _Place:
        [[server, database, oid]] = self._link.ask(_HERE, {"table": self._table})
        [[schema]] = self._link.ask(_SCHEMA, {"oid": oid})
        self._place = _Place(server, database, oid, f"{schema}.{self._table}", schema)
        return self._place


def _check_transaction(connection: psycopg.Connection[Any]) -> None:
    status = connection.info.transaction_status
    if status == TransactionStatus.IDLE and connection.autocommit:
        raise ConfigurationError(
            "connection is in autocommit: make the request inside of "
            "`with connection.transaction():`, together with your own rows"
        )
    if status not in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
        raise ConfigurationError(
            f"the transaction of connection takes no statement now ({status.name}): "
            "after an error it must be rolled back, and a COPY be ended"
        )


def _is_at(connection: psycopg.Connection[Any], place: _Place) -> bool:
    # Not `connection.cursor()`: that is of the kind that the application chose.
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    here = cursor.execute(_HERE, {"table": place.table}, prepare=False).fetchone()
    return here == place[:3]
