"""A bundle becomes a bare repository again: every object proven by its own id, every ref as the index has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from lifeboat.code.bundling import OpenedBundle
from lifeboat.code.git_program import Git, GitFailed
from lifeboat.code.refs import RepositoryRefs, read_refs, shown
from lifeboat.errors import ObjectDamaged
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened
from lifeboat.targets.target import Readable

_PIECE = 512 * 1024
_FORM = 1 | 4
"""Exit codes of ``git fsck`` for the form of objects, loose or packed; the others are for what is missing."""
_ELSEWHERE = "Use another target's copy, or another recovery point."


def unpack(
    repository: SystemRepository,
    git: Git,
    copy: Copy,
    bundle: str,
    refs: RepositoryRefs,
    into: Path,
    *,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> list[str]:
    """Make a bare repository of a bundle, with every ref, HEAD as it was, and nothing else.

    Args:
        copy: the recovery point that holds the bundle.
        bundle: the stream; empty: the repository holds nothing.
        refs: what the index says of it.
        into: a directory that is not there.
        passed: told the stored bytes as they arrive.

    Returns:
        Flaws that ``git fsck`` sees in objects which are as they were at the origin, in its own words.

    Raises:
        ObjectDamaged: the bundle is not what was written, or not what the index says.
        GitFailed: ``git`` could not do it.
    """
    what = f"{bundle or refs.repository} of {copy.manifest.recovery_point} on {copy.target}"
    form = refs.object_format
    git.run(["init", "--bare", "--quiet", "--template=", f"--object-format={form}", str(into)], tick=tick)
    if bundle:
        with opened(copy.manifest.stream(bundle), repository.origin(copy), passed) as stream:
            _index(git, stream, refs, into, what, tick)
        _set_refs(git, refs, into, tick)
    if refs.head:
        git.run(["symbolic-ref", "HEAD", refs.head], at=into, tick=tick)
    found = read_refs(git, into, refs.repository, tick)
    if not found.same_as(refs):
        differ = sorted({*found.ids.items()} ^ {*refs.ids.items()})
        raise ObjectDamaged(
            f"{what} has other refs than its index says: {', '.join(shown(name) for name, _ in differ[:5]) or 'HEAD'}.",
            _ELSEWHERE,
        )
    return check(git, into, what, tick)


def _index(git: Git, stream: Readable, refs: RepositoryRefs, into: Path, what: str, tick: Callable[[], None]) -> None:
    bundle = OpenedBundle(stream, what)
    if bundle.object_format != refs.object_format or bundle.ids != refs.ids:
        raise ObjectDamaged(f"{what} lists other refs than the index of its recovery point.", _ELSEWHERE)
    try:
        git.run(["index-pack", "--stdin"], at=into, feed=bundle, tick=tick, what=what)
    except GitFailed as error:
        # What is wrong with the stored bytes says more than what git found in them.
        while bundle.read(_PIECE):
            tick()
        raise ObjectDamaged(f"{what} is no whole pack: {error.what}", _ELSEWHERE) from error
    while bundle.read(_PIECE):
        tick()


def _set_refs(git: Git, refs: RepositoryRefs, into: Path, tick: Callable[[], None]) -> None:
    commands = b"".join(
        f"create {name}\0{ref.id}\0".encode("utf-8", "surrogateescape") for name, ref in refs.refs.items()
    )
    git.run(["update-ref", "-z", "--stdin"], at=into, feed=BytesIO(commands), tick=tick)
    if not refs.head:
        git.run(["update-ref", "--no-deref", "HEAD", refs.head_id], at=into, tick=tick)
    git.run(["pack-refs", "--all"], at=into, tick=tick)


def check(git: Git, at: Path, what: str, tick: Callable[[], None]) -> list[str]:
    """Look at every object of a repository by ``git fsck``.

    An object's id is the digest of its content, so what ``git`` holds against a whole object's form was so at the
    origin: that is returned. What is missing or can't be read is damage.

    Raises:
        ObjectDamaged: something is missing or broken.
    """
    said: list[str] = []
    printed: list[bytes] = []
    ended = git.run(
        ["fsck", "--full", "--no-dangling", "--no-progress"],
        at=at,
        take=printed.append,
        tick=tick,
        good=range(256),
    )
    lines = [*ended.words.splitlines(), *b"".join(printed).decode("utf-8", "replace").splitlines()]
    damage: list[str] = []
    for line in filter(None, map(str.strip, lines)):
        if re.match(r"(error|warning) in (commit|tree|tag|blob) [0-9a-f]+: ", line):
            said.append(line)
        elif not line.startswith(("notice: ", "warning: ", "Checking ")):
            damage.append(line)
    if damage or ended.code & ~_FORM or (ended.code and not said):
        raise ObjectDamaged(
            f"{what} is not whole: {'; '.join(damage[:5]) or f'git fsck says {ended.code}'}.", _ELSEWHERE
        )
    return said


def bundle_home(repository: SystemRepository, copy: Copy, recovery_point: str, known: dict[str, Copy]) -> Copy:
    """The copy on the same target that holds a bundle which a recovery point refers to."""
    known.setdefault(copy.manifest.recovery_point, copy)
    if recovery_point not in known:
        folder = RecoveryPointFolder(copy.manifest.system, copy.manifest.source, recovery_point)
        known[recovery_point] = repository.catalogue(copy.target).read(folder)
    return known[recovery_point]
