"""New keys: made by the ``cryptography`` library, handed out once, kept nowhere."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lifeboat.errors import KeyUnavailable

BREAK_GLASS_BITS = 4096


@dataclass(frozen=True)
class KeyPair:
    """A new pair. ``private`` is PEM; ``public`` is PEM for RSA, base64 of the raw 32 bytes for Ed25519."""

    private: str = field(repr=False)
    public: str


def new_local_key() -> str:
    """32 random bytes from the operating system, in base64."""
    return base64.b64encode(os.urandom(32)).decode("ascii")


def new_break_glass_pair() -> KeyPair:
    """An RSA pair; the private half belongs offline."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=BREAK_GLASS_BITS)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(_private_pem(key), public.decode("ascii"))


def new_signing_pair() -> KeyPair:
    """An Ed25519 pair for manifests and the journal."""
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return KeyPair(_private_pem(key), base64.b64encode(raw).decode("ascii"))


def write_secret(path: Path, text: str) -> None:
    """Write a secret to a new file that only its owner may read.

    Raises:
        KeyUnavailable: there is a file already, or it can't be made. A key is never overwritten.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyUnavailable(
            f"No key can be written to {path}: {error.strerror}.",
            "Name a file that does not exist yet: what an old key has sealed can be opened by that key alone.",
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text if text.endswith("\n") else text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _private_pem(key: rsa.RSAPrivateKey | Ed25519PrivateKey) -> str:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode("ascii")
