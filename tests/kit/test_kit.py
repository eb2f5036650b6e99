"""The recovery kit: what is in it, what it refuses, and what a check of it finds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lifeboat.connections import outside_from
from lifeboat.errors import (
    ConnectionUnknown,
    KeyUnavailable,
    ManifestInvalid,
    PolicyError,
    RepositoryError,
)
from lifeboat.kit.access import credentials_of, outside_from_kit
from lifeboat.kit.checking import check
from lifeboat.kit.export import export
from lifeboat.kit.opening import read_kit
from lifeboat.outside import Outside, utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.postgres.moments import Latest
from lifeboat.postgres.restore_sources import read_offer
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.key_making import new_break_glass_pair
from lifeboat.targets.target import Finding
from sandbox.demo_system import make_demo_system
from tests.kit.conftest import LostSystem, Papers


@pytest.fixture
def kit(lost: LostSystem, papers: Papers, tmp_path: Path) -> Path:
    path = tmp_path / "kit.zip"
    export([lost.repository], path, actor="test", project=papers.project)
    return path


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def warnings_about(findings: list[Finding], words: str) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "warning" and words in finding.what]


def without_offsite_policy(lost: LostSystem) -> Mapping[str, str]:
    return {name: value for name, value in lost.variables.items() if name != "AIRFLOW_CONN_DEMO_PRIMARY"}


def test_a_kit_holds_everything_and_says_so(lost: LostSystem, papers: Papers, tmp_path: Path) -> None:
    path = tmp_path / "kit.zip"
    summary = export([lost.repository], path, actor="test", wheels=papers.wheels, project=papers.project)
    assert summary.systems == ("demo",)
    assert summary.break_glass == {"demo": ("demo-break-glass",)}
    assert summary.connections == ("demo_offsite", "demo_primary")
    assert summary.local_keys == ("demo-local",)
    assert summary.wheels == len(list(papers.wheels.iterdir()))
    assert summary.size == path.stat().st_size
    assert summary.notices == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        facts = json.loads(archive.read("systems/demo.json"))
        assert archive.read("policies/demo.yaml") == lost.system.policy.read_bytes()
    assert {
        "READ-ME-FIRST.txt",
        "restore-by-hand.md",
        "restore-archive-by-hand.md",
        "reader/lifeboat_reader.py",
        "reader/requirements.txt",
        "requirements.txt",
        "runbooks/first-hour.md",
        "signatures/demo.json",
    } <= names
    assert facts["targets"]["primary"]["endpoint"].startswith("http://127.0.0.1:")
    assert facts["trusted_keys"][0]["public_key"] == lost.loaded.policy.signing.trusted[0].public_key
    assert json.dumps(summary.for_journal())


def test_no_secret_can_be_read_in_a_kit(lost: LostSystem, papers: Papers, tmp_path: Path) -> None:
    path = tmp_path / "kit.zip"
    more = ["demo_database"]
    summary = export([lost.repository], path, actor="test", connections=more, project=papers.project)
    assert summary.connections == ("demo_database", "demo_offsite", "demo_primary")
    with zipfile.ZipFile(path) as archive:
        haystacks = [path.read_bytes(), *(archive.read(name) for name in archive.namelist())]
    for what, secret in lost.secrets.items():
        assert not any(secret in haystack for haystack in haystacks), what
        assert secret.decode("latin-1") not in repr(summary)
    opened = credentials_of(read_kit(path), "demo", [lost.system.break_glass])
    # They are in it all the same, but for the keys that no kit may hold.
    assert opened.connections["demo_primary"]["password"].encode() == lost.secrets["the store's secret key"]
    assert opened.connections["demo_database"]["password"].encode() == lost.secrets["the database's password"]
    assert opened.local_keys["demo-local"].encode() == lost.secrets["the local key"]
    assert "password" not in repr(opened)


def test_an_sftp_connection_brings_the_key_along_that_lay_in_a_file_of_the_worker(lost: LostSystem, kit: Path) -> None:
    opened = credentials_of(read_kit(kit), "demo", [lost.system.break_glass])
    extra = opened.connections["demo_offsite"]["extra"]
    assert lost.secrets["the off-site server's key"].decode() in extra["private_key"]
    assert "key_file" not in extra
    assert extra["host_key"].startswith("ssh-ed25519 ")


def test_a_key_file_that_is_not_there_ends_an_export(lost: LostSystem, papers: Papers, tmp_path: Path) -> None:
    document = json.loads(lost.variables["AIRFLOW_CONN_DEMO_OFFSITE"])
    document["extra"]["key_file"] = "/nowhere/vault.key"
    outside = outside_from({**lost.variables, "AIRFLOW_CONN_DEMO_OFFSITE": json.dumps(document)})
    with pytest.raises(ConnectionUnknown, match=r"demo_offsite names /nowhere/vault\.key") as caught:
        export([SystemRepository(lost.loaded, outside)], tmp_path / "kit.zip", actor="test", project=papers.project)
    assert "private_key" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_only_the_break_glass_key_wraps_the_credentials(kit: Path) -> None:
    with zipfile.ZipFile(kit) as archive:
        (name,) = (name for name in archive.namelist() if re.match(r"credentials/demo/.*/manifest\.json$", name))
        wrapped = json.loads(archive.read(name))["wrapped_keys"]
    assert wrapped == [{"provider": "lifeboat", "name": "demo-break-glass"}]


def test_a_kit_is_never_written_over_a_file(lost: LostSystem, papers: Papers, tmp_path: Path) -> None:
    path = tmp_path / "kit.zip"
    path.write_text("an older kit")
    with pytest.raises(RepositoryError, match="there already"):
        export([lost.repository], path, actor="test", project=papers.project)
    assert path.read_text() == "an older kit"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryError, match="there already"):
        export([lost.repository], path, actor="test", project=papers.project)


def test_an_export_that_fails_leaves_nothing_behind(lost: LostSystem, papers: Papers, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    broken = SystemRepository(lost.loaded, outside_from(without_offsite_policy(lost)))
    with pytest.raises(ConnectionUnknown, match="demo_primary"):
        export([broken], room / "kit.zip", actor="test", project=papers.project)
    with pytest.raises(RepositoryError, match=r"restore-by-hand\.md"):
        export([lost.repository], room / "kit.zip", actor="test", project=tmp_path)
    with pytest.raises(RepositoryError, match="can't be written"):
        export([lost.repository], room / "no" / "kit.zip", actor="test", project=papers.project)
    assert list(room.iterdir()) == []


def test_where_there_are_no_hard_links_a_kit_is_still_whole_and_never_overwrites(
    lost: LostSystem, papers: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "kit.zip"
    export([lost.repository], path, actor="test", without_credentials=True, project=papers.project)
    read_kit(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kit.zip"]


def test_without_a_break_glass_key_an_export_is_refused_unless_no_credentials_are_wanted(
    papers: Papers, tmp_path: Path
) -> None:
    system = make_demo_system(tmp_path / "system", binaries=Path("/nowhere"))
    text = system.policy.read_text()
    begin = text.index("    - name: demo-break-glass")
    end = text.index("signing:")
    system.policy.write_text(text[:begin] + "  accept_single_key: true\n\n" + text[end:])
    repository = SystemRepository(load_policy(system.policy), outside_from({}))
    with pytest.raises(PolicyError, match="names no break-glass key"):
        export([repository], tmp_path / "kit.zip", actor="test", project=papers.project)
    assert not (tmp_path / "kit.zip").exists()
    summary = export([repository], tmp_path / "kit.zip", actor="test", without_credentials=True, project=papers.project)
    assert summary.connections == ()
    assert "no credentials" in summary.notices[0]
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith("credentials/")]
    with pytest.raises(KeyUnavailable, match="without credentials"):
        outside_from_kit(tmp_path / "kit.zip", [system.break_glass], outside_from)


def test_wheels_must_be_there_all_of_them_and_be_the_ones_that_were_pinned(
    lost: LostSystem, papers: Papers, tmp_path: Path
) -> None:
    def attempt(wheels: Path) -> None:
        export(
            [lost.repository],
            tmp_path / "kit.zip",
            actor="test",
            wheels=wheels,
            without_credentials=True,
            project=papers.project,
        )

    with pytest.raises(RepositoryError, match="can't be read"):
        attempt(tmp_path / "missing")
    few = tmp_path / "few"
    few.mkdir()
    for wheel in papers.wheels.iterdir():
        if not wheel.name.startswith("zstandard"):
            (few / wheel.name).hardlink_to(wheel)
    with pytest.raises(RepositoryError, match="no wheel of: zstandard=="):
        attempt(few)
    (wheel,) = papers.wheels.glob("zstandard*")
    (few / wheel.name).write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(RepositoryError, match="not the wheel that was pinned"):
        attempt(few)
    assert not (tmp_path / "kit.zip").exists()


def test_a_kit_without_wheels_says_where_they_come_from(kit: Path) -> None:
    assert any("no wheels" in notice for notice in read_kit(kit).manifest.notices)
    with zipfile.ZipFile(kit) as archive:
        assert b"no wheels" in archive.read("READ-ME-FIRST.txt")


def rewritten(kit: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The kit with some of its files changed."""
    with zipfile.ZipFile(kit) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    path = kit.with_name("changed.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def change_a_policy(files: dict[str, bytes]) -> None:
    files["policies/demo.yaml"] += b"# and more\n"


def exchange_the_reader(files: dict[str, bytes]) -> None:
    files["reader/lifeboat_reader.py"] = b"print('evil')\n"


def exchange_the_reader_and_restate(files: dict[str, bytes]) -> None:
    old = files["reader/lifeboat_reader.py"]
    exchange_the_reader(files)
    new = files["reader/lifeboat_reader.py"]
    manifest = json.loads(files["manifest.json"])
    (entry,) = (entry for entry in manifest["files"] if entry["name"] == "reader/lifeboat_reader.py")
    assert entry["sha256"] == hashlib.sha256(old).hexdigest()
    entry |= {"sha256": hashlib.sha256(new).hexdigest(), "size": len(new)}
    files["manifest.json"] = json.dumps(manifest).encode()


def remove_the_page(files: dict[str, bytes]) -> None:
    del files["restore-by-hand.md"]


def add_a_file(files: dict[str, bytes]) -> None:
    files["runbooks/run-me.sh"] = b"rm -rf /\n"


def add_a_file_outside(files: dict[str, bytes]) -> None:
    files["../outside"] = b""


def change_credentials(files: dict[str, bytes]) -> None:
    (name,) = (name for name in files if name.endswith(".zst.enc"))
    data = bytearray(files[name])
    data[-30] ^= 1
    files[name] = bytes(data)


def change_the_manifest(files: dict[str, bytes]) -> None:
    files["manifest.json"] = files["manifest.json"].replace(b'"lifeboat": "', b'"lifeboat": "9')


def remove_the_signature(files: dict[str, bytes]) -> None:
    del files["signatures/demo.json"]


def cut_the_manifest(files: dict[str, bytes]) -> None:
    files["manifest.json"] = files["manifest.json"][:-50]


TAMPERING = (
    change_a_policy,
    exchange_the_reader,
    exchange_the_reader_and_restate,
    remove_the_page,
    add_a_file,
    add_a_file_outside,
    change_credentials,
    change_the_manifest,
    remove_the_signature,
    cut_the_manifest,
)


@pytest.mark.parametrize("change", TAMPERING, ids=lambda change: change.__name__)
def test_a_kit_that_was_tampered_with_is_found_out_and_never_used(
    lost: LostSystem, kit: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    changed = rewritten(kit, change)
    assert errors(check(changed, [lost.system.break_glass], outside_from))
    with pytest.raises(ManifestInvalid):
        outside_from_kit(changed, [lost.system.break_glass], outside_from)


def test_a_file_that_is_no_kit_or_half_a_kit_is_a_finding(kit: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.zip"
    half.write_bytes(kit.read_bytes()[: kit.stat().st_size // 2])
    nothing = tmp_path / "nothing.zip"
    with zipfile.ZipFile(nothing, "w"):
        pass
    for path in (half, nothing, tmp_path / "missing.zip"):
        assert errors(check(path, [], outside_from))


def test_a_good_kit_opens_reaches_its_targets_and_finds_their_newest_recovery_points(
    lost: LostSystem, kit: Path
) -> None:
    findings = check(kit, [lost.system.break_glass], outside_from, policies={"demo": lost.loaded})
    assert errors(findings) == []
    good = {finding.subject for finding in findings if finding.severity == "ok"}
    assert {"kit", "age", "credentials of demo", "demo", "demo database on primary", "demo database on local"} <= good
    assert not warnings_about(findings, "stale")


def test_a_wrong_break_glass_key_is_an_error_and_opens_nothing(lost: LostSystem, kit: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text(new_break_glass_pair().private)
    found = errors(check(kit, [wrong], outside_from))
    assert "credentials of demo" in {finding.subject for finding in found}
    # Without credentials the store is not reached either; the directory needs none.
    assert "demo database on primary" in {finding.subject for finding in found}
    assert "demo database on local" not in {finding.subject for finding in found}
    with pytest.raises(KeyUnavailable):
        outside_from_kit(kit, [wrong], outside_from)


def test_without_the_break_glass_key_a_check_says_what_it_could_not_see(kit: Path) -> None:
    assert warnings_about(check(kit, [], outside_from), "They stay closed")


def test_a_kit_signed_by_a_key_that_the_policy_does_not_trust_is_an_error(
    lost: LostSystem, kit: Path, tmp_path: Path
) -> None:
    other = make_demo_system(tmp_path / "other", binaries=Path("/nowhere"))
    findings = check(kit, [lost.system.break_glass], outside_from, policies={"demo": load_policy(other.policy)})
    assert [finding for finding in errors(findings) if finding.subject == "demo"]


def test_a_kit_is_stale_when_its_policy_is_another_than_the_one_in_force_or_on_the_targets(
    lost: LostSystem, papers: Papers, kit: Path, tmp_path: Path
) -> None:
    present = replace(lost.loaded, digest="sha256:" + "0" * 64)
    findings = check(kit, [lost.system.break_glass], outside_from, policies={"demo": present})
    assert warnings_about(findings, "changed since the kit was made")
    policy = tmp_path / "demo.yaml"
    policy.write_text(lost.system.policy.read_text() + "# reviewed\n")
    newer = tmp_path / "newer.zip"
    export([SystemRepository(load_policy(policy), lost.outside)], newer, actor="test", project=papers.project)
    findings = check(newer, [lost.system.break_glass], outside_from)
    assert warnings_about(findings, "the kit is stale")
    assert warnings_about(findings, "compared with no policy")


def test_an_old_kit_and_a_system_that_is_not_in_it_are_found(lost: LostSystem, kit: Path) -> None:
    def later(environment: Mapping[str, str]) -> Outside:
        return outside_from(environment, clock=lambda: utc_now() + timedelta(days=100))

    policies = {"demo": lost.loaded, "another": lost.loaded}
    findings = check(kit, [lost.system.break_glass], later, policies=policies)
    assert warnings_about(findings, "100 days ago")
    assert "another" in {finding.subject for finding in errors(findings)}


def test_a_target_that_has_forged_manifests_is_an_error(lost: LostSystem, papers: Papers, tmp_path: Path) -> None:
    text = lost.system.policy.read_text()
    place = tmp_path / "local"
    shutil.copytree(lost.system.local, place)
    policy = tmp_path / "demo.yaml"
    policy.write_text(text.replace(str(lost.system.local), str(place)))
    repository = SystemRepository(load_policy(policy), lost.outside)
    export([repository], tmp_path / "kit.zip", actor="test", project=papers.project)
    for manifest in place.glob("demo/database/*/manifest.json"):
        manifest.write_bytes(manifest.read_bytes().replace(b'"note": ""', b'"note": "x"'))
    found = errors(check(tmp_path / "kit.zip", [lost.system.break_glass], outside_from))
    assert [finding.subject for finding in found] == ["demo database on local"]


def test_a_kit_alone_gives_a_restore_all_that_it_needs(lost: LostSystem, kit: Path, tmp_path: Path) -> None:
    key = tmp_path / "break-glass.pem"
    key.write_bytes(lost.system.break_glass.read_bytes())
    moved = lost.system.keys.with_name("keys-are-gone")
    lost.system.keys.rename(moved)
    try:
        policies, outside = outside_from_kit(kit, [key], outside_from)
        for break_glass in ([key], []):
            # The local key out of the kit opens backups as well as the break-glass key does.
            repository = SystemRepository(policies["demo"], outside, break_glass=break_glass)
            assert "demo-local" in {name.name for name in repository.opening.wrapping_keys}
            offer = read_offer(repository, "database", "primary")
            plan = offer.plan(Latest())
            assert [link.manifest.kind for link in plan.base.links] == ["full", "incremental"]
    finally:
        moved.rename(lost.system.keys)


def test_credentials_moved_from_another_kit_are_refused(
    lost: LostSystem, papers: Papers, kit: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.zip"
    export([lost.repository], other, actor="test", project=papers.project)
    opened = read_kit(other)
    mixed = replace(opened, manifest=read_kit(kit).manifest)
    with pytest.raises(ManifestInvalid):
        credentials_of(mixed, "demo", [lost.system.break_glass])


def test_a_name_that_stands_twice_in_the_archive_is_refused(kit: Path) -> None:
    data = io.BytesIO(kit.read_bytes())
    with zipfile.ZipFile(data, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("READ-ME-FIRST.txt", "Call this number first.")
    kit.write_bytes(data.getvalue())
    with pytest.raises(ManifestInvalid, match="two files of one name"):
        read_kit(kit)
