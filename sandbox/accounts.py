"""Which account the servers run as, and directories that this account can reach.

PostgreSQL refuses to run as root. Started by root, the sandbox runs its servers as an account without privileges, and
when the clone lies below a directory which that account can't read, whatever the servers need lies in a place of its
own below ``/var/tmp``.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lifeboat.errors import LifeboatError

CLONE = Path(__file__).resolve().parent.parent

# `nobody` before `postgres`: a sandbox server must not be able to touch the files of the machine's own PostgreSQL.
_CANDIDATES = ("nobody", "daemon", "postgres")


class SandboxError(LifeboatError):
    """A service of the sandbox can't be started, or did not do what it should."""


@dataclass(frozen=True)
class Account:
    """An account of the machine that has an entry in its user database: ``initdb`` insists on one."""

    name: str
    uid: int
    gid: int


@cache
def server_account() -> Account | None:
    """The account that servers run as when we are root; ``None`` when we are an ordinary user: then as we do.

    Raises:
        SandboxError: no account without privileges can be used.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        account = Account(name, entry.pw_uid, entry.pw_gid)
        if account.uid != 0 and _runs_as(account, "true"):
            return account
    raise SandboxError(
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(_CANDIDATES)} can be used here.",
        "Run the same command as an ordinary user, or give the container the capabilities SETUID, SETGID and CHOWN.",
    )


def _runs_as(account: Account, *command: str) -> bool:
    try:
        ended = subprocess.run(
            command,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return ended.returncode == 0


def can_reach(path: Path) -> bool:
    """Whether the servers' account gets to ``path``; asked of the system itself, which also knows ACLs and mounts."""
    account = server_account()
    return account is None or _runs_as(account, "test", "-x", str(path))


def can_run(program: Path) -> bool:
    """Whether the servers' account can run ``program --version``."""
    account = server_account()
    if account is not None:
        return _runs_as(account, str(program), "--version")
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _outer_room_name() -> Path:
    digest = hashlib.sha256(f"{os.geteuid()}:{CLONE}".encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"lifeboat-sandbox-{digest}"


def outer_room() -> Path:
    """The place for what the servers' account can't reach inside the clone; made on first use.

    Its name comes from the clone's path, so that two clones never share it. :func:`clear_outer_room` removes it.

    Raises:
        SandboxError: somebody else owns a directory of that name.
    """
    room = _outer_room_name()
    room.mkdir(mode=0o711, exist_ok=True)
    found = room.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SandboxError(f"{room} belongs to somebody else.", "Have it removed, then try again.")
    room.chmod(0o711)
    return room


def hand_over(path: Path) -> None:
    """Give ``path`` and everything in it to the servers' account; nothing happens for an ordinary user."""
    account = server_account()
    if account is None:
        return
    os.chown(path, account.uid, account.gid, follow_symlinks=False)
    if path.is_dir() and not path.is_symlink():
        for folder, directories, files in os.walk(path):
            for name in (*directories, *files):
                os.chown(Path(folder) / name, account.uid, account.gid, follow_symlinks=False)


def server_directory(directory: Path) -> Path:
    """Make ``directory`` (which must not exist yet) for a server, and return where it really is.

    Where the servers' account can't reach the parent, the directory lies in the outer room, and a symbolic link stands
    at the place asked for. The directory is empty, belongs to the servers' account and is closed to all others.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.is_symlink() and not directory.exists():
        directory.unlink()
    if can_reach(directory.parent):
        directory.mkdir(mode=0o700)
        hand_over(directory)
        return directory
    real = _outer_directory(directory)
    directory.symlink_to(real)
    remove(real)
    real.mkdir(mode=0o700)
    hand_over(real)
    return real


def _outer_directory(directory: Path) -> Path:
    place = directory.parent.resolve() / directory.name
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:16]
    room = outer_room() / "directories" / digest
    room.mkdir(mode=0o711, parents=True, exist_ok=True)
    room.parent.chmod(0o711)
    room.chmod(0o711)
    (room / "origin").write_text(str(place), encoding="utf-8")
    return room / "content"


def remove_server_directory(directory: Path) -> None:
    """Remove what :func:`server_directory` made; one that is gone already is no error."""
    if directory.is_symlink():
        real = directory.resolve()
        if real.is_relative_to(_outer_room_name() / "directories"):
            remove(real.parent)
        directory.unlink()
    else:
        remove(directory)


def sweep_outer_room() -> None:
    """Remove outer directories whose link is gone: what a test run that was killed left behind."""
    for room in (_outer_room_name() / "directories").glob("*"):
        try:
            origin = Path((room / "origin").read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        if not origin.is_symlink():
            remove(room)


def clear_outer_room() -> None:
    """Remove the outer room with everything in it."""
    if _outer_room_name().exists():
        remove(outer_room())


def open_to_all(tree: Path) -> None:
    """Let every account read a tree of programs, and run what its owner can run."""
    tree.chmod(0o755)
    for folder, directories, files in os.walk(tree):
        for name in directories:
            (Path(folder) / name).chmod(0o755)
        for name in files:
            file = Path(folder) / name
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def publish(draft: Path, place: Path) -> None:
    """Give a directory that is complete its name; where another process was quicker, its work stands."""
    try:
        draft.rename(place)
    except OSError:
        if not place.exists():
            raise
        shutil.rmtree(draft)


def remove(directory: Path) -> None:
    """Remove a directory tree, whatever modes its directories have; one that is gone already is no error."""
    if not directory.exists():
        return
    for folder, names, _ in os.walk(directory):
        for name in names:
            inner = Path(folder) / name
            if not inner.is_symlink() and not os.access(inner, os.R_OK | os.W_OK | os.X_OK):
                inner.chmod(0o700)
    shutil.rmtree(directory)
