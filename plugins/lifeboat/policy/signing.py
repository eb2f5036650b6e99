"""Who signs manifests and the journal, and whose signatures are believed."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field, WithJsonSchema, model_validator

from lifeboat.policy.environment import ExpandedPath
from lifeboat.policy.part import ConnectionId, Part
from lifeboat.policy.problems import Refused


def _checked_ed25519(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise Refused(
            "A trusted key is the base64 of the 32 raw bytes of an Ed25519 public key.",
            "Print it: `openssl pkey -in signing.pem -pubout -outform DER | tail -c 32 | base64`.",
        )
    return text


Ed25519PublicKey = Annotated[
    str,
    AfterValidator(_checked_ed25519),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"}),
]
KeyId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


class SigningKey(Part):
    """Where the private key is: exactly one of the two."""

    file: ExpandedPath | None = None
    """The file with the Ed25519 private key in PEM. May hold `${NAME}` of the environment."""

    connection: ConnectionId | None = None
    """The connection whose password is the Ed25519 private key in PEM."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.connection is None):
            raise Refused("The signing key needs exactly one of `file` and `connection`.", "Keep one.")
        return self


class TrustedKey(Part):
    """A public key whose signatures are believed, for as long as is said."""

    id: KeyId
    """The id that signatures carry."""

    public_key: Ed25519PublicKey
    """The 32 raw bytes of the Ed25519 public key, in base64."""

    valid_from: AwareDatetime
    """Signatures made before are not believed; with its zone, `2026-01-01T00:00:00Z`."""

    valid_until: AwareDatetime | None = None
    """Signatures made from then on are not believed. Keep retired keys listed: old recovery points carry them."""

    def valid_at(self, moment: datetime) -> bool:
        """Whether a signature made at ``moment`` is believed."""
        return self.valid_from <= moment and (self.valid_until is None or moment < self.valid_until)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.valid_until is not None and self.valid_until <= self.valid_from:
            raise Refused("The key's validity ends before it begins.", "Mend the dates.", key=("valid_until",))
        return self


class SigningPolicy(Part):
    """Ed25519 signatures of manifests and of the journal."""

    key: SigningKey
    """Where the private key is."""

    key_id: KeyId
    """Which of the trusted keys it is."""

    trusted: Annotated[list[TrustedKey], Field(min_length=1)]
    """Every key whose signatures are believed, retired ones too."""

    @model_validator(mode="after")
    def _trusts_itself(self) -> Self:
        ids = [key.id for key in self.trusted]
        for number, name in enumerate(ids):
            if name in ids[:number]:
                raise Refused(f"Two trusted keys have the id `{name}`.", "Keep one.", key=("trusted", number, "id"))
        if self.key_id not in ids:
            raise Refused(
                f"`{self.key_id}` signs, but is not among the trusted keys: nothing that it signs could be read back.",
                f"Add it to `trusted`, or use one of: {', '.join(ids)}.",
                key=("key_id",),
            )
        return self
