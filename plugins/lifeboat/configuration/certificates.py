"""Certificates: whose they are, and when they expire."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from lifeboat.configuration.gathered import printable
from lifeboat.configuration.items import Item

_PEM = b"-----BEGIN CERTIFICATE-----"


class CertificateFacts(BaseModel):
    """What a manifest says of a certificate: nothing of it is secret.

    Attributes:
        item: the file that it is in.
        subject: whose it is, as RFC 4514 writes it.
        serial: its number, hexadecimal.
        expires: from then on it is not valid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: str
    subject: str
    serial: str
    expires: AwareDatetime

    def warning(self, now: datetime, before: timedelta) -> str:
        """What is wrong with its time, in a sentence; empty when nothing is."""
        whose = f"The certificate of {self.subject or self.serial} in {self.item}"
        if self.expires <= now:
            return f"{whose} expired on {self.expires:%Y-%m-%d}."
        if self.expires - now <= before:
            return f"{whose} expires on {self.expires:%Y-%m-%d}, in {(self.expires - now).days} days."
        return ""


def certificates_in(items: Iterable[Item]) -> tuple[list[CertificateFacts], list[str]]:
    """All certificates in files of the kind ``certificates``, the one that expires first at the beginning; and remarks
    on those that can't be read.

    Source: https://www.rfc-editor.org/rfc/rfc7468 (PEM, of which a file may hold several)
    """
    found: list[CertificateFacts] = []
    remarks: list[str] = []
    for item in items:
        if item.about.kind != "certificates" or item.about.type != "file":
            continue
        try:
            found += _read(item)
        except ValueError:
            remarks.append(f"What looks like a certificate in {item.about.name} can't be read as one; it is kept.")
    return sorted(found, key=lambda one: (one.expires, one.item, one.serial)), remarks


def _read(item: Item) -> list[CertificateFacts]:
    from cryptography import x509

    content = item.content
    if _PEM in content:
        certificates = x509.load_pem_x509_certificates(content)
    elif item.about.name.endswith((".der", ".cer")) and content[:1] == b"\x30":
        certificates = [x509.load_der_x509_certificate(content)]
    else:
        return []  # a private key, a request, a list of revoked ones
    return [
        CertificateFacts(
            item=printable(item.about.name),
            subject=one.subject.rfc4514_string(),
            serial=f"{one.serial_number:x}",
            expires=one.not_valid_after_utc,
        )
        for one in certificates
    ]
