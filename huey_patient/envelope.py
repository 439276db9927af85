"""Envelopes: how a request or an outcome is made unreadable, and bound to its place.

    clear     magic | version | kind | key id | length of the label | label
    sealed    lengths | context | head (JSON) | body (raw, or a zstandard frame)

The sealed part is nonce and ciphertext of NaCl's secretbox; with ciphers of the
application's own it is whatever they make of it; in plain mode it stands as it
is.  Everything is bytes all the way: Huey's queue holds bytes.

The *context* says what the envelope is (its purpose), where it belongs (the
queue, the request id), and repeats the whole clear part.  It is compared after
opening, so an envelope that was moved to another request, queue or purpose, or
whose label was changed, is refused although its tag is right.

Compression comes before sealing, so the length of an envelope tells a little
about how repetitive a body is.  That is of use only to somebody who can add
text of his own beside a secret, many times over, and watch the sizes; secrets
are references and never stand in an envelope.

This module never pickles and never unpickles.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any

import orjson
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from . import ciphers, compression, keys
from .errors import ConfigurationError, EnvelopeError
from .settings import Settings

__all__ = ["PURPOSES", "Keyring", "is_newer", "read_label"]

#: What an envelope may hold: a request on its way out, an outcome on its way
#: back, a value that Huey stores, and where one of the first two lies when it
#: lies outside of the database.
PURPOSES = ("request", "outcome", "value", "reference to a request", "reference to an outcome")

_MAGIC = b"HP"
_VERSION = 1
_PLAIN, _SEALED, _CUSTOM = 0, 1, 2
_NO_KEY = bytes(4)

#: Magic, version, kind, key id, length of the label.
_CLEAR = struct.Struct(">2sBB4sH")
#: Lengths of the context and of the head, coding of the body.
_INNER = struct.Struct(">IIB")
_MAX_LABEL_BYTES = 0xFFFF


@dataclasses.dataclass(frozen=True, slots=True)
class _Envelope:
    """An envelope taken apart, not yet opened."""

    kind: int
    key_id: bytes
    clear: bytes
    text: bytes

    @property
    def label(self) -> bytes:
        return self.clear[_CLEAR.size :]

    def error(self, reason: str) -> EnvelopeError:
        return EnvelopeError(reason, self.key_id.hex() if self.kind == _SEALED else None)


class Keyring:
    """Seals and unseals.  One per process and `Settings`; any thread may use it.

    The first key seals, all of them open.  A keyring that seals refuses plain
    envelopes unless it was told to accept them.
    """

    def __init__(
        self,
        raw_keys: Sequence[bytes] = (),
        *,
        functions: tuple[ciphers.Function, ciphers.Function] | None = None,
        accept_plaintext: bool = False,
        compression_level: int = 3,
    ) -> None:
        self._boxes = {keys.key_id(key): SecretBox(key) for key in raw_keys}
        if len(self._boxes) < len(set(raw_keys)):
            raise ConfigurationError("two different keys have the same id; replace one of them")
        self._first = keys.key_id(raw_keys[0]) if raw_keys else _NO_KEY
        self._functions = functions
        self._kind = _CUSTOM if functions else _SEALED if raw_keys else _PLAIN
        self._accept_plaintext = accept_plaintext
        self._compression_level = compression_level

    @classmethod
    def from_settings(cls, settings: Settings) -> Keyring:
        """Read the keys of ``settings``, or import its ciphers, once.

        Takes 60 ms for each passphrase that this process has not seen before.

        Raises:
            ConfigurationError: No key, or no function of that name.
        """
        return cls(
            keys.configured(settings),
            functions=ciphers.configured(settings),
            accept_plaintext=settings.accept_plaintext,
            compression_level=settings.compression_level,
        )

    @property
    def is_custom(self) -> bool:
        """Whether it calls functions of the application, which may take their time."""
        return self._functions is not None

    @property
    def seals(self) -> bool:
        """Whether what it makes is unreadable without a key; False in plain mode."""
        return self._kind != _PLAIN

    def for_child(self, settings: Settings) -> Settings:
        """``settings`` as the I/O process needs them: nothing is derived there again.

        Passphrases become the keys derived from them, and functions their
        names, which the I/O process imports.  It is told of no payload store.

        Raises:
            ConfigurationError: ``encryption`` or ``decryption`` cannot be found
                again by name (a lambda, a method, a function in a function).
        """
        written = tuple(keys.key_text(key) for key in keys.configured(settings)) or None
        return dataclasses.replace(
            settings,
            encryption_key=written,
            payload_store=None,
            encryption=ciphers.name_of("encryption", settings.encryption),
            decryption=ciphers.name_of("decryption", settings.decryption),
        )

    def seal(
        self,
        head: dict[str, Any],
        body: bytes,
        *,
        purpose: str,
        queue: str,
        id: str,
        label: bytes = b"",
        media_type: str | None = None,
    ) -> bytes:
        """Return an envelope that opens for this purpose, queue and id alone.

        Args:
            label: Stays readable without a key, but cannot be changed.
            media_type: Of the body; decides whether compressing it is tried.

        Raises:
            EnvelopeError: The application's ``encryption`` raised something;
                trying again may help.
            ConfigurationError: It returned something else than bytes.
            TypeError: ``head`` holds what JSON cannot express.
            ValueError: An unknown purpose, or a label of more than 65,535 bytes.
        """
        if len(label) > _MAX_LABEL_BYTES:
            raise ValueError(f"a label has at most {_MAX_LABEL_BYTES} bytes, got {len(label)}")
        clear = self._clear(label)
        context = _context(clear, purpose, queue, id)
        encoded = orjson.dumps(head)
        coding, packed = compression.pack(body, media_type, self._compression_level)
        lengths = _INNER.pack(len(context), len(encoded), coding)
        return clear + self._encrypted(b"".join((lengths, context, encoded, packed)))

    def unseal(
        self, sealed: bytes, *, purpose: str, queue: str, id: str, max_body_bytes: int
    ) -> tuple[dict[str, Any], bytes]:
        """Return the head and the body that were sealed for this purpose, queue and id.

        No body larger than ``max_body_bytes`` is allocated, whatever the
        envelope says of itself.

        Raises:
            EnvelopeError: It is damaged, belongs elsewhere, or was sealed with
                a key that is not here.  Trying again does not help.
        """
        envelope = _taken_apart(sealed)
        head_bytes, coding, rest = self._checked(envelope, purpose, queue, id)
        try:
            body = compression.unpack(coding, rest[head_bytes:], max_body_bytes)
        except EnvelopeError as error:
            raise envelope.error(error.reason) from None
        try:
            head = orjson.loads(rest[:head_bytes])
        except orjson.JSONDecodeError:
            head = None
        # Raised here and not above: that exception holds the document it read.
        if not isinstance(head, dict):
            raise envelope.error("the head of the envelope is not JSON")
        return head, body

    def reseal(self, sealed: bytes, *, purpose: str, queue: str, id: str) -> bytes:
        """Return ``sealed`` as this keyring seals now; the same bytes if it is so already.

        Raises:
            EnvelopeError: As `unseal` does.
        """
        envelope = _taken_apart(sealed)
        if (envelope.kind, envelope.key_id) == (self._kind, self._first):
            return bytes(sealed)
        head_bytes, coding, rest = self._checked(envelope, purpose, queue, id)
        clear = self._clear(envelope.label)
        context = _context(clear, purpose, queue, id)
        lengths = _INNER.pack(len(context), head_bytes, coding)
        return clear + self._encrypted(lengths + context + rest)

    def _clear(self, label: bytes) -> bytes:
        return _CLEAR.pack(_MAGIC, _VERSION, self._kind, self._first, len(label)) + label

    def _checked(
        self, envelope: _Envelope, purpose: str, queue: str, id: str
    ) -> tuple[int, int, bytes]:
        """Decrypt, and compare the context; return the length of the head, the coding
        of the body, and both of them."""
        inner = self._decrypted(envelope)
        if len(inner) < _INNER.size:
            raise envelope.error("the envelope is cut off")
        context_bytes, head_bytes, coding = _INNER.unpack_from(inner)
        head_at = _INNER.size + context_bytes
        if head_at + head_bytes > len(inner):
            raise envelope.error("the envelope is cut off")
        if inner[_INNER.size : head_at] != _context(envelope.clear, purpose, queue, id):
            raise envelope.error(f"the envelope is not the {purpose} expected here")
        return head_bytes, coding, inner[head_at:]

    def _encrypted(self, inner: bytes) -> bytes:
        if self._functions is not None:
            return self._sealed_by_function(inner)
        # The nonce is secretbox's own business: 24 random bytes, new each time.
        return self._boxes[self._first].encrypt(inner) if self._boxes else inner

    def _sealed_by_function(self, inner: bytes) -> bytes:
        assert self._functions is not None
        try:
            text = self._functions[0](inner)
        except Exception as reason:
            # As in decryption: the message may hold what was to be sealed.
            raise EnvelopeError(f"encryption failed ({type(reason).__name__})") from None
        if not isinstance(text, bytes):
            raise ConfigurationError(f"encryption returned {type(text).__name__}, not bytes")
        return text

    def _decrypted(self, envelope: _Envelope) -> bytes:
        if envelope.kind == _SEALED:
            return self._opened(envelope)
        if envelope.kind == _CUSTOM:
            return self._opened_by_function(envelope)
        if self.seals and not self._accept_plaintext:
            raise envelope.error("the envelope is not sealed, and accept_plaintext is not set")
        return envelope.text

    def _opened(self, envelope: _Envelope) -> bytes:
        # The id chooses: trying every key would make each forgery cost as many.
        box = self._boxes.get(envelope.key_id)
        if box is None:
            raise envelope.error("the envelope was sealed with a key that is not configured here")
        try:
            return box.decrypt(envelope.text)
        except CryptoError:
            raise envelope.error("the envelope is damaged or forged") from None

    def _opened_by_function(self, envelope: _Envelope) -> bytes:
        if self._functions is None:
            raise envelope.error("the envelope needs a decryption function; none is configured")
        try:
            inner = self._functions[1](envelope.text)
        except Exception as reason:
            # The function is the application's: it may raise anything, and put
            # what it was given into the message.
            raise envelope.error(f"decryption failed ({type(reason).__name__})") from None
        if not isinstance(inner, bytes):
            raise envelope.error(f"decryption returned {type(inner).__name__}, not bytes")
        return inner


def read_label(sealed: bytes) -> bytes:
    """Return the label of an envelope; takes no key, and so proves nothing.

    Raises:
        EnvelopeError: The clear part is not readable.
    """
    return _taken_apart(sealed).label


def is_newer(sealed: bytes) -> bool:
    """Whether an envelope says to be of a version after this one; proves nothing."""
    return sealed.startswith(_MAGIC) and sealed[len(_MAGIC) : len(_MAGIC) + 1] > bytes([_VERSION])


def _taken_apart(sealed: Any) -> _Envelope:
    # Any, because it may come from a message that anybody could have queued.
    if not isinstance(sealed, (bytes, bytearray, memoryview)):
        raise EnvelopeError(f"an envelope is bytes, got {type(sealed).__name__}")
    sealed = bytes(sealed)
    if not sealed.startswith(_MAGIC):
        raise EnvelopeError("these bytes are no envelope")
    if len(sealed) < _CLEAR.size:
        raise EnvelopeError("the envelope is cut off")
    _, version, kind, key_id, label_bytes = _CLEAR.unpack_from(sealed)
    if version != _VERSION or kind not in (_PLAIN, _SEALED, _CUSTOM):
        raise EnvelopeError(
            f"the envelope has version {version} and kind {kind}, which this version of "
            "huey_patient does not know; was it written by a newer one?"
        )
    text_at = _CLEAR.size + label_bytes
    if text_at > len(sealed):
        raise EnvelopeError("the envelope is cut off")
    return _Envelope(kind, key_id, sealed[:text_at], sealed[text_at:])


def _context(clear: bytes, purpose: str, queue: str, id: str) -> bytes:
    """What an envelope is bound to; no two of them are the same bytes."""
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    names = [name.encode(errors="surrogatepass") for name in (purpose, queue, id)]
    # Each part after its own length: a queue "a" and id "bc" are not "ab", "c".
    return b"".join(len(part).to_bytes(4, "big") + part for part in (clear, *names))
