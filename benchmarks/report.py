"""The figures as tables for people: every ratio beside the mark it was to reach."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.lag import Lag
from benchmarks.measuring import MIB, middle_ratio
from benchmarks.parsing import DAGS, Parsed
from benchmarks.rounds import Section
from benchmarks.running import Taken

NAMES = {
    "ours": "Lifeboat",
    "shell": "shell pipeline",
    "bare": "bare BASE_BACKUP read",
    "seed": "pg_dump -Fc, gzip",
}
MOST_MEMORY = 256 * MIB
LEAST_WAL_RATE = 200.0
MOST_BESIDE_FLUSH = 30.0
MOST_OF_SHELL = 1.0
MOST_OF_SEED = 0.3
SAME_MEMORY = 1.05
"""Two runs of one program differ by a few per cent in what the allocator keeps."""
MOST_PARSING = 15.0
"""Seconds for one DAG file: far below Airflow's `dag_file_processor_timeout` of 50, past which all of its DAGs go."""


def table_of(title: str, *columns: str) -> Table:
    """A table with figures at the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if not number else "right")
    return table


def mark_of(value: float, limit: float, *, least: bool = False) -> str:
    """Whether a figure reached its mark."""
    reached = value >= limit if least else value <= limit
    return f"[green]{'≥' if least else '≤'} {limit:g} ✓[/green]" if reached else f"[red]missed: {limit:g}[/red]"


def _seconds(runs: list[Taken]) -> float:
    return median(run.seconds for run in runs)


def row_of(name: str, runs: list[Taken], plain: int, ratio: float | None, mark: str) -> list[str]:
    """One contestant's figures, the medians of its runs."""
    seconds = _seconds(runs)
    return [
        NAMES[name],
        f"{seconds:.2f} s",
        f"{plain / 1e6 / seconds:,.0f} MB/s" if plain else "",
        f"{median(run.processor_seconds for run in runs):.1f} s",
        f"{median(run.stored for run in runs) / 1e6:,.0f} MB" if runs[0].stored else "",
        f"{max(run.peak_memory for run in runs) / MIB:,.0f} MiB",
        "" if ratio is None else f"{ratio:.2f}x",
        mark,
    ]


COLUMNS = ("", "time", "plain rate", "processor", "stored", "peak memory", "ours ÷ it", "mark")


def ratio_of(section: Section, other: str) -> float:
    """Our time in the other's."""
    ours, theirs = section.runs["ours"], section.runs[other]
    if len(ours) != len(theirs):
        return _seconds(ours) / _seconds(theirs)
    return middle_ratio([run.seconds for run in ours], [run.seconds for run in theirs])


def show_full(console: Console, section: Section, level: int) -> None:
    """Full backups."""
    ours = section.runs["ours"]
    plain = ours[0].plain
    table = table_of(f"Full backup of {plain / 1e6:,.0f} MB to a directory, zstd level {level}", *COLUMNS)
    limits = {"shell": MOST_OF_SHELL, "seed": MOST_OF_SEED}
    for name, runs in section.runs.items():
        ratio = None if name == "ours" else ratio_of(section, name)
        mark = mark_of(ratio, limits[name]) if ratio is not None and name in limits else ""
        table.add_row(*row_of(name, runs, 0 if name == "seed" else plain, ratio, mark))
    console.print(table)
    _start_up(console, [run.seconds for run in ours], ours, section.runs["shell"])


def _start_up(console: Console, seconds: list[float], ours: list[Taken], shell: list[Taken]) -> None:
    whole = [taken + run.start_up for taken, run in zip(seconds, ours, strict=True)]
    console.print(
        f"Not in the time: {median(run.start_up for run in ours):.1f} s in which Python starts and imports; with them "
        f"the ratio to the shell is {middle_ratio(whole, [run.seconds for run in shell]):.2f}. "
        "Processor time has them.\n"
    )


def show_restore(console: Console, section: Section, plain: int) -> None:
    """The way back."""
    table = table_of("The way back into a directory", *COLUMNS)
    ours, shell = section.runs["ours"], section.runs["shell"]
    fetch = [run.phases["fetch"] for run in ours if run.phases is not None]
    ratio = middle_ratio(fetch, [run.seconds for run in shell])
    memory = f"{max(run.peak_memory for run in ours) / MIB:,.0f} MiB"
    rate = f"{plain / 1e6 / median(fetch):,.0f} MB/s"
    table.add_row("Lifeboat: fetch, check, unpack", f"{median(fetch):.2f} s", rate, "", "", memory, "", "")
    whole = row_of("ours", ours, plain, None, "")
    table.add_row("Lifeboat: until the server answered", *whole[1:])
    row = row_of("shell", shell, plain, ratio, mark_of(ratio, MOST_OF_SHELL))
    table.add_row("openssl | zstd | tar, nothing checked", *row[1:])
    console.print(table)
    phases = {
        name: median(run.phases[name] for run in ours if run.phases is not None) for name in (ours[0].phases or {})
    }
    console.print(
        "Phases: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items()) + ". "
        "The ratio compares fetching alone: the shell's way back starts no server."
    )
    _start_up(console, fetch, ours, shell)


