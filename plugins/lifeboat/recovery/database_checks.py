"""What is looked at in a database that came back, while a server of ours has it open.

Source: https://www.postgresql.org/docs/current/app-pgamcheck.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.server_programs import run_program
from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import Stopwatch
from lifeboat.recovery.sql_checks import SqlCheck, ask

LAST_WORDS = 3


class DatabaseChecks:
    """Looks at databases.

    Args:
        place: a directory for the programs' words.
        own: the system's own questions to this source.
        tick: called often; may raise to stop.
    """

    def __init__(self, place: Path, own: Sequence[SqlCheck], watch: Stopwatch, tick: Callable[[], None]) -> None:
        self._place = place
        self._own = own
        self._watch = watch
        self._tick = tick

    def look(self, opened: OpenServer) -> list[Check]:
        """Tables and indexes first, then the system's own questions."""
        found = [self._watch.check("pg_amcheck", lambda: self._amcheck(opened))]
        for one in self._own:
            self._tick()
            found.append(self._watch.check(one.name, lambda one=one: ask(one, opened.session)))  # type: ignore[misc]
        return found

    def _amcheck(self, opened: OpenServer) -> tuple[bool, str]:
        try:
            _silence_event_triggers(opened)
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


def _silence_event_triggers(opened: OpenServer) -> None:
    """Before PostgreSQL 17, to make amcheck's extension would fire them: the lost system's code, which may refuse, or
    reach out to the living."""
    for database in opened.databases:
        with opened.session(database) as session:
            for (name,) in session.execute("SELECT evtname FROM pg_catalog.pg_event_trigger").fetchall():
                session.execute(sql.SQL("ALTER EVENT TRIGGER {} DISABLE").format(sql.Identifier(name)))


def last_words(log: Path, code: int) -> str:
    """What a program said last, or how it ended."""
    told = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(told[-LAST_WORDS:]) or f"it ended with code {code}"
