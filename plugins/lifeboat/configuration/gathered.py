"""What was gathered of a configuration, and what could not be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lifeboat.configuration.items import LARGEST_SET, About, Item, fault_of_name
from lifeboat.errors import SourceUnreadable


def printable(text: str) -> str:
    """A text that any document can hold: bytes of names that are no UTF-8 are written out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Problem:
    """Something that the policy names and that is not in the set.

    Attributes:
        name: what: a path, a variable, a secret, as an item would be called or as the policy says.
        reason: why, in a clause without a full stop.
        what: ``missing``: it is not there; ``nothing``: a pattern fits nothing; ``unread``: it can't be read.
        remedy: what to do, in a sentence.
    """

    name: str
    reason: str
    what: Literal["missing", "nothing", "unread"]
    remedy: str = ""

    def __str__(self) -> str:
        return printable(f"{self.name} {self.reason}")


@dataclass
class Gathered:
    """The items on their way into a recovery point.

    Attributes:
        problems: what is not in it.
        remarks: what a person should know, in sentences: they become findings.
    """

    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _items: dict[str, Item] = field(default_factory=dict, repr=False)
    _size: int = 0

    def add(self, about: About, content: bytes = b"") -> None:
        """Take an item; one that two patterns name is taken once.

        Raises:
            SourceUnreadable: it is too much for one set.
        """
        if about.name in self._items:
            return
        if fault := fault_of_name(about.name):
            self.problems.append(Problem(about.name, f"can't be kept: {fault}", "unread", "Give it another name."))
            return
        self._size += len(content)
        if self._size > LARGEST_SET:
            raise SourceUnreadable(
                f"The configuration has more than {LARGEST_SET // 1024**2} MiB: {about.name} is where it was too much.",
                "Leave out by `exclude` what is no configuration, or make large folders a source of kind `files`.",
            )
        self._items[about.name] = Item(about, content)

    def has(self, name: str) -> bool:
        """Whether an item is taken."""
        return name in self._items

    def items(self) -> list[Item]:
        """All items, in the order of the index."""
        return sorted(self._items.values(), key=lambda item: item.about.order)

    @property
    def lacking(self) -> list[Problem]:
        """The problems that make the set partial: a pattern that fits nothing lacks nothing."""
        return [problem for problem in self.problems if problem.what != "nothing"]
