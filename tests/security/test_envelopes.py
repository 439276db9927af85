"""Envelopes under attack: rules E1 to E6 and P1.

E1  bound to purpose, queue and id     E4  the key id chooses
E2  nonces are the library's           E6  checked before anything is allocated
E3  nothing weak passes for a key      P1  nothing is ever unpickled
"""

from __future__ import annotations

import ast
import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import huey_patient
from huey_patient import compression
from huey_patient.envelope import PURPOSES, Keyring, read_label
from huey_patient.errors import ConfigurationError, EnvelopeError
from huey_patient.settings import Settings

KEY = bytes(range(100, 132))
OTHER_KEY = bytes(range(200, 232))
PLACE: dict[str, Any] = {"purpose": "request", "queue": "app", "id": "id-1"}
HEAD, BODY = {"url": "https://example.com/"}, b"some words, " * 60
MIB = 1_048_576


def same(text: bytes) -> bytes:
    return text


PLAIN, SEALED = Keyring(), Keyring([KEY])
#: The weakest cipher an application could bring: nothing but ours protects it.
CUSTOM = Keyring(functions=(same, same))
KEYRINGS = {"plain": PLAIN, "sealed": SEALED, "custom": CUSTOM}


def sealed_by(keyring: Keyring, **changes: Any) -> bytes:
    return keyring.seal(HEAD, BODY, label=b"Save", media_type="text/plain", **{**PLACE, **changes})


def opens(keyring: Keyring, sealed: bytes, **changes: Any) -> bool:
    """Whether it opens; any exception but EnvelopeError fails the test."""
    try:
        keyring.unseal(sealed, **{**PLACE, "max_body_bytes": MIB, **changes})
    except EnvelopeError:
        return False
    return True


# E1


