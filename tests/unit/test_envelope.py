"""Envelopes: what goes in comes out, and only there."""

from __future__ import annotations

import functools
import json
import os
import threading
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huey_patient import compression
from huey_patient.envelope import PURPOSES, Keyring, is_newer, read_label
from huey_patient.errors import ConfigurationError, EnvelopeError
from huey_patient.keys import generate_key, key_id
from huey_patient.settings import Settings

KEY = bytes(range(100, 132))
OTHER_KEY = bytes(range(200, 232))
PLACE: dict[str, Any] = {"purpose": "request", "queue": "app", "id": "id-1"}
MIB = 1_048_576


def reverse(text: bytes) -> bytes:
    """A cipher that settings can name."""
    return text[::-1]


def as_text(text: bytes) -> str:
    return text.decode("latin-1")


def failing(text: bytes) -> bytes:
    raise ZeroDivisionError(f"could not open {text!r}")


NOT_CALLABLE = "a string"
HERE = __name__

KEYRINGS = {
    "plain": Keyring(),
    "sealed": Keyring([KEY, OTHER_KEY]),
    "custom": Keyring(functions=(reverse, reverse)),
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4)
    ),
    max_leaves=20,
)
media_types = st.sampled_from(
    [None, "", "text/plain", "application/json; charset=utf-8", "image/png", "x/unknown"]
)


def unseal(keyring: Keyring, sealed: bytes, **changes: Any) -> tuple[dict[str, Any], bytes]:
    return keyring.unseal(sealed, **{**PLACE, "max_body_bytes": MIB, **changes})


@pytest.mark.parametrize("mode", KEYRINGS)
@given(
    head=st.dictionaries(st.text(), json_values, max_size=5),
    body=st.binary(max_size=2000) | st.text(min_size=600).map(str.encode),
    purpose=st.sampled_from(PURPOSES),
    queue=st.text(),
    id=st.text(),
    label=st.binary(max_size=100),
    media_type=media_types,
)
def test_what_was_sealed_comes_out_as_it_was(
    mode: str,
    head: dict[str, Any],
    body: bytes,
    purpose: str,
    queue: str,
    id: str,
    label: bytes,
    media_type: str | None,
) -> None:
    keyring = KEYRINGS[mode]
    place = {"purpose": purpose, "queue": queue, "id": id}

    sealed = keyring.seal(head, body, label=label, media_type=media_type, **place)

    assert type(sealed) is bytes
    assert unseal(keyring, sealed, **place) == (head, body)
    assert read_label(sealed) == label


def test_only_plain_mode_does_not_seal() -> None:
    assert [keyring.seals for keyring in KEYRINGS.values()] == [False, True, True]


@pytest.mark.parametrize("mode", ["sealed", "custom"])
def test_a_sealed_envelope_shows_nothing_but_its_label(mode: str) -> None:
    head, body = {"url": "https://example.com/HEAD"}, b"BODY" * 4

    sealed = KEYRINGS[mode].seal(head, body, label=b"label", **PLACE)

    assert b"label" in sealed
    for word in (b"HEAD", b"BODY", b"request", b"app", b"id-1"):
        assert word not in sealed


def test_the_same_text_is_sealed_differently_each_time() -> None:
    sealed = {KEYRINGS["sealed"].seal({}, b"", **PLACE) for _ in range(1000)}

    assert len(sealed) == 1000


def test_an_envelope_is_taken_from_any_kind_of_bytes() -> None:
    sealed = KEYRINGS["sealed"].seal({"a": 1}, b"b", **PLACE)

    others: list[Any] = [bytearray(sealed), memoryview(sealed)]
    for other in others:
        assert unseal(KEYRINGS["sealed"], other) == ({"a": 1}, b"b")


@pytest.mark.parametrize("alien", [None, 7, "text", [b"HP"]])
def test_what_is_not_bytes_is_no_envelope(alien: Any) -> None:
    with pytest.raises(EnvelopeError, match="an envelope is bytes"):
        unseal(KEYRINGS["sealed"], alien)


