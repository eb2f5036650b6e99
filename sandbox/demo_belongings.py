"""What the demo's ERP has besides its database: uploads, settings with a certificate, and a Git repository."""

from __future__ import annotations

import datetime
import os
import random
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

INVOICES, FOLDERS = 600, 12
INVOICE = "invoices/03/000123.pdf"
"""The one that is overwritten, and brought back."""
SETTINGS = "etc/erp.conf"
REPOSITORY = "erp"
_IDENTITY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
       (("NAME", "An ERP developer"), ("EMAIL", "dev@example.org"))},
}  # fmt: skip


def make_belongings(home: Path) -> None:
    """Make all of it below ``home``, which is made."""
    _make_uploads(home / "uploads")
    (home / "etc").mkdir()
    (home / SETTINGS).write_text("mode = production\nsmtp_password = hunter2\nworkers = 4\n")
    (home / SETTINGS).chmod(0o600)
    (home / "etc" / "logging.conf").write_text("level = info\n")
    (home / "tls").mkdir()
    (home / "tls" / "erp.pem").write_bytes(_certificate())
    _make_repository(home)


def _make_uploads(uploads: Path) -> None:
    drawn = random.Random(5)
    for number in range(INVOICES):
        folder = uploads / "invoices" / f"{number % FOLDERS:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.pdf").write_bytes(b"%PDF-1.7 of the demo\n" * 40 + drawn.randbytes(20_000))
    (uploads / "logos").mkdir()
    logo = uploads / "logos" / "company.svg"
    logo.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>\n")
    os.link(logo, uploads / "logos" / "the same.svg")
    (uploads / "current").symlink_to("invoices/11")


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "erp.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _make_repository(home: Path) -> None:
    work, bare = home / "git" / "work", home / "git" / f"{REPOSITORY}.git"
    mirror = home / "mirrors" / f"{REPOSITORY}.git"
    for place in (bare, mirror):
        git("init", "--quiet", "--bare", "--initial-branch=main", str(place))
    git("init", "--quiet", "--initial-branch=main", str(work))
    for number in range(1, 6):
        (work / "invoice.py").write_text(f"VERSION = {number}\n")
        git("add", "-A", at=work)
        git("commit", "--quiet", "-m", f"Version {number}", at=work)
    git("tag", "-a", "v1.0", "-m", "The first release", at=work)
    git("push", "--quiet", str(bare), "main", "v1.0", at=work)


def change_belongings(home: Path) -> None:
    """What a day of work, and a slip, do to them."""
    (home / "uploads" / INVOICE).write_bytes(b"overwritten by mistake")
    (home / "uploads" / "invoices" / "03" / "900001.pdf").write_bytes(b"%PDF-1.7 a new one\n" * 500)
    (home / SETTINGS).write_text("mode = production\nsmtp_password = correct horse\nworkers = 8\n")


def git(*arguments: str, at: Path | None = None) -> str:
    """Run git as the demo's developer; returns what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull, **_IDENTITY}
    done = subprocess.run(
        ["git", *arguments], cwd=at, env=environment, check=True, text=True, stdout=subprocess.PIPE
    )  # fmt: skip
    return done.stdout
