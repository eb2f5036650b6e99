"""Reads one stream of a recovery point without Lifeboat: AWS Encryption SDK outside, zstd inside.

    python lifeboat_reader.py KEY FOLDER STREAM [PUBLIC_KEY] > FILE

KEY         the break-glass private key (PEM) or a local key (32 bytes, or their base64)
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
from aws_encryption_sdk import EncryptionSDKClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def insist(right: bool, wrong: str) -> None:
    if not right:
        raise ValueError(wrong)


sys.excepthook = lambda kind, error, _: sys.stderr.write(f"WRONG, don't use the output: {kind.__name__}: {error}\n")
key, folder, name, *signers = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).resolve(), *sys.argv[3:]
manifest = json.loads(document := (folder / "manifest.json").read_bytes())
insist(manifest["format_version"] == 1 and manifest["recovery_point"] == folder.name, "manifest.json belongs elsewhere")
for public_key in signers:
    signature = json.loads((folder / manifest["attempt"] / "manifest.json.sig").read_bytes())["signature"]
    Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key)).verify(base64.b64decode(signature), document)

make = AwsCryptographicMaterialProviders(config=config.MaterialProvidersConfig())
named = [{"key_namespace": "lifeboat", "key_name": wrapped["name"]} for wrapped in manifest["wrapped_keys"]]
if b"PRIVATE KEY" in key:
    how = {"private_key": key, "padding_scheme": models.PaddingScheme.OAEP_SHA256_MGF1}
    rings = [make.create_raw_rsa_keyring(models.CreateRawRsaKeyringInput(**names, **how)) for names in named]
else:
    how = {"wrapping_alg": models.AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16}
    how["wrapping_key"] = key if len(key) == 32 else base64.b64decode(key)
    rings = [make.create_raw_aes_keyring(models.CreateRawAesKeyringInput(**names, **how)) for names in named]
ring = make.create_multi_keyring(models.CreateMultiKeyringInput(generator=rings[0], child_keyrings=rings[1:]))

place = {"lifeboat-format": "1", "recovery-point": folder.name, "object": name}
place |= {part: manifest[part] for part in ("system", "source")}
for number, volume in enumerate({known["name"]: known["volumes"] for known in manifest["streams"]}[name], 1):
    with (path := folder / manifest["attempt"] / volume["file"]).open("rb") as stored:
        found = [path.stat().st_size, hashlib.file_digest(stored, "sha256").hexdigest(), stored.seek(0)]
        insist(found == [volume["stored_size"], volume["sha256"], 0], f"{path} is not what was written")
        message = EncryptionSDKClient().stream(mode="d", source=stored, keyring=ring, max_body_length=2**23)
        insist(dict(message.header.encryption_context) == place | {"volume": str(number)}, f"{path} is another object")
        _, size = zstandard.ZstdDecompressor(max_window_size=2**27).copy_stream(message, sys.stdout.buffer)
        message.close()  # raises unless the final frame was read
        insist(size == volume["plain_size"] and not stored.read(1), f"{path} holds more or less than it should")
