"""The outside of an envelope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huey_patient.errors import EnvelopeError
from huey_patient.label import Label, as_reference, is_reference

labels = st.builds(
    Label,
    callback=st.text(),
    priority=st.none() | st.integers(-100, 100) | st.floats(allow_nan=False, allow_infinity=False),
    secrets=st.lists(st.text(), max_size=3).map(tuple),
    never=st.booleans(),
)


@given(labels)
def test_a_label_comes_back_from_its_bytes(label: Label) -> None:
    assert Label.from_bytes(label.to_bytes()) == label


def test_what_is_left_at_its_default_takes_no_room() -> None:
    assert Label("Save").to_bytes() == b'{"callback":"Save"}'


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = b'{"callback":"Save","colour":"red","priority":3}'

    assert Label.from_bytes(newer) == Label("Save", priority=3)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"callback":7}',
        b'{"callback":"a","priority":"high"}',
        b'{"callback":"a","priority":true}',
        b'{"callback":"a","secrets":"one"}',
        b'{"callback":"a","secrets":[1]}',
        b'{"callback":"a","never":1}',
        b"[" * 5000,
    ],
)
def test_bytes_that_are_no_label_are_an_envelope_error(damaged: bytes) -> None:
    with pytest.raises(EnvelopeError, match="label"):
        Label.from_bytes(damaged)


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_else(damaged: bytes) -> None:
    try:
        Label.from_bytes(damaged)
    except EnvelopeError:
        pass


def test_a_label_of_a_reference_says_so_and_keeps_the_rest() -> None:
    label = b'{"callback":"app.Save","priority":2,"of a newer version":true}'

    marked = as_reference(label)

    assert is_reference(marked)
    assert not is_reference(label)
    assert Label.from_bytes(marked) == Label.from_bytes(label)
    assert b"of a newer version" in marked


@pytest.mark.parametrize("junk", [b"", b"[]", b"7", b"{", b'{"reference":1}', b"\xff"])
def test_what_is_no_label_is_none_of_a_reference(junk: bytes) -> None:
    assert not is_reference(junk)


def test_only_a_label_can_become_one_of_a_reference() -> None:
    with pytest.raises(EnvelopeError):
        as_reference(b"[]")
