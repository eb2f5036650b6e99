"""What is measured: each section runs its contestants in turn, A B A B, and keeps every run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import running
from benchmarks.running import Taken
from benchmarks.scene import Scene, double, scene
from sandbox.erp import DATABASE

Say = Callable[[str], None]
RECEIVER_SLOT = "bench_receiver"


@dataclass
class Section:
    """The runs of one section, by contestant, in the order in which they ran."""

    runs: dict[str, list[Taken]] = field(default_factory=dict)

    def add(self, name: str, taken: Taken) -> None:
        """Keep a run."""
        self.runs.setdefault(name, []).append(taken)


def full(here: Scene, level: int, rounds: int, say: Say) -> Section:
    """A full backup against the shell pipeline, the bare read and the seed's script (which runs once: it is slow)."""
    section = Section()
    for number in range(1, rounds + 1):
        say(f"full, round {number} of {rounds}")
        here.clear(level)
        here.settle()
        section.add("ours", running.ours(here, "full", level))
        here.settle()
        section.add("shell", running.shell_full(here, level))
        here.settle()
        section.add("bare", running.ours(here, "bare", level))
    say("full: the ERP strategy's own script")
    here.settle()
    section.add("seed", running.seed_script(here))
    return section


def restore(here: Scene, level: int, rounds: int, say: Say) -> Section:
    """The way back against the shell's."""
    say("restore: making the backups to come back from")
    here.clear(level)
    point = running.ours(here, "full", level).point
    running.shell_full(here, level)
    section = Section()
    for number in range(1, rounds + 1):
        say(f"restore, round {number} of {rounds}")
        into = here.restore_directory() / "data"
        here.settle()
        section.add(
            "ours",
            running.ours(here, "restore", level, point=point, into=str(into), binaries=str(here.server.binaries)),
        )
        here.restore_directory()
        here.settle()
        section.add("shell", running.shell_restore(here))
    return section


def incremental(here: Scene, level: int, rounds: int, say: Say) -> Section:
    """An incremental after a change of one page in a hundred, against a full of the same; and the way back of both."""
    section = Section()
    here.server.write_settings(summarize_wal="on")
    here.server.reload()
    for number in range(1, rounds + 1):
        say(f"incremental, round {number} of {rounds}")
        here.clear(level)
        parent = running.ours(here, "full", level).point
        running.ours(here, "verify", level, point=parent)
        change(here)
        for name in ("incremental", "full"):
            here.settle()
            section.add(name, running.ours(here, name, level))
        for name in ("incremental", "full"):
            into = here.restore_directory() / "data"
            point = section.runs[name][-1].point
            here.settle()
            taken = running.ours(
                here, "restore", level, point=point, into=str(into), binaries=str(here.server.binaries)
            )
            section.add(f"restore {name}", taken)
    here.server.write_settings(summarize_wal="off")
    here.server.reload()
    return section


def change(here: Scene) -> None:
    """Write the first page in a hundred of each large table anew; what they hold stays the same."""
    with here.server.connect(database=DATABASE) as session:
        tables = session.execute(
            "SELECT oid::regclass::text, (SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = pg_class.oid"
            " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum DESC LIMIT 1), relpages / 100"
            " FROM pg_class WHERE relkind = 'r' AND relpages >= 100 AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        for table, column, pages in tables:
            session.execute(f"UPDATE {table} SET {column} = {column} WHERE ctid < '({pages},0)'::tid")


def wal(here: Scene, level: int, megabytes: int, rounds: int, say: Say) -> Section:
    """WAL collection against ``pg_receivewal`` with each segment compressed and encrypted."""
    here.clear(level)
    running.ours(here, "full", level)
    running.ours(here, "wal", level)
    here.server.run_sql("SELECT pg_create_physical_replication_slot(%s, true)", [RECEIVER_SLOT])
    section = Section()
    for number in range(1, rounds + 1):
        say(f"WAL, round {number} of {rounds}: writing {megabytes:,} MB of it")
        write_wal(here, megabytes)
        end = str(here.server.run_sql("SELECT pg_switch_wal()::text")[0][0])
        here.settle()
        say(f"WAL, round {number} of {rounds}")
        section.add("ours", running.ours(here, "wal", level))
        here.settle()
        section.add("shell", running.shell_wal(here, RECEIVER_SLOT, end, level))
    here.server.run_sql("SELECT pg_drop_replication_slot(%s)", [RECEIVER_SLOT])
    return section


def write_wal(here: Scene, megabytes: int) -> None:
    """Bulk inserts: rows of the ERP copied row by row, with an index, until the server has written that much WAL."""
    with here.server.connect(database=DATABASE) as session:
        session.execute("SET synchronous_commit = off")
        session.execute("DROP TABLE IF EXISTS more_lines, more_attachments")
        session.execute("CREATE TABLE more_lines (LIKE invoice_lines)")
        session.execute("CREATE INDEX ON more_lines (id)")
        session.execute("CREATE TABLE more_attachments (LIKE attachments INCLUDING STORAGE)")
        row = session.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        start = row[0] if row else ""
        written = 0
        while written < megabytes * 1_000_000:
            session.execute("INSERT INTO more_lines SELECT * FROM invoice_lines LIMIT 200000")
            session.execute("INSERT INTO more_attachments SELECT * FROM attachments LIMIT 100")
            row = session.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s::pg_lsn)::bigint", [start]
            ).fetchone()
            written = int(row[0]) if row else 0
        session.execute("DROP TABLE more_lines, more_attachments")


def levels(here: Scene, choices: tuple[int, ...], rounds: int, say: Say) -> dict[int, Section]:
    """Our full backup and the shell's at several compression levels."""
    sections = {level: Section() for level in choices}
    for number in range(1, rounds + 1):
        for level in choices:
            say(f"levels, round {number} of {rounds}: level {level}")
            here.clear(level)
            here.settle()
            sections[level].add("ours", running.ours(here, "full", level))
            here.settle()
            sections[level].add("shell", running.shell_full(here, level))
    return sections


def memory(level: int, small: int, times: int, say: Say) -> dict[int, Section]:
    """Peak memory of full backups of a small and of a large database, on a scene of its own.

    The small one is backed up as often as it goes into the large one: a peak is a matter of chance, too, and so both
    have as many bytes to reach theirs.
    """
    sections: dict[int, Section] = {}
    with scene(small, say) as here:
        for factor in (1, times):
            section = sections[small * factor] = Section()
            double(here, factor)
            for number in range(times // factor):
                say(f"memory: a database of {small * factor:,} MB, {number + 1} of {times // factor}")
                here.clear(level)
                here.settle()
                section.add("ours", running.ours(here, "full", level))
            here.settle()
            section.add("shell", running.shell_full(here, level))
    return sections
