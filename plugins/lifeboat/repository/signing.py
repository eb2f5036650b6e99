"""Ed25519 signatures (RFC 8032) over manifests and events, and the trust in the keys that made them.

Trusted keys come from the policy or the recovery kit and are never taken from a target: whoever can write there could
bring a key of his own.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lifeboat.errors import ConnectionUnknown, KeyUnavailable, ManifestInvalid
from lifeboat.outside import Outside
from lifeboat.policy.signing import SigningPolicy

ALGORITHM = "Ed25519"
RAW_PUBLIC_KEY_BYTES = 32
LARGEST_SIGNATURE_BYTES = 64 * 1024


class TrustedKeyData(Protocol):
    """What a policy or a kit says of a public key."""

    @property
    def id(self) -> str: ...
    @property
    def public_key(self) -> str: ...
    @property
    def valid_from(self) -> datetime: ...
    @property
    def valid_until(self) -> datetime | None: ...


@dataclass(frozen=True)
class Signer:
    """Signs with one private key, known to readers as ``key_id``; they believe it from ``valid_from`` on, and no more
    from ``valid_until`` on."""

    key_id: str
    _key: Ed25519PrivateKey = field(repr=False)
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def insist_on_validity(self, moment: datetime) -> None:
        """Insist on what is signed at ``moment`` being believed.

        Raises:
            KeyUnavailable: the policy gives the key another time.
        """
        too_early = self.valid_from is not None and moment < self.valid_from
        if too_early or (self.valid_until is not None and moment >= self.valid_until):
            raise KeyUnavailable(
                f"The signing key {self.key_id!r} is not valid at {moment.isoformat()}: nobody would believe what it "
                "signs.",
                "Extend valid_until under signing.trusted, or sign with a newer key.",
            )

    def sign(self, data: bytes) -> str:
        """The signature in base64."""
        return base64.b64encode(self._key.sign(data)).decode("ascii")

    def signature_file(self, data: bytes) -> bytes:
        """A detached signature as a small JSON object."""
        document = {"algorithm": ALGORITHM, "key_id": self.key_id, "signature": self.sign(data)}
        return json.dumps(document, indent=2).encode() + b"\n"


@dataclass(frozen=True)
class _Key:
    key: Ed25519PublicKey
    valid_from: datetime
    valid_until: datetime | None


class TrustedKeys:
    """The public keys that may have signed, each with the time in which it could."""

    def __init__(self, keys: Iterable[TrustedKeyData]) -> None:
        self._keys: dict[str, _Key] = {}
        for key in keys:
            raw = base64.b64decode(key.public_key, validate=True)
            self._keys[key.id] = _Key(Ed25519PublicKey.from_public_bytes(raw), key.valid_from, key.valid_until)

    def verify(self, data: bytes, *, key_id: str, signature: str, signed: datetime, what: str) -> None:
        """Insist on ``data`` having been signed by a trusted key that was valid then.

        Args:
            signed: when the signed text says it was made.
            what: what is verified, for the error.

        Raises:
            ManifestInvalid: the key is not trusted, was not valid then, or has not signed this.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise ManifestInvalid(
                f"{what} is signed by the key {key_id!r}, which the policy does not trust.",
                "If the key is yours, add its public half under signing.trusted; if not, somebody else wrote this.",
            )
        if signed < key.valid_from or (key.valid_until is not None and signed >= key.valid_until):
            raise ManifestInvalid(
                f"{what} is of {signed.isoformat()}, when the key {key_id!r} was not valid.",
                "Compare the validity under signing.trusted with the day on which the key was changed.",
            )
        try:
            raw = base64.b64decode(signature, validate=True)
            key.key.verify(raw, data)
            # Base64 ends in bits that mean nothing: they could be changed and the signature still hold.
            genuine = base64.b64encode(raw).decode() == signature
        except (InvalidSignature, binascii.Error, ValueError):
            genuine = False
        if not genuine:
            raise ManifestInvalid(
                f"{what} was changed after it was signed, or was never signed by {key_id!r}.",
                "Do not restore from this copy; compare it with the other targets' copies.",
            )

    def verify_file(self, data: bytes, signature_file: bytes, *, signed: datetime, what: str) -> None:
        """The same, with a detached signature as :meth:`Signer.signature_file` writes it.

        Raises:
            ManifestInvalid: as :meth:`verify`, or the signature file can't be read.
        """
        try:
            document = json.loads(signature_file)
            algorithm, key_id, signature = document["algorithm"], document["key_id"], document["signature"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ManifestInvalid(f"The signature of {what} can't be read.", "Compare the other targets.") from None
        if algorithm != ALGORITHM:
            raise ManifestInvalid(
                f"{what} is signed with {algorithm!r}; only {ALGORITHM} is known.", "Update Lifeboat."
            )
        self.verify(data, key_id=str(key_id), signature=str(signature), signed=signed, what=what)


def signer_of(policy: SigningPolicy, outside: Outside) -> Signer:
    """The signer that a policy names; its private key comes from a file or from a connection's password (PEM).

    Raises:
        KeyUnavailable: the key is not there, is no Ed25519 private key, or is not the one that the policy trusts.
    """
    place = str(policy.key.file) if policy.key.file is not None else f"connection {policy.key.connection}"
    try:
        if policy.key.file is not None:
            pem = policy.key.file.read_bytes()
        else:
            pem = (outside.connection(str(policy.key.connection)).password or "").encode()
        key = serialization.load_pem_private_key(pem, password=None)
    except ConnectionUnknown as error:
        raise KeyUnavailable(f"The signing key is missing: {error.what}", error.remedy) from error
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnavailable(
            f"The signing key can't be read from {place}: {type(error).__name__}.",
            "Give an Ed25519 private key in PEM; `lifeboat key new --signing` makes one.",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnavailable(f"{place} holds no Ed25519 private key.", "Make one with `lifeboat key new --signing`.")
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    trusted = {trusted.id: trusted.public_key for trusted in policy.trusted}
    if base64.b64decode(trusted.get(policy.key_id, "")) != raw:
        raise KeyUnavailable(
            f"The signing key in {place} is not the one that the policy trusts as {policy.key_id!r}.",
            "Nobody could verify what it signs: add its public half under signing.trusted with an id of its own, and "
            "name that id in signing.key_id.",
        )
    (own,) = (trusted for trusted in policy.trusted if trusted.id == policy.key_id)
    return Signer(policy.key_id, key, own.valid_from, own.valid_until)
