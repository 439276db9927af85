"""Objects wherever fsspec reaches: ``s3://bucket/folder``, ``memory://``, and many more.

fsspec and the driver of a URL are extras; they are imported when a store is made.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ..errors import ConfigurationError
from ..native import NativeThread, original
from ..stores.sharing import gevent_has_patched
from .base import PayloadStore, aged, checked_key

__all__ = ["FsspecPayloads"]


class FsspecPayloads(PayloadStore):
    """Keeps objects in the folder that a URL of fsspec names.

    The bucket or folder must be there.  Credentials are looked for where the
    driver looks (for S3: ``AWS_...`` variables, profiles, roles).

    Args:
        url: Of the folder.
        options: For the driver, as fsspec takes them.

    Raises:
        ConfigurationError: fsspec or the driver is not installed, or does not
            know the URL; or it is a ``file://``, which has a store of its own.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        self._options = options
        if any(part.startswith(("file://", "local://")) for part in url.split("::")):
            raise ConfigurationError(
                "files are kept by rules of their own: register the URL itself"
            )
        try:
            self._fsspec: Any = importlib.import_module("fsspec.core")
            self._opened()
        except ImportError as reason:
            raise ConfigurationError(
                f"{reason}: install huey_patient[fsspec], or huey_patient[s3] for S3"
            ) from reason
        except ValueError as reason:
            raise ConfigurationError(f"fsspec: {reason}") from reason

    def put(self, key: str, data: bytes) -> None:
        checked_key(key)
        files, folder = self._opened()
        files.pipe_file(f"{folder}/{key}", data)

    def get(self, key: str) -> bytes | None:
        checked_key(key)
        files, folder = self._opened()
        try:
            return bytes(files.cat_file(f"{folder}/{key}"))
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        checked_key(key)
        files, folder = self._opened()
        try:
            files.rm_file(f"{folder}/{key}")
        except FileNotFoundError:
            pass

    def sweep(self, older_than: float) -> int:
        files, folder = self._opened()
        files.invalidate_cache()  # of listings, which do not see what others wrote
        try:
            paths = files.ls(folder, detail=False)
        except FileNotFoundError:
            return 0  # Nothing was ever put there.
        old = [name for path in paths if aged(name := path.rpartition("/")[2], older_than)]
        for name in old:
            self.delete(name)
        return len(old)

    def _opened(self) -> tuple[Any, str]:
        # fsspec itself keeps one instance for each thread and each process, which
        # is what makes a driver safe in both; holding on to one would not be.
        files, folder = self._fsspec.url_to_fs(self._url, **self._options, **_own_loop())
        return files, folder.rstrip("/")


_loops: dict[int, asyncio.AbstractEventLoop] = {}


def _own_loop() -> dict[str, Any]:
    """What makes a driver of fsspec run on our loop, where gevent has replaced `threading`.

    fsspec's own loop would be a greenlet of whatever thread asked first, and
    stand still, with all who wait for it, whenever that thread blocks.
    """
    if not gevent_has_patched():
        return {}
    pid = os.getpid()
    loop = _loops.get(pid)
    if loop is None:
        made: Any = original("queue", "SimpleQueue")()
        NativeThread(partial(_run_loop, made), name="huey-patient-fsspec").start()
        # Two that come at once make two loops; both run, and one of them is kept.
        loop = _loops.setdefault(pid, made.get())
    return {"loop": loop}


def _run_loop(made: Any) -> None:
    # Made here, because gevent's selector belongs to the thread that makes it.
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_Inline())
    made.put(loop)
    loop.run_forever()


class _Inline(ThreadPoolExecutor):
    """Looks names up on the loop itself.

    Threads of a pool would be greenlets of the loop's thread, and Python waits
    for them at its end from another thread, where they never run.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as reason:
            done.set_exception(reason)
        return done
