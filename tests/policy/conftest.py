"""A small policy that is valid, and ways to change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = """\
format_version: 1
system: shop
objectives:
  rto: 4h
  rpo: 15m
targets:
  primary:
    url: s3://shop-backups/lifeboat
    connection: shop_primary
encryption:
  keys:
    - {name: worker, kind: local, file: /etc/lifeboat/key}
    - {name: safe, kind: rsa_public, public_key_file: /etc/lifeboat/safe.pem}
signing:
  key: {connection: shop_signing}
  key_id: shop-2026
  trusted:
    - id: shop-2026
      public_key: w3mSWX3PlnZlIBRlVadDh0fuXc6Odn4GHf8pV86lNJw=
      valid_from: 2026-01-01T00:00:00Z
sources:
  database:
    kind: postgres
    connection: shop_database
    tiers:
      wal: {schedule: "*/5 * * * *", retention: 30d, expected_run: 4m}
      daily: {schedule: "0 2 * * *", retention: 30d}
"""


@pytest.fixture
def minimal() -> str:
    """The text of a valid policy of the system ``shop``."""
    return MINIMAL


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """An empty directory for policies."""
    directory = tmp_path / "policies"
    directory.mkdir()
    return directory


@pytest.fixture
def write(policies: Path) -> Callable[..., Path]:
    """Write a policy file: the minimal one with some text replaced."""

    def _write(name: str = "shop.yaml", *changes: tuple[str, str], text: str = MINIMAL) -> Path:
        for old, new in changes:
            assert old in text, f"the minimal policy does not hold {old!r}"
            text = text.replace(old, new)
        path = policies / name
        path.write_text(text)
        return path

    return _write
