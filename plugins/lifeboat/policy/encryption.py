"""The keys that wrap the data keys: any one of them opens a recovery point."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lifeboat.policy.environment import ExpandedPath
from lifeboat.policy.part import ConnectionId, Part
from lifeboat.policy.problems import Refused

_SMALLEST_RSA = 3072  # bits; NIST SP 800-57 part 1: 128-bit security, for data that outlives 2030
# A key, never an alias: the wrapped keys are compared with the policy's, and an alias can be pointed elsewhere.
_KMS_KEY = r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+$"

_KEY_NAME = r"^[a-z][a-z0-9_-]{0,62}$"


def _checked_key_name(name: str) -> str:
    if re.fullmatch(_KEY_NAME, name) is None:
        raise Refused(f"`{name[:80]}` can't be the name of a key.", "Write lower-case letters, digits, `-` and `_`.")
    if name.startswith("aws-kms"):
        raise Refused("The AWS Encryption SDK keeps `aws-kms` for itself.", "Choose another name.")
    return name


def _checked_kms_key(arn: str) -> str:
    if re.fullmatch(_KMS_KEY, arn) is None:
        raise Refused(
            "A KMS key is named by the ARN of the key itself, not by an alias or an id alone.",
            "Write `arn:aws:kms:REGION:ACCOUNT:key/ID`; `aws kms describe-key` shows it.",
        )
    return arn


def _checked_public_key(pem: str) -> str:
    if "PRIVATE KEY" in pem:
        raise Refused("This is a private key.", "Take it out of the policy, count it as leaked, and make a new pair.")
    # Only policies that hold a key themselves pay for this import.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused(
            "This is no public key in PEM.", "Paste what `openssl pkey -in private.pem -pubout` prints."
        ) from error
    if not isinstance(key, RSAPublicKey) or key.key_size < _SMALLEST_RSA:
        raise Refused(f"A break-glass key is RSA of {_SMALLEST_RSA} bits or more.", "Make one of 4096 bits.")
    return pem


KmsKeyArn = Annotated[str, AfterValidator(_checked_kms_key), WithJsonSchema({"type": "string", "pattern": _KMS_KEY})]
PublicKeyPem = Annotated[str, AfterValidator(_checked_public_key), WithJsonSchema({"type": "string"})]
KeyName = Annotated[str, AfterValidator(_checked_key_name), WithJsonSchema({"type": "string", "pattern": _KEY_NAME})]


class _Key(Part):
    name: KeyName
    """Its name, which each recovery point records. Never give a used name to another key."""

    optional: bool = False
    """Whether a backup goes on, degraded and with an alert, while this key is out of reach."""


class LocalKey(_Key):
    """An AES-256 key that the workers hold."""

    kind: Literal["local"]
    """An AES-256 key that the workers hold."""

    file: ExpandedPath | None = None
    """The file with the key: 32 bytes, or their base64. May hold `${NAME}` of the environment."""

    connection: ConnectionId | None = None
    """The connection whose password is the key in base64; either this or `file`."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.connection is None):
            raise Refused(f"Local key `{self.name}` needs exactly one of `file` and `connection`.", "Keep one.")
        return self


class RsaPublicKey(_Key):
    """The public half of an RSA pair; the private half lies in a safe: the break-glass key."""

    kind: Literal["rsa_public"]
    """The public half of an RSA pair whose private half is kept offline."""

    public_key: PublicKeyPem | None = None
    """The public key itself, in PEM."""

    public_key_file: ExpandedPath | None = None
    """The file with the public key in PEM; either this or `public_key`. May hold `${NAME}` of the environment."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.public_key is None) == (self.public_key_file is None):
            raise Refused(
                f"RSA key `{self.name}` needs exactly one of `public_key` and `public_key_file`.", "Keep one."
            )
        return self


class AwsKmsKey(_Key):
    """A key of the AWS Key Management Service."""

    kind: Literal["aws_kms"]
    """A key of the AWS Key Management Service."""

    key_id: KmsKeyArn
    """The ARN of the key (not of an alias)."""

    connection: ConnectionId | None = None
    """The Airflow connection that may use it; without one, the machine's own credentials."""


KeyPolicy = Annotated[LocalKey | RsaPublicKey | AwsKmsKey, Field(discriminator="kind")]


class EncryptionPolicy(Part):
    """How recovery points are encrypted: AES-256-GCM, the data keys wrapped by every key listed here."""

    keys: Annotated[list[KeyPolicy], Field(min_length=1)]
    """Every one of them wraps each data key, and any one of them opens it."""

    accept_single_key: bool = False
    """Fewer than two keys: a lost key is then a lost backup. Must be said."""

    @model_validator(mode="after")
    def _enough_keys(self) -> Self:
        names = [key.name for key in self.keys]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise Refused(f"Two keys are called `{name}`.", "Give each its own name.", key=("keys", number, "name"))
        if all(key.optional for key in self.keys):
            raise Refused("All keys are optional, so a backup could go out with none.", "Make one of them required.")
        if len(self.keys) < 2 and not self.accept_single_key:
            raise Refused(
                f"`{names[0]}` is the only key: if it is lost, every backup is lost.",
                "Add a break-glass key (`kind: rsa_public`), or accept this with `accept_single_key: true`.",
            )
        return self
