"""What is wrong with a policy, said so that a person can mend it: file, line, key, what, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifeboat.errors import PolicyError


@dataclass(frozen=True)
class PolicyProblem:
    """One thing that keeps a policy from being used.

    Attributes:
        file: the file it stands in.
        line: its line, from 1; 0 where the problem is about the file as a whole.
        key: the key's path, parts joined by dots (``sources.database.tiers.wal.schedule``); empty for the whole file.
        what: what is wrong.
        remedy: what to write instead, or what to do.
    """

    file: Path
    line: int
    key: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        subject = f"{self.key}: " if self.key else ""
        return f"{place}: {subject}{self.what} {self.remedy}".rstrip()


class PolicyRefused(PolicyError):
    """A policy was refused; ``problems`` lists everything that is wrong with it, not only the first thing."""

    def __init__(self, problems: Sequence[PolicyProblem]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"The policy can't be used:\n{listed}")


class Refused(ValueError):
    """A value that a policy may not hold; raised by validators, turned into a :class:`PolicyProblem` by the loader.

    Args:
        what: what is wrong with the value; never quotes something that may be a secret.
        remedy: what to write instead.
        key: where it stands, below the part of the policy that raised this.
    """

    def __init__(self, what: str, remedy: str = "", *, key: tuple[str | int, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.key = key


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for a word that nobody knows: the nearest one that is known, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean `{near[0]}`?"
    return f"Known here: {', '.join(f'`{name}`' for name in names)}." if names else "Remove it."
