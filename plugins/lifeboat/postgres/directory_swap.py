"""A data directory gets its name, and the one that had it gives way: exchanged in one step where the file system can.

What is about to be done is written down before, by the directories' own numbers. Whoever comes after a kill reads that,
sees what has its name, and ends the one thing or takes back the other; nothing that was there before is ever removed.
Source: renameat2(2)
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lifeboat.errors import DestinationInUse
from lifeboat.postgres.old_directory import holds_something, insist_on_no_server

RECORD = "handing-over.json"
DATA = "data"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})

Number = tuple[int, int]
"""A file system's number and a directory's number in it: what it is known by, however it is called."""
NOWHERE: Number = (0, 0)


@dataclass(frozen=True)
class HandingOver:
    """What is about to get its name.

    Attributes:
        into: the name.
        aside: the name that the old one gets; empty where nothing is there.
        new, old: what is to have the name, and what has it.
        tablespaces: what is put into each tablespace's place: names, and what they are known by.
    """

    into: str
    aside: str
    new: Number
    old: Number | None
    tablespaces: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)

    @property
    def placed(self) -> frozenset[Number]:
        """What is put into the tablespaces' places."""
        return frozenset(number for names in self.tablespaces.values() for number in names.values())

    @classmethod
    def read(cls, root: Path) -> HandingOver | None:
        """What was written down in a directory of something unfinished; ``None``: nothing, or not all of it."""
        try:
            told: dict[str, Any] = json.loads((root / RECORD).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
            return None
        return cls(
            told["into"],
            told["aside"],
            _number(told["new"]),
            None if told["old"] is None else _number(told["old"]),
            {
                place: {name: _number(number) for name, number in names.items()}
                for place, names in told["tablespaces"].items()
            },
        )

    def write(self, root: Path) -> None:
        """Write it down so that it is there after a loss of power."""
        beside = root / f"{RECORD}.new"
        with beside.open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(root / RECORD)
        sync(root)


def _number(pair: list[int]) -> Number:
    device, number = pair
    return device, number


def number_of(place: Path) -> Number:
    """What a directory is known by; ``NOWHERE`` where there is none."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return NOWHERE
    return found.st_dev, found.st_ino


def hand_over(
    root: Path,
    into: Path,
    aside: Path | None,
    tablespaces: Mapping[str, Mapping[str, Number]],
    place_tablespaces: Callable[[], None],
    confirm: Callable[[Path], None],
) -> bool:
    """Give what was built its name; returns whether something that was there gave way.

    Args:
        root: where it was built; the data directory is ``data`` in it.
        aside: where what is there goes; ``None``: nothing may be there.
        tablespaces: what ``place_tablespaces`` will put into each tablespace's place.
        confirm: called with the name once it is given; when it raises, what was there has its name again.

    Raises:
        DestinationInUse: a server was started in the old one meanwhile; it has its name again.
    """
    data = root / DATA
    old = number_of(into) if aside is not None and holds_something(into) else None
    new = number_of(data)
    HandingOver(str(into), str(aside) if old and aside else "", new, old, tablespaces).write(root)
    try:
        place_tablespaces()
        if old is None or aside is None:
            if into.is_dir():
                into.rmdir()
            data.rename(into)
        else:
            _give_way(data, into, aside)
        sync(into.parent)
        confirm(into)
    except BaseException:
        _take_back(root, into, aside if old is not None else None, new)
        raise
    return old is not None


def _give_way(data: Path, into: Path, aside: Path) -> None:
    insist_on_no_server(into)
    if exchange(data, into):
        sync(into.parent)
        data.rename(aside)
    else:
        into.rename(aside)
        data.rename(into)
    # Somebody may have started it in between.
    insist_on_no_server(aside, known_as=into)


def _take_back(root: Path, into: Path, aside: Path | None, new: Number) -> None:
    data = root / DATA
    if number_of(into) != new:
        settle(root)
        return
    held = data if data.exists() else aside
    if held is None:
        into.rename(data)
    elif exchange(held, into):
        if held != data:
            held.rename(data)
    else:
        into.rename(root / "failed")
        held.rename(into)
        (root / "failed").rename(data)
    settle(root)


def left_behind(root: Path) -> frozenset[Number]:
    """What a restore that was killed has put into the places of tablespaces, and nobody uses: :func:`settle` removes
    it."""
    record = HandingOver.read(root)
    if record is None or number_of(Path(record.into)) == record.new:
        return frozenset()
    return record.placed


def settle(root: Path) -> bool:
    """End what a restore that was killed, or failed, had begun to hand over: whoever has the name keeps it, the old one
    lies where it should, and what was not handed over can be removed with ``root``. Returns whether there was anything.

    Raises:
        DestinationInUse: what lies there is not what was written down; nothing was removed.
    """
    record = HandingOver.read(root)
    if record is None:
        return False
    into, data = Path(record.into), root / DATA
    if number_of(into) != record.new:
        _undo(record, data)
    elif record.old is not None and number_of(data) == record.old:
        data.rename(record.aside)
    if number_of(data) not in (NOWHERE, record.new):
        raise DestinationInUse(
            f"{data} is not what a restore that was cut short has built there.",
            f"It may be what was in {into} before: look at it, and move it away.",
        )
    sync(into.parent)
    (root / RECORD).unlink()
    return True


def _undo(record: HandingOver, data: Path) -> None:
    into = Path(record.into)
    if record.old is not None:
        aside = Path(record.aside)
        if number_of(aside) == record.new:
            aside.rename(data)
        for place in (data, aside):
            if number_of(into) == NOWHERE and number_of(place) == record.old:
                place.rename(into)
    for folder, names in record.tablespaces.items():
        for name in names:
            # Somebody may have put another one there since.
            if number_of(Path(folder) / name) in record.placed:
                shutil.rmtree(Path(folder) / name)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; false where the system or the file system can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))


def sync(folder: Path) -> None:
    """See that the names in a directory are there after a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
