"""Which paths belong to a set of files: patterns as in ``.gitignore``, from the set's own directory."""

from __future__ import annotations

from collections.abc import Sequence

from pathspec import GitIgnoreSpec

EVERYTHING = ("**",)


class Selection:
    """What a policy's ``include`` and ``exclude`` say.

    Args:
        include: a file belongs to the set when one of them fits it or a folder that it is in.
        exclude: and none of these does; what lies in an excluded folder is not looked at.
    """

    def __init__(self, include: Sequence[str] = EVERYTHING, exclude: Sequence[str] = ()) -> None:
        self._include = None if tuple(include) == EVERYTHING else GitIgnoreSpec.from_lines(include)
        self._exclude = GitIgnoreSpec.from_lines(exclude) if exclude else None

    @property
    def has_everything(self) -> bool:
        """Whether nothing is left out."""
        return self._include is None and self._exclude is None

    def has(self, path: str) -> bool:
        """Whether a path that is no folder belongs to it."""
        return not self._out(path) and (self._include is None or self._include.match_file(path))

    def may_enter(self, folder: str) -> bool:
        """Whether anything in a folder may belong to it."""
        return not self._out(f"{folder}/")

    def _out(self, path: str) -> bool:
        return self._exclude is not None and self._exclude.match_file(path)
