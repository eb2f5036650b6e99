"""The refs of a repository, as a clone has them and as an index keeps them; and what differs between two states."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifeboat.code.git_program import Git
from lifeboat.errors import ManifestInvalid

INDEX_STREAM = "refs.jsonl"
HEADS, TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True)
class Ref:
    """One ref.

    Attributes:
        name: in full; bytes that are no UTF-8 are kept as lone surrogates.
        id: the object that it names.
        type: ``commit``, ``tag``, ``tree``, ``blob``.
        peeled: of a tag object: what it leads to in the end.
        signature: of a tag: ``none`` (a tag object without one), ``pgp``, ``ssh``, ``x509``, with ``, good`` or
            ``, bad`` where it was verified; empty where there is no tag object.
    """

    name: str
    id: str
    type: str = "commit"
    peeled: str = ""
    signature: str = ""


@dataclass(frozen=True)
class RepositoryRefs:
    """All refs of a repository at one moment.

    Attributes:
        repository: its name in the policy.
        object_format: ``sha1`` or ``sha256``.
        head: the ref that HEAD names, which may not be there; empty where HEAD names an object.
        head_id: the object that HEAD leads to; empty where it leads nowhere.
        refs: by their names.
    """

    repository: str
    object_format: str = "sha1"
    head: str = ""
    head_id: str = ""
    refs: Mapping[str, Ref] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it to store."""
        return not self.refs and not self.head_id

    @property
    def ids(self) -> dict[str, str]:
        """What each ref names, HEAD among them where it leads anywhere: what a bundle lists."""
        named = {name: ref.id for name, ref in self.refs.items()}
        return named | ({"HEAD": self.head_id} if self.head_id else {})

    def same_as(self, other: RepositoryRefs) -> bool:
        """Whether both have the same refs, HEAD among them."""
        return (self.object_format, self.head, self.ids) == (other.object_format, other.head, other.ids)


@dataclass(frozen=True)
class RefChange:
    """A ref that differs between two states.

    Attributes:
        ref: its name; ``HEAD`` for what HEAD names; empty for the repository itself.
        old, new: the object's id (of HEAD: the ref's name, where it names one); empty where it is not there.
    """

    repository: str
    ref: str
    old: str
    new: str


def changes_between(before: Mapping[str, RepositoryRefs], after: Mapping[str, RepositoryRefs]) -> list[RefChange]:
    """What differs between the refs of two recovery points, in order of repository and ref."""
    changes: list[RefChange] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            changes.append(RefChange(name, "", *(("", "new") if old is None else ("there", ""))))
        changes += _changes_of(name, old or RepositoryRefs(name), new or RepositoryRefs(name))
    return changes


def _changes_of(name: str, old: RepositoryRefs, new: RepositoryRefs) -> Iterator[RefChange]:
    # Where HEAD names a branch, that branch's own change says the rest.
    was, becomes = old.head or old.head_id, new.head or new.head_id
    if was != becomes:
        yield RefChange(name, "HEAD", was, becomes)
    for ref in sorted({*old.refs, *new.refs}):
        ids = tuple(refs[ref].id if ref in refs else "" for refs in (old.refs, new.refs))
        if ids[0] != ids[1]:
            yield RefChange(name, ref, *ids)


_FORMAT = "%(objectname)%00%(objecttype)%00%(*objectname)%00%(*objecttype)%00%(refname)"


def read_refs(git: Git, at: Path, name: str, tick: Callable[[], None]) -> RepositoryRefs:
    """The refs of a repository on this machine.

    Raises:
        GitFailed: it can't be read.
    """
    signatures = _signatures(git, at, tick)
    refs: dict[str, Ref] = {}
    for line in git.lines(["for-each-ref", f"--format={_FORMAT}"], at=at, tick=tick):
        object_id, kind, peeled, peeled_kind, ref = line.decode("utf-8", "surrogateescape").split("\0")
        if peeled_kind == "tag":
            peeled = git.output(["rev-parse", f"{object_id}^{{}}"], at=at, tick=tick).decode().strip()
        signature = signatures.get(object_id, "none") if kind == "tag" else ""
        refs[ref] = Ref(ref, object_id, kind, peeled, signature)
    head = git.output(["symbolic-ref", "--quiet", "HEAD"], at=at, tick=tick, good=(0, 1))
    resolved = git.output(["rev-parse", "--verify", "--quiet", "HEAD"], at=at, tick=tick, good=(0, 1))
    object_format = git.output(["rev-parse", "--show-object-format"], at=at, tick=tick).decode().strip()
    return RepositoryRefs(
        name, object_format, head.decode("utf-8", "surrogateescape").strip("\n"), resolved.decode().strip(), refs
    )


def _signatures(git: Git, at: Path, tick: Callable[[], None]) -> dict[str, str]:
    """What each tag object that is signed is signed with, by the object's id."""
    listed = git.output(
        ["for-each-ref", "--format=%(objectname)%00%(contents:signature)%00", "refs/tags"], at=at, tick=tick
    )
    parts = listed.split(b"\0")
    found = {}
    for object_id, signature in zip(parts[0::2], parts[1::2], strict=False):
        first = signature.split(b"\n", 1)[0]
        for sign, kind in ((b"BEGIN PGP", "pgp"), (b"BEGIN SSH", "ssh"), (b"BEGIN SIGNED", "x509")):
            if sign in first:
                found[object_id.strip().decode()] = kind
    return found


def lines_of(refs: RepositoryRefs) -> Iterator[bytes]:
    """A repository's lines in the index."""
    yield _line(
        {
            "repository": refs.repository,
            "object_format": refs.object_format,
            **_text("head", refs.head),
            "head_id": refs.head_id,
        }
    )
    for ref in refs.refs.values():
        told = {"type": ref.type, "peeled": ref.peeled, "signature": ref.signature}
        yield _line(
            {"repository": refs.repository, **_text("ref", ref.name), "id": ref.id}
            | {key: value for key, value in told.items() if value}
        )


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(key: str, value: str) -> dict[str, str]:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {f"{key}_base64": base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()}
    return {key: value}


def _from_text(document: Mapping[str, Any], key: str) -> str:
    if f"{key}_base64" in document:
        return base64.b64decode(document[f"{key}_base64"], validate=True).decode("utf-8", "surrogateescape")
    return str(document[key])


def parse_index(lines: Iterable[bytes], what: str) -> dict[str, RepositoryRefs]:
    """The repositories of an index, by their names.

    Raises:
        ManifestInvalid: a line is not what an index holds.
    """
    found: dict[str, RepositoryRefs] = {}
    refs: dict[str, dict[str, Ref]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            document = json.loads(line)
            name = document["repository"]
            if "object_format" in document:
                refs[name] = {}
                found[name] = RepositoryRefs(
                    name, document["object_format"], _from_text(document, "head"), document["head_id"], refs[name]
                )
            else:
                ref = _from_text(document, "ref")
                told = {key: str(document.get(key, "")) for key in ("type", "peeled", "signature")}
                refs[name][ref] = Ref(ref, document["id"], **told)
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestInvalid(
                f"Line {number} of the refs of {what} can't be read.", "Use another target's copy."
            ) from error
    return found


def shown(ref: str) -> str:
    """A ref's name as people and journals read it."""
    return ref.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
