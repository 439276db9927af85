"""What of a database's settings weakens a promise, in sentences for the log.

Each sentence says what may be lost and what to change.  Where a promise cannot
be kept at all, `ConfigurationError` is raised instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ConfigurationError

__all__ = ["of_postgres", "of_redis", "of_sqlite"]


def of_sqlite(*, synchronous: int, journal_mode: str) -> list[str]:
    """``synchronous`` and ``journal_mode`` as the pragmas of these names say them."""
    found = []
    if synchronous < 2:
        found.append(
            "SQLite does not wait for the disk: a power failure may lose accepted requests; "
            "leave out fsync=False."
        )
    if journal_mode in ("memory", "off"):
        found.append(
            f"SQLite keeps no journal on disk (journal_mode={journal_mode}): a crash may damage "
            "the file; use journal_mode='wal'."
        )
    return found


def of_postgres(
    *,
    fsync: str,
    synchronous_commit: str,
    prepares_behind_a_pooler: bool = False,
    waits_stop_greenlets: bool = False,
) -> list[str]:
    """The settings of these names, whether Huey prepares statements behind a pooler, and
    whether it waits for messages where gevent does not see it."""
    found = []
    if waits_stop_greenlets:
        found.append(
            "psycopg was imported before gevent's patches, as huey_consumer does: a worker that "
            "waits for a message stops all greenlets, and callbacks hang; give PostgresHuey "
            "blocking=False."
        )
    if prepares_behind_a_pooler:
        found.append(
            "Huey's connections go through a pooler and prepare statements: in transaction mode "
            "one runs what another has prepared, and messages are lost; give PostgresHuey "
            "prepare_threshold=None and blocking=False."
        )
    if fsync == "off":
        found.append(
            "PostgreSQL does not wait for the disk: a power failure may damage the whole "
            "database; set fsync to on."
        )
    if synchronous_commit == "off":
        found.append(
            "PostgreSQL commits before it has written: a crash of the server may lose requests "
            "accepted within the last second; set synchronous_commit to on."
        )
    return found


def of_redis(info: Mapping[str, object] | None, appendfsync: str | None) -> list[str]:
    """What Redis's INFO says, and its setting ``appendfsync``; None: it does not let us ask."""
    if info is None:
        return [
            "The settings of Redis could not be checked, since this user may not use INFO: "
            "maxmemory-policy should be noeviction, and appendonly yes."
        ]
    if info.get("cluster_enabled") == 1:
        raise ConfigurationError(
            "Redis Cluster cannot change our keys and Huey's in one step; "
            "use a single server, or Sentinel"
        )
    return [*_eviction(info), *_persistence(info, appendfsync)]


def _eviction(info: Mapping[str, object]) -> list[str]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return []
    if policy.startswith("volatile-"):
        return [
            f"Redis may forget who was answered when memory is full (maxmemory-policy {policy}), "
            "and a request that is submitted again is then sent again; set it to noeviction."
        ]
    if info.get("maxmemory"):
        raise ConfigurationError(
            f"Redis deletes any key when memory is full (maxmemory-policy {policy}), "
            "accepted requests too; set it to noeviction"
        )
    return [
        f"Redis would delete accepted requests if it had a memory limit (maxmemory-policy "
        f"{policy}); set it to noeviction."
    ]


def _persistence(info: Mapping[str, object], appendfsync: str | None) -> list[str]:
    if not info.get("aof_enabled"):
        return [
            "Redis keeps no append-only file: when it crashes, everything since its last "
            "snapshot is lost; set appendonly to yes."
        ]
    if appendfsync is None:
        return [
            "How often Redis writes to disk could not be checked, since this user may not use "
            "CONFIG: with appendfsync everysec a power failure loses up to a second."
        ]
    if appendfsync == "always":
        return []
    often = "a second" if appendfsync == "everysec" else "half a minute"
    return [
        f"A power failure on Redis's machine loses up to {often} of accepted requests "
        f"(appendfsync {appendfsync}); set it to always if that is too much."
    ]
