"""Evidence for auditors: what is amiss is named, and the script that checks an archive needs nothing of ours."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tokenize
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import Cancelled, RepositoryError
from lifeboat.recovery.audit_archive import (
    PROJECT,
    SCRIPT,
    Member,
    archive_of,
    index_of,
    members_of,
    read_script,
    write_archive,
)
from lifeboat.recovery.auditing import Evidence, Period, compare, gather
from lifeboat.recovery.evidence import Record
from lifeboat.recovery.keeping import signed
from lifeboat.repository.canonical import canonical
from lifeboat.repository.journal import Event
from lifeboat.repository.signing import Signer
from tests.proving.test_evidence import BEGUN, kept, record
from tests.repository.world import World

CHECK = PROJECT / "include" / "auditor" / SCRIPT
NOVEMBER = Period.of(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
Files = dict[str, bytes]


def gathered(world: World, period: Period = NOVEMBER, target: str = "primary") -> Evidence:
    return gather(world.repository(), target, period, made_by="auditor@desk")


def kept_in_the_journal(world: World, one: Record) -> Path:
    """The file of the event that announces a record."""
    (found,) = [path for path in world.roots["primary"].glob("demo/journal/**/*.json") if one.id in path.read_text()]
    return found


# --- gathering ---


def test_records_and_what_announces_them_are_brought_together(world: World) -> None:
    records = []
    for day in (0, 1):
        records.append(kept(world, record(begun=BEGUN + timedelta(days=day), mark=f"{day:08x}")))
        world.clock.advance(days=1)
    evidence = gathered(world)
    assert evidence.whole
    assert list(evidence.records) == records
    assert [event.details["sha256"] for event in evidence.compared.events] == [one.sha256 for one in records]


def test_records_of_other_times_are_left_out_with_their_events(world: World) -> None:
    for begun in (datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)):
        world.clock.now = begun
        kept(world, record(begun=begun))
    first, last = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 30, 23, 59, 59, 500_000, tzinfo=UTC)
    for begun in (first, last):
        world.clock.now = begun
        kept(world, record(begun=begun))
    world.clock.now = datetime(2026, 12, 10, tzinfo=UTC)
    evidence = gathered(world)
    assert [one.begun for one in evidence.records] == [first, last]
    assert len(evidence.compared.events) == 2
    assert evidence.whole


def test_an_event_that_comes_after_the_periods_end_still_announces(world: World) -> None:
    world.clock.now = datetime(2026, 12, 1, 9, tzinfo=UTC)
    kept(world, record(begun=datetime(2026, 11, 30, 22, tzinfo=UTC)))
    world.clock.advance(days=9)
    assert gathered(world).whole


def test_a_record_that_is_gone_is_missing(world: World) -> None:
    one = kept(world, record())
    world.file(one.key).unlink()
    evidence = gathered(world)
    assert not evidence.whole
    (missing,) = evidence.compared.missing
    assert (missing.record, evidence.records) == (one.id, ())
    assert missing.event.startswith("demo/journal/2026/11/22/")


def test_a_record_whose_event_is_gone_is_unannounced(world: World) -> None:
    one = kept(world, record())
    kept_in_the_journal(world, one).unlink()
    evidence = gathered(world)
    assert evidence.compared.unannounced == (one.id,)
    assert not evidence.whole


def test_a_record_that_was_changed_is_not_believed_and_misses(world: World) -> None:
    one = kept(world, record())
    path = world.file(one.key)
    path.chmod(0o600)
    path.write_text(path.read_text().replace("tester", "nobody"))
    evidence = gathered(world)
    assert [found.key for found in evidence.unbelievable] == [one.key]
    assert [found.record for found in evidence.compared.missing] == [one.id]


def test_an_event_that_was_changed_is_not_believed(world: World) -> None:
    one = kept(world, record())
    path = kept_in_the_journal(world, one)
    path.chmod(0o600)
    path.write_text(path.read_text().replace(one.sha256, "0" * 64))
    evidence = gathered(world)
    assert [found.key for found in evidence.unbelievable] == [str(path.relative_to(world.roots["primary"]))]
    assert evidence.compared.unannounced == (one.id,)


def test_a_record_that_a_trusted_key_signed_anew_is_not_the_one_that_was_announced(world: World) -> None:
    one = kept(world, record())
    other = signed(one.model_copy(update={"actor": "somebody else"}), world.repository().signer)
    path = world.file(one.key)
    path.chmod(0o600)
    path.write_bytes(other.to_json())
    evidence = gathered(world)
    assert evidence.compared.unannounced == (one.id,)
    (found,) = evidence.unbelievable
    assert "another content" in found.what


def test_an_event_that_announces_no_record_is_not_believed(world: World) -> None:
    world.repository().journal("primary", run="test", actor="tester").write("evidence_recorded", record="../secret")
    evidence = gathered(world)
    (found,) = evidence.unbelievable
    assert "'../secret'" in found.what
    assert evidence.compared.events == ()


def test_other_events_of_the_journal_are_none_of_the_auditors_business(world: World) -> None:
    world.repository().journal("primary", run="test", actor="tester").write("backup_begun", source="database")
    evidence = gathered(world)
    assert evidence.whole
    assert evidence.compared.events == ()


def test_a_record_announced_twice_by_a_try_that_was_cut_off_is_whole(world: World) -> None:
    one = record()
    kept(world, one)
    kept(world, one)
    evidence = gathered(world)
    assert evidence.whole
    assert len(evidence.compared.events) == 2


def test_what_was_due_in_the_period_and_begun_after_it_is_not_missed(world: World) -> None:
    world = world.bent("\nsources:\n", '\ntests:\n  schedule: "0 6 * * 1#1"\n\nsources:\n')
    period = Period.of(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC))
    (missed,) = gathered(world, period).missed
    assert missed.due == datetime(2026, 10, 5, 6, tzinfo=UTC)
    begun = datetime(2026, 11, 1, 12, tzinfo=UTC)
    kept(world, record(begun=begun))
    evidence = gathered(world, period)
    assert (evidence.missed, evidence.records, evidence.whole) == ((), (), True)


def test_a_policy_is_there_if_its_text_is_the_one_of_its_digest(world: World) -> None:
    repository = world.repository()
    repository.keep_policy(repository.target("primary"))
    digest = repository.loaded.digest
    kept(world, record(policy_digest=digest))
    assert gathered(world).policies == {digest: repository.loaded.text.encode()}
    path = world.file(f"demo/policies/{digest.removeprefix('sha256:')}.yaml")
    path.chmod(0o600)
    path.write_text("another\n")
    assert gathered(world).policies == {digest: None}


def test_a_period_has_whole_seconds_as_the_ids_of_records_have() -> None:
    one = record(begun=BEGUN + timedelta(milliseconds=200))
    begin = BEGUN + timedelta(milliseconds=500)
    assert Period.of(begin, begin).holds(one.id)
    assert not Period.of(begin + timedelta(seconds=1), begin + timedelta(days=1)).holds(one.id)
    assert not Period.of(begin - timedelta(days=1), begin - timedelta(seconds=1)).holds(one.id)
    assert Period.of(begin, begin).holds("20260231T020000Z-drill-00000000") is None


def test_an_event_of_another_kind_announces_nothing_whatever_it_names() -> None:
    one = record()
    event = announcing(one, sha256=one.sha256).model_copy(update={"kind": "restore_test_begun"})
    found = compare([one], [event], NOVEMBER)
    assert (found.events, found.unannounced) == ((), (one.id,))


def test_reading_can_be_stopped(world: World) -> None:
    kept(world, record())

    def stop() -> None:
        raise Cancelled("Enough.")

    with pytest.raises(Cancelled, match="Enough"):
        gather(world.repository(), "primary", NOVEMBER, made_by="auditor@desk", tick=stop)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=8))
def test_whatever_stands_alone_is_named_and_nothing_else(chosen: list[tuple[int, bool, bool]]) -> None:
    records = {number: record(begun=BEGUN + timedelta(hours=number), mark=f"{number:08x}") for number, *_ in chosen}
    held = {number for number, there, _ in chosen if there}
    events = [
        announcing(records[number], number=place, sha256=records[number].sha256)
        for place, (number, _, announced) in enumerate(chosen, 1)
        if announced
    ]
    said = {number for number, _, announced in chosen if announced}
    found = compare([records[number] for number in sorted(held)], events, NOVEMBER)
    assert {one.record for one in found.missing} == {records[number].id for number in said - held}
    assert set(found.unannounced) == {records[number].id for number in held - said}
    assert found.unbelievable == ()
    assert found.events == tuple(events)


def announcing(one: Record, *, number: int = 1, **details: Any) -> Event:
    return Event(
        time=one.ended, run="test-00000000", number=number, previous=None, kind="evidence_recorded", system="demo",
        actor="tester", details={"record": one.id} | details, key_id="unsigned",
    )  # fmt: skip


# --- the archive ---


@pytest.fixture
def archived(world: World, tmp_path: Path) -> tuple[World, Path]:
    """An archive of two records, a test that passed and a drill that failed, with their policy."""
    repository = world.repository()
    repository.keep_policy(repository.target("primary"))
    digest = repository.loaded.digest
    kept(world, record(policy_digest=digest))
    world.clock.advance(days=1)
    later = BEGUN + timedelta(days=1)
    kept(world, record(begun=later, kind="drill", mark="fedcba98", lacking={"files": "none"}, policy_digest=digest))
    path = tmp_path / "evidence.tar.gz"
    write_archive(gathered(world), path)
    return world, path


def files_of(path: Path) -> Files:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_an_archive_has_what_is_stored_and_all_that_is_needed_to_check_it(archived: tuple[World, Path]) -> None:
    world, path = archived
    files = files_of(path)
    folders = [name.partition("/")[0] for name in files]
    assert folders == ["README.txt", SCRIPT, *["events"] * 2, "index.json", "keys.json", "policies", *["records"] * 2]
    for name, data in files.items():
        if name.startswith("records/"):
            assert world.file(f"demo/evidence/2026/11/{Path(name).name}").read_bytes() == data
        if name.startswith("events/"):
            day = Path(name).name[6:8]
            assert world.file(f"demo/journal/2026/11/{day}/{Path(name).name}").read_bytes() == data
    (policy,) = [data for name, data in files.items() if name.startswith("policies/")]
    assert policy == world.policy.read_bytes()
    assert files[SCRIPT] == CHECK.read_bytes()
    (key,) = json.loads(files["keys.json"])["trusted_keys"]
    assert key == {
        "id": "demo-signing", "public_key": world.loaded.policy.signing.trusted[0].public_key,
        "valid_from": "2026-01-01T00:00:00Z", "valid_until": None,
    }  # fmt: skip


def test_the_index_names_each_record_with_its_digest_its_controls_and_what_is_amiss(
    archived: tuple[World, Path],
) -> None:
    files = files_of(archived[1])
    index = json.loads(files["index.json"])
    assert (index["from"], index["to"]) == ("2026-11-01T00:00:00Z", "2026-11-30T23:59:59.999999Z")
    assert (index["made_by"], index["target"]) == ("auditor@desk", "primary")
    for row in index["records"]:
        assert hashlib.sha256(files[row["file"]]).hexdigest() == row["sha256"]
        assert row["policy"] in files
    assert [(row["kind"], row["passed"]) for row in index["records"]] == [("restore_test", True), ("drill", False)]
    assert "NIST SP 800-53 CP-4" in index["records"][1]["controls"]
    assert [index[name] for name in ("missing", "unannounced", "unbelievable", "missed_runs")] == [[], [], [], []]


def test_the_index_says_what_is_amiss(world: World) -> None:
    gone, alone = kept(world, record()), kept(world, record(mark="fedcba98"))
    world.file(gone.key).unlink()
    kept_in_the_journal(world, alone).unlink()
    world.file(gone.key).with_name("strange.json").write_text("{}")
    index = index_of(gathered(world))
    assert [row["policy"] for row in index["records"]] == [None]
    assert [row["record"] for row in index["missing"]] == [gone.id]
    assert index["unannounced"] == [alone.id]
    assert [row["key"] for row in index["unbelievable"]] == ["demo/evidence/2026/11/strange.json"]


def test_the_same_evidence_makes_the_same_archive_to_the_byte(archived: tuple[World, Path], tmp_path: Path) -> None:
    world, path = archived
    again = tmp_path / "another name"
    digest = write_archive(gathered(world), again)
    assert again.read_bytes() == path.read_bytes()
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.read_bytes()[3:8] == bytes(5)  # neither a file's name nor a time in the header of gzip
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.glob("*.unfinished")] == []
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.uid, member.gid, member.uname, member.gname, member.mode) for member in members} == {
        (0, 0, "", "", 0o644)
    }
    ends = {member.mtime for member in members if member.name.startswith("records/2026112")}
    ended = BEGUN + timedelta(minutes=1)
    assert ends == {int(ended.timestamp()), int((ended + timedelta(days=1)).timestamp())}


def test_a_file_that_is_there_is_left_as_it_is(world: World, tmp_path: Path) -> None:
    evidence = gathered(world)
    path = tmp_path / "evidence.tar.gz"
    path.write_text("mine")
    with pytest.raises(RepositoryError, match="there already"):
        write_archive(evidence, path)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RepositoryError, match="there already"):
        write_archive(evidence, path)
    assert [found.name for found in tmp_path.glob("*evidence*")] == ["evidence.tar.gz"]


def test_an_archive_that_can_not_be_written_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="can't be written"):
        write_archive(gathered(world), tmp_path / "no" / "evidence.tar.gz")
    with pytest.raises(RepositoryError, match="can't be put into the archive"):
        write_archive(gathered(world), tmp_path / "evidence.tar.gz", project=tmp_path)
    assert list(tmp_path.glob("*evidence*")) == []


# --- the script ---


def test_the_script_has_forty_lines_and_needs_but_one_package() -> None:
    source = read_script().decode()
    tree = ast.parse(source)
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    lines -= set(range(tree.body[0].lineno, (tree.body[0].end_lineno or 0) + 1))
    assert len(lines) <= 40
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


class Auditor:
    """Somebody who has the script, an archive, and the keys that the owners gave."""

    def __init__(self, files: Files, room: Path) -> None:
        self.files = dict(files)
        self.keys = json.loads(files["keys.json"])["trusted_keys"]
        self._room = room

    def check(self, *, with_keys: bool = True) -> subprocess.CompletedProcess[str]:
        archive, keys = self._room / "archive.tar.gz", self._room / "keys.json"
        with tarfile.open(archive, "w:gz") as packed:
            for name, data in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                packed.addfile(entry, io.BytesIO(data))
        keys.write_text(json.dumps(self.keys))
        words = [sys.executable, "-I", str(CHECK), str(archive), *([str(keys)] if with_keys else [])]
        return subprocess.run(words, capture_output=True, text=True, env={}, cwd=self._room, check=False)

    def faults(self) -> list[str]:
        """The names that faults are found of, for an archive that must have some."""
        ended = self.check()
        assert ended.returncode == 1, ended
        assert ended.stderr == ""
        found = [line.removeprefix("FAULT   ") for line in ended.stdout.splitlines() if line.startswith("FAULT")]
        assert found
        return found

    def names(self, folder: str) -> list[str]:
        return sorted(name for name in self.files if name.startswith(folder + "/"))

    def signed_by(self, name: str, private: Ed25519PrivateKey, **change: Any) -> bytes:
        """A document of the archive, changed and signed anew."""
        document = json.loads(self.files[name]) | change
        document.pop("signature")
        signature = base64.b64encode(private.sign(canonical(document))).decode()
        return canonical(document | {"signature": signature}) + b"\n"


@pytest.fixture
def auditor(archived: tuple[World, Path], tmp_path: Path) -> Auditor:
    room = tmp_path / "auditor"
    room.mkdir()
    return Auditor(files_of(archived[1]), room)


def test_a_good_archive_has_no_fault_also_where_a_record_failed(auditor: Auditor) -> None:
    ended = auditor.check()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "passed  records/20261122T020000Z-restore-test-0123abcd.json  demo",
        "FAILED  records/20261123T020000Z-drill-fedcba98.json  demo",
        "2 records, 2 events",
    ]


def test_the_keys_of_a_recovery_kit_do_as_they_are(auditor: Auditor) -> None:
    auditor.keys = {"system": "demo", "trusted_keys": auditor.keys}
    assert auditor.check().returncode == 0


def test_a_key_without_an_end_has_none(auditor: Auditor) -> None:
    del auditor.keys[0]["valid_until"]
    assert auditor.check().returncode == 0


def test_keys_from_the_archive_itself_are_warned_of(auditor: Auditor) -> None:
    ended = auditor.check(with_keys=False)
    assert ended.returncode == 0
    assert "WARNING keys.json of the archive was believed" in ended.stdout


def test_a_changed_record_is_found(auditor: Auditor) -> None:
    name = auditor.names("records")[0]
    auditor.files[name] = auditor.files[name].replace(b'"fetch":1200', b'"fetch":1')
    assert "no trusted key has signed it as it is: InvalidSignature()" in auditor.faults()[0]


def test_a_changed_event_is_found(auditor: Auditor) -> None:
    name = auditor.names("events")[0]
    auditor.files[name] = auditor.files[name].replace(b'"passed":true', b'"passed":false')
    faults = auditor.faults()
    assert faults[0].startswith(f"{name}: no trusted key has signed it")
    assert faults[1].startswith(f"{auditor.names('records')[0]}: here, but no event announces it")


def test_a_removed_record_is_found(auditor: Auditor) -> None:
    name = auditor.names("records")[1]
    del auditor.files[name]
    assert auditor.faults() == [f"{name}: announced, but not here as it was announced"]


def test_a_removed_event_is_found(auditor: Auditor) -> None:
    del auditor.files[auditor.names("events")[1]]
    assert auditor.faults() == [f"{auditor.names('records')[1]}: here, but no event announces it as it is"]


@pytest.mark.parametrize("known_as", ["demo-signing", "stranger"])
def test_a_record_of_a_foreign_key_is_found_whatever_it_calls_itself(auditor: Auditor, known_as: str) -> None:
    name = auditor.names("records")[1]
    foreign = Ed25519PrivateKey.generate()
    auditor.files[name] = auditor.signed_by(name, foreign, passed=True, lacking={}, key_id=known_as)
    faults = auditor.faults()
    assert faults[0].startswith(f"{name}: no trusted key has signed it")
    # Also together with an event of its own, and with the key in the archive.
    event = auditor.names("events")[1]
    digest = hashlib.sha256(auditor.files[name]).hexdigest()
    details = json.loads(auditor.files[event])["details"] | {"sha256": digest}
    auditor.files[event] = auditor.signed_by(event, foreign, details=details, key_id=known_as)
    public = base64.b64encode(foreign.public_key().public_bytes_raw()).decode()
    key = auditor.keys[0] | {"id": known_as, "public_key": public}
    auditor.files["keys.json"] = json.dumps({"trusted_keys": [key]}).encode()
    assert {fault.partition(":")[0] for fault in auditor.faults()} >= {name, event}


def test_a_renamed_record_is_found(auditor: Auditor) -> None:
    name = auditor.names("records")[0]
    auditor.files[other := name.replace("20261122", "20261124")] = auditor.files.pop(name)
    faults = auditor.faults()
    assert faults[0] == f"{other}: it belongs under the name {name}"
    assert f"{name}: announced, but not here as it was announced" in faults


def test_a_renamed_event_is_found(auditor: Auditor) -> None:
    name = auditor.names("events")[0]
    auditor.files[other := name.replace("20261122", "20261124")] = auditor.files.pop(name)
    assert auditor.faults()[0] == f"{other}: it belongs under the name {name}"


def test_a_record_in_another_form_is_found(auditor: Auditor) -> None:
    name = auditor.names("records")[0]
    auditor.files[name] = json.dumps(json.loads(auditor.files[name])).encode()
    assert auditor.faults()[0] == f"{name}: it is not written as it was signed"


def test_a_record_signed_anew_by_a_trusted_key_is_not_the_one_that_was_announced(
    auditor: Auditor, archived: tuple[World, Path]
) -> None:
    name = auditor.names("records")[1]
    signer: Signer = archived[0].repository().signer
    document = json.loads(auditor.files[name]) | {"reason": "another"}
    document.pop("signature")
    signature = signer.sign(canonical(document))
    auditor.files[name] = canonical(document | {"signature": signature}) + b"\n"
    assert auditor.faults() == [
        f"{name}: announced, but not here as it was announced",
        f"{name}: here, but no event announces it as it is",
    ]


@pytest.mark.parametrize("key", ["valid_from", "valid_until"])
def test_a_key_that_was_not_valid_then_is_found(auditor: Auditor, key: str) -> None:
    # Between the two: what one of them signed is out of its time, what the other signed is not.
    auditor.keys[0][key] = "2026-11-22T14:00:00Z"
    out = 0 if key == "valid_from" else 1
    names = [auditor.names("records")[out], auditor.names("events")[out]]
    assert [fault for fault in auditor.faults() if "valid" in fault] == [
        f"{name}: its key was not valid" for name in names
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"key_id":[]}', b"\xff", b"[" * 100_000], ids=range(5))
def test_what_is_no_record_at_all_is_a_fault_and_no_crash(auditor: Auditor, data: bytes) -> None:
    auditor.files["records/20261125T020000Z-restore-test-00000000.json"] = data
    assert auditor.faults()[0].startswith("records/20261125T020000Z-restore-test-00000000.json: no trusted key")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page's commands need openssl")
def test_a_record_can_be_checked_with_nothing_but_openssl_as_the_page_says(auditor: Auditor, tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "evidence.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)

    def check(data: bytes) -> bool:
        (tmp_path / "record.json").write_bytes(data)
        given = {"RECORD": "record.json", "PUBLIC_KEY": auditor.keys[0]["public_key"], "PATH": os.environ["PATH"]}
        words = ["sh", "-euc", commands]
        ended = subprocess.run(words, capture_output=True, env=given, cwd=tmp_path, check=False)
        return ended.returncode == 0 and b"Signature Verified Successfully" in ended.stdout

    for name in auditor.names("records") + auditor.names("events"):
        assert check(auditor.files[name])
        assert not check(auditor.files[name].replace(b"tester", b"nobody"))


def test_names_in_an_archive_can_not_write_to_the_terminal(auditor: Auditor) -> None:
    auditor.files["records/\x1b[2Jpassed\nall is well.json"] = b"{}"
    assert "\x1b" not in auditor.check().stdout
    assert "\\x1b[2Jpassed\\nall is well" in auditor.faults()[0]


def test_an_archive_that_is_none_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "none.tar.gz").write_text("no archive")
    words = [sys.executable, "-I", str(CHECK), str(tmp_path / "none.tar.gz")]
    assert subprocess.run(words, capture_output=True, env={}, check=False).returncode == 1


@given(st.binary(max_size=40), st.integers(0, 2**31))
def test_an_archive_is_a_function_of_its_members(data: bytes, seconds: int) -> None:
    member = Member(data, datetime.fromtimestamp(seconds, UTC))
    one = archive_of({"a": member, "b/c": member})
    assert one == archive_of({"b/c": member, "a": member})
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        assert [(entry.name, entry.mtime, entry.size) for entry in archive] == [
            ("a", seconds, len(data)), ("b/c", seconds, len(data)),
        ]  # fmt: skip


def test_an_archive_of_a_time_without_records_says_so(world: World, tmp_path: Path) -> None:
    evidence = gathered(world)
    assert evidence.whole
    members = members_of(evidence, read_script())
    assert list(members) == ["README.txt", SCRIPT, "index.json", "keys.json"]
    assert b"0 records" in members["README.txt"].data
