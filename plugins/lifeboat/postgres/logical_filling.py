"""A database filled from its archives by ``pg_restore``, straight from the streams.

Source: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Event, Lock

from lifeboat.errors import Cancelled, RestoreError
from lifeboat.postgres.client_programs import Access, ProgramFailed, access_for, run_program
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.logical_details import Archive
from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.child_programs import in_memory
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

Progress = Callable[[str, int, int], None]
_UNKNOWN_SETTING = 'ERROR:  unrecognized configuration parameter "transaction_timeout"'


class Filler:
    """Fills one database from its archives."""

    def __init__(
        self,
        repository: SystemRepository,
        plan: LogicalPlan,
        parameters: ConnectionParameters,
        side_by_side: int,
        progress: Progress,
        tick: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._parameters = parameters
        self._side_by_side = side_by_side
        self._progress = progress
        self._tick = tick
        self._origin = origin_of(repository, plan.copy.target, plan.copy)
        self._fetched = 0
        self._lock = Lock()
        self._given_up = Event()

    def fill(self, database: DatabasePlan, name: str) -> None:
        """Definitions, rows, and what has to come after the rows."""
        archives = database.archive.archives
        rows = [archive for archive in archives if archive.holds == "data"]
        self._total = sum(self._plan.copy.manifest.stream(archive.stream).stored_size for archive in archives)
        with access_for(self._parameters) as access:
            for archive in archives:
                if archive.holds == "all":
                    self._restore(database, archive, access, name, ())
                elif archive.holds == "schema":
                    self._restore(database, archive, access, name, ("--section=pre-data",))
            if rows:
                self._restore_rows(database, rows, access, name)
            for archive in archives:
                if archive.holds == "schema":
                    self._restore(database, archive, access, name, ("--section=post-data",))

    def _restore_rows(self, database: DatabasePlan, rows: Sequence[Archive], access: Access, name: str) -> None:
        with ThreadPoolExecutor(self._side_by_side, thread_name_prefix="restore") as pool:
            left = {pool.submit(self._restore, database, archive, access, name, ()) for archive in rows}
            try:
                while left:
                    ended, left = wait(left, TICK_SECONDS, FIRST_EXCEPTION)
                    for job in ended:
                        job.result()
                    self._tick()
            finally:
                if left:
                    self._given_up.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _restore(
        self, database: DatabasePlan, archive: Archive, access: Access, name: str, more: tuple[str, ...]
    ) -> None:
        plan = self._plan
        with ExitStack() as stack:
            descriptors: tuple[int, ...] = ()
            if (numbers := database.numbers.get(archive.stream)) is not None:
                if not numbers:
                    return
                paths, descriptors = stack.enter_context(in_memory({"list": list_file(numbers)}))
                more = (*more, f"--use-list={paths['list']}")
            arguments = [
                plan.programs.path("pg_restore"),
                # A subscription would begin to take changes from the old one's publisher.
                *("--format=custom", "--no-password", "--no-subscriptions"),
                *(() if self._asks_too_much else ("--exit-on-error",)),
                *(() if plan.owners else ("--no-owner", "--no-privileges")),
                *(() if plan.tablespaces else ("--no-tablespaces",)),
                *more,
                f"--dbname={access.database(name)}",
            ]
            stored = plan.copy.manifest.stream(archive.stream)
            plain = stack.enter_context(opened(stored, self._origin, self._passed))
            try:
                run_program(arguments, access=access, descriptors=descriptors, feed=plain, tick=self._look, rest="read")
            except ProgramFailed as error:
                if self._asks_too_much and only_asked_too_much(error.words):
                    return
                raise RestoreError(
                    f"Database {database.archive.name} could not be brought back: {error.what}",
                    "What was begun is dropped again. Mend what it says, and restore again.",
                ) from error

    @property
    def _asks_too_much(self) -> bool:
        """Whether ``pg_restore`` will set what a server of this version does not know: from 17 on it sets
        ``transaction_timeout`` without asking. Then it can't stop at its first error, and all of them are looked at."""
        return self._plan.programs.major >= 17 > self._plan.home.major

    def _passed(self, size: int) -> None:
        with self._lock:
            self._fetched += size
            done = self._fetched
        self._progress("restore", min(done, self._total), self._total)

    def _look(self) -> None:
        if self._given_up.is_set():
            raise Cancelled("Another part of the restore failed.")
        self._tick()


def only_asked_too_much(words: str) -> bool:
    """Whether the one setting that older servers do not know is all that ``pg_restore`` complained of."""
    ignored = re.search(r"^pg_restore: warning: errors ignored on restore: (\d+)$", words, re.MULTILINE)
    errors = re.findall(r"^pg_restore: error: (.*)$", words, re.MULTILINE)
    known = [error for error in errors if error.endswith(_UNKNOWN_SETTING)]
    return ignored is not None and int(ignored[1]) == len(errors) == len(known)


def list_file(numbers: Sequence[int]) -> str:
    """A list for ``pg_restore --use-list``, which restores in its order: that of the archive, not of the numbers."""
    return "".join(f"{number};\n" for number in numbers)
