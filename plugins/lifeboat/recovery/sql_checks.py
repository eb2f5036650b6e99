"""A system's own questions to its recovered database: ``include/checks/<system>/*.sql``, one query in each file.

    -- source: database
    -- database: erp
    -- expect: no rows
    SELECT id FROM invoices WHERE total <> (SELECT sum(amount) FROM lines WHERE lines.invoice = invoices.id)

``expect`` is ``no rows``, or the bounds of the one number that the query gives: ``1 or more``, ``0 or less``,
``1 to 100``. A check reads and changes nothing. What its rows say is told to nobody: they are the system's own data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import cast

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import PolicyError
from lifeboat.policy.model import LoadedPolicy

TIMEOUT_SECONDS = 3600
MOST_COUNTED = 100_000
Rows = Generator[TupleRow, None, None]
_HEADER = re.compile(r"--\s*(source|database|expect)\s*:\s*(.*?)\s*")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_BETWEEN = re.compile(rf"{_NUMBER} to {_NUMBER}")
_AT_LEAST = re.compile(rf"{_NUMBER} or more")
_AT_MOST = re.compile(rf"{_NUMBER} or less")


@dataclass(frozen=True)
class SqlCheck:
    """One query, and what is expected of it.

    Attributes:
        name: of its file.
        source, database: where it is asked.
        query: its text.
        rows: whether it lists what is wrong; else it gives a number.
        least, most: the number's bounds.
    """

    name: str
    source: str
    database: str
    query: str
    rows: bool
    least: Decimal | None = None
    most: Decimal | None = None


def parse_check(name: str, text: str) -> SqlCheck:
    """Read a check.

    Raises:
        PolicyError: a line of its header is missing, twice there or not understood, or there is no query.
    """
    header: dict[str, str] = {}
    lines = text.splitlines()
    for line in lines:
        if (found := _HEADER.fullmatch(line)) is None:
            continue
        if found[1] in header:
            raise _not_read(name, f"says `{found[1]}` twice")
        header[found[1]] = found[2]
    for key in ("source", "database", "expect"):
        if not header.get(key):
            raise _not_read(name, f"does not say `-- {key}: …`")
    query = "\n".join(line for line in lines if _HEADER.fullmatch(line) is None).strip()
    if not any(line.strip() and not line.lstrip().startswith("--") for line in query.splitlines()):
        raise _not_read(name, "has no query")
    rows, least, most = _expected(name, header["expect"])
    return SqlCheck(name, header["source"], header["database"], query, rows, least, most)


def _expected(name: str, text: str) -> tuple[bool, Decimal | None, Decimal | None]:
    if text == "no rows":
        return True, None, None
    if found := _BETWEEN.fullmatch(text):
        least, most = Decimal(found[1]), Decimal(found[2])
        if least > most:
            raise _not_read(name, f"expects {text}, which no number is")
        return False, least, most
    if found := _AT_LEAST.fullmatch(text):
        return False, Decimal(found[1]), None
    if found := _AT_MOST.fullmatch(text):
        return False, None, Decimal(found[1])
    raise _not_read(name, f"expects {text!r}")


def _not_read(name: str, what: str) -> PolicyError:
    return PolicyError(
        f"The check {name} {what}.",
        "It begins with `-- source: NAME`, `-- database: NAME` and `-- expect: no rows` (or `1 or more`, `0 or less`, "
        "`1 to 100`).",
    )


def read_checks(folder: Path) -> list[SqlCheck]:
    """The checks of a folder, by their names; none where it is not there.

    Raises:
        PolicyError: one can't be read.
    """
    checks = []
    for path in sorted(folder.glob("*.sql")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"The check {path} can't be read: {error}.", "Look at its rights and encoding.") from None
        checks.append(parse_check(path.name, text))
    return checks


def checks_of(loaded: LoadedPolicy, folder: Path | None = None) -> list[SqlCheck]:
    """The checks of a system: those of a folder, by default of ``checks/<system>`` beside its policy's own folder.

    Raises:
        PolicyError: one can't be read, or asks a source that there is not; or the folder named is none.
    """
    if folder is not None and not folder.is_dir():
        raise PolicyError(f"{folder} is no directory of checks.", "Name another one, or none.")
    found = read_checks(folder or loaded.path.absolute().parent.parent / "checks" / loaded.policy.system)
    for check in found:
        if check.source not in loaded.policy.sources:
            raise PolicyError(
                f"The check {check.name} asks {check.source}, and {loaded.policy.system} has no such source.",
                f"It has: {', '.join(loaded.policy.sources)}.",
            )
    return found


def ask(check: SqlCheck, session: Callable[[str], psycopg.Connection[TupleRow]]) -> tuple[bool, str]:
    """Ask it; whether the answer is as expected, and what it was, without anything of the rows.

    Args:
        session: opens a session in a database.
    """
    try:
        with session(check.database) as connection:
            connection.execute("SET default_transaction_read_only = on")
            connection.execute(f"SET statement_timeout = '{TIMEOUT_SECONDS}s'")
            count, first = _rows_of(connection, check.query)
            return (count == 0, _rows_in_words(count)) if check.rows else _number(check, first)
    except psycopg.Error as error:
        return False, f"it can't be asked: {_cause(error)}"


def _cause(error: psycopg.Error) -> str:
    """The server's words only where they are about the query itself: others may quote what stands in a row."""
    if type(error) is psycopg.ProgrammingError and error.sqlstate is None:
        return "it gives no rows"
    about_the_query = (error.sqlstate or "").startswith("42")
    return (about_the_query and error.diag.message_primary) or type(error).__name__


def _rows_of(connection: psycopg.Connection[TupleRow], query: str) -> tuple[int, list[TupleRow]]:
    """How many rows there are, up to a bound, and the first two: a check that is wrong may find millions."""
    count, first = 0, []
    with connection.cursor() as cursor, closing(cast("Rows", cursor.stream(query.encode()))) as rows:
        for row in rows:
            count += 1
            if count <= 2:
                first.append(row)
            if count > MOST_COUNTED:
                break
    return count, first


def _rows_in_words(count: int) -> str:
    if count == 0:
        return "no rows"
    found = f"more than {MOST_COUNTED:,}" if count > MOST_COUNTED else f"{count:,}"
    return f"{found} {'row' if count == 1 else 'rows'} where none should be"


def _number(check: SqlCheck, rows: list[TupleRow]) -> tuple[bool, str]:
    if len(rows) != 1 or len(rows[0]) != 1 or rows[0][0] is None:
        return False, "it gives no single number"
    try:
        number = Decimal(str(rows[0][0]))
    except InvalidOperation:
        return False, "it gives no number"
    if number.is_nan():
        return False, "it gives no number"
    good = (check.least is None or number >= check.least) and (check.most is None or number <= check.most)
    return good, f"{number} ({_bounds(check)})"


def _bounds(check: SqlCheck) -> str:
    if check.least is None:
        return f"expected: {check.most} or less"
    return f"expected: {check.least} or more" if check.most is None else f"expected: {check.least} to {check.most}"
