"""How the command line speaks: results on standard output, as tables or JSON; everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from lifeboat.errors import LifeboatError

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
"""Columns where nobody looks at a screen: a table in a file must not fold its ids."""
_BETWEEN_COLUMNS = 3


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    width = None if _on_a_screen(stream) else PIPE_WIDTH
    # Names and reasons come from outside: none of it is markup.
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def _on_a_screen(stream: IO[str]) -> bool:
    return stream.isatty() or bool(os.environ.get("COLUMNS"))


def out() -> Console:
    """Standard output: results, and nothing else."""
    return _console(sys.stdout)


def err() -> Console:
    """Standard error: progress, notices, errors."""
    return _console(sys.stderr)


def show_json(document: Any) -> None:
    """Print a document. Times are RFC 3339 in UTC, sizes bytes, durations seconds."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=_plain))  # noqa: T201 this is the result


def _plain(value: Any) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)


def iso(moment: datetime) -> str:
    """A moment as JSON has it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print a table on standard output; ``right`` are the numbers of columns of figures.

    Where a screen is so narrow that words would be cut, each row becomes a block of lines: an id that is cut is of no
    use. A file gets lines as long as they need.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    figures, rows = set(right), list(rows)
    console = out()
    needed = _narrowest(columns, rows)
    if needed > console.width and _on_a_screen(sys.stdout):
        console.print(Text(title, style="bold"))
        for row in rows:
            _show_block(columns, row)
        return
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        # The first column is what a person copies into the next command.
        table.add_column(column, justify="right" if number in figures else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console.width = max(console.width, needed)
    console.print(table)


def _narrowest(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """The columns of a screen that a table takes when no word is cut, and nothing of its first column is broken."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column.split()), default=0) for column in columns]
    for row in rows:
        for number, cell in enumerate(row):
            words = cell.split() if number else cell.splitlines()
            widths[number] = max(widths[number], *map(cell_len, words), 0)
    return sum(widths) + _BETWEEN_COLUMNS * len(widths)


def _show_block(columns: Sequence[str], row: Sequence[str]) -> None:
    from rich.padding import Padding
    from rich.table import Table

    say(row[0])
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for column, cell in zip(columns[1:], row[1:], strict=True):
        if cell:
            grid.add_row(column, cell)
    out().print(Padding(grid, (0, 0, 1, 2)))


def show_fields(title: str, fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other on standard output."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields:
        grid.add_row(name, value)
    console = out()
    console.print(Text(title, style="bold"))
    console.print(grid)


def say(text: str, style: str = "") -> None:
    """Print a sentence on standard output."""
    out().print(text, style=style or None, soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """Print a sentence on standard error."""
    err().print(text, style=style or None, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    note(f"warning: {text}", "yellow")


def fail(error: LifeboatError) -> None:
    """Print an error and its remedy on standard error."""
    note(f"error: {error.what}", "bold red")
    if error.remedy:
        note(f"  → {error.remedy}", "red")


def size(count: int) -> str:
    """Bytes for people, in powers of ten as disks are sold."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{count} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError


def moment(at: datetime | None) -> str:
    """A moment for people, in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at is not None else "—"


def exact_moment(at: datetime | None) -> str:
    """A moment for people, in UTC, to the microsecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC") if at is not None else "—"


def length(span: timedelta | float) -> str:
    """A length of time for people."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
