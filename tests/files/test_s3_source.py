"""A set of files in a bucket: what is in it comes back, what can't be kept is told, and only changes are read."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import Cancelled, PolicyError, SourceUnreadable
from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry, fault_of_path
from lifeboat.files.far_taking import FarTaking
from lifeboat.files.kind import FilesKind
from lifeboat.files.object_keys import Listed, SortedKeys, fault_of_object, tree_of
from lifeboat.files.patterns import Selection
from lifeboat.files.s3_place import S3File, S3Place
from lifeboat.files.snapshot import take_snapshot
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from lifeboat.targets.s3_reading import ResumedReading
from sandbox.accounts import CLONE
from sandbox.loopback_server import installed_program
from sandbox.s3_servers import MotoServer, RcloneS3, S3Server
from tests.files.conftest import FILES, FileSet, details
from tests.files.far_sets import Bucket, bucket_of, far_set
from tests.files.front import Answer, Front
from tests.repository.world import World
from tests.targets.conftest import alarm
from tests.targets.cutting_proxy import CuttingProxy

__all__ = ["alarm"]


@pytest.fixture(params=["moto", "rclone"])
def bucket(request: pytest.FixtureRequest, make_world: Callable[..., World], tmp_path: Path) -> Bucket:
    return bucket_of(request.getfixturevalue(request.param), make_world(), tmp_path / "restored")


@pytest.fixture(params=["moto", "rclone"])
def fronted(
    request: pytest.FixtureRequest, make_world: Callable[..., World], tmp_path: Path
) -> Iterator[tuple[Bucket, Front]]:
    """A bucket that is read through a server that notes what is asked for."""
    server: S3Server = request.getfixturevalue(request.param)
    with Front(server.port) as front:
        yield bucket_of(server, make_world(), tmp_path / "restored", endpoint=front.endpoint), front


@pytest.fixture
def rclone_fronted(
    rclone: RcloneS3, make_world: Callable[..., World], tmp_path: Path
) -> Iterator[tuple[Bucket, Front]]:
    """The same before one server, where it makes no difference which."""
    with Front(rclone.port) as front:
        yield bucket_of(rclone, make_world(), tmp_path / "restored", endpoint=front.endpoint), front


@pytest.fixture
def moto_bucket(moto: MotoServer, make_world: Callable[..., World], tmp_path: Path) -> Bucket:
    return bucket_of(moto, make_world(), tmp_path / "restored")


def entries(files: FileSet, copy: Copy) -> dict[str, Entry]:
    with index_of(files.world.repository(), copy) as found:
        return {entry.path: entry for entry in found}


def fetched(bucket: Bucket, into: Path) -> Path:
    """The set as rclone, which knows nothing of us, brings it to a disk."""
    assert bucket.place is not None
    server = bucket.place.server
    assert isinstance(server, S3Server)
    connection = server.connection("any")
    into.mkdir()
    subprocess.run(
        [
            installed_program("rclone"), "copy", f":s3:{bucket.name}/set", into, "--s3-provider", "Other",
            "--s3-endpoint", server.endpoint, "--create-empty-src-dirs",
        ],
        env={
            **os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_S3_ACCESS_KEY_ID": str(connection.login),
            "RCLONE_S3_SECRET_ACCESS_KEY": str(connection.password),
        },
        check=True, cwd=CLONE,
    )  # fmt: skip
    return into


def comes_back(bucket: Bucket, copy: Copy, tmp_path: Path, name: str = "back") -> Path:
    restored = bucket.files.restore(copy, name=name).into
    other = fetched(bucket, tmp_path / f"{name} by rclone")
    same = subprocess.run(["diff", "-r", other, restored], capture_output=True, text=True, check=False)
    assert same.stdout + same.stderr == ""
    return restored


def test_a_bucket_comes_back_as_rclone_brings_it(bucket: Bucket, tmp_path: Path) -> None:
    large = os.urandom(6 * 1024 * 1024)
    for path in ("a-b", "a/c", "a/b/d", "a.b/x", "z", "ünï/cödé", "with space/and+plus%20", "a&b=c?d#e"):
        bucket.put(path, f"content of {path}")
    bucket.put("large", large)
    bucket.put("empty", b"")
    copy = bucket.files.snapshot()
    assert (details(copy).files, details(copy).unread) == (10, ())
    restored = comes_back(bucket, copy, tmp_path)
    assert (restored / "large").read_bytes() == large
    assert ((restored / "z").stat().st_mode & 0o7777, (restored / "a").stat().st_mode & 0o7777) == (0o644, 0o755)
    assert (restored / "z").stat().st_uid == os.getuid()
    bucket.files.verify(copy, deep=True)


def test_an_incremental_reads_only_what_changed_and_a_full_reads_everything(
    fronted: tuple[Bucket, Front], tmp_path: Path
) -> None:
    bucket, front = fronted
    for number in range(20):
        bucket.put(f"folder/{number}", f"content {number}")
    full = bucket.files.snapshot()
    assert sorted(front.read) == sorted(f"set/folder/{number}" for number in range(20))
    front.read.clear()
    bucket.put("folder/7", "changed")
    bucket.put("new", "more")
    bucket.delete("folder/3")
    incremental = bucket.files.snapshot(Tier.INCREMENTAL)
    assert sorted(front.read) == ["set/folder/7", "set/new"]
    found = details(incremental)
    assert (found.new_files, found.read_size, found.files) == (2, 11, 20)
    assert incremental.manifest.needs == (full.manifest.recovery_point,)
    comes_back(bucket, incremental, tmp_path)
    bucket.files.verify(incremental, deep=True)
    front.read.clear()
    again = bucket.files.snapshot(Tier.DAILY)
    assert len(front.read) == 20
    assert details(again).new_files == 0


def test_a_moved_or_copied_object_is_not_stored_twice(bucket: Bucket, tmp_path: Path) -> None:
    large = os.urandom(6 * 1024 * 1024)
    bucket.put("a/report", b"r" * 10_000)
    bucket.put("large", large)
    first = bucket.files.snapshot()
    for path in ("a/report", "large"):
        bucket.delete(path)
    bucket.put("0 moved", b"r" * 10_000)
    bucket.put("copy of it", b"r" * 10_000)
    bucket.put("large, moved", large)
    moved = bucket.files.snapshot(Tier.INCREMENTAL)
    assert details(moved).new_files == 0
    assert moved.manifest.needs == (first.manifest.recovery_point,)
    assert moved.manifest.stored_size < 10_000
    comes_back(bucket, moved, tmp_path)


def test_what_a_store_keeps_beside_the_bytes_stands_in_the_index(
    moto: MotoServer, make_world: Callable[..., World], tmp_path: Path
) -> None:
    bucket = bucket_of(moto, make_world(), tmp_path / "restored")
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    packed = gzip.compress(b"some bytes")
    bucket.put(
        "1.pdf", packed, ContentType="application/pdf", ContentEncoding="gzip", Metadata={"customer": "17"},
        StorageClass="STANDARD_IA",
        CacheControl="no-store",
    )  # fmt: skip
    shown = bucket.client.head_object(Bucket=bucket.name, Key="set/1.pdf")
    copy = bucket.files.snapshot()
    entry = entries(bucket.files, copy)["1.pdf"]
    assert entry.properties == {
        "content-type": "application/pdf", "meta.customer": "17", "storage-class": "STANDARD_IA",
        "cache-control": "no-store", "content-encoding": "gzip", "version-id": shown["VersionId"],
    }  # fmt: skip
    assert entry.mtime_ns == int(shown["LastModified"].timestamp()) * 10**9
    assert shown["ETag"].strip('"') in entry.identity
    assert (bucket.files.restore(copy).into / "1.pdf").read_bytes() == packed


def test_an_index_with_what_a_far_place_tells_is_read_by_what_knows_nothing_of_it(moto_bucket: Bucket) -> None:
    """What older versions take from a line is there, with types that they take."""
    moto_bucket.put("a/b")
    for entry in entries(moto_bucket.files, moto_bucket.files.snapshot()).values():
        told = json.loads(entry.to_line())
        assert [type(told[name]) for name in ("path", "type", "mode", "uid", "gid", "mtime_ns")] == [
            str, str, int, int, int, int
        ]  # fmt: skip


def test_objects_that_no_file_system_can_hold_are_named_and_stay_out_of_the_restore(
    moto_bucket: Bucket, tmp_path: Path
) -> None:
    hostile = ["a//b", "../outside", "x/../../outside", "/absolute", "./c", "full/", f"{'n' * 256}", "both"]
    for key in hostile:
        moto_bucket.put(key, "do not lose me")
    moto_bucket.put("both/inside", "kept")
    moto_bucket.put("marked/", b"")
    moto_bucket.put("a/fine", "kept")
    done = moto_bucket.files.take()
    (copy,) = done.copies
    found = details(copy)
    assert found.unread_count == len(hostile)
    for key in hostile:
        assert any(line.startswith(f"{key} ") for line in found.unread), key
    assert "paths could not be read" in done.alarm
    assert set(entries(moto_bucket.files, copy)) == {".", "a", "a/fine", "both", "both/inside", "marked"}
    moto_bucket.files.restore(copy)
    outside = [path.name for path in moto_bucket.files.back.rglob("*") if path.name in ("outside", "absolute")]
    assert outside == []
    assert sorted(path.name for path in moto_bucket.files.back.iterdir()) == ["back"]


def test_a_hostile_object_that_is_excluded_is_no_matter(
    moto: MotoServer, make_world: Callable[..., World], tmp_path: Path
) -> None:
    bucket = bucket_of(moto, make_world(), tmp_path / "restored", more='    exclude: ["bad/", "*.tmp"]\n')
    for key in ("bad//x", "bad/y", "a.tmp", "kept"):
        bucket.put(key)
    done = bucket.files.take()
    assert done.alarm == ""
    assert set(entries(bucket.files, done.copies[0])) == {".", "kept"}


def test_an_archived_object_is_named_with_what_to_do(moto_bucket: Bucket) -> None:
    moto_bucket.put("frozen", "old", StorageClass="DEEP_ARCHIVE")
    moto_bucket.put("warm", "new")
    done = moto_bucket.files.take()
    assert "frozen can't be read: it is archived" in done.alarm
    assert "restore-object" in done.alarm
    moto_bucket.files.verify(done.copies[0], deep=True)
    restored = moto_bucket.files.restore(done.copies[0])
    assert (restored.missing, (restored.into / "warm").read_text()) == (["frozen"], "new")


def test_an_object_that_may_not_be_read_is_named_and_asked_for_again(rclone_fronted: tuple[Bucket, Front]) -> None:
    """No server here has rights for single objects: the refusal is made up, as AWS words it."""
    bucket, front = rclone_fronted
    bucket.put("open")
    bucket.put("closed")
    front.before = lambda key: (403, "AccessDenied") if key.endswith("closed") else None
    done = bucket.files.take()
    assert "1 paths could not be read" in done.alarm
    assert "closed can't be read: the store answered AccessDenied" in done.alarm
    assert entries(bucket.files, done.copies[0])["closed"].missing
    bucket.files.verify(done.copies[0], deep=True)
    front.before = lambda key: None
    again = bucket.files.take(Tier.INCREMENTAL)
    assert again.alarm == ""


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_an_object_that_is_replaced_after_it_was_listed_is_taken_as_it_is_then(
    fronted: tuple[Bucket, Front], tmp_path: Path, size: int
) -> None:
    bucket, front = fronted
    bucket.put("restless", b"1" * size)

    def replaced(key: str) -> Answer | None:
        # With each time it is asked for: only what one answer gives is whole.
        bucket.put("restless", str(len(front.read)).encode() * (size + len(front.read)))
        return None

    front.before = replaced
    done = bucket.files.take()
    assert (done.alarm, len(front.read)) == ("", 2)
    front.before = lambda key: None
    bucket.files.verify(done.copies[0], deep=True)
    comes_back(bucket, done.copies[0], tmp_path)
    front.read.clear()
    bucket.files.snapshot(Tier.INCREMENTAL)
    assert front.read == []


def test_an_object_that_is_deleted_after_it_was_listed_is_counted(rclone_fronted: tuple[Bucket, Front]) -> None:
    bucket, front = rclone_fronted
    bucket.put("a")
    bucket.put("fleeting")

    def deleted(key: str) -> None:
        if key.endswith("fleeting"):
            bucket.delete("fleeting")

    front.before = deleted
    done = bucket.files.take()
    assert (done.alarm, details(done.copies[0]).vanished, details(done.copies[0]).files) == ("", 1, 1)


def test_a_broken_download_goes_on_where_it_broke(
    rclone: RcloneS3, make_world: Callable[..., World], tmp_path: Path
) -> None:
    content = os.urandom(9_000_000)
    with CuttingProxy(rclone.port, after=300_000, cuts=3) as proxy:
        bucket = bucket_of(rclone, make_world(), tmp_path / "restored", endpoint=proxy.endpoint)
        bucket.put("large", content)
        bucket.put("small", content[:2_000_000])
        copy = bucket.files.snapshot()
        assert proxy.cuts_left == 0
    assert (bucket.files.restore(copy).into / "large").read_bytes() == content


def test_an_object_that_is_replaced_while_its_download_breaks_is_read_anew(
    rclone: RcloneS3, make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored of the first version stays in the pack, and nothing refers to it."""
    second = os.urandom(8_000_000)
    with CuttingProxy(rclone.port, after=3_000_000, cuts=1) as proxy:
        bucket = bucket_of(rclone, make_world(), tmp_path / "restored", endpoint=proxy.endpoint)
        bucket.put("large", os.urandom(9_000_000))
        resume = ResumedReading._resume

        def replaced(self: ResumedReading) -> None:
            bucket.put("large", second)
            resume(self)

        monkeypatch.setattr(ResumedReading, "_resume", replaced)
        done = bucket.files.take()
        assert proxy.cuts_left == 0
    assert done.alarm == ""
    bucket.files.verify(done.copies[0], deep=True)
    assert (bucket.files.restore(done.copies[0]).into / "large").read_bytes() == second


