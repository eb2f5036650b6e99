"""Day bundles: what is read through them is what would have been read without, whatever they hold."""

from __future__ import annotations

import json
import logging
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifeboat.backup.steps import Point, publish, verify
from lifeboat.cli.program import run
from lifeboat.errors import LifeboatError
from lifeboat.repository import bundles as room
from lifeboat.repository.bundles import Bundles, BundleWriter, bundle_name
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import JournalProblem, read_journal
from lifeboat.repository.last_verified import last_verified
from lifeboat.repository.retention.points import Role
from lifeboat.repository.retention.reading import read_source
from tests.repository.bundled import (
    JOURNAL,
    WAL,
    bundle_all,
    bundle_of,
    days_of,
    seen,
    seen_singly,
    wal_run,
)
from tests.repository.world import SOURCE, SYSTEM, World, everything

FIRST, SECOND, TODAY = "20261122", "20261123", "20261124"


@pytest.fixture(params=["local", "moto", "openssh"])
def far_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(None if request.param == "local" else request.getfixturevalue(request.param))


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the log says of bundles; anything worse than a warning is an error."""
    caplog.set_level(logging.WARNING, logger="lifeboat")
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.levelno == logging.WARNING
            said.append(record.getMessage())

    handler = Keep()
    logging.getLogger("lifeboat").addHandler(handler)
    yield said
    logging.getLogger("lifeboat").removeHandler(handler)


def test_ended_days_are_read_from_their_bundles_and_read_the_same(far_world: World, notes: list[str]) -> None:
    copies = days_of(far_world, days=2, a_day=2)
    before = seen(far_world)
    assert list(before[0].copies) == copies
    assert len(before[1]) == 8
    assert len(seen_singly(far_world)) == 4 * 2 + 8
    written = bundle_all(far_world)
    assert sorted(one.key.rsplit("/", 1)[1][:8] for one in written) == [FIRST, FIRST, SECOND, SECOND]
    assert sum(one.objects for one in written) == 16
    assert seen(far_world) == before
    assert seen_singly(far_world) == []
    assert bundle_all(far_world) == []
    assert notes == []
    assert far_world.repository().catalogue("primary").sources() == [SOURCE]


def test_when_copies_were_verified_and_what_retention_sees_is_the_same(world: World) -> None:
    copies = days_of(world, days=2, a_day=3)
    places = [(SOURCE, copy.manifest.recovery_point, "primary") for copy in copies]

    def asked() -> list[Any]:
        repository = world.repository()
        roles = {"wal": Role.LOG}
        return [last_verified(repository, "primary", places), read_source(repository, SOURCE, roles).states]

    before = asked()
    assert all(result.good for result in before[0].values())
    assert len(before[0]) == len(copies)
    bundle_all(world)
    assert asked() == before
    # What is read from the bundle alone is as good: the events' own files hold something else of the same size.
    for key in everything(world):
        if key.startswith("demo/journal/"):
            world.file(key).write_bytes(b"x" * len(world.file(key).read_bytes()))
    assert asked() == before


def test_a_stock_tool_opens_a_bundle(world: World) -> None:
    (copy,) = days_of(world, days=1, a_day=1)
    bundle_all(world)
    (wal,) = [data for key, data in everything(world).items() if key.startswith(WAL)]
    header, manifest, signature, end = map(json.loads, zstandard.decompress(wal, 2**20).splitlines())
    assert header == {"format_version": 1, "bundle": WAL, "day": FIRST}
    folder = copy.manifest.folder
    assert manifest == {"key": folder.manifest, "text": copy.document.decode()}
    assert signature == {"key": folder.signature(copy.manifest.attempt), "text": copy.signature.decode()}
    assert end == {"objects": 2}


def test_a_day_is_left_alone_until_an_hour_after_its_end_and_what_comes_late_is_read_singly(world: World) -> None:
    copies = days_of(world, days=1, a_day=2)
    world.clock.now = datetime(2026, 11, 23, 0, 59, tzinfo=UTC)
    assert bundle_all(world) == []
    world.clock.advance(minutes=1)
    assert len(bundle_all(world)) == 2
    world.clock.now = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    repository = world.repository()
    late = wal_run(world, repository, copies[-1])
    event = repository.journal("primary", run="late", actor="tester").write("published", source=SOURCE)
    found = seen(world)
    assert found[0].copies == (*copies, late)
    assert event in found[1]
    folder = late.manifest.folder
    assert seen_singly(world) == [folder.manifest, folder.signature(late.manifest.attempt), event.key]


def _repacked(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[bytes], bytes]:
    """The same bundle after a change of its lines, packed and named as a bundle is."""

    def repack(stored: bytes) -> bytes:
        lines = [json.loads(line) for line in zstandard.decompress(stored, 2**20).splitlines()]
        change(lines)
        text = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        return zstandard.compress(text)

    return repack


def _bomb(line: bytes, times: int) -> Callable[[bytes], bytes]:
    def pack(_: bytes) -> bytes:
        packer = zstandard.ZstdCompressor().compressobj()
        start = b'{"format_version": 1}\n'
        pieces = [packer.compress(start), *(packer.compress(line) for _ in range(times)), packer.flush()]
        return b"".join(pieces)

    return pack


def _texts(lines: list[dict[str, Any]], change: Callable[[str], str]) -> None:
    for line in lines[1:-1]:
        line["text"] = change(line["text"])


def _swapped(lines: list[dict[str, Any]]) -> None:
    texts = [line["text"] for line in lines[1:-1]]
    for line, text in zip(lines[1:-1], reversed(texts), strict=True):
        line["text"] = text


RIGHTLY_NAMED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no zstd": lambda _: b"nothing of the kind",
    "cut short": lambda stored: stored[:-20],
    "cut after whole lines": _repacked(lambda lines: lines.pop()),
    "of a later form": _repacked(lambda lines: lines[0].update(format_version=2)),
    "without a header": _repacked(lambda lines: lines.pop(0)),
    "that counts wrongly": _repacked(lambda lines: lines.pop(1)),
    "of other JSON": _repacked(lambda lines: lines.insert(1, [1, 2])),  # type: ignore[arg-type]
    "nested deeply": _repacked(lambda lines: lines.insert(1, b"[" * 200_000 + b"\n")),  # type: ignore[arg-type]
    "of no JSON": _repacked(lambda lines: lines.insert(1, b"{\xff\n")),  # type: ignore[arg-type]
    "without texts": _repacked(lambda lines: [line.pop("text", 0) for line in lines]),
    "of numbers": _repacked(lambda lines: [line.update(text=5) for line in lines[1:-1]]),
    "of changed texts": _repacked(lambda lines: _texts(lines, lambda text: text.replace("demo", "dome"))),
    "of forged texts": _repacked(
        lambda lines: _texts(lines, lambda text: text.replace("a test", "a tale").replace("tester", "forger"))
    ),
    "of lone surrogates": _repacked(lambda lines: _texts(lines, lambda text: text[:-3] + "\ud800")),
    "of texts in each other's place": _repacked(_swapped),
    "of foreign objects": _repacked(lambda lines: [line.update(key="/etc/passwd") for line in lines[1:-1]]),
    "that unpacks to a mountain in one line": _bomb(b"0" * 1_000_000, 100),
    "that unpacks to a mountain in many lines": _bomb(b'{"key":"' + b"0" * 100_000 + b'","text":""}\n', 700),
}
SILENT = {"of foreign objects"}
"""Nothing in it is asked for: that it is of no use nobody can tell from one that is merely old."""


@pytest.mark.parametrize("damage", RIGHTLY_NAMED)
def test_a_bundle_that_is(damage: str, world: World, notes: list[str]) -> None:
    """… of no use costs time, and a note in the log."""
    days_of(world, days=1, a_day=2)
    before = seen(world)
    bundle_all(world)
    for key, data in everything(world).items():
        if "/bundles/" in key:
            world.file(key).unlink()
            bad = RIGHTLY_NAMED[damage](data)
            folder, name = key.rsplit("/", 1)
            world.file(f"{folder}/{bundle_name(name[:8], bad)}").write_bytes(bad)
    assert seen(world) == before
    assert len(notes) == (0 if damage in SILENT else 2)
    assert all("nothing is lost by removing it" in note for note in notes)


@pytest.mark.parametrize("bomb", [name for name in RIGHTLY_NAMED if "mountain" in name])
def test_unpacking_takes_a_bounded_amount_of_memory(bomb: str, world: World, notes: list[str]) -> None:
    bad = RIGHTLY_NAMED[bomb](b"")
    target = world.repository().target("primary")
    target.put_new(WAL + bundle_name(FIRST, bad), bad)
    tracemalloc.start()
    try:
        assert len(Bundles(target, WAL).of(FIRST)) <= 1
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < room.LARGEST_STORED_BYTES + 3 * room.LARGEST_LINE_BYTES
    (note,) = notes
    assert ("unpacks to more than" if "many lines" in bomb else "too long to be one of ours") in note


def test_a_bundle_that_was_changed_shows_by_its_name_and_one_that_is_no_file_is_passed_over(
    world: World, notes: list[str]
) -> None:
    days_of(world, days=2, a_day=2)
    before = seen(world)
    bundle_all(world)
    held = [key for key in everything(world) if "/bundles/" in key]
    for key in held:
        data = bytearray(world.file(key).read_bytes())
        data[len(data) // 2] ^= 1
        world.file(key).write_bytes(data)
    world.file(WAL + "20261122-0000000000000000.jsonl.zst").symlink_to("/etc/passwd")
    world.file(WAL + "notes.txt").write_bytes(b"foreign")
    (world.file(WAL) / "20261122-1111111111111111.jsonl.zst").mkdir()
    assert seen(world) == before
    assert len(notes) == 4
    assert all("its bytes are not those that its name was made from" in note for note in notes)


def test_a_bundle_larger_than_any_of_ours_is_not_read(world: World, notes: list[str]) -> None:
    days_of(world, days=1, a_day=1)
    before = seen(world)
    path = world.file(WAL + "20261122-0000000000000000.jsonl.zst")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(room.LARGEST_STORED_BYTES + 1)
    assert seen(world) == before
    assert ["is larger than" in note for note in notes] == [True]


def test_bundles_of_another_system_or_day_are_of_no_effect(world: World) -> None:
    copies = days_of(world, days=2, a_day=2)
    before = seen(world)
    bundle_all(world)
    texts = {copies[0].manifest.folder.manifest: b"another system's", "demo/elsewhere": b"x"}
    for key in [key for key in everything(world) if key.startswith(WAL)]:
        data = world.file(key).read_bytes()
        world.file(key).unlink()
        other = SECOND if FIRST in key else FIRST
        world.file(WAL + bundle_name(other, data)).write_bytes(data)
    key, data = bundle_of(FIRST, texts)
    world.file(key).write_bytes(data)
    assert seen(world) == before


def test_what_a_bundle_repeats_and_is_gone_is_not_there(world: World) -> None:
    """Purged, say: the listing alone says what exists."""
    copies = days_of(world, days=1, a_day=3)
    bundle_all(world)
    _, gone, _ = copies
    world.file(gone.manifest.folder.manifest).unlink()
    events = sorted(key for key in everything(world) if key.startswith("demo/journal/"))
    world.file(events[2]).unlink()
    listing, journal = seen(world)
    assert list(listing.copies) == [copies[0], copies[2]]
    assert len([one for one in journal if not isinstance(one, tuple)]) == 5
    assert any("one is missing" in one[1] for one in journal if isinstance(one, tuple))
    assert seen_singly(world) == [gone.manifest.folder.manifest]


@pytest.mark.parametrize("lost", ["manifest", "signature", "changed"])
def test_verification_looks_at_the_objects_themselves(lost: str, world: World) -> None:
    (copy,) = days_of(world, days=1, a_day=1)
    bundle_all(world)
    manifest = copy.manifest
    key = manifest.folder.signature(manifest.attempt) if lost == "signature" else manifest.folder.manifest
    if lost == "changed":
        world.file(key).write_bytes(copy.document.replace(b"tester", b"forger").replace(b"wal", b"wax", 1))
    else:
        world.file(key).unlink()
    repository = world.repository()
    journal = repository.journal("primary", run="verify", actor="tester")
    with pytest.raises(LifeboatError, match="not committed|no signature|can't be read|was not signed|does not fit"):
        verify(
            repository, SOURCE, "primary", [Point.of(copy)], journal,
            deep=False, passed=lambda _: None, tick=lambda: None,
        )  # fmt: skip


def test_the_journal_is_verified_by_its_own_objects(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    days_of(world, days=1, a_day=1)
    bundle_all(world)
    event = min(key for key in everything(world) if key.startswith("demo/journal/"))
    world.file(event).write_bytes(world.file(event).read_bytes().replace(b"tester", b"forger"))
    repository = world.repository()
    target = repository.target("primary")
    found = list(read_journal(target, SYSTEM, repository.trusted, bundled=False))
    assert next(one.key for one in found if isinstance(one, JournalProblem)) == event
    assert not any(isinstance(one, JournalProblem) for one in read_journal(target, SYSTEM, repository.trusted))
    arguments = ["--policies", str(world.policy.parent), "journal", "verify", SYSTEM, "--target", "primary", "--json"]
    assert run(arguments) == 1
    assert json.loads(capsys.readouterr().out)["targets"][0]["problems"][0]["key"] == event


class History(dict[str, Any]):
    """What is made once for all examples; a failing one must not print all of it."""

    def __repr__(self) -> str:
        return "History()"


@pytest.fixture(scope="module")
def history() -> History:
    return History()


def test_what_can_t_be_read_comes_in_its_order_whatever_is_bundled(world: World) -> None:
    copies = days_of(world, days=2, a_day=2)
    for copy in copies:
        world.file(copy.manifest.folder.manifest).write_bytes(copy.document + b" ")
    before = seen(world)
    key, stored = bundle_of(FIRST, {})
    world.repository().target("primary").put_new(key, stored)
    assert [bad.folder for bad in before[0].unreadable] == [copy.manifest.folder for copy in copies]
    assert seen(world) == before


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_objects_bundled_and_any_lost_or_damaged_since_read_as_without_bundles(
    data: st.DataObject, world: World, history: History
) -> None:
    if not history:
        history["copies"] = days_of(world, days=2, a_day=2, timelines=(1, 2))
        history["all"] = everything(world)
        history["world"] = world
    world = history["world"]
    objects = {key: text for key, text in history["all"].items() if key.startswith(("demo/database", "demo/journal"))}
    marks = sorted(key for key in objects if not key.endswith(".sig"))
    for folder in (WAL, JOURNAL):
        for day in (FIRST, SECOND):
            for _ in range(data.draw(st.integers(0, 2), label="bundles of the day")):
                some = data.draw(st.lists(st.sampled_from(sorted(objects)), unique=True), label="bundled")
                key, stored = bundle_of(day, {one: objects[one] for one in some}, folder)
                world.file(key).parent.mkdir(parents=True, exist_ok=True)
                world.file(key).write_bytes(stored)
    bad = data.draw(st.lists(st.sampled_from(marks), unique=True, max_size=4), label="lost or damaged")
    for key in bad:
        if data.draw(st.booleans(), label="lost"):
            world.file(key).unlink()
        else:
            world.file(key).write_bytes(objects[key] + b" ")
    try:
        with_bundles = seen(world)
        for path in list((world.roots["primary"] / "demo/bundles").rglob("*.zst")):
            path.unlink()
        assert with_bundles == seen(world)
    finally:
        for key in bad:
            world.file(key).write_bytes(objects[key])


@pytest.mark.parametrize("far_world", ["local", "openssh"], indirect=True)
def test_of_two_writers_neither_harms_the_other(far_world: World) -> None:
    days_of(far_world, days=1, a_day=2)
    before = seen(far_world)
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            start.wait(10)
            bundle_all(far_world)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(far_world.repository().target("primary").list("demo/bundles/"))) == 2
    assert seen(far_world) == before
    assert seen_singly(far_world) == []


def test_two_that_saw_different_things_write_a_bundle_each_and_both_serve(world: World) -> None:
    copies = days_of(world, days=1, a_day=2)
    for copy in copies:
        folder = copy.manifest.folder
        texts = {folder.manifest: copy.document, folder.signature(copy.manifest.attempt): copy.signature}
        key, stored = bundle_of(FIRST, texts)
        world.repository().target("primary").put_new(key, stored)
    assert list(seen(world)[0].copies) == copies
    assert [key for key in seen_singly(world) if "/journal/" not in key] == []


def test_what_is_not_believed_is_not_bundled(world: World) -> None:
    copies = days_of(world, days=1, a_day=2)
    world.file(copies[0].manifest.folder.manifest).write_bytes(b"\xff not ours")
    world.file(next(key for key in everything(world) if "/journal/" in key)).write_bytes(b"{}")
    before = seen(world)
    assert len(before[0].unreadable) == 1
    assert [one.objects for one in bundle_all(world)] == [3, 2]
    assert seen(world) == before


def test_a_full_bundle_leaves_the_rest_to_be_read_singly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    days_of(world, days=1, a_day=4)
    before = seen(world)
    plain = 4_000
    monkeypatch.setattr(room, "LARGEST_PLAIN_BYTES", plain)
    monkeypatch.setattr(room, "_ROOM_FOR_THE_END", 100)
    written = bundle_all(world)
    assert [0 < one.objects < 8 for one in written] == [True, True]
    assert all(len(zstandard.decompress(world.file(one.key).read_bytes(), 2**20)) <= plain for one in written)
    assert seen(world) == before


def test_an_object_too_large_for_a_line_is_left_out() -> None:
    writer = BundleWriter(WAL, FIRST)
    assert writer.add({"a": b"x" * (room.LARGEST_LINE_BYTES + 1)})
    assert writer.objects == 0


def _published(world: World, copy: Copy) -> None:
    repository = world.repository()
    publish(repository, SOURCE, [Point.of(copy)], repository.journal("primary", run="publish", actor="tester"))


def _bundles(world: World, target: str) -> list[str]:
    return sorted(key.rsplit("/", 1)[1][:8] for key in everything(world, target) if "/bundles/" in key)


def test_a_run_writes_one_lacking_day_of_each_on_each_target_that_has_its_copy(world: World) -> None:
    copies = days_of(world, days=3, a_day=2)
    _published(world, copies[-1])
    assert _bundles(world, "primary") == ["20261124"] * 2
    _published(world, copies[-1])
    assert _bundles(world, "primary") == [SECOND] * 2 + ["20261124"] * 2
    # The other targets lack this run's copy: nothing is done there, not even asked.
    assert _bundles(world, "offsite") == []
    world.clock.advance(days=5)
    _published(world, copies[-1])
    assert _bundles(world, "primary") == [SECOND] * 2 + ["20261124"] * 2


def test_a_run_that_can_t_write_a_bundle_ends_well_and_says_so(world: World, notes: list[str]) -> None:
    copies = days_of(world, days=1, a_day=1)
    (world.roots["primary"] / "demo/bundles").write_bytes(b"a file in the folder's place")
    _published(world, copies[-1])
    assert ["No day bundle was written on target primary" in note for note in notes[-1:]] == [True]
    assert list(seen(world)[0].copies) == copies


def test_the_command_writes_what_old_days_lack(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clock.now = datetime(2026, 1, 5, 2, tzinfo=UTC)
    days_of(world, days=3, a_day=2)
    arguments = ["--policies", str(world.policy.parent), "bundle", SYSTEM, "--target", "primary"]
    assert run([*arguments, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]["primary"]
    assert [one["objects"] for one in written] == [4] * 6
    assert len([key for key in everything(world) if "/bundles/" in key]) == 6
    assert run(arguments) == 0
    assert "primary: 0 bundles of 0 objects written" in capsys.readouterr().out
