"""What a policy names is found; what can't be had of it is said, and never left out without a word."""

from __future__ import annotations

import os
import subprocess
from itertools import count
from pathlib import Path

import pytest

import lifeboat.configuration.files as files_module
from lifeboat.backup.preflight import preflight
from lifeboat.configuration.reading import index_of
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from tests.configuration.conftest import CANARY, SETTINGS, Configuration, details
from tests.configuration.vault_stand_in import VaultStandIn
from tests.targets.conftest import s3_place


def names(settings: Configuration, copy: Copy) -> list[str]:
    """The items' names, those of files from the folder on."""
    index = index_of(settings.world.repository(), copy)
    return [one.about.name.replace(settings.name(), "…") for one in index]


def closed(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let nobody read a path, root neither."""
    really_open, really_scan = os.open, os.scandir

    def opening(found: object, *arguments: object, **named: object) -> int:
        if os.fspath(found) == str(path):  # type: ignore[call-overload]
            raise PermissionError(13, "Permission denied")
        return really_open(found, *arguments, **named)  # type: ignore[arg-type, call-overload]

    def scanning(found: object) -> object:
        if os.fspath(found) == str(path):  # type: ignore[call-overload]
            raise PermissionError(13, "Permission denied")
        return really_scan(found)  # type: ignore[call-overload]

    monkeypatch.setattr(files_module.os, "open", opening)
    monkeypatch.setattr(files_module.os, "scandir", scanning)


def test_patterns_name_files_and_folders_and_exclude_takes_out(settings: Configuration) -> None:
    for path in (
        "a.conf",
        "b.txt",
        "sites/one.conf",
        "sites/deep/er/two.conf",
        "sites/x.tmp",
        ".hidden.conf",
        "all/in/it",
    ):
        settings.write(path)
    settings.protects(f"""
        files: ["{settings.etc}/*.conf", "{settings.etc}/sites/**/*.conf", "{settings.etc}/al[l]"]
        exclude: ["**/deep/", "**/*.tmp"]
    """)
    assert names(settings, settings.store()) == [
        "…/.hidden.conf", "…/a.conf", "…/all", "…/all/in", "…/all/in/it", "…/sites/one.conf"
    ]  # fmt: skip


def test_a_link_is_stored_with_what_it_leads_to(settings: Configuration) -> None:
    available = settings.write("sites-available/erp", "server {}")
    enabled = settings.etc / "sites-enabled"
    enabled.mkdir()
    (enabled / "erp").symlink_to("../sites-available/erp")
    (enabled / "gone").symlink_to("../sites-available/none")
    (enabled / "round").symlink_to("round")
    (enabled / "folder").symlink_to("../elsewhere")
    (settings.etc / "elsewhere").mkdir()
    settings.protects(f'files: ["{enabled}"]')
    copy = settings.store()
    assert "…/sites-available/erp" in names(settings, copy)
    said = " ".join(copy.manifest.findings)
    assert "gone is a link that leads to nothing" in said
    assert f"folder leads to the folder {settings.etc}/elsewhere, which is not in the set" in said
    into = settings.restore(copy).into
    assert (into / "files" / str(enabled)[1:] / "erp").read_text() == available.read_text()


def test_names_of_any_bytes_come_back(settings: Configuration) -> None:
    hostile = [b"new\nline", b"not utf-8 \xff\xfe", b"-rf", b"..dots..", "ünïcode ☃".encode(), b"a" * 255]
    for name in hostile:
        (settings.etc / os.fsdecode(name)).write_bytes(b"content of " + name)
    restored = settings.restore(settings.store()).into / "files" / str(settings.etc)[1:]
    assert subprocess.run(["diff", "-r", settings.etc, restored], check=False).returncode == 0


def test_a_name_of_any_bytes_can_be_what_could_not_be_read(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write("a")
    name = os.fsdecode(b"bad \xff")
    file = settings.write(name)
    (settings.etc / os.fsdecode(b"link \xfe")).symlink_to("nothing")
    closed(monkeypatch, file)
    copy = settings.take().copies[0]
    assert details(copy).unread == (f"{settings.etc}/bad \\xff",)
    assert any("link \\xfe is a link" in finding for finding in copy.manifest.findings)
    settings.verify(copy)


@pytest.mark.parametrize("path", ["/{etc}", "/{etc}/./erp/*.conf", "/{etc}//erp//a.conf", "{etc}/erp/", "{etc}/er*/"])
def test_a_path_that_is_written_in_another_way_means_the_same(settings: Configuration, path: str) -> None:
    settings.write("erp/a.conf")
    settings.protects(f'files: ["{path.format(etc=settings.etc)}"]')
    copy = settings.store()
    assert (settings.restore(copy).into / settings.name("erp/a.conf")).is_file()


def test_more_lacks_than_a_manifest_names_can_be_verified_and_are_compared(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lifeboat.configuration.storing as storing

    monkeypatch.setattr(storing, "MOST_TOLD", 1)
    settings.environment["HERE"] = "1"
    settings.protects("environment: [HERE, A, B]")
    copy = settings.take(Tier.CHANGE).copies[0]
    assert (len(details(copy).unread), details(copy).unread_count) == (1, 2)
    settings.verify(copy)
    assert settings.take(Tier.CHANGE).copies == ()


def test_what_is_named_and_not_there_stops_a_backup_in_preflight_and_a_pattern_that_fits_nothing_warns(
    settings: Configuration, vault: VaultStandIn
) -> None:
    settings.write("a")
    settings.protects(f"""
        files: ["{settings.etc}/a", "{settings.etc}/none", "{settings.etc}/*.none"]
        environment: [NOT_SET, NOT_*]
        airflow_connections: [not_there]
        airflow_variables: [not_there]
        secrets: [{{store: vault, connection: vault, names: [not/there]}}]
    """)
    findings = preflight(settings.world.repository(), SETTINGS, Tier.DAILY, tick=lambda: None)
    found = {(one.severity, one.what.split()[0]) for one in findings if one.subject == "source settings"}
    assert found == {
        ("error", f"{settings.etc}/none"), ("warning", f"{settings.etc}/*.none"),
        ("error", "environment/NOT_SET"), ("warning", "environment/NOT_*"),
        ("error", "connections/not_there"), ("error", "variables/not_there"),
        ("error", "secrets/vault/not/there"), ("ok", "1"),
    }  # fmt: skip
    assert all(one.remedy for one in findings if one.severity != "ok")
    # Without a preflight, as every few minutes: what is there is stored, and the run fails.
    done = settings.take(Tier.CHANGE)
    assert "5 that the policy names are not in the recovery point" in done.alarm
    (copy,) = done.copies
    assert details(copy).unread_count == 5
    settings.verify(copy)


@pytest.mark.parametrize("pattern", ["", "/**/app.conf", "/closed/*"])
def test_a_folder_that_can_not_be_read_makes_the_backup_partial_whoever_asks_for_it(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    settings.write("closed/app.conf")
    settings.write("open/app.conf")
    settings.environment["ALWAYS"] = "there"
    settings.protects(f"""
        files: ["{settings.etc}{pattern}"]
        environment: [ALWAYS]
    """)
    closed(monkeypatch, settings.etc / "closed")
    done = settings.take()
    assert f"{settings.etc}/closed can't be read: Permission denied" in done.alarm
    assert details(done.copies[0]).unread == (f"{settings.etc}/closed",)


def test_a_file_that_can_not_be_read_is_an_alarm_once_and_not_every_few_minutes(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write("open")
    file = settings.write("closed")
    settings.store()
    closed(monkeypatch, file)
    first = settings.take(Tier.CHANGE)
    assert "closed can't be read" in first.alarm
    again = settings.take(Tier.CHANGE)
    assert (again.copies, again.alarm) == ((), "")
    assert "As before, 1 are not in it" in again.message
    assert "closed can't be read" in settings.take(Tier.DAILY).alarm
    monkeypatch.undo()
    assert settings.take(Tier.CHANGE).alarm == ""
    assert len(settings.shown()) == 4


def test_an_item_that_is_too_large_is_named_and_the_rest_is_stored(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "LARGEST_ITEM", 1000)
    settings.write("large", b"x" * 1001)
    settings.write("fits", b"x" * 1000)
    done = settings.take()
    assert "too much for an item" in done.alarm
    assert details(done.copies[0]).items == {"files": 1}


def test_a_file_that_changes_while_it_is_read_is_read_again_and_named_if_it_changes_again(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings.write("busy", "0")
    really, moments = os.read, count(1)

    def reading(descriptor: int, size: int) -> bytes:
        os.utime(file, ns=(0, next(moments)))
        return really(descriptor, size)

    monkeypatch.setattr(files_module.os, "read", reading)
    (copy,) = settings.take().copies
    assert any("busy changed while it was read, twice" in finding for finding in copy.manifest.findings)


def test_a_file_that_changes_while_it_is_read_once_is_stored_as_it_was_the_second_time(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings.write("busy", "before")
    really, pieces = os.read, count(1)

    def reading(descriptor: int, size: int) -> bytes:
        found = really(descriptor, size)
        if next(pieces) == 1:
            file.write_text("afterwards")
        return found

    monkeypatch.setattr(files_module.os, "read", reading)
    copy = settings.store()
    assert copy.manifest.findings == ()
    assert (settings.restore(copy).into / settings.name("busy")).read_text() == "afterwards"


def test_a_lack_that_is_new_is_a_change_although_nothing_else_is(settings: Configuration) -> None:
    settings.environment["HERE"] = "1"
    settings.protects("environment: [HERE, A]")
    assert "environment/A is not set" in settings.take(Tier.CHANGE).alarm
    settings.protects("environment: [HERE, A, B]")
    done = settings.take(Tier.CHANGE)
    assert "environment/B is not set" in done.alarm
    assert settings.take(Tier.CHANGE).copies == ()


def test_a_state_in_a_bucket_is_gathered(settings: Configuration, moto: object) -> None:
    place = s3_place("s3", moto)  # type: ignore[arg-type]
    settings.environment |= place.environment
    bucket = place.policy["url"].split("/")[2]
    import boto3

    client = boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name="us-east-1",  # type: ignore[attr-defined]
        aws_access_key_id="moto", aws_secret_access_key="moto-secret",
    )  # fmt: skip
    client.put_object(Bucket=bucket, Key="erp/terraform.tfstate", Body=CANARY)
    settings.protects(f"""
        infrastructure:
          - {{url: "s3://{bucket}/erp/terraform.tfstate", connection: store}}
          - {{url: "s3://{bucket}/none", connection: store}}
    """)
    done = settings.take()
    assert "none can't be had: NoSuchKey" in done.alarm
    into = settings.restore(done.copies[0]).into
    assert (into / f"infrastructure/s3:/{bucket}/erp/terraform.tfstate").read_text() == CANARY


def test_a_store_that_is_away_or_refuses_leaves_its_secrets_out_and_says_so(
    settings: Configuration, vault: VaultStandIn
) -> None:
    vault.put("secret/mine", {"a": CANARY})
    vault.put("secret/deleted", {"a": CANARY})
    vault.put("secret/deleted", None)  # type: ignore[arg-type]
    vault.put("secret/theirs", {"a": CANARY})
    vault.refused.add("secret/theirs")
    settings.environment["AIRFLOW_CONN_AWAY"] = "vault://:token@127.0.0.1:9/http"
    settings.protects("""
        secrets:
          - {store: vault, connection: vault, names: [mine, theirs, deleted]}
          - {store: vault, connection: away, names: [other]}
    """)
    done = settings.take()
    assert set(details(done.copies[0]).unread) == {
        "secrets/vault/theirs", "secrets/vault/other", "secrets/vault/deleted"
    }  # fmt: skip
    assert "is refused" in done.alarm
    assert "can't be reached" in done.alarm


def test_vault_lets_an_approle_in(settings: Configuration, vault: VaultStandIn) -> None:
    vault.put("kv/erp", {"a": "1"})
    uri = f"vault://{vault.role}:{vault.secret_id}@127.0.0.1:{vault.port}/http?auth_type=approle"
    settings.environment["AIRFLOW_CONN_VAULT"] = uri
    settings.protects("secrets: [{store: vault, connection: vault, mount: kv, names: [erp]}]")
    assert details(settings.store()).items == {"secrets": 1}
