"""A set of files on an SFTP server: it comes back as other tools see it there, and only changes are read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import asyncssh
import pytest

from lifeboat.errors import Cancelled, SourceUnreadable
from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry
from lifeboat.files.kind import FilesKind
from lifeboat.files.patterns import Selection
from lifeboat.files.sftp_file import SftpFile
from lifeboat.files.sftp_place import SftpPlace, _Named
from lifeboat.files.walking import Unseen
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.targets.sftp_reading import ResumedReading
from lifeboat.targets.sftp_session import Link
from sandbox.accounts import hand_over
from sandbox.sftp_servers import OpenSsh
from tests.files.conftest import FILES, FileSet, details
from tests.files.far_sets import far_set
from tests.repository.world import World
from tests.targets.conftest import alarm, openssh, own_openssh, sftp_place

__all__ = ["alarm", "openssh", "own_openssh"]

LONG_AGO = 1_700_000_000


@dataclass
class Far:
    """A directory on a server, as the server's own disk has it."""

    files: FileSet
    tree: Path
    server: OpenSsh

    def write(self, path: str, content: bytes | str = b"some bytes", *, mtime: int | None = LONG_AGO) -> Path:
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        if mtime is not None:
            os.utime(file, (mtime, mtime))
        return self.settled(file)

    def settled(self, file: Path) -> Path:
        """The server's account, which is not root, gets all on the way to a path."""
        for path in (file, *file.parents):
            if path == self.tree:
                break
            hand_over(path)
        return file

    def entries(self, copy: Copy) -> dict[str, Entry]:
        with index_of(self.files.world.repository(), copy) as found:
            return {entry.path: entry for entry in found}


def far(server: OpenSsh, world: World, tmp_path: Path, *, more: str = "") -> Far:
    place = sftp_place("sftp", server)
    environment = {"AIRFLOW_CONN_FAR": place.environment["AIRFLOW_CONN_STORE"]}
    files = far_set(world, tmp_path / "restored", place.policy["url"], environment, more)
    files.tree = place.extra["root"]
    return Far(files, place.extra["root"], server)


@pytest.fixture
def there(openssh: OpenSsh, make_world: Callable[..., World], tmp_path: Path) -> Far:
    return far(openssh, make_world(), tmp_path)


