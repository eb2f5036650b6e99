"""What is gathered comes back as it was; what did not change is not stored again."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from lifeboat.configuration.reading import fingerprints_of, index_of
from lifeboat.errors import SourceUnreadable
from lifeboat.policy.naming import Tier
from tests.configuration.conftest import CANARY, Configuration, details
from tests.configuration.vault_stand_in import VaultStandIn


def test_a_folder_comes_back_as_it_was(settings: Configuration) -> None:
    settings.write("erp/app.conf", "port = 8069\n", 0o640)
    settings.write("erp/keys/tls.key", b"\x00\xff key", 0o400)
    settings.write("erp/empty", "")
    (settings.etc / "erp" / "no files").mkdir(mode=0o750)
    (settings.etc / "erp" / "current").symlink_to("app.conf")
    os.utime(settings.etc / "erp/app.conf", ns=(1, 1_700_000_000_123_456_789))
    copy = settings.store()
    settings.verify(copy)
    restored = settings.restore(copy)
    there = restored.into / "files" / str(settings.etc)[1:]
    compared = subprocess.run(
        ["rsync", "-nai", "--checksum", "--delete", f"{settings.etc}/", f"{there}/"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert compared.stdout == ""
    assert (there / "erp/app.conf").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (restored.items, details(copy).items) == (4, {"files": 4})


def test_everything_that_a_policy_can_name_comes_back(
    settings: Configuration, vault: VaultStandIn, secrets_manager: object
) -> None:
    settings.write("erp/app.conf")
    settings.write("terraform/main.tf", "resource {}")
    settings.write("terraform/terraform.tfstate", json.dumps({"password": CANARY}))
    settings.write("terraform/.terraform/providers/large", "fetched again")
    settings.write("terraform/.terraform.lock.hcl", "kept")
    settings.environment |= {
        "ERP_MODE": CANARY,
        "ERP_PORT": "1",
        "OTHER": "no",
        "AIRFLOW_CONN_ERP_DATABASE": f"postgres://erp:{CANARY}@db:5432/erp?sslmode=require",
        "AIRFLOW_VAR_ERP_SETTINGS": f'{{"a": "{CANARY}"}}',
    }
    vault.put("secret/erp/api-keys", {"stripe": CANARY}, {"owner": "team"})
    secrets_manager.create_secret(  # type: ignore[attr-defined]
        Name="erp/smtp", SecretString=CANARY, Description="mail", Tags=[{"Key": "team", "Value": "erp"}]
    )
    secrets_manager.create_secret(Name="/erp/blob", SecretBinary=b"\x00\x01")  # type: ignore[attr-defined]
    settings.protects(f"""
        files: ["{settings.etc}/erp/*.conf"]
        environment: ["ERP_*"]
        airflow_connections: [erp_database]
        airflow_variables: [erp_settings]
        secrets:
          - {{store: vault, connection: vault, names: [erp/api-keys]}}
          - {{store: aws_secrets_manager, connection: aws, names: [erp/smtp, /erp/blob]}}
        infrastructure: ["{settings.etc}/terraform"]
    """)
    copy = settings.store()
    settings.verify(copy)
    assert details(copy).items == {
        "files": 1, "environment": 2, "connections": 1, "variables": 1, "secrets": 3, "infrastructure": 3
    }  # fmt: skip
    into = settings.restore(copy).into
    assert (into / "environment/ERP_MODE").read_text() == CANARY
    assert (into / "environment/ERP_MODE").stat().st_mode & 0o777 == 0o600
    assert json.loads((into / "connections/erp_database").read_text()) == {
        "conn_type": "postgres", "host": "db", "login": "erp", "password": CANARY, "port": 5432, "schema": "erp",
        "extra": {"sslmode": "require"},
    }  # fmt: skip
    assert json.loads((into / "variables/erp_settings").read_text()) == {"a": CANARY}
    assert json.loads((into / "secrets/vault/erp/api-keys").read_text()) == {
        "data": {"stripe": CANARY}, "custom_metadata": {"owner": "team"}, "version": 1
    }  # fmt: skip
    smtp = json.loads((into / "secrets/aws_secrets_manager/erp/smtp").read_text())
    assert (smtp["value"], smtp["description"], smtp["tags"]) == (CANARY, "mail", {"team": "erp"})
    assert json.loads((into / "secrets/aws_secrets_manager/%2Ferp%2Fblob").read_text())["value_base64"] == "AAE="
    assert not any(path.name == ".terraform" for path in into.rglob("*"))


def test_a_change_is_stored_and_an_unchanged_set_is_not(settings: Configuration) -> None:
    file = settings.write("app.conf", "one")
    first = settings.store(Tier.CHANGE)
    os.utime(file)  # touched, not changed
    unchanged = settings.take(Tier.CHANGE)
    assert unchanged.copies == ()
    assert f"unchanged since {first.manifest.recovery_point}" in unchanged.message
    assert settings.events("configuration_unchanged") == [{"items": 1, "unread": 0}]
    file.write_text("two")
    second = settings.store(Tier.CHANGE)
    assert (details(second).changed, details(second).compared_with) == (1, first.manifest.recovery_point)
    file.chmod(0o600)
    settings.store(Tier.CHANGE)
    assert settings.take(Tier.CHANGE).copies == ()
    # Every day, whatever changed: what is kept must not run out.
    settings.store(Tier.DAILY)
    assert len(settings.shown()) == 4


def test_fingerprints_stay_comparable_and_tell_nothing_without_their_key(settings: Configuration) -> None:
    settings.write("a", "same")
    settings.write("b", "same")
    first, second = settings.store(), settings.store()
    repository = settings.world.repository()
    assert fingerprints_of(repository, first).key == fingerprints_of(repository, second).key
    assert index_of(repository, first) == index_of(repository, second)
    one, other = [line.fingerprint for line in index_of(repository, first) if line.about.type == "file"]
    assert one != other
    assert details(first).fingerprint == details(second).fingerprint


def test_a_set_of_which_nothing_can_be_had_is_an_error(settings: Configuration) -> None:
    settings.protects(f'files: ["{settings.etc}/nothing"]')
    with pytest.raises(SourceUnreadable, match="nothing is not there"):
        settings.take()
    assert settings.shown() == []
