"""What every target promises, tried on real ones.

Found on the way:

- moto's S3 looks whether an object is there and stores it in two steps (the sandbox lets it do that one at a time);
  compares no checksum that comes with an object, forgets the lock of a multipart upload, does not know
  GetObjectRetention, and says of every upload in progress that it began in 2010;
- rclone's S3 ignores If-None-Match and If-Match; repeats, unexamined, the CRC-32, encryption and lock headers that came
  with an object (the CRC-32 of the whole even with the answer to a Range), and encrypts and locks nothing; answers
  NoSuchUpload to a listing of uploads when there are none; reads a whole object for its first HEAD or listing (ETag);
  answers 200 to PutObjectRetention and stores the request's text in the object's place; knows no versions;
  with --dir-cache-time 0 two writers of one object lock each other up; refuses access keys of two letters;
- rclone's SFTP says that it makes hard links, and makes none; its rename replaces what is there, and where several
  clients rename to one name at once, it may not show the object until its directory cache has aged (5 minutes); the
  same befalls files in a folder that several clients make at once.
"""

from __future__ import annotations

import hashlib
import io
import threading
from datetime import UTC, datetime, timedelta

import pytest

from lifeboat.errors import ObjectExists, ObjectMissing, TargetError
from lifeboat.targets.target import Target
from tests.targets.bodies import MIB, Body, digest, names
from tests.targets.conftest import SFTP, Place

KEY = "race/manifest.json"
SIZES = [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 33 * MIB + 5]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_stored_is_read_back(target: Target, size: int) -> None:
    assert target.put("erp/database/point/1/base.tar.1", Body(size)) == size
    summary = hashlib.sha256()
    with target.open("erp/database/point/1/base.tar.1") as stream:
        while piece := stream.read(3 * MIB + 7):
            summary.update(piece)
        assert stream.read(10) == b""
    assert summary.hexdigest() == digest(size)
    info = target.stat("erp/database/point/1/base.tar.1")
    assert info is not None
    assert info.size == size


def test_nothing_but_the_object_is_left_after_storing_it(target: Target, place: Place) -> None:
    target.put("folder/object", Body(20 * MIB))
    assert [name for name in place.remains() if name != "folder"] in (["folder/object"], ["some/root/folder/object"])


def test_reading_asks_for_pieces_of_any_size(target: Target) -> None:
    target.put("object", io.BytesIO(b"0123456789"))
    with target.open("object") as stream:
        assert [stream.read(3), stream.read(0), stream.read(), stream.read(), stream.read(5)] == [
            b"012", b"", b"3456789", b"", b"",
        ]  # fmt: skip


def test_stat_tells_size_and_a_moment_in_utc(target: Target) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    target.put("a/b", io.BytesIO(b"abc"))
    info = target.stat("a/b")
    assert info is not None
    assert (info.key, info.size, info.modified.tzinfo) == ("a/b", 3, UTC)
    assert before < info.modified < datetime.now(UTC) + timedelta(minutes=1)


def test_nothing_is_stored_under_a_key_that_was_never_written(target: Target) -> None:
    target.put("a/b", io.BytesIO(b"abc"))
    assert [target.stat("a"), target.stat("a/c"), target.stat("none/at/all")] == [None, None, None]
    for key in ("a", "a/c", "none/at/all"):
        with pytest.raises(ObjectMissing, match=key), target.open(key):
            pass
        with pytest.raises(ObjectMissing):
            target.read(key)


def test_a_small_object_is_read_as_a_whole_but_only_up_to_the_limit(target: Target) -> None:
    target.put_new("small", b"0123456789")
    assert target.read("small", limit=10) == b"0123456789"
    with pytest.raises(TargetError, match="larger than 9 bytes"):
        target.read("small", limit=9)


def test_an_object_that_is_written_once_is_not_written_twice(target: Target) -> None:
    target.put_new("manifest.json", b"first")
    with pytest.raises(ObjectExists, match=r"manifest\.json"):
        target.put_new("manifest.json", b"second")
    assert target.read("manifest.json") == b"first"


