"""Make what `docker compose up` asks for and nobody should invent: `.env` with new secrets, and `secrets/` with keys.

    docker build -t lifeboat .
    docker run --rm -u "$(id -u)" -v "$PWD:/here" -e HOME=/tmp lifeboat python /here/deploy/prepare.py /here

It overwrites nothing: where there is a `.env` or a `secrets/` already, it says so and ends. What it makes is for the
example's own servers; in a real deployment the certificates come from your authority and the secrets from your vault.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from lifeboat.streams.key_making import new_break_glass_pair, new_local_key, new_signing_pair, write_secret

SERVERS = ("erp", "store")
"""The example's servers that speak TLS, by their names in the Compose file."""
ROLES = ("backup", "retention", "restore")
_MAKERS = {
    "AIRFLOW_UID": lambda: str(os.getuid() or 50000),
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode("ascii"),
}


class NotPrepared(Exception):
    """Something stands in the way; the text says what to do."""


def main(place: Path) -> None:
    """Make both below ``place``, the directory of the Compose file."""
    environment, room = place / ".env", place / "secrets"
    for made in (environment, room):
        if made.exists():
            raise NotPrepared(f"{made} is there already, and nothing is overwritten. Move it away to begin anew.")
    values = new_values((place / ".env.example").read_text(encoding="utf-8"))
    room.mkdir(mode=0o700)
    signing = make_keys(room)
    make_certificates(room / "tls")
    make_ssh_keys(room / "ssh")
    make_store_accounts(room / "store", values)
    write_secret(environment, "".join(f"{name}={value}\n" for name, value in values.items()))
    print(
        f"Made {environment} and {room}.\n"
        f"Move {room / 'safe' / 'break-glass.pem'} to a safe off this machine: it opens every backup.\n"
        "Put the public half of the signing key into the policy, deploy/policies/erp.yaml, under signing.trusted:\n"
        f"      public_key: {signing}"
    )


def new_values(example: str) -> dict[str, str]:
    """A new value for every variable that the example file names."""
    names = re.findall(r"^([A-Z][A-Z0-9_]*)=", example, flags=re.MULTILINE)
    # Hexadecimal: some of them stand in URLs.
    return {name: _MAKERS.get(name, lambda: secrets.token_hex(32))() for name in names}


def make_keys(room: Path) -> str:
    """Lifeboat's own keys: what workers use, and apart from them what belongs into a safe. Returns the public key of
    the pair that signs."""
    for folder in ("lifeboat", "safe"):
        (room / folder).mkdir(mode=0o700)
    write_secret(room / "lifeboat" / "local.key", new_local_key())
    glass, signing = new_break_glass_pair(), new_signing_pair()
    write_secret(room / "safe" / "break-glass.pem", glass.private)
    (room / "lifeboat" / "break-glass.pub").write_text(glass.public, encoding="ascii")
    write_secret(room / "lifeboat" / "signing.pem", signing.private)
    return signing.public


def make_certificates(room: Path) -> None:
    """An authority, and a certificate for each server that speaks TLS, valid for two years."""
    room.mkdir(mode=0o755)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lifeboat example authority")])
    authority = (
        _certificate(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (room / "authority.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for server in SERVERS:
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server)])
        shown = (
            _certificate(subject, name, own.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(server)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (room / f"{server}.crt").write_bytes(shown.public_bytes(serialization.Encoding.PEM))
        write_secret(room / f"{server}.key", _pem(own, serialization.PrivateFormat.PKCS8))


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=730))
    )


def make_ssh_keys(room: Path) -> None:
    """The SFTP server's own key, and the pair that the workers log in with."""
    room.mkdir(mode=0o700)
    for name in ("host", "client"):
        key = Ed25519PrivateKey.generate()
        write_secret(room / name, _pem(key, serialization.PrivateFormat.OpenSSH))
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (room / f"{name}.pub").write_bytes(public + b"\n")
    host = (room / "host.pub").read_text(encoding="ascii").strip()
    (room / "known_hosts").write_text(f"[sftp]:2222 {host}\n", encoding="ascii")


def make_store_accounts(room: Path, values: dict[str, str]) -> None:
    """The accounts of the S3 store, one for each role: its file of accounts, so that no secret is on a command line.

    Source: https://github.com/versity/versitygw/wiki/Multi-Tenant
    """
    room.mkdir(mode=0o700)
    accounts = {
        f"lifeboat-{role}": {
            "access": f"lifeboat-{role}",
            "secret": values[f"STORE_{role.upper()}_SECRET"],
            "role": "user",
            "userID": 0,
            "groupID": 0,
            "projectID": 0,
        }
        for role in ROLES
    }
    write_secret(room / "users.json", json.dumps({"accessAccounts": accounts}))


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode("ascii")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    except NotPrepared as reason:
        sys.exit(str(reason))
