"""Work on a configuration that is cut off leaves nothing that looks whole, and can be done again; damage is found."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import threading
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lifeboat.configuration.items import About
from lifeboat.configuration.kind import ConfigurationKind
from lifeboat.configuration.restoring import restore_items
from lifeboat.errors import (
    AlreadyCommitted,
    Cancelled,
    DestinationInUse,
    KeyUnavailable,
    LifeboatError,
    ManifestInvalid,
    NotEnoughDisk,
    ObjectDamaged,
    RepositoryError,
    TargetFull,
    TargetUnavailable,
    VerificationFailed,
)
from lifeboat.policy.naming import Tier
from lifeboat.repository.alone import alone_on_this_machine
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.retention.cleaning import Cleanup
from lifeboat.repository.retention.keeping import undo
from lifeboat.repository.system import Work
from tests.configuration.conftest import CANARY, SETTINGS, Configuration, details
from tests.configuration.killed_backup import backup_process, restore_process
from tests.configuration.vault_stand_in import VaultStandIn


def test_a_backup_killed_with_9_at_any_step_commits_nothing_and_its_retry_has_the_same_id(
    settings: Configuration,
) -> None:
    settings.write("app.conf")
    for at in count(1):
        process = backup_process(settings, "abcd", at)
        process.start()
        process.join()
        if process.exitcode == 0 or settings.shown():
            break
        assert process.exitcode == -signal.SIGKILL
    assert at > 5
    [point] = settings.shown()
    assert point.endswith("-full-abcd")
    [copy] = settings.world.repository().catalogue("primary").recovery_points(SETTINGS).copies
    settings.verify(copy)


def test_a_restore_killed_with_9_leaves_nothing_in_the_place_and_can_be_run_again(settings: Configuration) -> None:
    for number in range(5):
        settings.write(str(number))
    copy = settings.store()
    process = restore_process(settings, copy.manifest.recovery_point, settings.back / "back", 3)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [remains] = settings.back.iterdir()
    assert remains.name.startswith(".back.lifeboat-")
    assert settings.restore(copy).items == 5
    # Values that lay there are gone with the next one.
    assert [path.name for path in settings.back.iterdir()] == ["back"]


@pytest.mark.parametrize("failure", [TargetUnavailable("It is away."), TargetFull("It is full.")])
@pytest.mark.parametrize("stream", ["items.tar", "index.jsonl", "fingerprint.key"])
def test_a_target_that_fails_in_mid_backup_fails_it_and_commits_nothing(
    settings: Configuration, failure: LifeboatError, stream: str
) -> None:
    settings.write("app.conf", b"x" * 3_000_000)
    repository = settings.world.repository()
    target = repository.target("primary")
    put = target.put

    def failing(key: str, body: Any, **more: Any) -> int:
        if stream in key:
            body.read(10)
            raise failure
        return put(key, body, **more)

    target.put = failing  # type: ignore[method-assign]
    with pytest.raises(type(failure)):
        settings.take(Tier.DAILY, repository)
    assert settings.shown() == []
    settings.verify(settings.store())


def test_a_backup_that_is_cancelled_while_a_store_is_silent_does_not_wait_for_it(
    settings: Configuration, vault: VaultStandIn
) -> None:
    vault.put("secret/a", {"value": CANARY})
    settings.protects("secrets: [{store: vault, connection: vault, names: [a]}]")
    vault.stalled.clear()
    asked = threading.Event()

    def tick() -> None:
        if vault.requests:
            asked.set()
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        settings.take(Tier.CHANGE, tick=tick)
    assert asked.is_set()
    assert not vault.stalled.is_set()  # nobody waited for its answer
    assert settings.shown() == []
    assert settings.events("backup_failed") == []


def test_a_late_attempt_meets_the_commit_of_its_retry(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two machines: on one the second would wait for the first."""
    import lifeboat.configuration.storing as storing

    monkeypatch.setattr(storing, "alone_on_this_machine", lambda *_: nullcontext())
    settings.write("app.conf")
    run = Run(command="a test")
    begun = settings.world.clock()

    def work(attempt: int) -> Work:
        return Work.new("full", begun=begun, tiers=("daily",), run=run, actor="a", mark="abcd", attempt=attempt)

    committed: list[Copy] = []
    really = storing.store_items

    def meanwhile(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(storing, "store_items", really)
        committed.extend(settings.take(work=work(2)).copies)
        return really(*given, **named)

    monkeypatch.setattr(storing, "store_items", meanwhile)
    with pytest.raises(AlreadyCommitted):
        settings.take(work=work(1))
    [copy] = committed
    assert settings.shown() == [copy.manifest.recovery_point]
    assert copy.manifest.attempt.startswith("attempt-02-")
    settings.verify(copy)


def test_two_runs_at_once_on_one_machine_go_one_after_the_other(settings: Configuration) -> None:
    settings.write("app.conf")
    repository = settings.world.repository()
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            raise Cancelled("it waited")

    with (
        alone_on_this_machine(f"{repository.system}/{SETTINGS}/full", lambda: None),
        pytest.raises(Cancelled, match="it waited"),
    ):
        settings.take(Tier.CHANGE, tick=tick)
    assert settings.shown() == []


def test_a_restore_for_which_there_is_no_room_leaves_nothing(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lifeboat.configuration.restoring as restoring

    settings.write("app.conf")
    copy = settings.store()
    really = restoring.os.write

    def full(descriptor: int, data: Any) -> int:
        if CANARY.encode() in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, data)

    monkeypatch.setattr(restoring.os, "write", full)
    with pytest.raises(NotEnoughDisk):
        settings.restore(copy)
    assert list(settings.back.iterdir()) == []


def test_a_clock_that_is_far_behind_is_refused_and_one_a_little_behind_does_no_harm(settings: Configuration) -> None:
    settings.write("app.conf")
    settings.store()
    settings.world.clock.advance(minutes=-16)
    settings.store()
    settings.world.clock.advance(hours=-2)
    with pytest.raises(RepositoryError, match="Set the clock right"):
        settings.take()


def objects(settings: Configuration, copy: Copy, stream: str) -> Path:
    (file,) = (settings.world.roots["primary"] / copy.manifest.folder.path).rglob(f"{stream}.*")
    return file


@pytest.mark.parametrize("stream", ["items.tar", "index.jsonl", "fingerprint.key"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "swapped"])
def test_damage_is_found_by_verification_and_by_a_restore_and_the_next_change_run_stores_anew(
    settings: Configuration, stream: str, damage: str
) -> None:
    settings.write("app.conf")
    other, copy = settings.store(), settings.store()
    file = objects(settings, copy, stream)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "missing":
        file.unlink()
    else:
        shutil.copyfile(objects(settings, other, stream), file)
    with pytest.raises(LifeboatError):
        settings.verify(copy)
    with pytest.raises(LifeboatError):
        settings.restore(copy)
    assert list(settings.back.iterdir()) == []
    flipped_items = stream == "items.tar" and damage in ("flipped", "swapped")
    if not flipped_items:  # only reading all of it would show that: what the daily run's own store makes good
        (anew,) = settings.take(Tier.CHANGE).copies
        settings.verify(anew)
        assert details(anew).compared_with == other.manifest.recovery_point
        assert any("could not be compared with" in finding for finding in anew.manifest.findings)


def test_without_a_key_that_opens_it_nothing_comes_back_and_the_next_backup_begins_with_a_key_of_its_own(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write("app.conf")
    first = settings.store()
    import lifeboat.configuration.believing as believing
    import lifeboat.configuration.choosing as choosing

    def refused(*_: object, **__: object) -> None:
        raise KeyUnavailable("No key at hand opens it.")

    monkeypatch.setattr(choosing, "fingerprints_of", refused)
    monkeypatch.setattr(believing, "fingerprints_of", refused)
    with pytest.raises(KeyUnavailable):
        settings.restore(first)
    (second,) = settings.take(Tier.CHANGE).copies
    assert details(second).compared_with == ""
    assert any("No key at hand opens it" in finding for finding in second.manifest.findings)
    monkeypatch.undo()
    assert details(first).fingerprint != details(second).fingerprint
    assert settings.take(Tier.CHANGE).copies == ()


def test_a_manifest_that_is_replayed_or_changed_is_not_believed(settings: Configuration) -> None:
    settings.write("app.conf")
    first, second = settings.store(), settings.store()
    root = settings.world.roots["primary"]
    place = root / second.manifest.folder.manifest
    place.write_bytes((root / first.manifest.folder.manifest).read_bytes())
    catalogue = settings.world.repository().catalogue("primary")
    with pytest.raises(ManifestInvalid, match="belongs to"):
        catalogue.find(SETTINGS, second.manifest.recovery_point)
    place.write_bytes(second.document.replace(b'"files": 1', b'"files": 2'))
    with pytest.raises(ManifestInvalid):
        catalogue.find(SETTINGS, second.manifest.recovery_point)


def test_an_index_that_is_not_the_manifests_own_fails_deep_verification(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write("a", "one")
    settings.write("b", "two")
    copy = settings.store()
    import lifeboat.configuration.verification as verification

    really = verification.index_of
    monkeypatch.setattr(verification, "index_of", lambda *given: really(*given)[:-1])
    with pytest.raises(VerificationFailed, match="not the one that its manifest speaks of"):
        settings.verify(copy)
    monkeypatch.undo()
    members = verification.items_of

    def exchanged(*given: object) -> object:
        class Both:
            def __enter__(self) -> object:
                self.inner = members(*given)  # type: ignore[arg-type]
                return ((name, b"other") for name, _ in self.inner.__enter__())

            def __exit__(self, *_: object) -> None:
                """The rest is left."""

        return Both()

    monkeypatch.setattr(verification, "items_of", exchanged)
    with pytest.raises(VerificationFailed, match="2 items of|3 items of"):
        settings.verify(copy)


@pytest.mark.parametrize("name", ["files/../../../evil", "files//evil", "/files/evil", "other/evil", "files"])
def test_a_name_that_leads_elsewhere_is_refused(
    settings: Configuration, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write("app.conf")
    import lifeboat.configuration.storing as storing

    really = storing.Gathered.items

    def evil(gathered: Any) -> Any:
        found = really(gathered)
        return [type(found[-1])(About(name, "file", 0o644, 0, 0, mtime_ns=0), b"evil")]

    monkeypatch.setattr(storing.Gathered, "items", evil)
    (copy,) = settings.take().copies
    monkeypatch.undo()
    with pytest.raises(ManifestInvalid, match="leads out of its directory|no name of an item"):
        settings.restore(copy)
    assert list(settings.back.iterdir()) == []


def test_a_place_that_is_in_use_is_left_alone(settings: Configuration) -> None:
    settings.write("app.conf")
    copy = settings.store()
    (settings.back / "back").mkdir()
    (settings.back / "back" / "mine").touch()
    with pytest.raises(DestinationInUse):
        settings.restore(copy)
    assert [path.name for path in (settings.back / "back").iterdir()] == ["mine"]


def test_a_link_in_a_recovery_point_leads_nothing_out_of_the_destination(settings: Configuration) -> None:
    outside = settings.back / "outside"
    outside.mkdir()
    (settings.etc / "a").symlink_to(outside)
    settings.write("b")
    copy = settings.store()
    restored = settings.restore(copy)
    assert list(outside.iterdir()) == []
    assert (restored.into / settings.name("a")).is_symlink()
    assert (restored.into.stat().st_mode & 0o777) == 0o700


def test_stock_tools_open_the_tar(settings: Configuration) -> None:
    settings.write("app.conf", "as it was")
    copy = settings.store()
    from lifeboat.streams.reading import opened

    repository = settings.world.repository()
    with opened(copy.manifest.stream("items.tar"), repository.origin(copy)) as stream:
        plain = b"".join(iter(lambda: stream.read(65536), b""))
    there = settings.back / "by hand"
    there.mkdir()
    subprocess.run(["tar", "-xf", "-", "-C", there], input=plain, check=True)
    assert (there / settings.name("app.conf")).read_text() == "as it was"


def test_a_copy_elsewhere_serves_when_the_primary_is_lost(settings: Configuration) -> None:
    settings.write("app.conf", "kept")
    copy = settings.store()
    (there,) = settings.copy(copy)
    shutil.rmtree(settings.world.roots["primary"] / "demo")
    settings.verify(there, target="offsite")
    restored = restore_items(settings.world.repository(), there, settings.back / "back")
    assert (restored.into / settings.name("app.conf")).read_text() == "kept"


def test_retention_holds_and_taking_back_work_without_a_line_of_their_own(settings: Configuration) -> None:
    marker = "    marker: demo-local\n"
    settings.world = settings.world.bent(f"{marker}  offsite", f"{marker}    undelete: 7d\n  offsite")

    def clean() -> Any:
        roles = ConfigurationKind().roles()
        return Cleanup(settings.world.repository(), SETTINGS, roles, "primary", "test", "a test").all()

    settings.write("app.conf", "one")
    first = settings.store(Tier.CHANGE)
    settings.world.clock.advance(days=31)
    newer = [settings.store() for _ in range(3)]
    for copy in newer:
        settings.verify(copy)
    kept = [copy.manifest.recovery_point for copy in newer]
    gone = clean().deleted.gone
    assert gone == (first.manifest.recovery_point,)
    assert settings.shown() == kept
    # What is deleted is not what the present is compared with.
    assert settings.take(Tier.CHANGE).copies == ()
    undo(settings.world.repository(), SETTINGS, list(gone), ["primary"], "needed", "a person")
    assert settings.shown() == [first.manifest.recovery_point, *kept]
    settings.verify(first)
    assert settings.restore(first).items == 1


def test_a_look_of_every_few_minutes_writes_an_event_and_no_object_of_a_recovery_point(
    settings: Configuration,
) -> None:
    settings.write("app.conf")
    settings.store(Tier.CHANGE)
    root = settings.world.roots["primary"]
    before = {path for path in root.rglob("*") if path.is_file() and "/journal/" not in str(path)}
    for _ in range(3):
        assert settings.take(Tier.CHANGE).copies == ()
    assert {path for path in root.rglob("*") if path.is_file() and "/journal/" not in str(path)} == before
    assert len(settings.events("configuration_unchanged")) == 3
    assert len(settings.events("backup_begun")) == 1


def test_damaged_bytes_are_never_written_to_standard_output(settings: Configuration) -> None:
    """The item is proven as a whole before its first byte is given."""
    from lifeboat.configuration.choosing import proven_items

    settings.write("app.conf")
    copy = settings.store()
    file = objects(settings, copy, "items.tar")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ObjectDamaged):
        list(proven_items(settings.world.repository(), copy, [settings.name("app.conf")]))


def test_an_item_that_is_not_what_its_fingerprint_says_does_not_come_back(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever could write streams that open could still not exchange one item for another unseen."""
    import lifeboat.configuration.packing as packing

    settings.write("a", "one")
    settings.write("b", "two")
    really = packing._header

    def exchanged(item: Any, read_at: int) -> bytes:
        names = {settings.name("a"): settings.name("b"), settings.name("b"): settings.name("a")}
        about = replace(item.about, name=names.get(item.about.name, item.about.name))
        return really(replace(item, about=about), read_at)

    monkeypatch.setattr(packing, "_header", exchanged)
    copy = settings.store()
    with pytest.raises(VerificationFailed, match="2 items of"):
        settings.verify(copy)
    with pytest.raises(ObjectDamaged, match="is not what was backed up"):
        settings.restore(copy)
    assert list(settings.back.iterdir()) == []
