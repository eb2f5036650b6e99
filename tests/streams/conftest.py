"""Keys, and places that streams are written to: a directory, S3 by moto and rclone, SFTP by OpenSSH and rclone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.outside import Outside
from lifeboat.policy.encryption import EncryptionPolicy
from lifeboat.streams.key_making import new_local_key, write_secret
from lifeboat.streams.keys import Keyring, opening_keyring, sealing_keyring
from lifeboat.streams.reading import Origin
from lifeboat.streams.writing import Destination
from lifeboat.targets.local import LocalTarget
from lifeboat.targets.target import Target
from tests.streams.keys_made import nothing_outside
from tests.targets.conftest import moto, openssh, own_rclone, place, rclone, rclone_sftp

__all__ = ["moto", "openssh", "own_rclone", "place", "rclone", "rclone_sftp"]

FOLDER = "erp/database/20261122T020000Z-full-7f3a/attempt-01-00000000/"


@pytest.fixture(scope="session")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two local keys: ``first.key`` and ``second.key``."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("first", "second"):
        write_secret(directory / f"{name}.key", new_local_key())
    return directory


@pytest.fixture(scope="session")
def encryption(key_files: Path) -> EncryptionPolicy:
    """Two local keys."""
    keys = [{"name": name, "kind": "local", "file": str(key_files / f"{name}.key")} for name in ("first", "second")]
    return EncryptionPolicy.model_validate({"keys": keys})


@pytest.fixture(scope="session")
def outside() -> Outside:
    return nothing_outside()


@pytest.fixture(scope="session")
def keyring(encryption: EncryptionPolicy, outside: Outside) -> Keyring:
    return sealing_keyring(encryption, outside)


@pytest.fixture(scope="session")
def opening(encryption: EncryptionPolicy, outside: Outside) -> Keyring:
    return opening_keyring(encryption, outside)


@pytest.fixture
def store(tmp_path: Path) -> LocalTarget:
    (tmp_path / "store").mkdir()
    return LocalTarget("store", tmp_path / "store")


@pytest.fixture(scope="session")
def to(keyring: Keyring) -> Callable[..., Destination]:
    """Call it with a target for a place to write to."""

    def destination(target: Target, *, system: str = "erp", recovery_point: str = "20261122T020000Z-full-7f3a"):
        return Destination(target, FOLDER, system, "database", recovery_point, keyring)

    return destination


@pytest.fixture(scope="session")
def back_from(opening: Keyring) -> Callable[[Target], Origin]:
    """Call it with a target for where the same is read."""

    def origin(target: Target) -> Origin:
        return Origin(target, FOLDER, "erp", "database", "20261122T020000Z-full-7f3a", opening)

    return origin