def test_E1_every_flipped_bit_is_refused() -> None:
    sealed = sealed_by(SEALED)
    lenient = Keyring([KEY], accept_plaintext=True)

    for position, bit in itertools.product(range(len(sealed)), range(8)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1 << bit
        assert not opens(SEALED, bytes(damaged)), (position, bit)
        assert not opens(lenient, bytes(damaged)), (position, bit)


@pytest.mark.parametrize("mode", KEYRINGS)
def test_E1_every_truncation_is_refused(mode: str) -> None:
    sealed = sealed_by(KEYRINGS[mode])

    for length in range(len(sealed)):
        assert not opens(KEYRINGS[mode], sealed[:length]), length


@pytest.mark.parametrize("mode", ["plain", "custom"])
def test_E1_damage_to_an_unsealed_envelope_never_raises_anything_else(mode: str) -> None:
    sealed = sealed_by(KEYRINGS[mode])

    for position, value in itertools.product(range(len(sealed)), (0x00, 0x01, 0x7F, 0x80, 0xFF)):
        damaged = bytearray(sealed)
        damaged[position] = value
        opens(KEYRINGS[mode], bytes(damaged))


@pytest.mark.parametrize("mode", KEYRINGS)
@given(noise=st.binary(max_size=200), kind=st.integers(0, 3))
def test_E1_noise_never_raises_anything_else(mode: str, noise: bytes, kind: int) -> None:
    dressed = b"HP\x01" + bytes([kind]) + noise

    assert not opens(KEYRINGS[mode], noise)
    opens(KEYRINGS[mode], dressed)
    for envelope in (noise, dressed):
        try:
            read_label(envelope)
        except EnvelopeError:
            pass


def test_E1_bytes_after_the_end_are_refused() -> None:
    assert not opens(SEALED, sealed_by(SEALED) + b"\x00")
    assert not opens(PLAIN, sealed_by(PLAIN) + b"\x00")


@pytest.mark.parametrize("mode", KEYRINGS)
def test_E1_an_envelope_opens_in_its_own_place_alone(mode: str) -> None:
    places = [
        {"purpose": purpose, "queue": queue, "id": id}
        for purpose in PURPOSES
        for queue in ("app", "other")
        for id in ("id-1", "id-2")
    ]

    for mine, asked in itertools.product(places, places):
        assert opens(KEYRINGS[mode], sealed_by(KEYRINGS[mode], **mine), **asked) == (mine == asked)


def test_E1_no_two_places_are_spelled_alike() -> None:
    sealed = sealed_by(SEALED, queue="ab", id="c")

    assert opens(SEALED, sealed, queue="ab", id="c")
    assert not opens(SEALED, sealed, queue="a", id="bc")
    assert not opens(SEALED, sealed, queue="", id="abc")
    assert not opens(SEALED, sealed, queue="ab\0c", id="")


def test_E1_a_label_cannot_be_swapped_shortened_or_lengthened() -> None:
    sealed = sealed_by(SEALED)
    start, end = sealed[:8], sealed[14:]

    assert sealed == start + b"\x00\x04Save" + end
    for label in (b"\x00\x04Drop", b"\x00\x00", b"\x00\x03Sav", b"\x00\x05Save!", b"\x00\x02Save"):
        assert not opens(SEALED, start + label + end)


@pytest.mark.parametrize("mode", KEYRINGS)
def test_E1_a_label_is_read_whole_or_not_at_all(mode: str) -> None:
    sealed = sealed_by(KEYRINGS[mode])

    assert read_label(sealed[:14]) == b"Save"
    for length in range(14):
        with pytest.raises(EnvelopeError):
            read_label(sealed[:length])


def test_E1_a_head_does_not_reach_beyond_the_end() -> None:
    sealed = PLAIN.seal({"a": 1}, b"", **PLACE)
    lengths_at = 10

    for more in (1, 200):
        damaged = bytearray(sealed)
        damaged[lengths_at + 7] += more
        assert not opens(PLAIN, bytes(damaged))


def test_E1_one_envelopes_sealed_part_does_not_fit_another_ones_label() -> None:
    save = SEALED.seal(HEAD, b"", label=b"Save", **PLACE)
    drop = SEALED.seal(HEAD, b"", label=b"Drop", **PLACE)

    assert not opens(SEALED, save[:14] + drop[14:])


# E2


def modules() -> Iterator[tuple[Path, ast.Module]]:
    root = Path(huey_patient.__file__).parent
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root), ast.parse(path.read_text())


def test_E2_no_nonce_is_ever_passed_in() -> None:
    for path, tree in modules():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            assert "nonce" not in [keyword.arg for keyword in call.keywords], path
            if isinstance(call.func, ast.Attribute) and call.func.attr == "encrypt":
                assert len(call.args) == 1, path
                assert not call.keywords, path


def test_E2_nonces_do_not_repeat() -> None:
    nonces = {SEALED.seal({}, b"", **PLACE)[10:34] for _ in range(20_000)}

    assert len(nonces) == 20_000


# E3


@pytest.mark.parametrize("weak", ["", "password", b"\x00" * 32, "00" * 32, b"\xff" * 31])
def test_E3_nothing_weak_passes_for_a_key(weak: str | bytes) -> None:
    with pytest.raises(ConfigurationError):
        Keyring.from_settings(Settings(encryption_key=weak))


# E4


def test_E4_the_key_id_chooses_and_cannot_lie() -> None:
    both = Keyring([KEY, OTHER_KEY])
    mine, other = sealed_by(Keyring([KEY])), sealed_by(Keyring([OTHER_KEY]))

    assert opens(both, mine)
    assert opens(both, other)
    assert not opens(both, mine[:4] + other[4:8] + mine[8:])
    with pytest.raises(EnvelopeError, match="not configured"):
        SEALED.unseal(other, **PLACE, max_body_bytes=MIB)


def test_E4_a_plain_envelope_is_refused_by_whoever_has_a_key() -> None:
    plain = sealed_by(PLAIN)

    assert opens(PLAIN, plain)
    assert not opens(SEALED, plain)
    assert not opens(CUSTOM, plain)


