"""Logical archives: the way out and back, against what a shell would do with ``pg_dump`` and ``gzip``."""

from __future__ import annotations

from rich.console import Console

from benchmarks import running
from benchmarks.report import COLUMNS, ratio_of, row_of, table_of
from benchmarks.rounds import Say, Section
from benchmarks.scene import Scene
from sandbox.erp import DATABASE
from sandbox.postgres import SUPERUSER
from sandbox.postgres_role import let_read_everything

RESTORED = "bench_restored"


def archives(here: Scene, level: int, rounds: int, say: Say) -> tuple[Section, Section]:
    """An archive and its restore, each against the shell's; ours also counts and fingerprints every row, both ways."""
    let_read_everything(here.server)
    out, back = Section(), Section()
    for number in range(1, rounds + 1):
        say(f"logical archive, round {number} of {rounds}")
        here.clear(level)
        here.settle()
        made = running.ours(here, "logical", level)
        out.add("ours", made)
        here.settle()
        out.add("shell", running.shell_logical(here))
        say(f"restore of a logical archive, round {number} of {rounds}")
        _empty(here)
        superuser = {"user": SUPERUSER, "password": here.server.passwords[SUPERUSER]}
        back.add("ours", running.ours(here, "logical_restore", level, point=made.point, name=RESTORED, **superuser))
        _empty(here)
        back.add("shell", running.shell_logical_restore(here, RESTORED))
        _empty(here)
    return out, back


def _empty(here: Scene) -> None:
    here.server.run_sql(f"DROP DATABASE IF EXISTS {RESTORED}")
    here.settle()


def show(console: Console, sections: tuple[Section, Section]) -> None:
    """Both ways as tables."""
    for title, section in zip(
        (f"Logical archive of {DATABASE}: every row fingerprinted, encrypted", "The way back: every row compared"),
        sections,
        strict=True,
    ):
        table = table_of(title, *COLUMNS)
        plain = section.runs["ours"][0].plain
        names = {"ours": "Lifeboat", "shell": "pg_dump -Fc, gzip; pg_restore"}
        for name, runs in section.runs.items():
            ratio = None if name == "ours" else ratio_of(section, name)
            table.add_row(names[name], *row_of("ours", runs, plain, ratio, "")[1:])
        console.print(table)