def test_one_keyring_serves_many_threads() -> None:
    keyring = KEYRINGS["sealed"]
    failures: list[str] = []

    def work(number: int) -> None:
        body = (f"line {number} " * 500).encode()
        for turn in range(100):
            place = {**PLACE, "id": f"{number}-{turn}"}
            sealed = keyring.seal({"n": number}, body, media_type="text/plain", **place)
            if unseal(keyring, sealed, **place) != ({"n": number}, body):
                failures.append(place["id"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


# What it is bound to.


def test_a_label_cannot_be_changed() -> None:
    sealed = KEYRINGS["sealed"].seal({}, b"", label=b"Save", **PLACE)

    with pytest.raises(EnvelopeError, match="not the request expected here"):
        unseal(KEYRINGS["sealed"], sealed.replace(b"Save", b"Drop"))


def test_a_label_of_more_than_65535_bytes_is_refused() -> None:
    KEYRINGS["plain"].seal({}, b"", label=b"x" * 65_535, **PLACE)

    with pytest.raises(ValueError, match="65535"):
        KEYRINGS["plain"].seal({}, b"", label=b"x" * 65_536, **PLACE)


def test_an_unknown_purpose_is_a_mistake_of_the_caller() -> None:
    sealed = KEYRINGS["plain"].seal({}, b"", **PLACE)

    with pytest.raises(ValueError, match="purpose must be one of"):
        KEYRINGS["plain"].seal({}, b"", purpose="gift", queue="app", id="1")
    with pytest.raises(ValueError, match="purpose must be one of"):
        unseal(KEYRINGS["plain"], sealed, purpose="gift")


def test_a_head_that_is_not_json_is_refused_when_sealed() -> None:
    with pytest.raises(TypeError):
        KEYRINGS["plain"].seal({"a": {1, 2}}, b"", **PLACE)


def test_a_head_must_be_an_object() -> None:
    sealed = KEYRINGS["plain"].seal([1, 2], b"", **PLACE)  # type: ignore[arg-type]

    with pytest.raises(EnvelopeError, match="head of the envelope is not JSON"):
        unseal(KEYRINGS["plain"], sealed)


def test_a_head_nested_too_deeply_is_an_envelope_error(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"
    monkeypatch.setattr("orjson.dumps", lambda head: deep)
    sealed = KEYRINGS["sealed"].seal({}, b"", **PLACE)

    with pytest.raises(EnvelopeError, match="head of the envelope is not JSON"):
        unseal(KEYRINGS["sealed"], sealed)


def test_an_envelope_of_a_newer_format_says_so() -> None:
    sealed = KEYRINGS["plain"].seal({}, b"", **PLACE)

    with pytest.raises(EnvelopeError, match="newer"):
        unseal(KEYRINGS["plain"], sealed[:2] + b"\x02" + sealed[3:])


def test_an_error_carries_no_byte_of_the_envelope() -> None:
    sealed = KEYRINGS["plain"].seal({"token": "CANARY"}, b"CANARY" * 200, **PLACE)
    broken = [
        sealed[:-1] + b"!",
        sealed.replace(b'{"token"', b'{"token'),
        sealed.replace(b"app", b"opp"),
    ]

    for damaged in broken:
        with pytest.raises(EnvelopeError) as raised:
            unseal(KEYRINGS["plain"], damaged, max_body_bytes=10)
        assert "CANARY" not in repr(raised.value)
        assert raised.value.__context__ is None or "CANARY" not in repr(
            vars(raised.value.__context__)
        )


# Keys.


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals() -> None:
    old, new = Keyring([KEY]), Keyring([OTHER_KEY, KEY])

    assert unseal(new, old.seal({"a": 1}, b"", **PLACE)) == ({"a": 1}, b"")
    with pytest.raises(EnvelopeError):
        unseal(old, new.seal({}, b"", **PLACE))


@pytest.mark.parametrize("reader", [Keyring([OTHER_KEY]), Keyring(), KEYRINGS["custom"]])
def test_an_unknown_key_is_named(reader: Keyring) -> None:
    sealed = Keyring([KEY]).seal({}, b"", **PLACE)

    with pytest.raises(EnvelopeError, match="not configured here") as raised:
        unseal(reader, sealed)

    assert raised.value.key_id == key_id(KEY).hex()
    assert key_id(KEY).hex() in str(raised.value)


def test_a_plain_envelope_is_taken_while_the_keys_are_rolled_out() -> None:
    sealed = Keyring().seal({"a": 1}, b"", **PLACE)

    assert unseal(Keyring([KEY], accept_plaintext=True), sealed) == ({"a": 1}, b"")
    with pytest.raises(EnvelopeError, match="accept_plaintext"):
        unseal(Keyring([KEY]), sealed)


def test_the_settings_say_how_it_seals() -> None:
    key = generate_key()
    one = Keyring.from_settings(Settings(encryption_key=key))
    two = Keyring.from_settings(Settings(encryption_key=(generate_key(), key)))
    lenient = Keyring.from_settings(Settings(encryption_key=key, accept_plaintext=True))

    assert unseal(two, one.seal({"a": 1}, b"", **PLACE)) == ({"a": 1}, b"")
    assert unseal(lenient, Keyring().seal({"a": 1}, b"", **PLACE)) == ({"a": 1}, b"")
    assert not Keyring.from_settings(Settings()).seals


def test_two_keys_of_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huey_patient.keys.key_id", lambda key: b"same")

    assert Keyring([KEY, KEY]).seals
    with pytest.raises(ConfigurationError, match="same id"):
        Keyring([KEY, OTHER_KEY])


# Ciphers of the application's own.


@pytest.mark.parametrize("cipher", [reverse, f"{HERE}:reverse"])
def test_a_cipher_of_the_application_is_used_instead(cipher: Any) -> None:
    keyring = Keyring.from_settings(Settings(encryption=cipher, decryption=cipher))

    sealed = keyring.seal({"name": "value"}, b"body", label=b"label", **PLACE)

    assert b"ydob" in sealed
    assert read_label(sealed) == b"label"
    assert unseal(keyring, sealed) == ({"name": "value"}, b"body")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reverse", "must look like"),
        (":reverse", "must look like"),
        ("no_such_module:reverse", "cannot be imported"),
        (f"{HERE}:no_such_function", "cannot be imported"),
        (f"{HERE}:NOT_CALLABLE", "must be callable"),
    ],
)
def test_a_cipher_that_is_not_there_is_a_configuration_error(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Keyring.from_settings(Settings(encryption=name, decryption=name))


def test_an_error_in_decryption_is_an_envelope_error_that_names_it() -> None:
    keyring = Keyring(functions=(reverse, failing))

    with pytest.raises(EnvelopeError, match="ZeroDivisionError") as raised:
        unseal(keyring, keyring.seal({}, b"body", **PLACE))

    assert "could not open" not in str(raised.value)


def test_a_cipher_that_makes_something_else_of_bytes_is_refused() -> None:
    wrong: Any = as_text
    with pytest.raises(ConfigurationError, match="encryption returned str"):
        Keyring(functions=(wrong, reverse)).seal({}, b"", **PLACE)

    keyring = Keyring(functions=(reverse, wrong))
    with pytest.raises(EnvelopeError, match="decryption returned str"):
        unseal(keyring, keyring.seal({}, b"", **PLACE))


def test_without_a_decryption_function_its_envelope_stays_closed() -> None:
    sealed = KEYRINGS["custom"].seal({}, b"", **PLACE)

    for keyring in (Keyring(), Keyring([KEY])):
        with pytest.raises(EnvelopeError, match="none is configured"):
            unseal(keyring, sealed)


# What the I/O process is given.


def test_the_io_process_derives_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(encryption_key=("a long enough passphrase", generate_key()), retries=7)
    keyring = Keyring.from_settings(settings)
    given_ = keyring.for_child(settings)
    monkeypatch.setattr("nacl.pwhash.argon2id.kdf", pytest.fail)

    child = Keyring.from_settings(given_)

    assert unseal(child, keyring.seal({"a": 1}, b"", **PLACE)) == ({"a": 1}, b"")
    assert unseal(keyring, child.seal({"a": 1}, b"", **PLACE)) == ({"a": 1}, b"")
    assert given_.retries == 7


def test_the_io_process_gets_ciphers_by_name() -> None:
    settings = Settings(encryption=reverse, decryption=f"{HERE}:reverse")

    given_ = Keyring.from_settings(settings).for_child(settings)

    assert given_.encryption == given_.decryption == f"{HERE}:reverse"
    assert given_.encryption_key is None


@pytest.mark.parametrize("cipher", [lambda text: text, b"".join, functools.partial(reverse)])
def test_a_cipher_that_the_io_process_cannot_import_is_refused(cipher: Any) -> None:
    settings = Settings(encryption=cipher, decryption=cipher)
    keyring = Keyring.from_settings(settings)

    with pytest.raises(ConfigurationError, match="function of a module"):
        keyring.for_child(settings)


# Compression.


def size(body: bytes, media_type: str | None) -> int:
    return len(Keyring().seal({}, body, media_type=media_type, **PLACE))


TEXT = json.dumps([{"name": f"item {number}", "price": number} for number in range(200)]).encode()
NOISE = os.urandom(4096)


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "TEXT/HTML; charset=utf-8",
        "application/json",
        "application/vnd.api+json",
        "application/xml",
        "image/svg+xml",
        "application/javascript",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "nonsense",
        "",
        None,
    ],
)
def test_text_is_compressed(media_type: str | None) -> None:
    assert size(TEXT, media_type) < len(TEXT) / 3


