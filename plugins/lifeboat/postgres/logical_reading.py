"""What ``pg_restore`` says of an archive without reading its rows: its table of contents, and its definitions."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lifeboat.errors import RestoreError
from lifeboat.postgres.client_programs import ProgramFailed, Programs, run_program
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.logical_filling import list_file
from lifeboat.postgres.logical_fitting import Definition, definitions
from lifeboat.postgres.logical_selection import Entry, parse_listing
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.child_programs import in_memory
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

WITHOUT_ROWS = ("--section=pre-data", "--section=post-data")


def listing_of(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    stream: str,
    programs: Programs,
    *,
    tick: Callable[[], None] = no_tick,
) -> list[Entry]:
    """An archive's table of contents; its rows are not read.

    Raises:
        RestoreError: ``pg_restore`` can't read it.
    """
    pieces: list[bytes] = []
    arguments = [programs.path("pg_restore"), "--format=custom", "--list", "--verbose"]
    with opened(copy.manifest.stream(stream), origin_of(repository, target, copy)) as plain:
        try:
            run_program(arguments, feed=plain, take=pieces.append, tick=tick, rest="leave")
        except ProgramFailed as error:
            raise RestoreError(f"The contents of {stream} can't be read: {error.what}", "Use another copy.") from error
    return parse_listing(b"".join(pieces).decode("utf-8", "replace"))


def definitions_in(
    repository: SystemRepository,
    copy: Copy,
    stream: str,
    programs: Programs,
    numbers: Collection[int],
    *,
    tick: Callable[[], None] = no_tick,
) -> list[Definition]:
    """How some entries of an archive define what they define, without owners and privileges.

    Raises:
        RestoreError: ``pg_restore`` can't read it.
    """
    pieces: list[bytes] = []
    with (
        in_memory({"list": list_file(sorted(numbers))}) as (paths, descriptors),
        opened(copy.manifest.stream(stream), origin_of(repository, copy.target, copy)) as plain,
    ):
        arguments = [
            programs.path("pg_restore"),
            *("--format=custom", "--verbose", "--no-owner", "--no-privileges", *WITHOUT_ROWS),
            *(f"--use-list={paths['list']}", "--file=-"),
        ]
        try:
            run_program(arguments, descriptors=descriptors, feed=plain, take=pieces.append, tick=tick, rest="leave")
        except ProgramFailed as error:
            raise RestoreError(
                f"The definitions in {stream} can't be read: {error.what}", "Use another copy."
            ) from error
    return definitions(b"".join(pieces).decode("utf-8", "surrogateescape"))
