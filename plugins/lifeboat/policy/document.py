"""A policy file as plain data that remembers its lines.

Scalars are read as YAML 1.2's core schema reads them, which is what editors check against: ``off`` is a word, not
false. ``1.3`` stays the text it is, and so do dates and clock times.
Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lifeboat.policy.problems import PolicyProblem, PolicyRefused

Key = tuple[str | int, ...]

LARGEST_FILE = 1024 * 1024  # bytes; a policy of a hundred sources has 100 kB
_MOST_NODES = 100_000  # aliases of aliases can make a small file endless

# libyaml, where PyYAML was built with it, reads ten times as fast.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Parser):  # type: ignore[misc] # which of the two is known only at run time
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to set it


_Loader.add_implicit_resolver("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("int", re.compile(r"^(?:0|-?[1-9][0-9]{0,17})$"), list("-0123456789"))
_TEXT = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class Document:
    """Attributes:
    data: mappings, lists, texts, whole numbers, truth values and ``None``.
    lines: the line of each key and list item, from 1, by its path.
    """

    data: Any
    lines: dict[Key, int]

    def line_of(self, key: Key) -> int:
        """The line of a key; of one that is not there, that of the nearest part around it."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


def read_document(text: str, file: Path) -> Document:
    """Read YAML.

    Raises:
        PolicyRefused: it is not YAML, not one mapping, or has a key twice; all such keys are named.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise PolicyRefused([_syntax_problem(error, text, file)]) from error
    except RecursionError as error:
        raise PolicyRefused([PolicyProblem(file, 0, "", "It is nested too deeply.", "Write it flat.")]) from error
    if not isinstance(root, yaml.MappingNode):
        what = "The file is empty." if root is None else "The file holds no keys and values."
        raise PolicyRefused([PolicyProblem(file, 1, "", what, "Start from a policy that works, such as `erp.yaml`.")])
    reader = _Reader(file)
    data = reader.read(root, ())
    if reader.problems:
        raise PolicyRefused(reader.problems)
    return Document(data, reader.lines)


class _Reader:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Key, int] = {}
        self.problems: list[PolicyProblem] = []
        self._open: set[int] = set()
        self._nodes = 0

    def read(self, node: yaml.Node, key: Key) -> Any:
        self._nodes += 1
        if id(node) in self._open or self._nodes > _MOST_NODES:
            if self._nodes <= _MOST_NODES or not self.problems:
                self._refuse(node, key, "Its aliases never end.", "Write out what the alias stands for.")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return [self._item(item, (*key, number)) for number, item in enumerate(node.value)]
            return self._scalar(node, key)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, value in node.value:
            if not isinstance(name_node, yaml.ScalarNode) or name_node.value == "<<":
                self._refuse(name_node, key, "A key is a plain word.", "Write the keys out.")
                continue
            name = str(name_node.value)
            inner = (*key, name)
            line = name_node.start_mark.line + 1
            if name in data:
                self._refuse(
                    name_node, inner, f"It is there already, on line {self.lines[inner]}.", "Keep one of the two."
                )
                continue
            self.lines[inner] = line
            data[name] = self.read(value, inner)
        return data

    def _item(self, node: yaml.Node, key: Key) -> Any:
        self.lines[key] = node.start_mark.line + 1
        return self.read(node, key)

    def _scalar(self, node: yaml.Node, key: Key) -> Any:
        text = str(node.value)
        if node.tag == "null":
            return None
        if node.tag == "bool":
            return text.lower() == "true"
        if node.tag == "int":
            return int(text)
        if node.tag != _TEXT:
            self._refuse(node, key, f"The tag `{node.tag}` has no meaning here.", "Remove it.")
        return text

    def _refuse(self, node: yaml.Node, key: Key, what: str, remedy: str) -> None:
        self.problems.append(PolicyProblem(self.file, node.start_mark.line + 1, dotted(key), what, remedy))


def dotted(key: Key) -> str:
    """A key's path for people: ``encryption.keys.0.name``."""
    return ".".join(str(part) for part in key)


def _syntax_problem(error: yaml.YAMLError, text: str, file: Path) -> PolicyProblem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark is not None else 0
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it can't be read"
    remedy = "Look at this line and the one before it: indentation, colons, quotes."
    if any(re.search(r":\s+[*@`%&]", near) for near in _near(text, line)):
        remedy = (
            'A value that begins with `*`, `&`, `%`, `@` or a back-tick stands in quotes: `schedule: "*/5 * * * *"`.'
        )
    elif any(re.search(r"\{.*\$\{", near) for near in _near(text, line)):
        remedy = "Between `{` and `}`, a value with `${NAME}` stands in quotes."
    elif any("\t" in near for near in _near(text, line)):
        remedy = "Indent with spaces, never with tabs."
    return PolicyProblem(file, line, "", f"This is not YAML: {reason}.", remedy)


def _near(text: str, line: int) -> Iterator[str]:
    lines = text.splitlines()
    yield from lines[max(line - 1, 0) : line]
