"""A bundle: every ref of a repository and every object that they lead to, in one stream that ``git clone`` reads.

Header and pack are put together here, since ``git bundle create --all`` leaves out, without a word, a ref whose name
another one ends in (``refs/heads/main`` beside ``refs/refs/heads/main``).
Source: https://git-scm.com/docs/gitformat-bundle
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

from lifeboat.code.git_program import Git
from lifeboat.code.refs import RepositoryRefs
from lifeboat.errors import ObjectDamaged
from lifeboat.targets.target import Readable

_PIECE = 256 * 1024
_LONGEST_HEADER = 512 * 1024 * 1024
_SIGNS = {"sha1": b"# v2 git bundle\n", "sha256": b"# v3 git bundle\n@object-format=sha256\n"}


def bundle_stream(name: str) -> str:
    """What a repository's bundle is called in a recovery point."""
    return f"{name}.bundle"


def write_bundle(
    git: Git, at: Path, refs: RepositoryRefs, take: Callable[[bytes], None], tick: Callable[[], None]
) -> None:
    """Give a repository's bundle away, piece by piece.

    Raises:
        GitFailed: the repository can't be read to its end.
    """
    ids = refs.ids
    take(header_of(refs))
    git.run(
        ["pack-objects", "--quiet", "--stdout", "--revs", "--delta-base-offset"],
        at=at,
        feed=BytesIO("".join(f"{object_id}\n" for object_id in dict.fromkeys(ids.values())).encode()),
        take=take,
        tick=tick,
        what=f"{refs.repository} can't be packed",
    )


def header_of(refs: RepositoryRefs) -> bytes:
    """What stands in a bundle before its pack."""
    listed = (f"{object_id} {name}\n".encode("utf-8", "surrogateescape") for name, object_id in refs.ids.items())
    return _SIGNS[refs.object_format] + b"".join(listed) + b"\n"


class OpenedBundle:
    """A bundle that is being read: its header first, then its pack.

    Attributes:
        object_format: of its ids.
        ids: what each ref in it names.

    Raises:
        ObjectDamaged: it does not begin as a bundle does.
    """

    def __init__(self, stream: Readable, what: str) -> None:
        self._stream = stream
        head, self._left = self._split(what)
        self.object_format = next((form for form, sign in _SIGNS.items() if head.startswith(sign)), "")
        if not self.object_format:
            raise ObjectDamaged(f"{what} is no bundle.", "Use another target's copy.")
        self.ids = dict(_listed(head[len(_SIGNS[self.object_format]) :].splitlines(), what))

    def read(self, size: int = -1, /) -> bytes:
        """More of the pack."""
        if self._left:
            piece, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
            return piece
        return self._stream.read(size)

    def _split(self, what: str) -> tuple[bytes, bytes]:
        found = bytearray()
        while piece := self._stream.read(_PIECE):
            begin = max(0, len(found) - 1)
            found += piece
            end = found.find(b"\n\n", begin)
            if end >= 0:
                return bytes(found[: end + 1]), bytes(found[end + 2 :])
            if len(found) > _LONGEST_HEADER:
                break
        raise ObjectDamaged(f"{what} has no end of its header.", "Use another target's copy.")


def _listed(lines: Iterable[bytes], what: str) -> Iterable[tuple[str, str]]:
    for line in lines:
        object_id, separator, name = line.partition(b" ")
        if not separator:
            raise ObjectDamaged(f"{what} lists a ref without a name.", "Use another target's copy.")
        yield name.decode("utf-8", "surrogateescape"), object_id.decode("ascii", "replace")
