"""A set of files on an SFTP server: it comes back as other tools see it there, and only changes are read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry
from lifeboat.repository.catalogue import Copy
from sandbox.accounts import hand_over
from sandbox.sftp_servers import OpenSsh
from tests.files.conftest import FileSet, details
from tests.files.far_sets import far_set
from tests.repository.world import World
from tests.targets.conftest import openssh, sftp_place

__all__ = ["openssh"]

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
