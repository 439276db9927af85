"""References: bound to their place, checked against their object, small."""

from __future__ import annotations

import os
from typing import Any

import pytest

from huey_patient.envelope import Keyring, read_label
from huey_patient.errors import EnvelopeError, PayloadLost, StoreUnavailable
from huey_patient.keys import generate_key, parse_key
from huey_patient.label import Label
from huey_patient.payloads import PayloadStore, made_at, new_key
from huey_patient.references import About, References

KEY, OTHER = parse_key(generate_key()), parse_key(generate_key())
LABEL = Label(callback="app.Save", priority=3, secrets=("token",)).to_bytes()
HEAD = {"method": "GET", "url": "http://example.com/", "callback_args": {"n": 1}, "more": 1}
BODY = os.urandom(5000)


class Shelf(PayloadStore):
    """A payload store that a test can look into, and break."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failure: Exception | None = None
        self.swept: list[float] = []

    def put(self, key: str, data: bytes) -> None:
        self._fail()
        self.objects[key] = data

    def get(self, key: str) -> bytes | None:
        self._fail()
        return self.objects.get(key)

    def delete(self, key: str) -> None:
        self._fail()
        self.objects.pop(key, None)

    def sweep(self, older_than: float) -> int:
        self._fail()
        self.swept.append(older_than)
        return 2

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def references(keyring: Keyring, *, queue: str = "q", **stores: PayloadStore) -> References:
    made = References(keyring, queue=queue, threshold=1000, max_body_bytes=10**6)
    for name, store in stores.items():
        made.register(name, store)
    return made


@pytest.fixture(params=[True, False], ids=["with-a-key", "without-a-key"])
def keyring(request: pytest.FixtureRequest) -> Keyring:
    return Keyring([KEY] if request.param else [])


def sealed_by(keyring: Keyring, **changes: Any) -> bytes:
    place = {"purpose": "outcome", "queue": "q", "id": "r", "label": LABEL, **changes}
    return keyring.seal(HEAD, place.pop("body", BODY), **place)


def test_a_large_envelope_comes_back_as_it_was(keyring: Keyring, shelf: Shelf) -> None:
    refs = references(keyring, main=shelf)
    sealed = sealed_by(keyring)

    reference = refs.stow("r", sealed, "outcome")

    assert len(reference) < 700
    assert list(shelf.objects.values()) == [sealed]
    assert refs.is_reference(reference)
    assert not refs.is_reference(sealed)
    assert refs.fetch("r", reference, "outcome") == sealed


def test_a_small_envelope_and_one_without_a_store_stay_as_they_are(
    keyring: Keyring, shelf: Shelf
) -> None:
    small, large = sealed_by(keyring, body=b"x"), sealed_by(keyring)

    assert references(keyring, main=shelf).stow("r", small, "outcome") is small
    assert references(keyring).stow("r", large, "outcome") is large
    assert shelf.objects == {}
    assert references(keyring).fetch("r", large, "outcome") is large
    references(keyring, main=shelf).discard("r", large, "outcome")


def test_exactly_the_threshold_still_travels(keyring: Keyring, shelf: Shelf) -> None:
    refs = references(keyring, main=shelf)

    assert not refs.takes(b"x" * 1000)
    assert refs.takes(b"x" * 1001)


def test_the_label_is_that_of_the_envelope_with_one_word_more(shelf: Shelf) -> None:
    keyring = Keyring([KEY])
    label = b'{"callback":"app.Save","priority":3,"of a newer version":[1]}'

    reference = references(keyring, main=shelf).stow(
        "r", sealed_by(keyring, label=label), "outcome"
    )

    assert read_label(reference) == label[:-1] + b',"reference":true}'
    assert Label.from_bytes(read_label(reference)) == Label(callback="app.Save", priority=3)


def test_the_word_in_the_label_cannot_be_added_or_removed(shelf: Shelf) -> None:
    keyring = Keyring([KEY])
    refs = references(keyring, main=shelf)
    sealed = sealed_by(keyring)
    reference = refs.stow("r", sealed, "outcome")
    place = {"purpose": "outcome", "queue": "q", "id": "r", "max_body_bytes": 10**6}

    with pytest.raises(EnvelopeError):
        keyring.unseal(reference, **place)  # taken for what it stands for
    long = len(read_label(reference)).to_bytes(2, "big") + read_label(reference)
    short = len(LABEL).to_bytes(2, "big") + LABEL
    disguised = sealed.replace(short, long, 1)
    assert refs.is_reference(disguised)
    with pytest.raises(EnvelopeError):
        refs.fetch("r", disguised, "outcome")


def test_with_a_key_nothing_of_the_reference_can_be_read(shelf: Shelf) -> None:
    keyring = Keyring([KEY])

    reference = references(keyring, main=shelf).stow("r", sealed_by(keyring), "outcome")

    [key] = shelf.objects
    assert key.encode() not in reference
    assert b"example.com" not in reference
    assert b"main" not in reference


@pytest.mark.parametrize("change", [{"id": "s"}, {"purpose": "request"}, {"queue": "p"}], ids=str)
def test_a_reference_that_was_moved_is_refused(
    keyring: Keyring, shelf: Shelf, change: dict[str, str]
) -> None:
    reference = references(keyring, main=shelf).stow("r", sealed_by(keyring), "outcome")
    there = {"id": "r", "purpose": "outcome", "queue": "q", **change}
    refs = references(keyring, queue=there["queue"], main=shelf)

    with pytest.raises(EnvelopeError, match="not the reference to a"):
        refs.fetch(there["id"], reference, there["purpose"])


def lost(refs: References, reference: bytes) -> PayloadLost:
    with pytest.raises(PayloadLost) as caught:
        refs.fetch("r", reference, "outcome")
    return caught.value


def test_a_missing_object_is_lost_and_the_error_knows_what_was_asked(
    keyring: Keyring, shelf: Shelf
) -> None:
    refs = references(keyring, main=shelf)
    reference = refs.stow("r", sealed_by(keyring), "outcome")
    shelf.objects.clear()

    error = lost(refs, reference)

    assert error.kind == "payload"
    assert (error.request_id, error.method, error.url) == ("r", "GET", "http://example.com/")
    assert error.callback_args == {"n": 1}


def test_a_truncated_or_lengthened_object_is_lost(keyring: Keyring, shelf: Shelf) -> None:
    refs = references(keyring, main=shelf)
    reference = refs.stow("r", sealed_by(keyring), "outcome")
    [(key, whole)] = shelf.objects.items()

    for damaged in (b"", whole[:1], whole[:-1], whole + b"\0", whole[1:]):
        shelf.objects[key] = damaged
        assert "damaged" in str(lost(refs, reference))


def test_every_flipped_byte_is_noticed_with_a_key_and_without(
    keyring: Keyring, shelf: Shelf
) -> None:
    refs = references(keyring, main=shelf)
    reference = refs.stow("r", sealed_by(keyring, body=os.urandom(900)), "outcome")
    [(key, whole)] = shelf.objects.items()

    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        shelf.objects[key] = bytes(flipped)
        lost(refs, reference)


def test_swapped_objects_are_refused(keyring: Keyring, shelf: Shelf) -> None:
    """F2: the object of another request, and an older one of the same."""
    refs = references(keyring, main=shelf)
    mine = refs.stow("r", sealed_by(keyring), "outcome")
    other = refs.stow("s", sealed_by(keyring, id="s"), "outcome")
    older = refs.stow("r", sealed_by(keyring, body=BODY[::-1]), "outcome")
    first, second, third = shelf.objects

    objects = dict(shelf.objects)
    shelf.objects[first], shelf.objects[second] = objects[second], objects[first]
    lost(refs, mine)
    with pytest.raises(PayloadLost):
        refs.fetch("s", other, "outcome")
    shelf.objects[third] = objects[first]
    lost(refs, older)


@pytest.mark.parametrize(
    "failure",
    [OSError("disk"), PermissionError("no"), TimeoutError(), RuntimeError("500"), ValueError("x")],
    ids=lambda failure: type(failure).__name__,
)
def test_whatever_a_store_raises_means_not_now(
    keyring: Keyring, shelf: Shelf, failure: Exception
) -> None:
    refs = references(keyring, main=shelf)
    reference = refs.stow("r", sealed_by(keyring), "outcome")
    shelf.failure = failure

    for call in (
        lambda: refs.fetch("r", reference, "outcome"),
        lambda: refs.stow("r", sealed_by(keyring), "outcome"),
    ):
        with pytest.raises(StoreUnavailable, match="payload store 'main' failed") as caught:
            call()
        assert caught.value.__cause__ is failure


def test_the_text_of_a_foreign_error_is_one_line_and_not_endless(
    keyring: Keyring, shelf: Shelf
) -> None:
    """L1."""
    refs = references(keyring, main=shelf)
    shelf.failure = OSError("a\r\n\x1b[31m" + "b" * 10_000)

    with pytest.raises(StoreUnavailable) as caught:
        refs.stow("r", sealed_by(keyring), "outcome")

    assert len(str(caught.value).splitlines()) == 1
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_store_that_is_not_registered_here_is_waited_for(keyring: Keyring, shelf: Shelf) -> None:
    reference = references(keyring, main=shelf).stow("r", sealed_by(keyring), "outcome")

    with pytest.raises(StoreUnavailable, match="no payload store 'main' is registered"):
        references(keyring).fetch("r", reference, "outcome")


def test_a_reference_of_an_unknown_key_does_not_open(shelf: Shelf) -> None:
    ours, theirs = Keyring([KEY]), Keyring([OTHER])
    reference = references(ours, main=shelf).stow("r", sealed_by(ours), "outcome")

    with pytest.raises(EnvelopeError, match="not configured here"):
        references(theirs, main=shelf).fetch("r", reference, "outcome")


@pytest.mark.parametrize(
    "change",
    [
        {"key": "../../etc/passwd"},
        {"key": 7},
        {"key": None},
        {"size": "many"},
        {"size": None},
        {"callback_args": 7},
    ],
    ids=str,
)
def test_a_forged_reference_without_a_key_names_no_object(
    shelf: Shelf, change: dict[str, Any]
) -> None:
    plain = Keyring()
    head = {"store": "main", "key": new_key(), "size": 1, "digest": "", **change}
    head = {name: value for name, value in head.items() if value is not None}
    forged = plain.seal(
        head,
        b"",
        purpose="reference to an outcome",
        queue="q",
        id="r",
        label=b'{"callback":"x","reference":true}',
    )

    with pytest.raises(EnvelopeError, match="names no object"):
        references(plain, main=shelf).fetch("r", forged, "outcome")


def test_the_last_store_writes_and_all_are_read(keyring: Keyring) -> None:
    old, new = Shelf(), Shelf()
    before = references(keyring, old=old).stow("r", sealed_by(keyring), "outcome")
    refs = references(keyring, old=old, new=new)

    after = refs.stow("r", sealed_by(keyring), "outcome")

    assert len(old.objects) == len(new.objects) == 1
    assert refs.fetch("r", before, "outcome") in old.objects.values()
    assert refs.fetch("r", after, "outcome") in new.objects.values()
    refs.register("old", old)  # again: it is the last one now
    refs.stow("r", sealed_by(keyring), "outcome")
    assert len(old.objects) == 2


def test_an_object_is_deleted_by_its_reference_once_or_twice(
    keyring: Keyring, shelf: Shelf
) -> None:
    refs = references(keyring, main=shelf)
    reference = refs.stow("r", sealed_by(keyring), "outcome")

    refs.discard("r", reference, "outcome")
    refs.discard("r", reference, "outcome")

    assert shelf.objects == {}


def test_what_cannot_be_deleted_is_left_to_the_sweep(
    keyring: Keyring, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    refs = references(keyring, main=shelf)
    reference = refs.stow("r", sealed_by(keyring), "outcome")
    shelf.failure = OSError("away")

    refs.discard("r", reference, "outcome")
    refs.discard("another", reference, "outcome")

    assert caplog.text.count("is left to the sweep") == 2


def test_every_store_is_swept_although_one_fails(
    keyring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Shelf(), Shelf()
    bad.failure = OSError("away")

    references(keyring, bad=bad, good=good).sweep(5.0)

    assert good.swept == [5.0]
    assert "were not swept" in caplog.text


def test_an_object_ages_from_when_it_is_needed(keyring: Keyring, shelf: Shelf) -> None:
    refs = references(keyring, main=shelf)

    refs.stow("r", sealed_by(keyring), "outcome", due=4_000_000_000.0)
    refs.stow("r", sealed_by(keyring), "outcome", due=1.0)

    far, now = map(made_at, shelf.objects)
    assert far == 4_000_000_000
    assert 1_700_000_000 < now < far


def test_what_is_said_of_a_request_is_taken_from_the_caller_or_from_the_envelope(
    keyring: Keyring, shelf: Shelf
) -> None:
    refs = references(keyring, main=shelf)
    about = About(method="PUT", url="http://b/", callback_args={"n": 2})

    given = refs.stow("r", sealed_by(keyring), "outcome", about=about)
    read = refs.stow("r", sealed_by(keyring), "outcome")
    shelf.failure = OSError("nobody asks it")

    assert refs.about("r", given, "outcome") == about
    assert refs.about("r", read, "outcome").callback_args == {"n": 1}


def test_an_envelope_that_does_not_open_is_stowed_all_the_same(shelf: Shelf) -> None:
    theirs = sealed_by(Keyring([OTHER]))
    refs = references(Keyring([KEY]), main=shelf)

    reference = refs.stow("r", theirs, "outcome")

    assert refs.fetch("r", reference, "outcome") == theirs
    assert refs.about("r", reference, "outcome").callback_args == {}


def test_resealed_with_a_new_key_the_object_opens_without_the_old_one(shelf: Shelf) -> None:
    old, both, new = Keyring([OTHER]), Keyring([KEY, OTHER]), Keyring([KEY])
    reference = references(old, main=shelf).stow("r", sealed_by(old), "outcome", due=4e9)

    again = references(both, main=shelf).restow("r", reference, "outcome")

    found = references(new, main=shelf).fetch("r", again, "outcome")
    place = {"purpose": "outcome", "queue": "q", "id": "r", "max_body_bytes": 10**6}
    assert new.unseal(found, **place) == (HEAD, BODY)
    assert len(shelf.objects) == 2  # Somebody may just be reading the old one.
    assert {made_at(key) for key in shelf.objects} == {4_000_000_000}
    assert references(new, main=shelf).about("r", again, "outcome").callback_args == {"n": 1}


def test_bytes_that_are_no_envelope_are_no_reference(keyring: Keyring) -> None:
    for junk in (b"", b"HP", b"junk", sealed_by(keyring, label=b"no json")):
        assert not references(keyring).is_reference(junk)
