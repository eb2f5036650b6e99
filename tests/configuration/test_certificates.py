"""Certificates: their expiry stands in the manifest, and is told before it comes."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lifeboat.policy.naming import Tier
from tests.configuration.conftest import Configuration, details

_KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: str, expires: datetime, form: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    whose = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(whose).issuer_name(whose).public_key(_KEY.public_key()).serial_number(4711)
        .not_valid_before(expires - timedelta(days=365)).not_valid_after(expires)
        .sign(_KEY, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(form)


def private_key() -> bytes:
    return _KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def protect(settings: Configuration) -> None:
    settings.protects(f"""
        certificates:
          paths: ["{settings.etc}/*"]
          warn_before: 30d
    """)


def test_all_certificates_of_a_bundle_are_in_the_manifest_the_first_to_expire_first(settings: Configuration) -> None:
    now = settings.world.clock()
    in_a_year, in_two = now + timedelta(days=365), now + timedelta(days=730)
    settings.write("bundle.pem", certificate("late.example", in_two) + certificate("early.example", in_a_year))
    settings.write("binary.der", certificate("binary.example", in_two, serialization.Encoding.DER))
    settings.write("erp.key", private_key(), 0o600)
    protect(settings)
    copy = settings.store()
    found = details(copy)
    assert [one.subject for one in found.certificates] == [
        "CN=early.example", "CN=binary.example", "CN=late.example"
    ]  # fmt: skip
    assert found.certificates[0].expires == in_a_year
    assert found.certificates[0].item == settings.name("bundle.pem", "certificates")
    # The key beside them is kept as any file.
    assert found.items == {"certificates": 3}
    settings.restore(copy, "certificates/**/erp.key")
    assert (settings.back / "back" / settings.name("erp.key", "certificates")).read_bytes() == private_key()


def test_a_certificate_is_an_alarm_from_thirty_days_before_its_expiry_and_says_when_it_has_expired(
    settings: Configuration,
) -> None:
    now = settings.world.clock()
    settings.write("erp.pem", certificate("erp.example", now + timedelta(days=40)))
    protect(settings)
    assert settings.take().alarm == ""
    settings.world.clock.now = now + timedelta(days=10, minutes=1)
    done = settings.take()
    assert "The certificate of CN=erp.example" in done.alarm
    assert "expires on 2027-01-01, in 29 days" in done.alarm
    assert any("in 29 days" in finding for finding in done.copies[0].manifest.findings)
    # Once a day is enough: the look of every few minutes stays quiet.
    quiet = settings.take(Tier.CHANGE)
    assert (quiet.copies, quiet.alarm) == ((), "")
    settings.world.clock.now = now + timedelta(days=40)
    assert "expired on 2027-01-01" in settings.take().alarm


def test_what_only_looks_like_a_certificate_is_kept_and_named(settings: Configuration) -> None:
    settings.write("broken.pem", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    protect(settings)
    copy = settings.store()
    assert any("can't be read as one; it is kept" in finding for finding in copy.manifest.findings)
    assert details(copy).items == {"certificates": 1}
