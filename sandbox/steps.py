"""The demo's steps as a person sees them: what runs now, what is done, how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.table import Table


@dataclass
class Step:
    """One step: its title, what it says of itself, its duration in seconds."""

    title: str
    detail: str = ""
    seconds: float = 0.0
    _status: Status | None = field(default=None, repr=False)

    def doing(self, what: str) -> None:
        """Show what it is doing; seen only on a terminal, until the step ends."""
        if self._status is not None:
            self._status.update(f"{self.title} [dim]{what}[/dim]")

    def result(self, what: str) -> None:
        """Say in a few words what came of it; stays to be read."""
        self.detail = what


class Steps:
    """Runs steps one after the other and remembers them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done: list[Step] = []
        self.facts: list[tuple[str, str]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while its body runs; an exception marks it as failed and goes on."""
        step, begun = Step(title), time.monotonic()
        try:
            with self.console.status(title) as step._status:
                yield step
        except BaseException:
            self.console.print(f"[red]✗[/red] {title}")
            raise
        finally:
            step._status = None
            step.seconds = time.monotonic() - begun
        self.done.append(step)
        line = f"[green]✓[/green] {title}" + (f" [dim]{step.detail}[/dim]" if step.detail else "")
        self.console.print(f"{line} [cyan]{step.seconds:.1f} s[/cyan]")

    def fact(self, name: str, value: str) -> None:
        """Keep a figure for the summary."""
        self.facts.append((name, value))

    def summary(self, title: str) -> None:
        """Print the figures that were kept."""
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        for name, value in self.facts:
            table.add_row(name, value)
        self.console.print(table)
