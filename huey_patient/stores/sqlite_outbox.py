"""Whether a request may be stored through a connection of the application."""

from __future__ import annotations

import sqlite3
from typing import Any

from ..errors import ConfigurationError, StoreUnavailable
from .sqlite_link import Link, file_identity

__all__ = ["checked"]

#: The default of ``sqlite3.Connection.autocommit``, where there is one: from
#: Python 3.12 on.
LEGACY = -1


def checked(connection: Any, link: Link) -> sqlite3.Connection:
    """Return ``connection`` if it is in a transaction on the file of ``link``.

    Makes sure that the tables are there, on a connection of our own.

    Raises:
        ConfigurationError: It is something else, or elsewhere, or commits each
            statement at once; or its transaction keeps the tables from being made.
    """
    if not isinstance(connection, sqlite3.Connection):
        kind = type(connection).__name__
        raise ConfigurationError(f"connection must be a sqlite3.Connection, not a {kind}")
    if not (connection.in_transaction or _begins_by_itself(connection)):
        raise ConfigurationError(
            "connection is in autocommit: begin a transaction before the request, "
            "and commit it after your own rows"
        )
    ours = _identity_with_tables(link)
    main = sqlite3.Cursor(connection).execute("pragma database_list").fetchone()[2]
    theirs = main.decode() if isinstance(main, bytes) else str(main)
    if file_identity(theirs) != ours:
        raise ConfigurationError(
            f"connection is to {theirs or 'a database in memory'}, but Huey's queue is in "
            f"{link.filename}: a transaction cannot span both"
        )
    return connection


def _identity_with_tables(link: Link) -> tuple[int, int] | None:
    try:
        # Without patience: the lock may be the one of the transaction itself.
        return link.identity(patience=0.0)
    except StoreUnavailable as reason:
        if "locked" not in str(reason):
            raise
        raise ConfigurationError(
            "the tables of huey_patient are not there yet, and a transaction keeps them from "
            "being made; start a consumer, or store a request without connection=, before it"
        ) from reason


def _begins_by_itself(connection: sqlite3.Connection) -> bool:
    """Whether ``sqlite3`` begins a transaction before the next insert."""
    autocommit = getattr(connection, "autocommit", LEGACY)
    if autocommit == LEGACY:
        return connection.isolation_level is not None
    return not autocommit