def in_seconds(tree: Path) -> list[bytes]:
    """Type, mode, owner, size of files, link, and time in whole seconds of every path, as ``find`` has them."""
    form = r"%P\001%y\001%m\001%U:%G\001%T@\001%l\001"
    found = subprocess.run(
        ["find", tree, "(", "-type", "d", "-printf", form + r"\0", ")", "-o", "-printf", form + r"%s\0"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    lines = []
    for line in sorted(filter(None, found.split(b"\0"))):
        path, kind, mode, owner, time, *rest = line.split(b"\x01")
        lines.append(b" ".join((path, kind, mode, owner, b"" if kind == b"l" else time.partition(b".")[0], *rest)))
    return lines


def comes_back(there: Far, copy: Copy, name: str = "back") -> Path:
    restored = there.files.restore(copy, name=name).into
    same = subprocess.run(
        ["diff", "-r", "--no-dereference", there.tree, restored], capture_output=True, text=True, check=False
    )
    said = [line for line in (same.stdout + same.stderr).splitlines() if "is a fifo" not in line]
    assert said == []
    assert in_seconds(restored) == in_seconds(there.tree)
    return restored


def test_a_far_tree_of_hostile_names_and_types_comes_back_as_it_was(there: Far) -> None:
    names = [
        b"a\nnew line", b"tab\there", b" space ", b"-rf", b"*", b"a'b\"c", b"\xff\xfe not utf-8", "ünï\u202e".encode(),
        b".hidden", b"x" * 255, b"a\\b", b"[glob]?",
    ]  # fmt: skip
    for number, name in enumerate(map(os.fsdecode, names)):
        there.write(name, b"content %d" % number)
        there.write(f"folder {name[:240]}/{name}", name.encode("utf-8", "surrogateescape"))
    there.write("large", os.urandom(6 * 1024 * 1024 + 17))
    there.write("empty", b"")
    there.write("run me").chmod(0o755)
    there.write("secret").chmod(0o600)
    for name in ("a", "a.b", "a-", "a0"):
        there.write(f"{name}/x", name)
    (there.tree / "dangling").symlink_to(os.fsdecode(b"\xff nowhere"))
    (there.tree / "up").symlink_to("../../..")
    (there.tree / "to a folder").symlink_to("folder -rf")
    os.mkfifo(there.tree / "fifo", 0o640)
    for name in ("dangling", "up", "to a folder"):
        os.lchown(there.tree / name, there.tree.stat().st_uid, there.tree.stat().st_gid)
    hand_over(there.tree / "fifo")
    copy = there.files.snapshot()
    assert details(copy).unread == ()
    comes_back(there, copy)
    there.files.verify(copy, deep=True)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that are opened on the server, in no order."""
    paths: list[str] = []
    really = SftpPlace.open

    def noted(self: SftpPlace, entry: Entry, *, again: bool = False) -> SftpFile:
        paths.append(entry.path)
        return really(self, entry, again=again)

    monkeypatch.setattr(SftpPlace, "open", noted)
    return paths


def test_an_incremental_reads_only_what_changed_and_a_full_reads_everything(there: Far, opened: list[str]) -> None:
    for number in range(20):
        there.write(f"folder/{number}", f"content {number}")
    full = there.files.snapshot()
    assert len(opened) == 20
    opened.clear()
    there.write("folder/7", "changed now")
    there.write("folder/8", "content 8", mtime=LONG_AGO + 1)
    there.write("new", "more")
    incremental = there.files.snapshot(Tier.INCREMENTAL)
    assert sorted(opened) == ["folder/7", "folder/8", "new"]
    assert details(incremental).new_files == 2
    assert incremental.manifest.needs == (full.manifest.recovery_point,)
    comes_back(there, incremental)
    opened.clear()
    again = there.files.snapshot(Tier.DAILY)
    assert (len(opened), details(again).new_files) == (21, 0)


def test_another_mode_is_seen_though_the_file_is_not_read_again(there: Far, opened: list[str]) -> None:
    file = there.write("script", "echo")
    there.write("moved", b"m" * 5000)
    there.files.snapshot()
    opened.clear()
    file.chmod(0o700)
    (there.tree / "moved").rename(there.tree / "elsewhere")
    copy = there.files.snapshot(Tier.INCREMENTAL)
    assert opened == ["elsewhere"]
    assert details(copy).new_files == 0
    comes_back(there, copy)


def test_a_file_that_was_written_just_before_it_was_read_is_read_again(there: Far, opened: list[str]) -> None:
    """SFTP tells whole seconds: a change of the same size within the second that a file was read in would not show."""
    now = int(there.files.world.clock().timestamp())
    there.write("fresh", "one", mtime=now)
    there.write("old", "two", mtime=now - 3600)
    there.write("from a clock that is ahead", "three", mtime=now + 7200)
    there.files.snapshot()
    there.write("fresh", "six", mtime=now)
    opened.clear()
    copy = there.files.snapshot(Tier.INCREMENTAL)
    assert opened == ["fresh"]
    comes_back(there, copy)


def test_a_file_of_another_server_is_read_though_its_size_and_time_are_the_same(
    there: Far, openssh: OpenSsh, opened: list[str]
) -> None:
    there.write("a", "here")
    there.files.snapshot()
    opened.clear()
    other = sftp_place("sftp", openssh)
    there.files.world = there.files.world.bent(there.tree.name, other.extra["root"].name)
    there.tree = other.extra["root"]
    there.write("a", "else")
    copy = there.files.snapshot(Tier.INCREMENTAL)
    assert opened == ["a"]
    comes_back(there, copy)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("size", [100, 5_000_000])
def test_a_file_that_changes_while_it_is_read_is_read_once_more_and_then_told(
    there: Far, monkeypatch: pytest.MonkeyPatch, times: int, size: int
) -> None:
    there.write("log", b"a" * size)
    really, reads = ResumedReading.__init__, []

    def growing(self: ResumedReading, *arguments: object, **named: object) -> None:
        really(self, *arguments, **named)  # type: ignore[arg-type]
        reads.append(1)
        if len(reads) <= times:
            there.write("log", b"b" * (size + len(reads)), mtime=LONG_AGO + len(reads))

    monkeypatch.setattr(ResumedReading, "__init__", growing)
    done = there.files.take()
    monkeypatch.undo()
    assert (len(reads), done.alarm) == (2, "")
    assert details(done.copies[0]).changed == (("log",) if times == 2 else ())
    there.files.verify(done.copies[0], deep=True)
    if times == 2:
        # Whatever its size and its time say by now.
        there.write("log", b"c" * (size + 1), mtime=LONG_AGO + 1)
        there.files.verify(done.copies[0])
        copy = there.files.snapshot(Tier.INCREMENTAL)
        assert details(copy).compared_with == done.copies[0].manifest.recovery_point
        assert details(copy).new_files == 1
        comes_back(there, copy)


def test_what_the_account_may_not_read_is_named_and_the_rest_is_kept(there: Far) -> None:
    there.write("closed").chmod(0)
    there.write("closed folder/inside")
    (there.tree / "closed folder").chmod(0)
    there.write("open")
    done = there.files.take()
    assert details(done.copies[0]).unread_count == 2
    assert "closed can't be read: the server answered: Permission denied" in done.alarm
    assert "closed folder can't be listed: the server answered: Permission denied" in done.alarm
    there.files.verify(done.copies[0], deep=True)
    restored = there.files.restore(done.copies[0])
    assert restored.missing == ["closed"]
    assert (restored.into / "open").read_text() == "some bytes"


def test_a_connection_that_is_cut_is_made_anew_and_the_snapshot_goes_on(
    own_openssh: OpenSsh, make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = far(own_openssh, make_world(), tmp_path)
    for number in range(12):
        there.write(f"{number % 3}/{number}", os.urandom(20_000))
    there.write("large", os.urandom(9_000_000))
    really, cuts = SftpFile.read, []

    def cut(self: SftpFile, size: int, /) -> bytes:
        if self.entry.path in ("1/4", "large") and cuts.count(self.entry.path) < 2:
            cuts.append(self.entry.path)
            own_openssh.cut()
        return really(self, size)

    monkeypatch.setattr(SftpFile, "read", cut)
    copy = there.files.snapshot()
    assert len(cuts) > 2
    assert details(copy).unread == ()
    comes_back(there, copy)


def test_a_server_that_stays_away_fails_the_run_and_nothing_is_committed(
    own_openssh: OpenSsh, make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = far(own_openssh, make_world(), tmp_path)
    for number in range(30):
        there.write(f"{number}")
    monkeypatch.setattr("lifeboat.targets.sftp_reading._MOST_RESUMPTIONS", 1)
    really = SftpPlace.open

    def gone(self: SftpPlace, entry: Entry, *, again: bool = False) -> SftpFile:
        if entry.path == "17":
            own_openssh.kill()
        return really(self, entry, again=again)

    monkeypatch.setattr(SftpPlace, "open", gone)
    with pytest.raises(SourceUnreadable, match="does not answer as it should"):
        there.files.take()
    assert there.files.world.repository().catalogue("primary").recovery_points(FILES).copies == ()


@pytest.mark.parametrize("folder", [".", "b"])
def test_a_server_that_goes_away_while_it_is_listed_fails_the_run(
    own_openssh: OpenSsh, make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """A folder that could not be listed for want of a server is no folder that may not be listed."""
    there = far(own_openssh, make_world(), tmp_path)
    for path in ("b/2", "c/3"):
        there.write(path)
    really = SftpPlace._list

    async def gone(self: SftpPlace, link: Link, listed: str) -> list[_Named]:
        if listed == folder:
            own_openssh.kill()
        return await really(self, link, listed)

    monkeypatch.setattr(SftpPlace, "_list", gone)
    with pytest.raises(SourceUnreadable, match="does not answer as it should"):
        there.files.take()
    assert there.files.world.repository().catalogue("primary").recovery_points(FILES).copies == ()


def test_the_next_folders_are_listed_while_one_is_walked(there: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        there.write(f"{number}/inside/file", f"content {number}")
    really, listed = SftpPlace._list, []
    together: list[asyncio.Barrier] = []

    async def met(self: SftpPlace, link: Link, folder: str) -> list[_Named]:
        listed.append(folder)
        if folder in ("0", "1", "2"):
            # The three must be under way at once, or none gets on.
            together.extend([] if together else [asyncio.Barrier(3)])
            async with asyncio.timeout(30):
                await together[0].wait()
        return await really(self, link, folder)

    monkeypatch.setattr(SftpPlace, "_list", met)
    comes_back(there, there.files.snapshot())
    assert len(listed) == len(set(listed)) == 19


def test_a_root_that_may_not_be_listed_is_no_empty_set(there: Far) -> None:
    there.write("a")
    there.tree.chmod(0o300)
    try:
        with pytest.raises(SourceUnreadable, match="Permission denied"):
            there.files.take()
    finally:
        there.tree.chmod(0o700)


def test_a_cancellation_ends_the_waiting_for_a_server(
    own_openssh: OpenSsh, make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    alarm: Callable[[float], None],
) -> None:  # fmt: skip
    there = far(own_openssh, make_world(), tmp_path)
    there.write("large", os.urandom(6_000_000))
    really = SftpFile.read

    def frozen(self: SftpFile, size: int, /) -> bytes:
        own_openssh.freeze()
        os.kill(os.getpid(), signal.SIGALRM)
        return really(self, size)

    monkeypatch.setattr(SftpFile, "read", frozen)
    with pytest.raises(Cancelled):
        there.files.take()
    own_openssh.thaw()
    assert there.files.world.repository().catalogue("primary").recovery_points(FILES).copies == ()


def test_a_server_with_another_host_key_is_not_believed(there: Far) -> None:
    """Nothing is sent there, and preflight says it as well."""
    other = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
    document = there.server.document("far")
    document["extra"]["host_key"] = other
    there.files.world = replace(there.files.world, environment={"AIRFLOW_CONN_FAR": json.dumps(document)})
    with pytest.raises(SourceUnreadable, match=f"Source {FILES}: .* shows another host key"):
        there.files.take()
    (finding,) = FilesKind().preflight(there.files.world.repository(), FILES, Tier.DAILY, tick=lambda: None)
    assert (finding.severity, "another host key" in finding.what) == ("error", True)


def test_a_directory_that_is_not_there_is_said_before_and_in_the_run(there: Far) -> None:
    def found() -> list[tuple[str, str]]:
        said = FilesKind().preflight(there.files.world.repository(), FILES, Tier.DAILY, tick=lambda: None)
        return [(one.severity, one.what) for one in said]

    assert [(severity, "There is nothing in" in what) for severity, what in found()] == [("warning", True)]
    there.write("a")
    assert [severity for severity, _ in found()] == ["ok"]
    there.tree.rename(there.tree.with_name("elsewhere"))
    ((severity, what),) = found()
    assert (severity, "there is no directory" in what) == ("error", True)
    with pytest.raises(SourceUnreadable, match="there is no directory"):
        there.files.take()


def test_names_and_types_that_a_server_may_tell_and_no_file_can_have_are_named(there: Far) -> None:
    """A server that lies about names, and devices, which take root to make: what a listing says is made up."""
    lies = [
        _Named("../folder", 0o040755, 0, 0, 0, LONG_AGO), _Named("../outside", 0o100644, 0, 0, 3, LONG_AGO),
        _Named("null", 0o020666, 0, 0, 0, LONG_AGO),
        _Named("no type", 0o644, 0, 0, 3, LONG_AGO), _Named("socket", 0o140644, 0, 0, 0, LONG_AGO),
        _Named("broken", 0o120777, 0, 0, 0, LONG_AGO),
    ]  # fmt: skip
    source = there.files.world.loaded.policy.sources[FILES]
    assert isinstance(source, FilesSource)

    class Lying(SftpPlace):
        async def _list(self, link: Link, folder: str) -> list[_Named]:
            return lies

    unseen: list[Unseen] = []
    with Lying(FILES, source, there.files.world.repository().outside) as place:
        seen = list(place.walk(Selection(), unseen.append, lambda: None))
    assert [entry.path for entry in seen] == ["."]
    assert [one.path for one in unseen if not one.left_out] == [
        "../folder", "../outside", "null", "no type", "broken"
    ]  # fmt: skip
    assert [one.path for one in unseen if one.left_out == "sockets"] == ["socket"]
