"""Objects as files in one folder: ``file:///var/lib/app/payloads``.

Not through fsspec, because a folder that others can reach needs more care: the
folder is for its owner alone, and so is each file; a file appears whole, by a
rename; no symbolic link is followed, and nothing that is not a plain file is
read.  A key cannot lead out of the folder: it is 32 hex digits, and it is
opened relative to the folder, never as a path.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigurationError
from .base import PayloadStore, aged, checked_key

__all__ = ["FilePayloads"]

_FOR_OTHERS_TO_WRITE = stat.S_IWGRP | stat.S_IWOTH


class FilePayloads(PayloadStore):
    """Keeps each object in a file of its own; processes of one user share the folder.

    Raises:
        ConfigurationError: The path is not absolute, or is no folder that we
            could make or use, or others may write to it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = Path(folder)
        if not path.is_absolute():
            raise ConfigurationError(f"the folder of payloads must be absolute, got {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            # Links in what was configured are the operator's; from here on none is followed.
            self._folder = path.resolve(strict=True)
            with self._opened() as opened:
                mode = os.fstat(opened).st_mode
        except OSError as reason:
            raise ConfigurationError(f"payloads cannot be kept in {path}: {reason}") from reason
        if mode & _FOR_OTHERS_TO_WRITE:
            raise ConfigurationError(f"others may write to {path}; give it mode 0700")

    def put(self, key: str, data: bytes) -> None:
        name = checked_key(key)
        # Named after the key, so that the sweep finds it if we do not come to the rename.
        half = f"{name}.{os.urandom(4).hex()}"
        with self._opened() as folder:
            try:
                self._write(folder, half, data)
                os.rename(half, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(half, dir_fd=folder)
                raise
            os.fsync(folder)

    def _write(self, folder: int, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def get(self, key: str) -> bytes | None:
        name = checked_key(key)
        # Without O_NONBLOCK a pipe that somebody put there would hold us up.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._opened() as folder:
            if not self._is_file(folder, name):
                return None
            try:
                opened = os.open(name, flags, dir_fd=folder)
            except FileNotFoundError:
                return None
        with open(opened, "rb") as file:
            return file.read()

    def delete(self, key: str) -> None:
        name = checked_key(key)
        with self._opened() as folder:
            if self._is_file(folder, name):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def sweep(self, older_than: float) -> int:
        swept = 0
        with self._opened() as folder:
            for name in os.listdir(folder):
                key, _, rest = name.partition(".")
                if aged(key, older_than) and self._is_file(folder, name):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                        swept += not rest
        return swept

    def _is_file(self, folder: int, name: str) -> bool:
        """Whether there is a plain file of that name; a link to one is none."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield folder
        finally:
            os.close(folder)
