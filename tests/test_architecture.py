"""The page of architecture matches the tree."""

from __future__ import annotations

import ast
from pathlib import Path

CLONE = Path(__file__).parents[1]
PACKAGE = CLONE / "plugins" / "lifeboat"
PAGE = CLONE / "docs" / "architecture.md"


def rooms() -> str:
    """The tables of the page: each room, and in it each module with the first sentence of its docstring."""
    parts = []
    for room in sorted(path.parent for path in PACKAGE.rglob("__init__.py")):
        title = room.relative_to(PACKAGE.parent).as_posix()
        rows = [f"| `{module.name}` | {subject(module)} |" for module in sorted(room.glob("*.py"))
                if not module.name.startswith("__")]  # fmt: skip
        parts.append("\n".join([f"### `{title}/`", "", subject(room / "__init__.py"), "",
                                "| module | subject |", "| --- | --- |", *rows]))  # fmt: skip
    return "\n\n".join(parts)


def subject(module: Path) -> str:
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def test_the_page_names_every_module_with_its_subject() -> None:
    expected = rooms()
    assert expected in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE}:\n\n{expected}"
