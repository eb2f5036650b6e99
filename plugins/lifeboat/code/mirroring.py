"""A repository's mirror on a second server: the same refs, and for the time of retention what they were before.

A ref that was forced, deleted or moved at the origin is kept on the mirror as ``refs/lifeboat/<moment>/…`` before the
mirror follows, so that a push at the origin never takes the last other copy of a commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from lifeboat.code.git_program import Git, GitFailed, Remote
from lifeboat.code.refs import TAGS, RepositoryRefs, shown
from lifeboat.code.rewrites import Contains, contained_in
from lifeboat.errors import LifeboatError

KEPT = "refs/lifeboat/"
_FETCHED = "refs/lifeboat-fetched/"
_STAMP = "%Y%m%dT%H%M%SZ"
_AT_ONCE = 200
"""So many refs are named in one command: arguments have a limit."""
_MOST_SHOWN = 10


class MirrorFailed(LifeboatError):
    """A mirror could not be brought up to its origin, or is not what it should be."""


@dataclass(frozen=True)
class Mirrored:
    """What became of a mirror.

    Attributes:
        refs: how many it has as the origin has them.
        kept: refs that were kept under new names before the mirror followed: new name, and the object's id.
        expired: names of kept refs that were removed, for their time is over.
        left_out: refs of the origin that are not mirrored: what a forge makes by itself, and what no server takes.
    """

    refs: int
    kept: Mapping[str, str]
    expired: tuple[str, ...]
    left_out: int


@dataclass(frozen=True)
class Mirror:
    """The mirror of one repository.

    Attributes:
        git: what speaks with it.
        remote: where it is, and what lets us in.
        clone: a fresh clone of the origin.
        refs: what that clone has.
        forge_refs: folders of refs that are not mirrored.
    """

    git: Git
    remote: Remote
    clone: Path
    refs: RepositoryRefs
    forge_refs: tuple[str, ...]
    tick: Callable[[], None]

    def bring_up(self, *, now: datetime, keep_since: datetime) -> Mirrored:
        """Keep what the mirror is about to lose, make it the same as the origin, and compare both ref by ref.

        Args:
            now: the moment that what is kept is named after.
            keep_since: what was kept before this moment is removed.

        Raises:
            MirrorFailed: the mirror can't be reached, refuses something, or has other refs afterwards.
        """
        try:
            return self._bring_up(now, keep_since)
        except GitFailed as error:
            raise MirrorFailed(error.what, error.remedy) from error

    def _bring_up(self, now: datetime, keep_since: datetime) -> Mirrored:
        there = self._listed()
        wanted = {name: ref.id for name, ref in self.refs.refs.items() if self._follows(name)}
        followed = {name: object_id for name, object_id in there.items() if self._follows(name)}
        kept: dict[str, str] = {}
        if followed != wanted:
            self._fetch(followed, wanted)
            stamp = now.astimezone(UTC).strftime(_STAMP)
            kept = kept_names(followed, wanted, contained_in(self.git, self.clone, self.tick), stamp)
            self._push([f"{object_id}:{name}" for name, object_id in kept.items()], "keep what is about to go")
            self._push_all({*followed, *wanted})
        expired = [name for name in there if is_past(name, keep_since)]
        self._push([f":{name}" for name in expired], "remove what was kept long enough")
        self._compare(wanted, kept)
        return Mirrored(len(wanted), kept, tuple(expired), len(self.refs.refs) - len(wanted))

    def _follows(self, name: str) -> bool:
        """Whether a ref is mirrored: no server takes one that lies in no folder, such as ``refs/stash``."""
        return name.count("/") > 1 and not name.startswith((*self.forge_refs, KEPT))

    def _listed(self) -> dict[str, str]:
        lines = self.git.lines(
            ["ls-remote", "--quiet", "--refs", "--", self.remote.url], remote=self.remote, tick=self.tick,
            what="The mirror can't be listed",
        )  # fmt: skip
        parts = (line.decode("utf-8", "surrogateescape").split("\t", 1) for line in lines)
        return {name: object_id for object_id, name in parts if name.startswith("refs/")}

    def _fetch(self, followed: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        """Get the objects that the mirror alone may have: what can't be named here can't be kept there."""
        differing = [name for name, object_id in followed.items() if wanted.get(name) != object_id]
        if not differing:
            return
        specs = "".join(f"+{name}:{_FETCHED}{number}\n" for number, name in enumerate(differing))
        self.git.run(
            ["fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--stdin", "--", self.remote.url],
            at=self.clone,
            remote=self.remote,
            feed=BytesIO(specs.encode("utf-8", "surrogateescape")),
            tick=self.tick,
            what="What the mirror has can't be fetched",
        )

    def _push(self, specs: Sequence[str], doing: str) -> None:
        for first in range(0, len(specs), _AT_ONCE):
            self._run_push(["--", self.remote.url, *specs[first : first + _AT_ONCE]], doing)

    def _push_all(self, names: set[str]) -> None:
        """Folder by folder, and what is gone at the origin goes: not ``--mirror``, which would take what is kept."""
        folders = {re.sub(r"^(refs/[^/]+/).*$", r"\1*", name, flags=re.DOTALL) for name in names}
        specs = [f"+{folder}:{folder}" for folder in sorted(folders)]
        self._run_push(["--prune", "--", self.remote.url, *specs], "bring it up to the origin")

    def _run_push(self, arguments: Sequence[str], doing: str) -> None:
        said: list[bytes] = []
        try:
            self.git.run(
                ["push", "--progress", "--porcelain", "--no-verify", *arguments],
                at=self.clone,
                remote=self.remote,
                take=said.append,
                tick=self.tick,
                what=f"The push to {doing} failed",
            )
        except GitFailed as error:
            refused = [
                line[1:].strip() for line in b"".join(said).decode("utf-8", "replace").splitlines() if line[:1] == "!"
            ]
            if not refused:
                raise
            more = f" and {len(refused) - _MOST_SHOWN} more" if len(refused) > _MOST_SHOWN else ""
            listed = "; ".join(" ".join(line.split("\t")) for line in refused[:_MOST_SHOWN])
            raise MirrorFailed(
                f"The mirror refused refs in the push to {doing}: {listed}{more}.",
                "Let the mirror's connection push and delete everything there: a mirror has no protected branches and "
                "no rules of its own.",
            ) from error

    def _compare(self, wanted: Mapping[str, str], kept: Mapping[str, str]) -> None:
        """Insist on the mirror's refs being those of the clone, and on what was kept."""
        there = self._listed()
        found = {name: object_id for name, object_id in there.items() if self._follows(name)}
        differing = sorted({name for name, _ in {*found.items()} ^ {*wanted.items()}})
        differing += sorted(name for name, object_id in kept.items() if there.get(name) != object_id)
        if differing:
            more = f" and {len(differing) - _MOST_SHOWN} more" if len(differing) > _MOST_SHOWN else ""
            raise MirrorFailed(
                f"The mirror has other refs than the origin after the push: "
                f"{', '.join(map(shown, differing[:_MOST_SHOWN]))}{more}.",
                "Does somebody else push there, or does a hook or a rule of the server change what is pushed?",
            )


def kept_names(there: Mapping[str, str], wanted: Mapping[str, str], contains: Contains, stamp: str) -> dict[str, str]:
    """What of a mirror's refs has to be kept before it follows: new names, and the objects' ids."""
    return {
        f"{KEPT}{stamp}/{name.removeprefix('refs/')}": object_id
        for name, object_id in there.items()
        if wanted.get(name) != object_id
        and (name not in wanted or name.startswith(TAGS) or not contains(object_id, wanted[name]))
    }


def is_past(name: str, keep_since: datetime) -> bool:
    """Whether a ref on a mirror was kept by us, and long enough."""
    found = re.match(re.escape(KEPT) + r"([0-9]{8}T[0-9]{6}Z)/", name)
    if found is None:
        return False
    try:
        return datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC) < keep_since
    except ValueError:
        return False
