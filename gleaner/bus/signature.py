"""Ed25519 signatures over exact bytes: who may wish for runs is proven, not believed.

A scheduler key is 32 random bytes in a file that only its owner may read; nodes pin the public
key as `<id>:<base64>`. A key is never learned from the bus. PyNaCl (libsodium) does the work:
about 40 µs to sign and 50 µs to verify.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from pathlib import Path
from typing import TypeVar

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from pydantic import ValidationError

from gleaner.bus.codec import first_mistake
from gleaner.bus.message import Value

V = TypeVar("V", bound=Value)


class SignatureRefused(Exception):
    """A signed body that must not be obeyed; the text says why."""


class Signer:
    """Signs with one private key."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public = public_key(bytes(self._key.verify_key))
        """`<id>:<base64>`, what nodes pin."""

    @property
    def key_id(self) -> str:
        """The short name of the key."""
        return self.public.partition(":")[0]

    def sign(self, body: Value) -> dict[str, str]:
        """Return `body`, `key` and `signature` of a signed message."""
        text = body.model_dump_json()
        signature = base64.b64encode(self._key.sign(text.encode()).signature).decode()
        return {"body": text, "key": self.key_id, "signature": signature}


class Verifier:
    """Knows the public keys that may be obeyed."""

    def __init__(self, public_keys: list[str]) -> None:
        self._keys = dict(parse_public_key(key) for key in public_keys)

    def verify(self, body_type: type[V], body: str, key: str, signature: str) -> V:
        """Return the signed body, or raise SignatureRefused."""
        verify_key = self._keys.get(key)
        if verify_key is None:
            raise SignatureRefused(f"key {key} is not one that this node obeys")
        try:
            verify_key.verify(body.encode(), base64.b64decode(signature, validate=True))
        except (BadSignatureError, binascii.Error, ValueError, TypeError) as error:
            raise SignatureRefused(f"the signature is not that of key {key}") from error
        try:
            return body_type.model_validate_json(body)
        except ValidationError as error:
            raise SignatureRefused(f"signed, but unreadable: {first_mistake(error)}") from error


def public_key(raw: bytes) -> str:
    """Return `<id>:<base64>` of a raw public key."""
    return f"{hashlib.sha256(raw).hexdigest()[:12]}:{base64.b64encode(raw).decode()}"


def parse_public_key(text: str) -> tuple[str, VerifyKey]:
    """Return id and key of `<id>:<base64>`; raise ValueError that quotes what is wrong."""
    name, _, encoded = text.strip().partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
        key = VerifyKey(raw)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ValueError(f"{text!r} is no public key (`<id>:<base64>`)") from error
    if public_key(raw).partition(":")[0] != name:
        raise ValueError(f"{text!r}: the id does not belong to the key")
    return name, key


def _make_key(path: Path) -> None:
    """Make a key file as a whole or not at all: half of one would be refused for ever."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename it leaves alone what somebody else made in the meantime.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_or_make_key(path: Path) -> Signer:
    """Return the signer of a key file; make it, and its `.pub` beside it, if it is missing.

    Raise ValueError for a file that is no key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_key(path)
    seed = path.read_bytes()
    if len(seed) != 32:
        raise ValueError(f"{path}: {len(seed)} bytes are no key; remove it and a new one is made")
    signer = Signer(seed)
    public, text = path.with_suffix(".pub"), signer.public + "\n"
    if not public.exists() or public.read_text() != text:
        public.write_text(text)
    return signer
