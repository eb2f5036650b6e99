"""Wrapping keys: from the keys that a policy names to the keyrings of the AWS Encryption SDK.

Every object's data key is wrapped by each key of the policy, and any one of them opens it. Keyrings of the Material
Providers Library are used, not the older master key providers: with those, a public RSA key beside a raw key was left
out without a word, and one wrong key ended the search for the right one.
Source: https://docs.aws.amazon.com/encryption-sdk/latest/developer-guide/choose-keyring.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lifeboat.errors import ConnectionUnknown, KeyUnavailable
from lifeboat.outside import Outside
from lifeboat.policy.encryption import AwsKmsKey, EncryptionPolicy, KeyPolicy, LocalKey, RsaPublicKey
from lifeboat.streams.metering import Meter

NAMESPACE = "lifeboat"
"""The key namespace of raw keyrings: with the key's name it finds the wrapped key in a message's header."""

KMS_PROVIDER = "aws-kms"
AES_KEY_BYTES = 32
SMALLEST_RSA_BITS = 3072
KMS_PATIENCE = {
    "connect_timeout": 10,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
"""A key service that is away is known to be so within a minute or so: another key may open what it would."""


@dataclass(frozen=True)
class WrappingKey:
    """A key as a message's header names it: the provider and the key's own name (an ARN for AWS KMS)."""

    provider: str
    name: str


@dataclass(frozen=True)
class Keyring:
    """A multi-keyring ready for use.

    Attributes:
        keyring: the Material Providers Library's keyring.
        wrapping_keys: what each message's header must name when this keyring has sealed it.
        left_out: names of the policy's optional keys that could not be used, each with the reason.
        meter: how long what it opens takes.
    """

    keyring: Any
    wrapping_keys: frozenset[WrappingKey]
    left_out: tuple[str, ...] = ()
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)


@cache
def _material_providers() -> Any:
    # Imported late: it costs seconds and tens of MiB, which only a process that moves bytes should pay.
    from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
    from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig

    return AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())


def header_name(key: KeyPolicy) -> WrappingKey:
    """How a message's header names the policy's key."""
    if isinstance(key, AwsKmsKey):
        return WrappingKey(KMS_PROVIDER, key.key_id)
    return WrappingKey(NAMESPACE, key.name)


def sealing_keyring(policy: EncryptionPolicy, outside: Outside) -> Keyring:
    """The keyring that wraps each data key with every key of the policy.

    A key marked ``optional`` that can't be used is left out and named in the result: the backup is degraded and says
    so. Any other key that can't be used ends the backup before it begins.

    Raises:
        KeyUnavailable: a key is missing, unreadable or out of reach, or no key is left.
    """
    usable: list[tuple[WrappingKey, Any]] = []
    left_out: list[str] = []
    for key in policy.keys:
        try:
            usable.append((header_name(key), _sealing(key, outside)))
        except KeyUnavailable as error:
            if not key.optional:
                raise
            left_out.append(f"{key.name}: {error.what}")
    if not usable:
        raise KeyUnavailable("None of the policy's wrapping keys can be used.", "Make at least one of them reachable.")
    return Keyring(_multi([ring for _, ring in usable]), frozenset(name for name, _ in usable), tuple(left_out))


def opening_keyring(policy: EncryptionPolicy, outside: Outside, break_glass: Sequence[Path] = ()) -> Keyring:
    """The keyring that opens what any key of the policy has wrapped.

    Args:
        policy: its keys are tried in order, AWS KMS last; one that can't be used here is left out.
        outside: where local keys and KMS clients come from.
        break_glass: files with RSA private keys (PEM), tried for every RSA key of the policy.

    Raises:
        KeyUnavailable: not one key can be used, or a break-glass file is no RSA private key.
    """
    private = [_private_key(path) for path in break_glass]
    usable: list[tuple[WrappingKey, Any]] = []
    left_out: list[str] = []
    # Those that need no network first: nobody waits for a service that is away while another key is at hand.
    for key in sorted(policy.keys, key=lambda key: isinstance(key, AwsKmsKey)):
        try:
            if isinstance(key, RsaPublicKey):
                matching = _matching_private(key, private)
                if not matching:
                    left_out.append(f"{key.name}: its private key was not given")
                usable.extend((header_name(key), _rsa(key.name, private=pem)) for pem in matching)
            else:
                usable.append((header_name(key), _sealing(key, outside, probe=False)))
        except KeyUnavailable as error:
            left_out.append(f"{key.name}: {error.what}")
    if not usable:
        raise KeyUnavailable(
            "No wrapping key can be used here: " + "; ".join(left_out) + ".",
            "Give one of them: the local key's file or connection, credentials for AWS KMS, or --break-glass-key FILE.",
        )
    return Keyring(_multi([ring for _, ring in usable]), frozenset(name for name, _ in usable), tuple(left_out))


def _multi(keyrings: list[Any]) -> Any:
    from aws_cryptographic_material_providers.mpl.models import CreateMultiKeyringInput

    return _material_providers().create_multi_keyring(
        CreateMultiKeyringInput(generator=keyrings[0], child_keyrings=keyrings[1:])
    )


def _sealing(key: KeyPolicy, outside: Outside, *, probe: bool = True) -> Any:
    if isinstance(key, LocalKey):
        return _aes(key.name, local_key(key, outside))
    if isinstance(key, RsaPublicKey):
        return _rsa(key.name, public=public_pem(key))
    return _kms(key, outside, probe=probe)


def _aes(name: str, key: bytes) -> Any:
    from aws_cryptographic_material_providers.mpl.models import AesWrappingAlg, CreateRawAesKeyringInput

    return _material_providers().create_raw_aes_keyring(
        CreateRawAesKeyringInput(
            key_namespace=NAMESPACE,
            key_name=name,
            wrapping_key=key,
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
    )


def _rsa(name: str, *, public: bytes | None = None, private: bytes | None = None) -> Any:
    from aws_cryptographic_material_providers.mpl.models import CreateRawRsaKeyringInput, PaddingScheme

    return _material_providers().create_raw_rsa_keyring(
        CreateRawRsaKeyringInput(
            key_namespace=NAMESPACE,
            key_name=name,
            padding_scheme=PaddingScheme.OAEP_SHA256_MGF1,
            public_key=public,
            private_key=private,
        )
    )


def _kms(key: AwsKmsKey, outside: Outside, *, probe: bool) -> Any:
    from aws_cryptographic_material_providers.mpl.errors import ServiceError
    from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsKeyringInput
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = outside.aws_client("kms", key.connection, **KMS_PATIENCE)
        if probe:
            # Wrapping something is the only proof of the right to wrap: DescribeKey asks for another permission.
            client.encrypt(KeyId=key.key_id, Plaintext=b"lifeboat")
        return _material_providers().create_aws_kms_keyring(
            CreateAwsKmsKeyringInput(kms_key_id=key.key_id, kms_client=_Answering(client))
        )
    except ConnectionUnknown as error:
        raise KeyUnavailable(f"AWS KMS key {key.name}: {error.what}", error.remedy) from error
    except (BotoCoreError, ClientError, ServiceError) as error:
        raise KeyUnavailable(
            f"AWS KMS key {key.name} ({key.key_id}) can't wrap a data key: {error}",
            "Check that the key is enabled, that this machine reaches AWS KMS, and that its credentials allow "
            "kms:Encrypt and kms:GenerateDataKey on the key.",
        ) from error


class _Answering:
    """A KMS client whose silence is an error of the service.

    A multi-keyring goes on to the next key after the service's own errors only: without this, a service that can't be
    reached would hide the keys behind it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._guarded(found, name) if name in ("decrypt", "encrypt", "generate_data_key") else found

    def _guarded(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        def guarded(**arguments: Any) -> Any:
            try:
                return call(**arguments)
            except BotoCoreError as error:
                said = {"Code": "DependencyTimeoutException", "Message": f"{type(error).__name__}: {error}"}
                raise ClientError({"Error": said}, name) from error

        return guarded


def local_key(key: LocalKey, outside: Outside) -> bytes:
    """The bytes of a local AES-256 key, from its file or from its connection's password (base64 in both).

    Raises:
        KeyUnavailable: it is not there, or not 32 bytes of base64.
    """
    if key.file is not None:
        origin, text = f"file {key.file}", _file_bytes(key.name, key.file)
    else:
        origin = f"the password of connection {key.connection}"
        try:
            text = (outside.connection(str(key.connection)).password or "").encode()
        except ConnectionUnknown as error:
            raise KeyUnavailable(f"Key {key.name}: {error.what}", error.remedy) from error
    if key.file is not None and len(text) == AES_KEY_BYTES and not text.isascii():
        return text  # the key itself; 32 random bytes are never all ASCII
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != AES_KEY_BYTES:
        raise KeyUnavailable(
            f"Key {key.name} in {origin} is not {AES_KEY_BYTES} bytes, nor their base64.",
            "Make a new one with `lifeboat key new`, or put the right one back. "
            "What an older key has sealed needs that older key.",
        )
    return raw


def public_pem(key: RsaPublicKey) -> bytes:
    """The RSA public key in PEM.

    Raises:
        KeyUnavailable: it is not there, no RSA public key, or shorter than 3072 bits.
    """
    if key.public_key_file is not None:
        pem = _file_bytes(key.name, key.public_key_file)
    else:
        pem = str(key.public_key).encode()
    try:
        loaded = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        loaded = None
    if not isinstance(loaded, rsa.RSAPublicKey) or loaded.key_size < SMALLEST_RSA_BITS:
        raise KeyUnavailable(
            f"Key {key.name} is not an RSA public key of at least {SMALLEST_RSA_BITS} bits in PEM.",
            "Make a pair with `lifeboat key new --break-glass`; keep the private half offline.",
        )
    return loaded.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _file_bytes(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnavailable(
            f"Key {name} can't be read from {path}: {error.strerror or type(error).__name__}.",
            "Put the key's file there, readable for the user that runs the worker and nobody else.",
        ) from error


def _private_key(path: Path) -> rsa.RSAPrivateKey:
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnavailable(
            f"The break-glass key can't be read from {path}: {type(error).__name__}.",
            "Give an RSA private key in PEM without a passphrase (openssl pkey removes one).",
        ) from error
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise KeyUnavailable(f"{path} holds no RSA private key.", "Give the break-glass key's private half.")
    return loaded


def _matching_private(key: RsaPublicKey, private: list[rsa.RSAPrivateKey]) -> list[bytes]:
    if not private:
        return []
    try:
        wanted: bytes | None = public_pem(key)
    except KeyUnavailable:
        # On the day when all else is lost the public half's file is lost, too: then each one given is tried.
        wanted = None
    return [
        candidate.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for candidate in private
        if wanted in (None, _public_half(candidate))
    ]


def _public_half(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
