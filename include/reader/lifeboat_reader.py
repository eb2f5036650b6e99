"""Reads one stream of a recovery point without Lifeboat: AWS Encryption SDK outside, zstd inside.

    python lifeboat_reader.py KEY FOLDER STREAM [PUBLIC_KEY] > FILE

KEY         the break-glass private key (PEM) or a local key (32 bytes in base64)
FOLDER      the recovery point's folder, copied from a target with any tool
STREAM      a stream's name in its manifest.json: base.tar, backup_manifest, 000000010000000000000003
PUBLIC_KEY  the Ed25519 key (base64) that must have signed the manifest; from the recovery kit, never from the target

Only when it has ended with exit code 0 may FILE be relied upon. Needs Python 3.11 and what requirements.txt names.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

import zstandard
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders, config, models
from aws_encryption_sdk import CommitmentPolicy, EncryptionSDKClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def insist(right: bool, wrong: str) -> None:
    if not right:
        raise ValueError(wrong)


def read(key_file: str, place: str, name: str, signer: str | None = None) -> None:
    folder, key = Path(place).resolve(), Path(key_file).read_bytes()
    document = (folder / "manifest.json").read_bytes()
    manifest = json.loads(document)
    attempt, point = folder / manifest["attempt"], manifest["recovery_point"]
    if signer:
        signature = json.loads((attempt / "manifest.json.sig").read_bytes())["signature"]
        Ed25519PublicKey.from_public_bytes(base64.b64decode(signer)).verify(base64.b64decode(signature), document)
    insist(manifest["format_version"] == 1 and folder.name == point, "the manifest does not belong to this folder")
    mpl, rings = AwsCryptographicMaterialProviders(config=config.MaterialProvidersConfig()), []
    for known in (wrapped["name"] for wrapped in manifest["wrapped_keys"] if wrapped["provider"] == "lifeboat"):
        named = {"key_namespace": "lifeboat", "key_name": known}
        if b"PRIVATE KEY" in key:
            rsa = {**named, "padding_scheme": models.PaddingScheme.OAEP_SHA256_MGF1, "private_key": key}
            rings.append(mpl.create_raw_rsa_keyring(models.CreateRawRsaKeyringInput(**rsa)))
        else:
            aes = {**named, "wrapping_alg": models.AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16}
            aes["wrapping_key"] = base64.b64decode(key, validate=False)
            rings.append(mpl.create_raw_aes_keyring(models.CreateRawAesKeyringInput(**aes)))
    ring = mpl.create_multi_keyring(models.CreateMultiKeyringInput(generator=rings[0], child_keyrings=rings[1:]))
    client = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    (stream,) = [stream for stream in manifest["streams"] if stream["name"] == name]
    belongs = {"lifeboat-format": "1", "system": manifest["system"], "source": manifest["source"]}
    belongs |= {"recovery-point": point, "object": name}
    for number, volume in enumerate(stream["volumes"], 1):
        path = attempt / volume["file"]
        with path.open("rb") as stored:
            insist(path.stat().st_size == volume["stored_size"], f"{path} has another size than the manifest says")
            insist(hashlib.file_digest(stored, "sha256").hexdigest() == volume["sha256"], f"{path} is not what was written")
            stored.seek(0)
            with client.stream(mode="d", source=stored, keyring=ring, max_body_length=8 * 2**20) as opened:
                found = dict(opened.header.encryption_context)
                insist(found == {**belongs, "volume": str(number)}, f"{path} says that it is {found}")
                plain, size = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(opened, 2**20), 0
                while piece := plain.read(2**20):
                    size += sys.stdout.buffer.write(piece)
                insist(not opened.read(), f"{path} goes on behind its end")
            insist(size == volume["plain_size"] and not stored.read(1), f"{path} holds more or less than it should")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        read(*sys.argv[1:])
    except Exception as error:
        sys.exit(f"lifeboat_reader: nothing on standard output counts: {type(error).__name__}: {error}")
