"""Keys: how they may be written, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huey_patient import keys
from huey_patient.errors import ConfigurationError
from huey_patient.keys import generate_key, key_id, key_text, parse_key
from huey_patient.settings import Settings

KEY = bytes(range(200, 232))
PHRASE = "correct horse battery staple"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        base64.b64encode(KEY),
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode().rstrip("="),
        f"  {base64.b64encode(KEY).decode()}\n",
        KEY.hex(),
        KEY.hex().upper(),
        KEY.hex().encode() + b"\n",
    ],
    ids=repr,
)
def test_one_key_may_be_written_in_several_ways(written: str | bytes) -> None:
    assert parse_key(written) == KEY


random_keys = st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) >= 16)


@given(random_keys)
def test_every_key_reads_back_from_its_text(key: bytes) -> None:
    assert parse_key(key_text(key)) == key


def test_a_generated_key_is_a_key_and_new_each_time() -> None:
    made = {generate_key() for _ in range(100)}

    assert len(made) == 100
    assert all(parse_key(one) == base64.b64decode(one) for one in made)


def test_the_id_of_a_key_is_the_beginning_of_its_hash() -> None:
    assert key_id(KEY) == hashlib.blake2b(KEY).digest()[:4]


def test_a_passphrase_gives_the_same_key_in_every_process() -> None:
    # Written down: a change would lock every user of a passphrase out.
    assert (
        parse_key(PHRASE).hex()
        == "f7d783800678d58901d0d95128cb6eb5a48800d7e509101d7b541b9e1b7de8fe"
    )
    assert parse_key(PHRASE.encode()) == parse_key(f"{PHRASE}\n") == parse_key(PHRASE)


def test_a_passphrase_is_derived_once() -> None:
    parse_key("a passphrase of this test alone")

    before = time.perf_counter()
    for _ in range(50):
        parse_key("a passphrase of this test alone")

    assert time.perf_counter() - before < 1.0  # 50 derivations take 3 s


@pytest.mark.parametrize(
    "phrase",
    [
        "correct-horse-battery-staple-as-they-all-do",
        b"thirty-two characters of a phrase",
        "pässwörter sind auch nur wörter",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_text_that_is_no_key_is_a_passphrase(phrase: str | bytes) -> None:
    derived = parse_key(phrase)

    text = phrase if isinstance(phrase, str) else phrase.decode()
    assert derived == keys._derived(text)


@pytest.mark.parametrize("phrase", ["", "  \n", "secret", "elevenchars", b"tooshort", b""])
def test_a_short_passphrase_is_refused(phrase: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="shorter than 12 characters"):
        parse_key(phrase)


@pytest.mark.parametrize("length", [1, 16, 31, 33, 64])
def test_raw_bytes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ConfigurationError, match=f"a raw key has 32 bytes, got {length}"):
        parse_key(bytes(range(255, 255 - length, -1)))


@pytest.mark.parametrize(
    "written",
    [bytes(32), b"\xff\x00" * 16, "00" * 32, base64.b64encode(bytes(32)).decode(), "a" * 40],
)
def test_a_key_that_nobody_drew_is_refused(written: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="encryption_key repeats a few"):
        parse_key(written)


@pytest.mark.parametrize("written", [7, None, bytearray(KEY)])
def test_what_is_neither_bytes_nor_text_is_refused(written: object) -> None:
    with pytest.raises(ConfigurationError, match="a key is bytes or text"):
        parse_key(written)  # type: ignore[arg-type]


def test_a_refusal_does_not_show_the_key() -> None:
    for written in ("CANARY", b"CANARY\xff" * 3):
        with pytest.raises(ConfigurationError) as raised:
            parse_key(written)
        assert "CANARY" not in repr(raised.value)


def test_the_settings_hold_one_key_or_several_or_none() -> None:
    other = generate_key()

    assert keys.configured(Settings()) == ()
    assert keys.configured(Settings(encryption_key=KEY)) == (KEY,)
    assert keys.configured(Settings(encryption_key=(KEY.hex(), other))) == (KEY, parse_key(other))


def test_an_empty_list_of_keys_is_not_taken_for_plain_mode() -> None:
    with pytest.raises(ConfigurationError, match="empty list"):
        keys.configured(Settings(encryption_key=()))
