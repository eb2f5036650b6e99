"""What a kit carries besides policies and secrets: the page, the reader, its pinned requirements and wheels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import lifeboat
from lifeboat.errors import RepositoryError
from lifeboat.kit.archive import KitWriter
from lifeboat.kit.contents import (
    ARCHIVE_PAGE,
    PAGE,
    READER,
    READER_REQUIREMENTS,
    REQUIREMENTS,
    RUNBOOKS,
    WHEELS,
)

PROJECT = Path(lifeboat.__file__).resolve().parents[2]
"""Where the project lies that this package belongs to."""

NO_WHEELS = (
    "There are no wheels in this kit: the reader's requirements have to come from a package index, or from a directory "
    "that `pip download --require-hashes --requirement reader/requirements.txt --dest wheels` has filled."
)
_PAPERS = {
    PAGE: "docs/restore-by-hand.md",
    ARCHIVE_PAGE: "docs/restore-archive-by-hand.md",
    READER: "include/reader/lifeboat_reader.py",
    READER_REQUIREMENTS: "include/reader/requirements.txt",
    REQUIREMENTS: "requirements.txt",
}
_RUNBOOKS = {f"{RUNBOOKS}lifeboat/": "docs/runbooks", RUNBOOKS: "include/runbooks"}
"""Lifeboat's own, and what somebody wrote for his systems."""
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# https://packaging.python.org/en/latest/specifications/binary-distribution-format/#file-name-convention
_WHEEL = re.compile(r"^([A-Za-z0-9_.]+)-([A-Za-z0-9_.!+]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl$")


def add_papers(writer: KitWriter, project: Path) -> None:
    """Add the page, the reader, the requirements and the runbooks.

    Raises:
        RepositoryError: one is missing: a kit without it would not be one.
    """
    for name, place in _PAPERS.items():
        _add(writer, name, project / place, project)
    for folder, place in _RUNBOOKS.items():
        runbooks = project / place
        for path in sorted(path for path in runbooks.rglob("*") if path.is_file() and not path.name.startswith(".")):
            _add(writer, f"{folder}{path.relative_to(runbooks).as_posix()}", path, project)


def _add(writer: KitWriter, name: str, path: Path, project: Path) -> None:
    try:
        writer.add_file(name, path)
    except OSError as error:
        raise RepositoryError(
            f"{path} can't be put into the kit: {error.strerror}.",
            f"It belongs to the project, looked for in {project}; name its directory with --project.",
        ) from error


def add_wheels(writer: KitWriter, project: Path, directory: Path | None) -> tuple[int, list[str]]:
    """Add the wheels that the reader's requirements pin: how many, and what a person should know.

    Wheels of other versions, other projects, or of a digest that is not pinned are never taken. Several wheels of one
    pin (for other machines or Pythons) all are.

    Raises:
        RepositoryError: the directory is missing, a pin has no wheel, or a wheel is not the one that was pinned.
    """
    if directory is None:
        return 0, [NO_WHEELS]
    pins = _pins((project / _PAPERS[READER_REQUIREMENTS]).read_text(encoding="utf-8"))
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".whl")
    except OSError as error:
        raise RepositoryError(
            f"The directory of wheels {directory} can't be read: {error.strerror}.",
            "Fill it with `pip download --require-hashes --requirement include/reader/requirements.txt --dest DIR`, "
            "or export without --wheels.",
        ) from error
    taken: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        found = _WHEEL.match(path.name)
        if found is not None and (pin := (_normal(found[1]), found[2])) in pins:
            taken.setdefault(pin, []).append(path)
    missing = sorted(f"{name}=={version}" for name, version in set(pins) - set(taken))
    if missing:
        raise RepositoryError(
            f"{directory} has no wheel of: {', '.join(missing)}.",
            "Fill it with `pip download --require-hashes --requirement include/reader/requirements.txt --dest DIR`.",
        )
    for pin, wheels in taken.items():
        for wheel in wheels:
            _insist_on_pinned(wheel, pins[pin])
            writer.add_file(f"{WHEELS}{wheel.name}", wheel)
    return sum(len(wheels) for wheels in taken.values()), []


def _insist_on_pinned(wheel: Path, digests: set[str]) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest not in digests:
        raise RepositoryError(
            f"{wheel} is not the wheel that was pinned: its SHA-256 is {digest}.",
            "Fetch it again with `pip download --require-hashes`; if it stays so, somebody exchanged it.",
        )


def _pins(text: str) -> dict[tuple[str, str], set[str]]:
    pins: dict[tuple[str, str], set[str]] = {}
    digests: set[str] = set()
    for line in text.splitlines():
        if (found := _PINNED.match(line)) is not None:
            digests = pins.setdefault((_normal(found[1]), found[2]), set())
        digests.update(_HASH.findall(line))
    return pins


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_me(kit: str, created: datetime, systems: Sequence[str], notices: Sequence[str]) -> bytes:
    """The first page of a kit."""
    lines = [
        "RECOVERY KIT",
        "",
        f"Kit {kit}, made {created.astimezone(UTC):%Y-%m-%d %H:%M} UTC, for: {', '.join(systems)}.",
        "",
        "With this kit and the break-glass key from the safe you can bring these systems back from their targets,",
        "when everything else is lost.",
        "",
        "  Begin with restore-by-hand.md if there is no Lifeboat; with `lifeboat --kit FILE restore …` if there is.",
        "  systems/      where the copies are, and whose signatures to believe",
        "  credentials/  the way in, sealed: only the break-glass private key opens it",
        "  runbooks/     what to do besides",
        "",
        "Whoever has this kit AND the break-glass key can read every backup: never keep both in one place.",
    ]
    if notices:
        lines += ["", "Mind:", *(f"- {notice}" for notice in notices)]
    return "\n".join([*lines, ""]).encode()