def test_of_several_writers_of_one_object_exactly_one_wins(place: Place) -> None:
    """On a store without conditional writes (rclone) nobody can promise it: there, at least one and whole.

    rclone's SFTP may then not show for minutes what it holds: what it holds is looked at on its disk. And where several
    make one folder at once, it may lose sight of files in it: whose writer then fails, with a clear error, has not won.
    """
    targets = [place.open() for _ in range(6)]
    on_disk = place.kind == "rclone-sftp"
    start = threading.Barrier(len(targets))
    won: list[bytes] = []

    def write(number: int) -> None:
        start.wait()
        data = bytes([number]) * 1000
        try:
            targets[number].put_new(KEY, data)
        except ObjectExists:
            return
        except TargetError as error:
            if on_disk and "file does not exist" in error.what:
                return
            raise
        won.append(data)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = (place.extra["root"] / KEY).read_bytes() if on_disk else targets[0].read(KEY)
    assert held in won
    if targets[0].conditional_writes:
        assert len(won) == 1


def test_conditional_writes_are_reported_as_they_are(place: Place) -> None:
    assert place.open().conditional_writes is (place.kind not in ("rclone", "rclone-sftp"))
    assert place.remains() == []


def test_objects_are_listed_by_key(target: Target) -> None:
    keys = ["s/A", "s/a-b", "s/a.b/1", "s/a/1", "s/a/b/c", "s/a0", "s/é", "t/x"]
    for key in reversed(keys):
        target.put_new(key, key.encode())
    assert [(found.key, found.size) for found in target.list("")] == [(key, len(key.encode())) for key in keys]
    assert [found.key for found in target.list("s/a/")] == ["s/a/1", "s/a/b/c"]
    assert list(target.list("none/")) == []


def test_folders_are_listed_without_objects(target: Target) -> None:
    for key in ("erp/database/x", "erp/files/y", "erp/note", "shop/z", "top"):
        target.put_new(key, b"1")
    assert target.list_folders("") == ["erp", "shop"]
    assert target.list_folders("erp/") == ["database", "files"]
    assert target.list_folders("none/") == []


# Not moto: it takes half a minute for what rclone's S3, with the same pages, does in a second.
@pytest.mark.parametrize("place", ["local", "rclone", *SFTP], indirect=True)
def test_a_listing_longer_than_a_page_is_complete(target: Target, place: Place) -> None:
    keys = names("many/", 1005)
    for key in keys:
        place.plant(key, b"")
    assert [found.key for found in target.list("many/")] == keys


def test_a_folder_goes_with_its_last_object(target: Target) -> None:
    target.put_new("a/b/c", b"1")
    target.put_new("a/d", b"1")
    target.delete("a/b/c")
    assert target.list_folders("a/") == []
    target.delete("a/d")
    assert target.list_folders("") == []
    assert list(target.list("")) == []


def test_deleting_what_is_gone_is_no_error(target: Target) -> None:
    target.put_new("a/b", b"1")
    target.delete("a/b")
    target.delete("a/b")
    target.delete("never/there")
    assert target.stat("a/b") is None


def test_what_is_disposed_of_is_gone_and_nothing_else_is(target: Target, place: Place) -> None:
    for key in ("a/b", "a/b.json", "a/b/c" if place.kind == "moto" else "a/bc"):
        target.put(key, io.BytesIO(b"0123456789"))
    target.dispose("a/b")
    assert target.stat("a/b") is None
    assert [found.key for found in target.list("a/")] in (["a/b.json", "a/b/c"], ["a/b.json", "a/bc"])
    target.dispose("a/b")
    target.dispose("never/there")
    target.put_new("a/b", b"anew")
    assert target.read("a/b") == b"anew"


def test_a_folder_goes_with_its_last_object_that_is_disposed_of(target: Target, place: Place) -> None:
    target.put("a/b/c", Body(3 * MIB + 1))
    target.dispose("a/b/c")
    assert place.remains() == []
    assert target.list_folders("") == []