def test_E4_a_sealed_envelope_does_not_pass_for_a_plain_one() -> None:
    sealed = sealed_by(SEALED)
    relabelled = sealed[:3] + b"\x00" + sealed[4:]

    assert not opens(PLAIN, relabelled)
    assert not opens(Keyring([KEY], accept_plaintext=True), relabelled)


# E6


BOMB_BYTES = 200 * MIB


def bomb(*, declared: bool) -> bytes:
    """200 MiB of nothing in a frame of a few KB."""
    sizes = {"size": BOMB_BYTES} if declared else {}
    writer = zstandard.ZstdCompressor(level=1).compressobj(**sizes)
    block = bytes(MIB)
    return b"".join([*(writer.compress(block) for _ in range(200)), writer.flush()])


def assert_costs_nothing(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "pack", lambda *_: (compression.ZSTD, frame))
    sealed = sealed_by(SEALED)

    tracemalloc.start()
    try:
        assert not opens(SEALED, sealed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * MIB


def test_E6_a_bomb_that_declares_its_size_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = bomb(declared=True)
    assert zstandard.frame_content_size(frame) == BOMB_BYTES

    assert_costs_nothing(frame, monkeypatch)


def test_E6_a_bomb_that_declares_none_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = bomb(declared=False)
    assert zstandard.frame_content_size(frame) == -1

    assert_costs_nothing(frame, monkeypatch)
    with pytest.raises(EnvelopeError, match="does not declare its size"):
        SEALED.unseal(sealed_by(SEALED), **PLACE, max_body_bytes=MIB)


def test_E6_a_bomb_that_lies_about_its_size_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = bomb(declared=True)
    size = BOMB_BYTES.to_bytes(4, "little")
    assert frame[:16].count(size) == 1
    lying = frame.replace(size, (MIB - 1).to_bytes(4, "little"), 1)
    assert zstandard.frame_content_size(lying) == MIB - 1

    assert_costs_nothing(lying, monkeypatch)


@pytest.mark.parametrize("extra", [b"x", zstandard.ZstdCompressor().compress(b"more" * 400)])
def test_E6_bytes_after_a_frame_are_refused(extra: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = zstandard.ZstdCompressor().compress(BODY) + extra
    monkeypatch.setattr(compression, "pack", lambda *_: (compression.ZSTD, frame))

    assert not opens(SEALED, sealed_by(SEALED))


@given(st.integers(0, 255), st.binary(max_size=60))
def test_E6_no_frame_at_all_raises_anything_else(coding: int, frame: bytes) -> None:
    for packed in (frame, b"\x28\xb5\x2f\xfd" + frame):
        try:
            compression.unpack(coding, packed, 10_000)
        except EnvelopeError:
            pass


def test_E6_the_tag_is_checked_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = bytearray(sealed_by(SEALED))
    sealed[-1] ^= 1
    monkeypatch.setattr(compression, "unpack", pytest.fail)

    assert not opens(SEALED, bytes(sealed))


def test_E6_the_context_is_checked_before_anything_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealed = sealed_by(SEALED)
    monkeypatch.setattr(compression, "unpack", pytest.fail)

    assert not opens(SEALED, sealed, id="id-2")


# P1


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "dill", "marshal", "shelve", "yaml"}
TEXT_CODINGS = {"base64", "binascii"}
#: Keys are written as text, and a proxy's password is sent as text; on the
#: data's way everything is bytes.
MAY_READ_TEXT_CODINGS = {Path("keys.py"), Path("io_process/proxies.py")}


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


def test_P1_nothing_that_unpickles_is_imported() -> None:
    for path, tree in modules():
        assert not imported(tree) & FORBIDDEN_IMPORTS, path


def test_P1_nothing_evaluates_text() -> None:
    for path, tree in modules():
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"eval", "exec", "compile", "__import__"}, path


def test_P1_bytes_stay_bytes() -> None:
    for path, tree in modules():
        if path not in MAY_READ_TEXT_CODINGS:
            assert not imported(tree) & TEXT_CODINGS, path
