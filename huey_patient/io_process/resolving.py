"""Names, looked up so that neither dead ones nor generous ones harm the others."""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["Resolver", "threads_for"]

#: Addresses tried of one name.  aiohttp tries all of those that are left, drops one
#: when all have failed, and tries again: N of them are N * (N + 1) / 2 connections.
_MOST_ADDRESSES = 8

_Question = tuple[str, int, int]
_Found = list[tuple[Any, ...]]


def threads_for(connections: int) -> int:
    """How many names may be looked up at once.

    A lookup cannot be stopped, and outlives the request that asked for it: there
    must be more threads than requests.
    """
    return max(256, 4 * connections)


class Resolver(AbstractResolver):
    """Looks names up in threads of its own, which are made as they are needed.

    Requests that ask for the same name share one lookup, so that a dead name
    holds one thread, however often it is asked for.
    """

    def __init__(self, threads: int, lookup: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="dns")
        self._threads = threads
        self._lookup = lookup
        self._asked: dict[_Question, asyncio.Future[_Found]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return a few addresses of ``host``.

        Raises:
            OSError: It has none, or every thread waits for names that do not answer.
        """
        found = await asyncio.shield(self._ask((host, port, family)))
        results = [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in _few(found)
        ]
        if not results:
            raise OSError(None, "no address")
        return results

    async def close(self) -> None:
        """Drop lookups that have not begun; those that have end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: _Question) -> asyncio.Future[_Found]:
        if asked := self._asked.get(question):
            return asked
        if len(self._asked) >= self._threads:
            # In line behind names that do not answer, it would meet its deadline.
            raise OSError(None, "too many names do not answer")
        host, port, family = question
        ask = functools.partial(
            self._lookup, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
        asked = asyncio.get_running_loop().run_in_executor(self._executor, ask)
        self._asked[question] = asked
        asked.add_done_callback(lambda done: self._forget(question, done))
        return asked

    def _forget(self, question: _Question, done: asyncio.Future[_Found]) -> None:
        del self._asked[question]
        if not done.cancelled():
            done.exception()  # Perhaps nobody waits any more: then nobody looks at it.


def _few(found: Iterable[tuple[Any, ...]]) -> _Found:
    """The first of ``found``, each once, in their order, as many of IPv4 as of IPv6
    if there are enough."""
    each = list({one[4][0]: one for one in found}.values())
    families: dict[Any, _Found] = {}
    for one in each:
        families.setdefault(one[0], []).append(one)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*families.values()))
    chosen = [one for one in turns if one is not None][:_MOST_ADDRESSES]
    return [one for one in each if one in chosen]