def show_incremental(console: Console, section: Section) -> None:
    """Incrementals against fulls."""
    table = table_of("One page in a hundred changed: incremental and full", *COLUMNS[:7])
    names = {
        "incremental": "incremental",
        "full": "full",
        "restore incremental": "way back: full, incremental, combined",
        "restore full": "way back: full",
    }
    for name, title in names.items():
        runs = section.runs[name]
        other = name.replace("incremental", "full")
        ratio = None
        if other != name:
            ratio = middle_ratio([run.seconds for run in runs], [run.seconds for run in section.runs[other]])
        table.add_row(title, *row_of("ours", runs, runs[0].plain, ratio, "")[1:7])
    console.print(table)
    stored = [median(run.stored for run in section.runs[name]) for name in ("incremental", "full")]
    combined = [run.phases["combine"] for run in section.runs["restore incremental"] if run.phases is not None]
    console.print(
        f"Stored: {stored[0] / stored[1]:.1%} of the full. Combining: {median(combined):.2f} s. The ratio is that of "
        "the incremental to the full.\n"
    )


def show_wal(console: Console, section: Section, level: int) -> None:
    """WAL collection."""
    ours = section.runs["ours"]
    plain = ours[0].plain
    table = table_of(f"Collecting {plain / 1e6:,.0f} MB of WAL, zstd level {level}", *COLUMNS)
    rate = median(run.plain / 1e6 / run.seconds for run in ours)
    table.add_row(*row_of("ours", ours, plain, None, mark_of(round(rate, 1), LEAST_WAL_RATE, least=True) + " MB/s"))
    row = row_of("shell", section.runs["shell"], plain, ratio_of(section, "shell"), "")
    table.add_row("pg_receivewal, then zstd | openssl", *row[1:])
    console.print(table)
    _start_up(console, [run.seconds for run in ours], ours, section.runs["shell"])


def show_follow(console: Console, lag: Lag) -> None:
    """How long commits waited until they could be restored."""
    commits, points = len(lag.waits), lag.points
    table = table_of(
        f"From a commit to its being restorable: {commits:,} commits, {points} recovery points in two runs",
        *("", "median", "worst", "mark"),
    )
    most = lag.flush + MOST_BESIDE_FLUSH
    table.add_row(
        f"runs that follow, a flush every {lag.flush:.0f} s, hand-over included",
        f"{lag.middle:.1f} s",
        f"{max(lag.waits):.1f} s",
        mark_of(round(max(lag.waits), 1), most) + " s",
    )
    for minutes in (5, 15):
        middle, worst = lag.of_batch_runs(minutes)
        table.add_row(
            f"runs every {minutes} minutes that collect once, reckoned", f"{middle:.0f} s", f"{worst:.0f} s", ""
        )
    console.print(table)
    memory = max(run.peak_memory for run in lag.followed) / MIB
    stored = sum(run.stored for run in lag.followed)
    processor = sum(run.processor_seconds for run in lag.followed)
    console.print(
        f"Peak memory {memory:,.0f} MiB; {stored / 1e6 / points:.2f} MB stored for each point; {processor:.1f} s "
        "of processor time, start-up included. A scheduler adds its own time between two runs.\n"
    )


def show_levels(console: Console, sections: dict[int, Section]) -> None:
    """Compression levels."""
    table = table_of(
        "Compression levels",
        *("level", "Lifeboat", "plain rate", "processor", "stored", "of the plain", "shell pipeline", "ours ÷ it"),
    )
    for level, section in sections.items():
        ours, shell = section.runs["ours"], section.runs["shell"]
        seconds = _seconds(ours)
        table.add_row(
            str(level),
            f"{seconds:.2f} s",
            f"{ours[0].plain / 1e6 / seconds:,.0f} MB/s",
            f"{median(run.processor_seconds for run in ours):.1f} s",
            f"{ours[0].stored / 1e6:,.0f} MB",
            f"{ours[0].stored / ours[0].plain:.1%}",
            f"{_seconds(shell):.2f} s",
            f"{ratio_of(section, 'shell'):.2f}x",
        )
    console.print(table)


def show_memory(console: Console, sections: dict[int, Section]) -> None:
    """The highest memory of all fulls, by the size of the database."""
    table = table_of("Peak memory of a full backup", "database", "Lifeboat", "shell pipeline, all processes", "mark")
    peaks = []
    for megabytes, section in sections.items():
        peak, shell = (max(run.peak_memory for run in section.runs[name]) for name in ("ours", "shell"))
        peaks.append(peak)
        mark = mark_of(round(peak / MIB, 1), MOST_MEMORY / MIB) + " MiB"
        table.add_row(f"{megabytes:,} MB", f"{peak / MIB:,.0f} MiB", f"{shell / MIB:,.0f} MiB", mark)
    growth = peaks[-1] / peaks[0]
    table.add_row("large ÷ small", f"{growth:.2f}x", "", mark_of(round(growth, 3), SAME_MEMORY))
    console.print(table)


def show_parsing(console: Console, looks: list[Parsed]) -> None:
    """What the DAG processor takes for each file, by the number of systems."""
    smallest, largest = looks[0], looks[-1]
    table = table_of(
        f"Parsing and serialising DAG files, {DAGS} DAGs a system, processor seconds",
        "file",
        *(f"{look.systems} systems" for look in looks),
        "growth ÷ systems",
        "mark",
    )
    for file in sorted(largest.parsing):
        seconds = largest.of(file)
        growth = (seconds / smallest.of(file)) / (largest.systems / smallest.systems)
        cells = [f"{look.parsing[file]:.2f} + {look.serialising[file]:.2f}" for look in looks]
        table.add_row(file, *cells, f"{growth:.2f}x", mark_of(round(seconds, 1), MOST_PARSING) + " s")
    console.print(table)
    console.print(f"{largest.dags:,} DAGs; each had the same version when another process parsed it.\n")
