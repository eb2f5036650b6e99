"""Where a restore goes: looked at before anything is fetched, built under another name, and named only when proven.

Everything that is not finished lies in a directory called ``….lifeboat-unfinished``: one beside the data directory, and
one inside the place of each tablespace, which may be another disk. A restore that was killed leaves those behind and
nothing else; the next one empties them. A data directory that is there may give way: see
:mod:`lifeboat.postgres.directory_swap`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lifeboat.errors import DestinationInUse, NotEnoughDisk, RestoreError
from lifeboat.postgres.details import Tablespace
from lifeboat.postgres.directory_swap import DATA, Number, hand_over, left_behind, number_of, settle, sync
from lifeboat.postgres.old_directory import check_old, holds_something
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.room import ROOM_FACTOR_PERCENT, archive_room
from lifeboat.postgres.unpacking import Owner

RECOVERY_SECONDS = 24 * 3600.0
UNFINISHED = ".lifeboat-unfinished"
LINKS = "links"
TABLESPACES = ".tablespaces"


@dataclass(frozen=True)
class Request:
    """Where a restore goes.

    Attributes:
        target: the target to fetch from.
        into: the data directory to be made; it must not exist, or be empty, unless it gives way.
        binaries: the directory with PostgreSQL's server programs, of the backup's major version.
        tablespaces: where the tablespaces go, by their location on the lost server. Those not named go below
            ``<into>.tablespaces/``.
        user: the user to run the server as and to give the files to, when we are root.
        limit_seconds: how long recovery may take.
        aside: beside ``into``: where the data directory that is there goes, when the new one is proven; ``None``: none
            may be there.
    """

    target: str
    into: Path
    binaries: Path
    tablespaces: Mapping[str, Path] = field(default_factory=dict)
    user: str | None = None
    limit_seconds: float = RECOVERY_SECONDS
    aside: Path | None = None

    @property
    def unfinished(self) -> Path:
        """Where it is built until it is proven."""
        return Path(f"{self.into}{UNFINISHED}")


def moved_tablespaces(plan: RestorePlan) -> list[Tablespace]:
    """The tablespaces that lie outside the data directory."""
    return [
        tablespace
        for tablespace in plan.base.details.tablespaces
        if tablespace.oid is not None and not tablespace.in_place
    ]


def tablespace_place(tablespace: Tablespace, request: Request) -> Path:
    """Where a tablespace will lie."""
    named = request.tablespaces.get(tablespace.location or "")
    return named if named is not None else Path(f"{request.into}{TABLESPACES}") / str(tablespace.oid)


def check_destination(request: Request, plan: RestorePlan) -> None:
    """Insist on an empty destination with room enough; nothing is touched.

    Raises:
        DestinationInUse: something is there.
        NotEnoughDisk: there is too little room.
        RestoreError: the destination can't be made.
    """
    into = request.into
    if not into.is_absolute():
        raise RestoreError(f"The destination {into} is not an absolute path.", "Give the whole path.")
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise DestinationInUse(f"{into} is there and is no directory.", "Name another destination.")
    if holds_something(into) and request.aside is None:
        raise DestinationInUse(
            f"The destination {into} is not empty.",
            "Nothing was touched. Name a directory that is empty or does not exist; or say --replace-directory: then a "
            "data directory that is there is renamed, and not removed.",
        )
    if os.path.ismount(into):
        raise DestinationInUse(
            f"{into} is a mount point: what was built beside it can't take its place.",
            "Name a directory below it, such as its subdirectory data.",
        )
    if request.aside is not None and holds_something(into):
        check_old(into, request.aside)
    places = {tablespace_place(tablespace, request) for tablespace in moved_tablespaces(plan)}
    if len(places) < len(moved_tablespaces(plan)):
        raise RestoreError("Two tablespaces are to go to one place.", "Give each a place of its own.")
    for tablespace in moved_tablespaces(plan):
        _check_tablespace(tablespace, tablespace_place(tablespace, request), left_behind(request.unfinished))
    if not into.parent.is_dir():
        raise RestoreError(f"{into.parent} is no directory.", "Make it, or mount it, first.")
    _check_room(request, plan)


def _check_tablespace(tablespace: Tablespace, place: Path, ours: Collection[Number]) -> None:
    if not place.is_absolute():
        raise RestoreError(f"The tablespace's place {place} is not an absolute path.", "Give the whole path.")
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise DestinationInUse(f"{place} is there and is no directory.", "Name another place with --tablespace.")
    if place.is_dir() and any(
        found.name not in (UNFINISHED, "lost+found") and number_of(found) not in ours for found in place.iterdir()
    ):
        raise DestinationInUse(
            f"{place}, where the tablespace {tablespace.location} is to go, is not empty.",
            "Nothing was touched. Name another place for it with --tablespace OLD=NEW.",
        )


def _check_room(request: Request, plan: RestorePlan) -> None:
    wanted: dict[int, tuple[Path, int]] = {}
    elsewhere = 0
    for tablespace in moved_tablespaces(plan):
        place = _existing(tablespace_place(tablespace, request))
        size = archive_room(plan.base, tablespace.archive) * ROOM_FACTOR_PERCENT // 100
        elsewhere += size
        wanted[place.stat().st_dev] = (place, wanted.get(place.stat().st_dev, (place, 0))[1] + size)
    parent = request.into.parent
    device = parent.stat().st_dev
    wanted[device] = (parent, plan.room_bytes - elsewhere + wanted.get(device, (parent, 0))[1])
    for place, size in wanted.values():
        free = shutil.disk_usage(place).free
        if free < size:
            raise NotEnoughDisk(
                f"The restore needs {size:,} bytes in {place}; {free:,} are free.",
                "Make room, or name another destination. Nothing was fetched.",
            )


def _existing(path: Path) -> Path:
    return next(place for place in [path, *path.parents] if place.is_dir())


@dataclass(frozen=True)
class TablespacePlace:
    """A tablespace in the making: built inside its final place, so that the last step is a rename on one disk."""

    oid: int
    final: Path

    @property
    def root(self) -> Path:
        return self.final / UNFINISHED

    @property
    def building(self) -> Path:
        return self.root / "data"

    def link(self, number: int) -> Path:
        return self.root / LINKS / str(number)


@dataclass(frozen=True)
class Place:
    """A restore in the making."""

    root: Path
    tablespaces: tuple[TablespacePlace, ...]
    owner: Owner | None

    @property
    def data(self) -> Path:
        return self.root / DATA

    @property
    def staging(self) -> Path:
        """The WAL that recovery may have."""
        return self.root / "wal"

    @property
    def arriving(self) -> Path:
        """The WAL that is not whole yet, or was not looked at."""
        return self.root / "arriving"

    def give(self, path: Path) -> None:
        """Let a file belong to the user that servers run as."""
        _give(path, self.owner)

    def link(self, number: int) -> Path:
        """Where a link of a chain is unpacked: on the disk of the result, whose files its files may become."""
        return self.root / LINKS / str(number)

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where all of it lies, which may be several disks."""
        return (self.root, *(tablespace.root for tablespace in self.tablespaces))

    def remove_links(self) -> None:
        """Free the room that the links of a chain take."""
        for root in self.roots:
            _remove(root / LINKS)

    def remove_staging(self) -> None:
        """Free the room that the WAL takes, once it is replayed."""
        for folder in (self.staging, self.arriving):
            _remove(folder)

    def hand_over(self, request: Request, confirm: Callable[[Path], None] = lambda _into: None) -> bool:
        """Give everything its name; the data directory last, for without it nothing looks whole.

        Args:
            confirm: called with the data directory once it has its name; when it raises, all of it is taken back.

        Returns:
            Whether a data directory that was there gave way.
        """
        building = {
            str(tablespace.final): {child.name: number_of(child) for child in tablespace.building.iterdir()}
            for tablespace in self.tablespaces
        }
        return hand_over(self.root, request.into, request.aside, building, self._place_tablespaces, confirm)

    def _place_tablespaces(self) -> None:
        for tablespace in self.tablespaces:
            for child in tablespace.building.iterdir():
                child.rename(tablespace.final / child.name)
            tablespace.building.rmdir()
            tablespace.root.rmdir()
            self._link(self.data / "pg_tblspc" / str(tablespace.oid), tablespace.final)
            sync(tablespace.final)
        if self.tablespaces:
            sync(self.data / "pg_tblspc")

    def _link(self, link: Path, final: Path) -> None:
        link.unlink()
        link.symlink_to(final)
        if self.owner is not None:
            os.chown(link, self.owner.uid, self.owner.gid, follow_symlinks=False)