@pytest.mark.parametrize(
    "media_type", ["image/png", "video/mp4", "application/zip", "application/gzip", "font/woff2"]
)
def test_formats_that_compress_themselves_are_left_alone(media_type: str) -> None:
    assert size(TEXT, media_type) > len(TEXT)


def test_what_is_not_text_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstandard.ZstdCompressor", pytest.fail)

    assert size(NOISE, None) > len(NOISE)
    assert size(NOISE, "application/octet-stream") > len(NOISE)


def test_compression_is_kept_only_when_it_saves_something() -> None:
    assert compression.pack(NOISE, "text/plain", 3) == (compression.RAW, NOISE)


def test_small_bodies_are_left_alone() -> None:
    assert compression.pack(b"a" * 512, "text/plain", 3)[0] == compression.RAW
    assert compression.pack(b"a" * 513, "text/plain", 3)[0] == compression.ZSTD


@pytest.mark.parametrize("body", [TEXT, NOISE], ids=["compressed", "raw"])
def test_a_body_may_be_exactly_as_large_as_allowed(body: bytes) -> None:
    sealed = KEYRINGS["sealed"].seal({}, body, media_type="text/plain", **PLACE)

    assert unseal(KEYRINGS["sealed"], sealed, max_body_bytes=len(body)) == ({}, body)
    with pytest.raises(EnvelopeError, match=f"at most {len(body) - 1} are taken"):
        unseal(KEYRINGS["sealed"], sealed, max_body_bytes=len(body) - 1)


def test_the_level_of_the_settings_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []

    def pack(body: bytes, media_type: str | None, level: int) -> tuple[int, bytes]:
        levels.append(level)
        return compression.RAW, body

    monkeypatch.setattr(compression, "pack", pack)
    Keyring.from_settings(Settings(compression_level=19)).seal({}, TEXT, **PLACE)

    assert levels == [19]


def test_heads_are_compact_json() -> None:
    head = {"method": "GET", "headers": [["A", "b"]]}

    assert orjson.dumps(head) in Keyring().seal(head, b"", **PLACE)


@pytest.mark.parametrize(
    ("versions_later", "newer"), [(0, False), (1, True), (200, True), (-1, False)]
)
def test_an_envelope_tells_whether_it_takes_a_newer_version_to_open_it(versions_later, newer):
    sealed = bytearray(Keyring([KEY]).seal({}, b"", **PLACE))
    sealed[2] += versions_later

    assert is_newer(bytes(sealed)) is newer


@pytest.mark.parametrize("damaged", [b"", b"H", b"HP", b"PH\x02 and more"])
def test_what_is_no_envelope_is_not_of_a_newer_version(damaged):
    assert not is_newer(damaged)
