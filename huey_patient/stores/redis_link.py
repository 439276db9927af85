"""Talking to one Redis server: connections, scripts, errors explained.

A pool of our own, because Huey's is sized for its workers, and a courier must
not wait for one of them to end its blocking read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis

from ..errors import StoreUnavailable
from .sharing import keep_untouched, kind_of_thread, tell_after_fork

__all__ = ["Link", "Script"]

Argument = bytes | str | int | float

# What a pool of redis-py adds to the keywords it was given; these belong to
# that one pool.
_OF_ONE_POOL = frozenset(
    {
        "himport_registry",
        "maint_notifications_pool_handler",
        "orig_host_address",
        "orig_socket_timeout",
        "orig_socket_connect_timeout",
    }
)


#: Seconds to wait for the server where the application does not say.
SECONDS = 5.0


class Script:
    """One file of ``lua/``, as sent to the server.

    With ``when_full`` it runs although the server is at its memory limit: it
    is part of how memory becomes free again.
    """

    def __init__(self, name: str, *, when_full: bool = True) -> None:
        self.name = name
        self.plain = resources.files(__package__).joinpath("lua", f"{name}.lua").read_bytes()
        # Servers before 7 know no flags, and there the first write of a script
        # is refused when memory is full.
        self.flagged = b"#!lua flags=allow-oom\n" + self.plain if when_full else self.plain


class _Clients:
    """What threads of one kind share."""

    def __init__(
        self, storage: Any, *, most: int, longest_block: float, patience: float | None
    ) -> None:
        kwargs = {k: v for k, v in storage.pool.connection_kwargs.items() if k not in _OF_ONE_POOL}
        kwargs["decode_responses"] = False
        for timeout in ("socket_timeout", "socket_connect_timeout"):
            # Older redis-py would wait for ever on a network that went silent, and says
            # so where the application has made the pool.
            given = SECONDS if kwargs.get(timeout) is None else kwargs[timeout]
            kwargs[timeout] = given if patience is None else min(given, patience)
        if patience is not None:
            # Each of several tries may take that long; a courier has its own.
            for name in ("retry", "retry_on_error", "retry_on_timeout"):
                kwargs.pop(name, None)
        self.commands = redis.Redis(
            connection_pool=redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
                max_connections=most, connection_class=storage.pool.connection_class, **kwargs
            )
        )
        # Reading may take as long as the server blocks, and then the usual wait.
        kwargs["socket_timeout"] += longest_block
        self.bell = redis.Redis(
            connection_pool=redis.ConnectionPool(
                connection_class=storage.pool.connection_class, **kwargs
            )
        )

    def close(self) -> None:
        self.commands.close()
        self.commands.connection_pool.disconnect()
        self.bell.close()
        self.bell.connection_pool.disconnect()


class Link:
    """This process's connections to the server of one `RedisStorage`."""

    #: Connections for commands; those who find all in use wait for one.
    most_connections = 16
    #: Seconds that the server may block one call of `wait_for`.
    longest_block = 2.0
    #: Seconds that one call may wait for the server; None: as the application says.
    patience: float | None = None

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._flags_known = True
        self._clients: dict[int, _Clients] = {}
        tell_after_fork(self)

    def forget_parent(self) -> None:
        keep_untouched(self._clients)
        self._clients = {}

    def close(self) -> None:
        clients, self._clients = self._clients, {}
        for one in clients.values():
            one.close()

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        """Run ``script`` once, or raise `StoreUnavailable`."""
        with self._explained():
            if self._flags_known:
                try:
                    return self._evaluate(script.flagged, keys, args)
                except redis.ResponseError as error:
                    # Only a server that takes the first line for Lua says so.
                    if "compiling script" not in str(error) or script.flagged == script.plain:
                        raise
                    self._flags_known = False
            return self._evaluate(script.plain, keys, args)

    def _evaluate(self, source: bytes, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        client: Any = self._of_this_thread().commands
        try:
            digest = hashlib.sha1(source, usedforsecurity=False).hexdigest()
            return client.execute_command("EVALSHA", digest, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            # Restarted, failed over or flushed since; this one also teaches it.
            return client.execute_command("EVAL", source, len(keys), *keys, *args)

    def look(self, ask: Callable[[Any], object]) -> list[Any]:
        """Send the commands that ``ask`` puts into a pipeline; return the replies."""
        with self._explained():
            pipeline = self._of_this_thread().commands.pipeline(transaction=False)
            ask(pipeline)
            return list(pipeline.execute())

    def look_where_allowed(self, ask: Callable[[Any], object]) -> list[Any]:
        """As `look`, with None for the reply to a command that this user may not use."""
        with self._explained():
            pipeline = self._of_this_thread().commands.pipeline(transaction=False)
            ask(pipeline)
            replies = pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception) and not _is_forbidden(reply):
                    raise reply
            return [None if isinstance(reply, Exception) else reply for reply in replies]

    def wait_for(self, bell: str, timeout: float) -> bool:
        """Take one stroke of ``bell``, waiting up to ``timeout`` seconds for it."""
        client: Any = self._of_this_thread().bell
        with self._explained():
            while True:
                # To Redis zero means for ever, so the last look does not block.
                block = min(timeout, self.longest_block)
                stroke = client.brpop([bell], block) if block > 0 else client.rpop(bell)
                timeout -= block
                if stroke is not None or timeout <= 0:
                    return stroke is not None

    def _of_this_thread(self) -> _Clients:
        kind = kind_of_thread()
        clients = self._clients.get(kind)
        if clients is None:
            made = _Clients(
                self._storage,
                most=self.most_connections,
                longest_block=self.longest_block,
                patience=self.patience,
            )
            # Another thread may have been faster; then ours, still unused, is dropped.
            clients = self._clients.setdefault(kind, made)
        return clients

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis: {error}; {_advice(error)}") from error


def _is_forbidden(error: Exception) -> bool:
    # By an access list, or by a name that the operator has changed.
    return isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error)


def _advice(error: Exception) -> str:
    text = f"{getattr(error, 'status_code', '')} {type(error).__name__} {error}"
    for part, advice in _ADVICE.items():
        if part in text:
            return advice
    return "calling again is safe"


# Looked through in this order; redis-py removes some codes from the text and
# shows them in the class's name.
_ADVICE = {
    "WRONGTYPE": (
        "Huey's queue was written by another kind of Huey: RedisHuey keeps a list and "
        "PriorityRedisHuey a sorted set under the same name; give one of them another name"
    ),
    "ReadOnly": "this server is a replica now; connect to the primary, then call again",
    "READONLY": "this server is a replica now; connect to the primary, then call again",
    "OutOfMemory": "the server is at its maxmemory limit; raise it, then call again",
    "OOM": "the server is at its maxmemory limit; raise it, then call again",
    "BusyLoading": "the server is still reading its data; call again in a moment",
    "BUSY": "the server runs somebody's long script; call again, or end it (SCRIPT KILL)",
    "MISCONF": "the server cannot write its data to disk; free disk space there",
    "MasterDown": "the replica has lost its primary; call again when it is back",
    "NoPermission": "the user lacks permission; allow ~patient.* ~huey.* and scripting",
    "CrossSlot": "Redis Cluster cannot change our keys and Huey's in one step; use one server",
    "Authentication": "check the password of the Huey instance",
    "Timeout": "the server did not answer in time; whether it acted is not known: call again",
    "Connection": "the server cannot be reached, or broke off; call again",
}
