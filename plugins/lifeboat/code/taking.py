"""One repository is cloned, compared with what is kept of it, and stored where it has changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lifeboat.code.access import remote_access
from lifeboat.code.bundling import bundle_stream, write_bundle
from lifeboat.code.details import RepositoryDetails, Rewrite
from lifeboat.code.earlier import Earlier
from lifeboat.code.git_program import Git
from lifeboat.code.left_out import left_out
from lifeboat.code.protection import Protection, protections
from lifeboat.code.refs import RepositoryRefs, read_refs
from lifeboat.code.releases import Unsigned, unsigned, with_verified
from lifeboat.code.rewrites import contained_in, rewrites_between
from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.outside import Outside
from lifeboat.policy.code_source import CodeSource, RepositoryPolicy, scheme_of
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter

Tick = Callable[[], None]
_HARMLESS = ("cloned an empty repository", "remote HEAD refers to nonexistent ref", "redirecting to")
_MOST_REMARKS = 20


@dataclass(frozen=True)
class Taken:
    """What became of one repository.

    Attributes:
        refs: ``None`` where it could not be read, now or earlier.
        protections: what its forge says of its branches.
        remarks: what git found wrong although it has cloned it: a ref that it left out, say.
        clone: where its clone lies, if it is wanted for a mirror; ``None`` elsewhere.
        stored: its bundle, where one was stored now.
    """

    policy: RepositoryPolicy
    details: RepositoryDetails
    refs: RepositoryRefs | None
    rewrites: tuple[Rewrite, ...] = ()
    unsigned: Unsigned | None = None
    protections: tuple[Protection, ...] = ()
    remarks: tuple[str, ...] = ()
    clone: Path | None = None
    stored: StoredStream | None = None


@dataclass(frozen=True)
class Taker:
    """Takes the repositories of one recovery point.

    Attributes:
        own: the recovery point's id.
        read: told of bytes as they are read.
    """

    git: Git
    outside: Outside
    source: CodeSource
    earlier: Earlier | None
    own: str
    destination: Destination
    settings: StreamSettings
    read: Callable[[int], None]
    tick: Tick

    def take(self, policy: RepositoryPolicy) -> Taken:
        """Clone it; what can't be read is told in what is returned, and what is kept of it is referred to."""
        clone = self.git.scratch.path / f"{policy.name}.git"
        try:
            refs, remarks = self._clone(policy, clone)
        except Cancelled:
            raise
        except LifeboatError as error:
            shutil.rmtree(clone, ignore_errors=True)
            return self._unread(policy, error)
        taken = replace(self._stored(policy, clone, refs), remarks=remarks)
        if taken.clone is None:
            shutil.rmtree(clone, ignore_errors=True)
        return taken

    def _clone(self, policy: RepositoryPolicy, into: Path) -> tuple[RepositoryRefs, tuple[str, ...]]:
        with remote_access(self.outside, self.source.connection, policy.url) as remote:
            ended = self.git.run(
                ["clone", "--mirror", "--progress", "--template=", "--reject-shallow", "--", policy.url, str(into)],
                remote=remote,
                tick=self.tick,
                what=f"{policy.name} can't be cloned from {policy.url}",
            )
        refs = read_refs(self.git, into, policy.name, self.tick)
        # A ref whose name git does not believe is left out by it, with exit code 0.
        remarks = [line for line in ended.words.splitlines() if line.startswith(("error: ", "warning: "))]
        told = [line for line in remarks if not any(word in line for word in _HARMLESS)]
        return with_verified(self.git, into, refs, self.source, self.tick), tuple(told[:_MOST_REMARKS])

    def _unread(self, policy: RepositoryPolicy, error: LifeboatError) -> Taken:
        before = self.earlier.of(policy.name) if self.earlier is not None else None
        if before is None:
            details = RepositoryDetails(name=policy.name, url=policy.url, unread=str(error)[:2000])
            return Taken(policy, details, None)
        # A repository that was deleted at its origin must not go with the last recovery point that has read it.
        details, refs = before
        return Taken(policy, details.model_copy(update={"unread": str(error)[:2000]}), refs)

    def _stored(self, policy: RepositoryPolicy, clone: Path, refs: RepositoryRefs) -> Taken:
        before = self.earlier.of(policy.name) if self.earlier is not None else None
        rewrites = (
            tuple(rewrites_between(before[1], refs, contained_in(self.git, clone, self.tick), self.source))
            if before is not None
            else ()
        )
        details = RepositoryDetails(
            name=policy.name,
            url=policy.url,
            object_format=refs.object_format,
            refs=len(refs.refs),
            left_out=left_out(self.git, clone, refs, policy.url, self.tick),
        )
        stored = None
        if not refs.empty:
            kept = before[0] if before is not None and before[1].same_as(refs) and before[0].bundle else None
            if kept is not None and self.earlier is not None and not self.earlier.stale:
                update = {"bundle": kept.bundle, "recovery_point": kept.recovery_point, "size": kept.size}
            else:
                stored = self._bundle(clone, refs)
                update = {"bundle": stored.name, "recovery_point": self.own, "size": stored.plain_size}
            details = details.model_copy(update=update)
        wanted = self.source.mirror_of(policy) is not None
        bad = unsigned(refs, before[1] if before is not None else None, self.source)
        return Taken(
            policy,
            details,
            refs,
            rewrites=rewrites,
            unsigned=bad,
            protections=self._protections(policy),
            clone=clone if wanted else None,
            stored=stored,
        )

    def _protections(self, policy: RepositoryPolicy) -> tuple[Protection, ...]:
        named = self.source.connection
        asked = named is not None and scheme_of(policy.url) in ("https", "ssh")
        connection = self.outside.connection(named) if named is not None and asked else None
        return tuple(protections(self.source, policy.url, connection, self.tick))

    def _bundle(self, clone: Path, refs: RepositoryRefs) -> StoredStream:
        name = bundle_stream(refs.repository)
        writer = StreamWriter(name, self.destination, self.settings, tick=self.tick, plain_digest=True)

        def take(data: bytes) -> None:
            writer.write(data)
            self.read(len(data))

        try:
            write_bundle(self.git, clone, refs, take, self.tick)
            return writer.finish()
        except BaseException as failure:
            writer.abort(failure)
            raise
