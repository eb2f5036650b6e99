"""One source read by several tasks at once: each takes a share, and one brings them together."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Self

MOST_SHARES = 16
_WORD = "share"


@dataclass(frozen=True)
class Share:
    """One of the equal parts of a source.

    Attributes:
        number: which, from 1.
        of: how many there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST_SHARES:
            raise ValueError(f"There is no share {self.number} of {self.of}")

    def has(self, number: int) -> bool:
        """Whether something that bears a number, evenly spread, belongs to it."""
        return number % self.of == self.number - 1

    def kind(self, whole: str) -> str:
        """The kind of its recovery points: each share has a row of its own, since all are made at the same time.

        Args:
            whole: the kind of what they are brought together to.
        """
        return f"{whole}{_WORD}{string.ascii_lowercase[self.number - 1]}"

    @classmethod
    def all(cls, of: int) -> tuple[Self, ...]:
        """All of so many."""
        return tuple(cls(number, of) for number in range(1, of + 1))


def share_kinds(whole: str) -> tuple[str, ...]:
    """The kinds of every share that there may be."""
    return tuple(share.kind(whole) for share in Share.all(MOST_SHARES))
