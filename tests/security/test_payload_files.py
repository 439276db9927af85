"""F1: payloads in files are for their owner alone, and a key leads nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from huey_patient.errors import ConfigurationError
from huey_patient.payloads import new_key, payload_store_for
from huey_patient.payloads.in_files import FilePayloads
from huey_patient.payloads.in_fsspec import FsspecPayloads


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask-{:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "payloads"


def test_F1_the_folder_is_0700_and_a_file_0600_whatever_the_umask(folder: Path, umask: int) -> None:
    store = FilePayloads(folder)
    store.put(key := new_key(), b"x")

    assert mode(folder) == 0o700
    assert mode(folder / key) == 0o600


def test_F1_the_mode_is_that_from_the_first_byte_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilePayloads(folder)
    seen = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.extend((path.name, mode(path)) for path in folder.iterdir())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    store.put(key := new_key(), b"x")

    (half, before), (whole, after) = seen  # once for the file, once for the folder
    assert half != whole == key
    assert before == after == 0o600


@pytest.mark.parametrize("bits", [0o020, 0o002], ids=oct)
def test_F1_a_folder_that_others_may_write_to_is_refused(folder: Path, bits: int) -> None:
    folder.mkdir()
    folder.chmod(0o700 | bits)

    with pytest.raises(ConfigurationError, match="others may write"):
        FilePayloads(folder)


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc/passwd", "/etc/passwd", "..", ".", "", "\0" * 32, "C:\\windows\\system32"),
        *("a" * 32 + "/..", "a" * 31 + "/", "a" * 32 + "\n", "\uff41" * 32),
    ],
    ids=repr,
)
def test_F1_no_key_leads_out_of_the_folder(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilePayloads(folder)
    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("something was opened"))

    for call in (store.get, store.delete, lambda name: store.put(name, b"x")):
        with pytest.raises(ValueError, match="hex digits"):
            call(name)


def test_F1_a_link_is_neither_read_nor_written_through_nor_followed(
    folder: Path, tmp_path: Path
) -> None:
    store = FilePayloads(folder)
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    old, new = new_key(0), new_key()
    for key in (old, new):
        (folder / key).symlink_to(outside)

    assert store.get(new) is None
    store.delete(new)
    assert store.sweep(1.0) == 0
    assert (folder / new).is_symlink()
    assert (folder / old).is_symlink()
    store.put(new, b"ours")

    assert outside.read_bytes() == b"not ours"
    assert not (folder / new).is_symlink()
    assert store.get(new) == b"ours"


def test_F1_what_is_no_plain_file_is_not_there(folder: Path) -> None:
    store = FilePayloads(folder)
    fifo, inner = new_key(), new_key(0)
    os.mkfifo(folder / fifo)
    (folder / inner).mkdir()

    assert store.get(fifo) is store.get(inner) is None
    store.delete(fifo)
    store.delete(inner)
    assert store.sweep(1.0) == 0


def test_F1_a_folder_that_became_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    store = FilePayloads(folder)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)

    with pytest.raises(OSError):
        store.put(new_key(), b"x")
    assert list(elsewhere.iterdir()) == []


def test_F1_a_folder_that_was_configured_through_a_link_is_the_operator_s(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = FilePayloads(tmp_path / "link")

    store.put(key := new_key(), b"x")

    assert (tmp_path / "disk" / key).read_bytes() == b"x"


def test_F1_half_an_object_has_no_name_that_anybody_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilePayloads(folder)
    key = new_key()
    store.put(key, b"first")

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="full"):
            store.put(key, b"second")

    assert store.get(key) == b"first"
    assert [path.name for path in folder.iterdir()] == [key]


def test_F1_what_a_killed_writer_left_is_swept(folder: Path) -> None:
    store = FilePayloads(folder)
    old, young = folder / f"{new_key(0)}.0123abcd", folder / f"{new_key()}.0123abcd"
    foreign = folder / "notes.txt"
    for path in (old, young, foreign):
        path.write_bytes(b"x")

    assert store.sweep(60.0) == 0  # It was no object.

    assert sorted(folder.iterdir()) == sorted([young, foreign])


def test_F1_a_file_that_may_not_be_read_is_not_taken_for_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilePayloads(folder)
    store.put(key := new_key(), b"x")
    really = os.open

    def refuse(name, flags, *args, **options):
        if name == key:
            raise PermissionError("no")
        return really(name, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(PermissionError):
        store.get(key)


def test_F1_a_folder_that_is_away_is_not_taken_for_an_empty_one(folder: Path) -> None:
    store = FilePayloads(folder)
    folder.rmdir()

    for call in (store.get, store.delete, lambda key: store.put(key, b"x")):
        with pytest.raises(FileNotFoundError):
            call(new_key())


@pytest.mark.parametrize("url", ["file://relative/folder", "file://", "local://x"])
def test_a_folder_must_be_absolute(url: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute"):
        payload_store_for(None, url)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ConfigurationError, match="cannot be kept"):
        payload_store_for(None, f"file://{tmp_path}/file")


@pytest.mark.parametrize("scheme", ["file", "local", "simplecache::file", "dir::local"])
def test_F1_fsspec_does_not_go_around_these_rules(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="rules of their own"):
        FsspecPayloads(f"{scheme}://{tmp_path}")