def test_a_place_that_locks_nothing_shows_no_lock_and_an_extension_is_an_error_that_leaves_the_object_alone(
    target: Target,
) -> None:
    """rclone's S3 answers 200 to PutObjectRetention and stores the request's own text in the object's place."""
    target.put("a/b", io.BytesIO(b"0123456789"), retain_until=datetime.now(UTC) + timedelta(days=1))
    target.put_new("a/c", b"0123456789", retain_until=datetime.now(UTC) + timedelta(days=1))
    for key in ("a/b", "a/c", "never/there"):
        assert target.locked_until(key) is None
        with pytest.raises(TargetError, match="lock") as caught:
            target.extend_lock(key, datetime.now(UTC) + timedelta(days=1))
        assert "object lock enabled" in caught.value.remedy
    assert target.read("a/b") == target.read("a/c") == b"0123456789"


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../out", "a/../../out", "a//b", "a/", "./a", "a\nb", "a\x00b", ".lifeboat-target",
            "a/.lifeboat-upload-1", "a/" + "x" * 201, "\udcff"]
)  # fmt: skip
def test_a_key_that_leaves_the_root_or_is_not_ours_is_refused(target: Target, place: Place, key: str) -> None:
    for use in (
        lambda: target.put(key, Body(1)),
        lambda: target.put_new(key, b"1"),
        lambda: target.read(key),
        lambda: target.stat(key),
        lambda: target.delete(key),
        lambda: target.dispose(key),
        lambda: target.locked_until(key),
        lambda: target.extend_lock(key, datetime.now(UTC)),
        lambda: target.store_crc32(key),
    ):
        with pytest.raises(TargetError, match="can't be used"):
            use()
    assert place.remains() == []


@pytest.mark.parametrize("prefix", ["a", "../", "/", "a//", "a/../"])
def test_a_prefix_that_is_no_folder_is_refused(target: Target, prefix: str) -> None:
    for use in (
        lambda: list(target.list(prefix)),
        lambda: target.list_folders(prefix),
        lambda: target.abandon_uploads(prefix, older_than=datetime.now(UTC)),
    ):
        with pytest.raises(TargetError, match="not a folder"):
            use()


def test_a_check_finds_no_error_and_leaves_nothing_behind(target: Target, place: Place) -> None:
    findings = target.check()
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert all(finding.subject == "target store" for finding in findings)
    assert place.remains() == []


def test_a_target_knows_its_name_and_its_url_without_credentials(target: Target, place: Place) -> None:
    assert target.name == "store"
    assert target.url == place.policy["url"]


def test_many_objects_are_looked_at_in_one_go(target: Target, place: Place) -> None:
    there = {f"erp/wal/1/20261122T{number:06d}Z-wal/manifest.json": b"x" * number for number in range(1, 8)}
    for key, data in there.items():
        target.put_new(key, data)
    target.put_new("erp/wal/1/20261122T000009Z-wal/other", b"no manifest")
    target.put_new("erp/wal/1/20261122T000010Z-wal/manifest.json/below", b"a folder of that name")
    asked = [f"erp/wal/1/20261122T{number:06d}Z-wal/manifest.json" for number in (1, 3, 6, 8, 9, 10)]
    found = target.stat_each(asked)
    assert {key: info.size for key, info in found.items()} == {asked[0]: 1, asked[1]: 3, asked[2]: 6}
    assert all(info.key == key for key, info in found.items())
    assert target.stat_each(["nowhere/a", "nowhere/b"]) == {}
    assert target.stat_each([]) == {}
    with pytest.raises(TargetError):
        target.stat_each(["../elsewhere"])


@pytest.mark.parametrize("place", ["local", "openssh"], indirect=True)
def test_what_lies_behind_a_link_is_none_of_the_objects_looked_at(place: Place) -> None:
    target = place.open()
    target.put_new("erp/real/manifest.json", b"real")
    root = place.extra["root"]
    (root / "erp/linked").symlink_to(root / "erp/real")
    (root / "erp/real/other.json").symlink_to(root / "erp/real/manifest.json")
    asked = ["erp/real/manifest.json", "erp/real/other.json", "erp/linked/manifest.json"]
    assert list(target.stat_each(asked)) == asked[:1]
