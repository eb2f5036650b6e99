"""What is looked at in a database that came back, while a server of ours has it open.

Source: https://www.postgresql.org/docs/current/app-pgamcheck.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.policy.drills import HeartbeatPolicy
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.server_programs import run_program
from lifeboat.postgres.unpacking import Owner
from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import Stopwatch
from lifeboat.recovery.sql_checks import SqlCheck, ask

LAST_WORDS = 3
HEARTBEAT = "heartbeat"

OpenSession = Callable[[str], psycopg.Connection[TupleRow]]
AskHook = Callable[[Mapping[str, str], Owner | None], tuple[bool, str]]
"""Asks the policy's own command or address, given variables that tell where the restored copy is."""


class DatabaseChecks:
    """Looks at databases.

    Args:
        place: a directory for the programs' words.
        own: the system's own questions to this source.
        tick: called often; may raise to stop.
        hooks: by name, what asks the policy's hooks about this source.
        heartbeat: where the newest row tells what was lost.

    Attributes:
        beat: the moment of that row, once it was looked at.
    """

    def __init__(
        self,
        place: Path,
        own: Sequence[SqlCheck],
        watch: Stopwatch,
        tick: Callable[[], None],
        *,
        hooks: Mapping[str, AskHook] | None = None,
        heartbeat: HeartbeatPolicy | None = None,
    ) -> None:
        self._place = place
        self._own = own
        self._watch = watch
        self._tick = tick
        self._hooks = dict(hooks or {})
        self._heartbeat = heartbeat
        self.beat: datetime | None = None

    def look(self, opened: OpenServer) -> list[Check]:
        """Tables and indexes first, then the system's own questions, then its hooks'."""
        found = [self._watch.check("pg_amcheck", lambda: self._amcheck(opened))]
        return [*found, *self.ask(opened.session, _where(opened), opened.owner)]

    def ask(self, session: OpenSession, where: Mapping[str, str], owner: Owner | None) -> list[Check]:
        """The system's own questions, then its hooks'.

        Args:
            session: opens one in a database, by the name that it had on the lost server.
            where: what tells a command where the restored copy is.
            owner: the user that such a command runs as.
        """
        found = []
        for one in self._own:
            self._tick()
            found.append(self._watch.check(one.name, partial(ask, one, session)))
        if self._heartbeat is not None:
            heartbeat = self._heartbeat
            found.append(self._watch.check(HEARTBEAT, lambda: self._beat(session, heartbeat)))
        for name, ask_hook in self._hooks.items():
            found.append(self._watch.check(name, partial(ask_hook, where, owner)))
        return found

    def _beat(self, session_in: OpenSession, heartbeat: HeartbeatPolicy) -> tuple[bool, str]:
        try:
            with session_in(heartbeat.database) as session:
                session.execute("SET default_transaction_read_only = on")
                row = session.execute(heartbeat.query.encode()).fetchone()
        except psycopg.Error as error:
            return False, f"it can't be asked: {type(error).__name__}"
        found = row[0] if row else None
        if not isinstance(found, datetime) or found.tzinfo is None:
            return False, "its query gives no moment with a time zone"
        self.beat = found
        return True, f"the newest row is of {found.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"

    def _amcheck(self, opened: OpenServer) -> tuple[bool, str]:
        try:
            silence_event_triggers(opened.databases, opened.session)
        except psycopg.Error as error:
            return False, f"its event triggers can't be disabled: {type(error).__name__}"
        program = opened.binaries / "pg_amcheck"
        if not program.is_file():
            return False, f"{program} is not there: install PostgreSQL's additional programs (contrib)"
        arguments = [
            str(program), "--host", str(opened.room), "--port", str(opened.port), "--username", opened.superuser,
            "--no-password", "--maintenance-db", opened.databases[0], "--all", "--install-missing", "--parent-check",
        ]  # fmt: skip
        log = self._place / "pg_amcheck.log"
        code = run_program(arguments, log, opened.owner, self._tick, {"PGOPTIONS": opened.session_options})
        return code == 0, "tables and indexes are whole" if code == 0 else last_words(log, code)


def _where(opened: OpenServer) -> dict[str, str]:
    """What a command needs to reach the recovered server: libpq's own variables, and the names of its databases."""
    return {
        "PGHOST": str(opened.room),
        "PGPORT": str(opened.port),
        "PGUSER": opened.superuser,
        "PGDATABASE": next((name for name in opened.databases if not name.startswith("template")), opened.databases[0]),
        "PGOPTIONS": opened.session_options,
        "LIFEBOAT_DATABASES": " ".join(opened.databases),
        "LIFEBOAT_BINARIES": str(opened.binaries),
    }


def silence_event_triggers(databases: Sequence[str], session_in: OpenSession) -> None:
    """Before PostgreSQL 17, to make amcheck's extension would fire them: the lost system's code, which may refuse, or
    reach out to the living."""
    for database in databases:
        with session_in(database) as session:
            for (name,) in session.execute("SELECT evtname FROM pg_catalog.pg_event_trigger").fetchall():
                session.execute(sql.SQL("ALTER EVENT TRIGGER {} DISABLE").format(sql.Identifier(name)))


def last_words(log: Path, code: int) -> str:
    """What a program said last, or how it ended."""
    told = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(told[-LAST_WORDS:]) or f"it ended with code {code}"