@contextmanager
def unfinished(request: Request, plan: RestorePlan, owner: Owner | None) -> Iterator[Place]:
    """The place to build in, empty; afterwards it is gone, with whatever was not handed over.

    Raises:
        DestinationInUse: another restore builds there at this moment.
    """
    root = request.unfinished
    lock = _lock(root)
    made: list[Path] = []
    tablespaces = tuple(
        TablespacePlace(tablespace.oid, tablespace_place(tablespace, request))
        for tablespace in moved_tablespaces(plan)
        if tablespace.oid is not None
    )
    place = Place(root, tablespaces, owner)
    try:
        if settle(root):
            check_destination(request, plan)
        for old in [*root.iterdir(), *(tablespace.root for tablespace in tablespaces)]:
            _remove(old)
        for folder in [place.data, place.staging, place.arriving, *(tablespace.building for tablespace in tablespaces)]:
            _make(folder, made, owner)
        for number in range(len(plan.base.links) if plan.base.below else 0):
            for folder in [place.link(number), *(tablespace.link(number) for tablespace in tablespaces)]:
                _make(folder, made, owner)
        _give(root, owner)
        yield place
    except BaseException:
        _clear(place)
        for folder in reversed(made):
            _remove_empty(folder)
        raise
    else:
        _clear(place)
    finally:
        os.close(lock)


def _lock(root: Path) -> int:
    """The directory, open and locked: the lock goes with the process, however that ends."""
    root.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one that had it before may have removed the directory between our two calls.
        ours = os.fstat(lock).st_ino == root.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        os.close(lock)
        raise DestinationInUse(
            f"Another restore is building in {root} at this moment.", "Let it end, or name another destination."
        )
    return lock


def _make(folder: Path, made: list[Path], owner: Owner | None) -> None:
    """Make a directory and those above it that are missing: these are ours, and none that was there is touched."""
    missing = [path for path in [folder, *folder.parents] if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700)
        made.append(path)
        _give(path, owner)


def _give(path: Path, owner: Owner | None) -> None:
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)


def _clear(place: Place) -> None:
    # What gave way may lie there still.
    settle(place.root)
    for tablespace in place.tablespaces:
        _remove(tablespace.root)
    _remove(place.root)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        # Somebody else put something there meanwhile, or it is gone already.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