def test_a_store_that_goes_away_fails_the_run_and_nothing_is_committed(
    own_rclone: RcloneS3, make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_of(own_rclone, make_world(), tmp_path / "restored")
    for number in range(30):
        bucket.put(f"{number}")
    really = S3Place.open

    def gone(self: S3Place, entry: Entry, *, again: bool = False) -> S3File:
        if entry.path == "17":
            own_rclone.kill()
        return really(self, entry, again=again)

    monkeypatch.setattr(S3Place, "open", gone)
    with pytest.raises(SourceUnreadable, match="does not answer as it should"):
        bucket.files.take()
    assert bucket.files.world.repository().catalogue("primary").recovery_points(FILES).copies == ()


def test_a_cancellation_ends_the_waiting_for_the_rest_of_an_object(
    rclone_fronted: tuple[Bucket, Front], alarm: Callable[[float], None]
) -> None:
    """Without a wait for the thread that reads it, which hangs."""
    bucket, front = rclone_fronted
    bucket.put("slow", b"x" * 6_000_000)
    ended, waited = threading.Event(), []

    def stalled() -> None:
        os.kill(os.getpid(), signal.SIGALRM)
        waited.append(ended.wait(30))

    front.midway = stalled
    with pytest.raises(Cancelled):
        bucket.files.take()
    assert waited == []
    ended.set()


@pytest.mark.parametrize("size", [10, 6_000_000])
def test_a_cancellation_ends_the_waiting_for_a_store_within_seconds(
    rclone_fronted: tuple[Bucket, Front], alarm: Callable[[float], None], size: int
) -> None:
    bucket, front = rclone_fronted
    bucket.put("slow", b"x" * size)
    asked, ended = threading.Event(), threading.Event()

    def begin(key: str) -> Answer | None:
        asked.set()
        ended.wait(60)
        return 503, "SlowDown"

    front.before = begin
    threading.Thread(target=lambda: (asked.wait(), os.kill(os.getpid(), signal.SIGALRM)), daemon=True).start()
    with pytest.raises(Cancelled):
        bucket.files.take()
    ended.set()
    assert bucket.files.world.repository().catalogue("primary").recovery_points(FILES).copies == ()


@pytest.mark.parametrize("size", [10, 6_000_000])
def test_whoever_waits_for_a_store_looks_whether_it_was_stopped(moto_bucket: Bucket, size: int) -> None:
    """By its own ticks, with no signal."""
    moto_bucket.put("slow", b"x" * size)
    repository = moto_bucket.files.world.repository()
    source = repository.policy.sources[FILES]
    assert isinstance(source, FilesSource)
    work = Work.new("full", begun=moto_bucket.files.world.clock(), tiers=("daily",), run=Run(command="x"), actor="x")
    journal = repository.journal("primary", run="test", actor="a test")
    ended, ticks, waited = threading.Event(), [], []

    class Silent(S3Place):
        def open(self, entry: Entry, *, again: bool = False) -> S3File:
            waited.append(ended.wait(30))
            return super().open(entry, again=again)

    def told() -> None:
        ticks.append(1)
        if len(ticks) > 5:
            raise Cancelled("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lifeboat.files.s3_place.S3Place", Silent)
        with pytest.raises(Cancelled):
            take_snapshot(repository, FILES, source, "full", work, journal, tick=told)
    assert waited == []
    ended.set()
    assert repository.catalogue("primary").recovery_points(FILES).copies == ()


def test_a_snapshot_that_fails_lets_its_listing_go_at_once(
    moto_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to Python's collector, the listing's database would be closed on whichever thread that runs on, and refuse.
    The failure in mid-walk is patched in."""
    for number in range(300):  # more than are fetched ahead
        moto_bucket.put(f"{number:03d}", b"%d" % number)
    closed: list[SortedKeys] = []
    leave = SortedKeys.__exit__

    def noted(keys: SortedKeys, *how: Any) -> None:
        closed.append(keys)
        leave(keys, *how)

    def fail(*_: object) -> None:
        raise Cancelled("stop")

    monkeypatch.setattr(SortedKeys, "__exit__", noted)
    monkeypatch.setattr(FarTaking, "_new", fail)
    with pytest.raises(Cancelled) as caught:
        moto_bucket.files.take()
    assert len(closed) == 1
    assert caught.traceback  # which holds every frame


def test_small_objects_are_fetched_side_by_side_and_stand_in_the_index_s_order(
    moto: MotoServer, make_world: Callable[..., World], tmp_path: Path
) -> None:
    with Front(moto.port) as front:
        bucket = bucket_of(moto, make_world(), tmp_path / "restored", endpoint=front.endpoint)
        for number in range(40):
            bucket.put(f"{number:02}", f"content {number}")
        together = threading.Barrier(4, timeout=30)

        def waiting(key: str) -> None:
            # Four must be under way at once, or nobody gets on.
            if int(key.removeprefix("set/")) < 8:
                together.wait()

        front.before = waiting
        copy = bucket.files.snapshot()
    assert list(entries(bucket.files, copy)) == [".", *(f"{number:02}" for number in range(40))]


def test_preflight_says_what_is_there_and_what_is_not(moto_bucket: Bucket) -> None:
    def found() -> list[tuple[str, str]]:
        repository = moto_bucket.files.world.repository()
        said = FilesKind().preflight(repository, FILES, Tier.DAILY, tick=lambda: None)
        return [(one.severity, one.what) for one in said]

    assert [(severity, "There is nothing in" in what) for severity, what in found()] == [("warning", True)]
    moto_bucket.put("a")
    assert [severity for severity, _ in found()] == ["ok"]
    moto_bucket.delete("a")
    moto_bucket.client.delete_bucket(Bucket=moto_bucket.name)
    ((severity, what),) = found()
    assert (severity, "there is no bucket" in what, what.startswith(f"Source {FILES}:")) == ("error", True, True)
    with pytest.raises(SourceUnreadable, match="there is no bucket"):
        moto_bucket.files.take()


def test_preflight_takes_one_object_that_may_not_be_read_for_no_bar_and_all_for_one(
    rclone_fronted: tuple[Bucket, Front],
) -> None:
    """The refusals are made up, as AWS words them."""
    bucket, front = rclone_fronted
    bucket.put("a closed one")
    bucket.put("open")

    def found() -> list[tuple[str, str]]:
        repository = bucket.files.world.repository()
        said = FilesKind().preflight(repository, FILES, Tier.DAILY, tick=lambda: None)
        return [(one.severity, one.remedy) for one in said]

    front.before = lambda key: (403, "AccessDenied") if "closed" in key else None
    assert found() == [("ok", "")]
    front.before = lambda key: (403, "AccessDenied")
    ((severity, remedy),) = found()
    assert (severity, "s3:GetObject" in remedy, "PutObject" in remedy) == ("error", True, False)


def test_a_set_that_holds_its_own_backups_is_refused_whatever_its_connection_is_called(
    moto: MotoServer, make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(moto)
    url = world.loaded.policy.primary.url
    environment = {"AIRFLOW_CONN_FAR": world.environment["AIRFLOW_CONN_STORE"]}
    for place in (f"{url}/demo", url.rpartition("/")[0]):
        files = far_set(world, tmp_path / "restored", place, environment)
        with pytest.raises(PolicyError, match="back up its own backups"):
            files.take()
        (finding,) = FilesKind().preflight(files.world.repository(), FILES, Tier.DAILY, tick=lambda: None)
        assert (finding.severity, "its own backups" in finding.what) == ("error", True)
    beside = far_set(world, tmp_path / "restored", f"{url}-more", environment)
    assert beside.take().alarm == ""


def test_an_object_of_a_store_without_etags_is_never_taken_for_unchanged() -> None:
    assert Listed("a", 3, "", 1).identity == ""
    assert Listed("a", 3, "x", 1).identity != Listed("a", 3, "y", 1).identity


KEYS = st.lists(st.text("ab-. /", min_size=1, max_size=6), max_size=30, unique=True)


@given(KEYS)
def test_whatever_keys_there_are_their_paths_are_in_order_and_every_folder_comes_before_what_is_in_it(
    keys: list[str],
) -> None:
    unseen: list[str] = []
    listed = [Listed(key, 0, "etag", 1) for key in sorted(keys)]
    refused = {one.path for one in listed if fault_of_object(one)}
    with SortedKeys() as table:
        table.add(one for one in listed if one.path not in refused)
        found = list(tree_of(table, Selection(), lambda one: unseen.append(one.path)))
    orders = [entry.order for entry in found]
    assert orders == sorted(set(orders))
    folders = {entry.path for entry in found if entry.type == "directory"}
    for entry in found:
        assert fault_of_path(entry.path) == ""
        if "/" in entry.path:
            assert entry.path.rpartition("/")[0] in folders
    files = {entry.path for entry in found if entry.type == "file"}
    assert files | set(unseen) | refused == {key for key in keys if not key.endswith("/") or key in refused}
    assert not files & set(unseen)
