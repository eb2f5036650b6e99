"""Databases of ours that nobody shall use: marked when they are made, and found and dropped when what made them was
killed.

The mark is a name of our form, a comment that says for which system and by what it was made, and a lock that is held
for as long as somebody works with it. A database is dropped only where the first two are there, nobody holds the lock,
and nobody is in it. One without a comment was made in the moment of the kill: it is ours where it is empty.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.advisory_lock import LOCKS_HELD, key_of, take_lock
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.logical_databases import holds_something
from lifeboat.postgres.logical_naming import LONGEST_NAME, cut
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message

Session = psycopg.Connection[TupleRow]
State = Literal["dead", "begun", "at work", "strange"]

UNPROVEN, TEST = "lifeboat_unproven_", "lifeboat_test_"
_FORM = re.compile(rf"(?:{UNPROVEN}|{TEST}).*_[0-9a-f]{{8}}", re.DOTALL)
_SAYS = {
    UNPROVEN: "A restore of Lifeboat's that was not proven: nobody should use it.",
    TEST: "A copy of a restore test of Lifeboat's: it is dropped when the test ends.",
}
_FOUND = """
    SELECT d.oid::int8, d.datname, shobj_description(d.oid, 'pg_database'), pg_has_role(d.datdba, 'USAGE'),
        EXISTS (
            SELECT FROM pg_stat_activity a
            WHERE a.datid = d.oid AND a.pid <> pg_backend_pid() AND coalesce(a.backend_type, '') <> 'autovacuum worker'
        )
    FROM pg_database d
    WHERE starts_with(d.datname::text, %s) OR starts_with(d.datname::text, %s)
    ORDER BY d.datname"""


@dataclass(frozen=True)
class Remain:
    """A database whose name begins as ours do.

    Attributes:
        oid: its number, by which it is known again.
        state: ``dead``: provably of this system's and of nobody who lives; ``begun``: it has no comment yet, and is
            dropped if it is empty; ``at work``: somebody has its lock, or is in it; ``strange``: none of these.
    """

    name: str
    oid: int
    state: State


def marked_name(kind: str, database: str) -> str:
    """A name that nobody uses: no application connects to it by accident.

    Args:
        kind: :data:`UNPROVEN` or :data:`TEST`.
    """
    return kind + cut(database, f"_{secrets.token_hex(4)}", LONGEST_NAME - len(kind))


def mark_of(name: str, system: str, by: str) -> str:
    """The comment of a database with such a name.

    Args:
        by: what it was made by: a recovery point, a run.
    """
    return f"{_beginning(name, system)}{by}"


def _beginning(name: str, system: str) -> str:
    kind = UNPROVEN if name.startswith(UNPROVEN) else TEST
    return f"{_SAYS[kind]}\nlifeboat {system} {name} by "


def hold(session: Session, name: str) -> None:
    """Say that a database of this name is worked with, until the session ends; before it is made.

    Raises:
        RestoreError: somebody else says so.
    """
    if not take_lock(session, _lock(name)):
        raise RestoreError(f"Somebody else is making the database {name} already.", "Look who, and restore again.")


def _lock(name: str) -> str:
    return f"lifeboat database {name}"


def remains_of(session: Session, system: str) -> tuple[Remain, ...]:
    """The databases of the server whose names begin as ours do."""
    held = {int(key) for (key,) in session.execute(LOCKS_HELD).fetchall()}
    found: list[Remain] = []
    for oid, name, comment, owned, used in session.execute(_FOUND, [UNPROVEN, TEST]).fetchall():
        state: State = "strange"
        if used or key_of(_lock(name)) in held:
            state = "at work"
        elif _FORM.fullmatch(name) and owned:
            if comment is None:
                state = "begun"
            elif comment.startswith(_beginning(name, system)):
                state = "dead"
        found.append(Remain(str(name), int(oid), state))
    return tuple(found)


def said_of(remain: Remain, *, dropped: bool) -> str:
    """What a person should know of it, in a sentence.

    Args:
        dropped: whether what is about to be done drops it.
    """
    if remain.state == "at work":
        return f"Somebody is at work with the database {remain.name}: another restore or restore test."
    if dropped and remain.state in ("dead", "begun"):
        condition = "" if remain.state == "dead" else ", if it is empty"
        return f"A restore that was killed left the database {remain.name}: it is dropped first{condition}."
    quoted = sql.Identifier(remain.name).as_string(None)
    return f"A restore that was cut short left the database {remain.name}: DROP DATABASE {quoted};"


def drop_remains(
    session: Session, remains: Sequence[Remain], system: str, open_database: Callable[[str], ConnectionParameters]
) -> tuple[list[str], list[str]]:
    """Drop what is of ours and dead, of what was found before; each is looked at again.

    Returns:
        The names of those that are gone, and a sentence for each that is still there.
    """
    planned = {(one.oid, one.name) for one in remains if one.state in ("dead", "begun")}
    if not planned:
        return [], []
    gone: list[str] = []
    left: list[str] = []
    for one in remains_of(session, system):
        if (one.oid, one.name) not in planned:
            continue
        try:
            if one.state not in ("dead", "begun") or (
                one.state == "begun" and _holds_something(open_database(one.name))
            ):
                left.append(f"The database {one.name} is not dropped: it holds something, or somebody is in it.")
                continue
            # Without FORCE: who came into it meanwhile keeps it.
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(one.name)))
        except psycopg.Error as error:
            why = clean_message(error.diag.message_primary or str(error))
            left.append(f"The database {one.name} could not be dropped: {why}.")
        except LifeboatError as error:
            left.append(f"The database {one.name} could not be looked into: {error.what}")
        else:
            gone.append(one.name)
    return gone, left


def _holds_something(parameters: ConnectionParameters) -> bool:
    with connect_sql(parameters) as session:
        return holds_something(session)
