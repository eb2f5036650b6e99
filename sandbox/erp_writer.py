"""A writer that keeps committing, and its own record of what was committed when.

Each transaction writes an invoice with three lines, a payment and a row of ``ledger`` with the commit's number, so
which commits a restored database holds can be told exactly. The record has a line before and a line after each commit:
the moment of the commit itself lies between the two.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from sandbox.accounts import CLONE, SandboxError
from sandbox.erp import DATABASE
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.processes import Child, start, wait_until

CONNECTION_LOST = 3

_INVOICE = """
WITH invoice AS (
    INSERT INTO invoices (number, customer_id, issued_on, due_on, status, currency, total)
    SELECT 'W' || lpad(%(number)s::text, 9, '0'), id, current_date, current_date + 30, 'paid', 'EUR', %(amount)s
    FROM customers ORDER BY id OFFSET %(number)s %% 100 LIMIT 1 RETURNING id
), lines AS (
    INSERT INTO invoice_lines (invoice_id, position, article, description, quantity, unit_price)
    SELECT id, position, 'A-' || substr(md5((%(number)s * 3 + position)::text), 1, 8), 'Sold at the counter', 1,
           %(amount)s / 3 FROM invoice, generate_series(1, 3) position
), payment AS (
    INSERT INTO payments (invoice_id, paid_at, amount, method, reference)
    SELECT id, clock_timestamp(), %(amount)s, 'card', md5(%(number)s::text) FROM invoice
)
INSERT INTO ledger (commit_number, invoice_id, amount, written_at)
SELECT %(number)s, id, %(amount)s, clock_timestamp() FROM invoice
"""


@dataclass(frozen=True)
class Commit:
    """One commit: its number, the server's clock just before and just after it, and a WAL position that includes it."""

    number: int
    before: datetime
    after: datetime
    lsn: str


class Writer:
    """The writer, in a process of its own; a context manager that starts and stops it.

    Args:
        server: where the ERP database is.
        directory: holds the record, ``commits.jsonl``, and the log.
        rate: commits a second, if the server is quick enough.
    """

    def __init__(self, server: PostgresServer, directory: Path, *, rate: float = 50, database: str = DATABASE) -> None:
        self.record = directory / "commits.jsonl"
        self.log = directory / "writer.log"
        self.child: Child | None = None
        self._server = server
        self._rate = rate
        self._database = database

    def start(self, *, outlive_us: bool = False) -> None:
        """Start it and wait for its first commit."""
        known = len(self.commits())
        environment = {
            "WRITER_DSN": self._server.dsn(SUPERUSER, self._database),
            "PYTHONPATH": os.pathsep.join((str(CLONE), str(CLONE / "plugins"))),
        }
        self.child = start(
            "the ERP writer",
            [sys.executable, "-m", "sandbox.erp_writer", self.record, str(self._rate)],
            log=self.log,
            environment=environment,
            death_signal=None if outlive_us else signal.SIGKILL,
        )
        wait_until(lambda: len(self.commits()) > known, within=30, what="the writer commits", child=self.child)

    def stop(self) -> int:
        """Let it end its transaction and stop; its exit code, ``CONNECTION_LOST`` after a crash of the server."""
        if self.child is None:
            raise SandboxError("The writer was not started.")
        return self.child.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_for(self, number: int, *, within: float = 60) -> Commit:
        """Wait until the commit of that number is done, and return it."""
        wait_until(
            lambda: any(commit.number >= number for commit in self.commits()[-1:]),
            within=within,
            what=f"commit {number} is done",
            child=self.child,
        )
        return next(commit for commit in self.commits() if commit.number == number)

    def commits(self) -> list[Commit]:
        """All commits that are known to be done, in their order."""
        before: dict[int, datetime] = {}
        done: list[Commit] = []
        for entry in self._entries():
            number, moment = entry["number"], datetime.fromisoformat(entry["clock"])
            if entry["event"] == "before":
                before[number] = moment
            else:
                done.append(Commit(number, before[number], moment, entry["lsn"]))
        return done

    def in_doubt(self) -> int | None:
        """The number of the commit that was under way when the connection was lost: it may be done or not."""
        entries = self._entries()
        return int(entries[-1]["number"]) if entries and entries[-1]["event"] == "before" else None

    def moment_after(self, number: int) -> datetime:
        """A moment after that commit and before the next one, which must be done.

        Raises:
            SandboxError: one of the two is not known to be done.
        """
        known = {commit.number: commit for commit in self.commits()}
        if number not in known or number + 1 not in known:
            raise SandboxError(f"Commits {number} and {number + 1} are not both known to be done.")
        earliest, latest = known[number].after, known[number + 1].before
        return earliest + (latest - earliest) / 2

    def _entries(self) -> list[dict[str, Any]]:
        try:
            text = self.record.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def ledger_numbers(session: psycopg.Connection[Any]) -> list[int]:
    """The commit numbers that a database holds, sorted.

    Raises:
        SandboxError: an invoice, line or payment of one of these commits is missing or is there too often.
    """
    torn = session.execute(
        "SELECT commit_number FROM ledger l WHERE "
        "(SELECT count(*) FROM invoices i WHERE i.id = l.invoice_id AND i.total = l.amount) <> 1 OR "
        "(SELECT count(*) FROM invoice_lines p WHERE p.invoice_id = l.invoice_id) <> 3 OR "
        "(SELECT sum(amount) FROM payments p WHERE p.invoice_id = l.invoice_id) IS DISTINCT FROM l.amount LIMIT 1"
    ).fetchone()
    if torn is not None:
        raise SandboxError(f"Commit {torn[0]} is there in part: its invoice, lines and payment don't belong together.")
    return [int(row[0]) for row in session.execute("SELECT commit_number FROM ledger ORDER BY 1")]


def _write(record: Path, rate: float) -> int:
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    record.parent.mkdir(parents=True, exist_ok=True)
    try:
        with psycopg.connect(os.environ["WRITER_DSN"]) as session, record.open("a", encoding="utf-8") as kept:
            row = session.execute("SELECT coalesce(max(commit_number), 0) FROM ledger").fetchone()
            assert row is not None
            number = int(row[0])
            due = time.monotonic()
            while not stopping:
                number += 1
                _commit_one(session, number, kept)
                due = max(due + 1 / rate, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))
    except psycopg.OperationalError as error:
        print(f"the connection was lost: {error}", file=sys.stderr)
        return CONNECTION_LOST
    return 0


def _commit_one(session: psycopg.Connection[Any], number: int, kept: Any) -> None:
    def note(event: str, clock: datetime, **more: str) -> None:
        kept.write(json.dumps({"event": event, "number": number, "clock": clock.isoformat()} | more) + "\n")
        kept.flush()

    session.execute(_INVOICE, {"number": number, "amount": (number * 7919) % 100000 / 100})
    row = session.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    note("before", row[0])
    session.commit()
    row = session.execute("SELECT clock_timestamp(), pg_current_wal_flush_lsn()::text").fetchone()
    session.rollback()
    assert row is not None
    note("after", row[0], lsn=row[1])


if __name__ == "__main__":
    raise SystemExit(_write(Path(sys.argv[1]), float(sys.argv[2])))
