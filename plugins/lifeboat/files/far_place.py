"""What a snapshot needs of a place that is not on the worker: a walk, and the bytes of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from lifeboat.files.entries import Entry
from lifeboat.files.patterns import Selection
from lifeboat.files.walking import Unseen

NOBODY = -1
"""The owner in a place that knows none; to ``chown`` it means that nothing is changed."""


class FarFile(Protocol):
    """A file that was opened."""

    @property
    def entry(self) -> Entry:
        """It as it was when it was opened: its size, times, identity and properties."""
        ...

    def read(self, size: int, /) -> bytes:
        """As many bytes as asked for; fewer only at its end. Raises as :meth:`FarPlace.open` does."""
        ...

    def unchanged(self) -> bool:
        """Whether it still is what was opened; asked after its last byte."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class FarPlace(Protocol):
    """A tree of files somewhere else. Its files may be opened on several threads at once."""

    def walk(self, selection: Selection, unseen: Callable[[Unseen], None], tick: Callable[[], None]) -> Iterator[Entry]:
        """Every path that belongs to a set, in the order of the index, the root first.

        Files have no digest yet; one whose ``identity`` is what it was before has not changed.

        Raises:
            SourceUnreadable: the place can't be reached, or does not let itself be listed.
        """
        ...

    def open(self, entry: Entry, *, again: bool = False) -> FarFile:
        """Open a file.

        Args:
            again: it was replaced or changed meanwhile: take what is there now.

        Raises:
            FileNotFoundError: it is gone.
            OSError: it can't be read; ``strerror`` says why. ``ESTALE``: it is not what it was any more.
            SourceUnreadable: the place can't be reached.
        """
        ...

    def try_out(self) -> bool:
        """List and read a little; false where there is nothing.

        Raises:
            SourceUnreadable: one of both can't be done.
        """
        ...

    def close(self) -> None:
        """Let go of the place."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
