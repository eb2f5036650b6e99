"""What the options of ``lifeboat restore`` mean for each kind of source: those it has no use for are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lifeboat.cli.restore_export import Wanted, is_export, restore_export
from lifeboat.cli.restore_physical import insist_on_place, mapped, propose, restore_data_directory
from lifeboat.cli.restore_snapshots import WantedSnapshot, restorer_of
from lifeboat.errors import PolicyError, RestoreError

if TYPE_CHECKING:
    from datetime import datetime

    from lifeboat.cli.moment import Asked
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.recovery.approval.options import RestoreOptions
    from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Shown:
    """How a restore is talked about.

    Attributes:
        plan: show the plan and do nothing.
        yes: don't ask.
        as_json: print JSON.
        stdout: write an item of a configuration to standard output.
        show_globals: print an archive's roles and tablespaces, and do nothing.
    """

    plan: bool
    yes: bool
    as_json: bool
    stdout: bool
    show_globals: bool


def restore_by_kind(
    repository: SystemRepository, source: str, options: RestoreOptions, latest: bool, shown: Shown
) -> None:
    """Bring back what the options say, by the kind of the source."""
    kind = repository.policy.sources[source].kind
    restore_snapshot = restorer_of(kind)
    if restore_snapshot is not None:
        _refuse_of_databases(options)
        _refuse(options.replace_files and kind != "files", "--replace-files", "a set of files")
        _refuse(
            (shown.stdout or options.into_store) and kind != "configuration",
            "--stdout and --into-store",
            "a configuration",
        )
        restore_snapshot(repository, source, _wanted_snapshot(repository, options, shown))
        return
    _refuse(options.replace_files, "--replace-files", "a set of files")
    _refuse(shown.stdout or options.into_store, "--stdout and --into-store", "a configuration")
    of_archive = any(
        (
            options.databases, options.new_name, options.into_database, options.with_globals, shown.show_globals,
            options.replace_database,
        )
    )  # fmt: skip
    if options.recovery_point is not None and is_export(options.recovery_point):
        they = "--database, --as, --into-database, --replace-database, --with-globals and --show-globals"
        _refuse(of_archive, they, "a logical archive")
        _refuse(options.replace_directory, "--replace-directory", "a physical backup")
        restore_export(repository, source, _postgres(repository, source), _wanted_tables(options, shown))
        return
    of_export = bool(options.format_name or options.as_table or options.replace_rows)
    _refuse(of_export, "--format, --as-table and --replace-rows", "an export", "Name it: --recovery-point ID.")
    if options.connection is not None:
        _restore_archive(repository, source, options, latest, shown)
        return
    _restore_physical(repository, source, options, latest, shown, parts=of_archive or bool(options.only))


def _refuse_of_databases(options: RestoreOptions) -> None:
    of_data = (
        options.lsn, options.name, options.timeline, options.base, options.tablespaces, options.binaries,
        options.run_as, options.connection, options.format_name, options.as_table, options.replace_directory,
    )  # fmt: skip
    of_dumps = (
        options.databases, options.new_name, options.into_database, options.with_globals, options.replace_rows,
        options.replace_database,
    )  # fmt: skip
    they_take = "What is no database takes --into, --at, --recovery-point, --target and --only."
    _refuse(any((*of_data, *of_dumps)), "Some of these options", "a database", they_take)


def _wanted_snapshot(repository: SystemRepository, options: RestoreOptions, shown: Shown) -> WantedSnapshot:
    return WantedSnapshot(
        _path(options.into),
        _time(repository, options),
        options.recovery_point,
        options.target,
        options.only,
        options.replace_files,
        shown.plan,
        shown.yes,
        shown.as_json,
        shown.stdout,
        options.into_store,
    )


def _wanted_tables(options: RestoreOptions, shown: Shown) -> Wanted:
    assert options.recovery_point is not None
    return Wanted(
        options.recovery_point,
        options.only,
        options.format_name,  # type: ignore[arg-type]  # looked at before it is used
        _path(options.into),
        options.connection,
        options.as_table,
        options.replace_rows,
        options.target,
        shown.plan,
        shown.yes,
        shown.as_json,
    )


def _restore_archive(
    repository: SystemRepository, source: str, options: RestoreOptions, latest: bool, shown: Shown
) -> None:
    from lifeboat.cli.restore_logical import Wish, restore_into_connection

    assert options.connection is not None
    _asked(repository, options, latest)
    no_use = any(option is not None for option in (options.into, options.lsn, options.name, options.base))
    they = "--into, --lsn, --name, --base and --replace-directory"
    _refuse(no_use or options.replace_directory, they, "a physical backup", "Or leave --connection out.")
    wish = Wish(
        connection=options.connection,
        at=_time(repository, options),
        recovery_point=options.recovery_point,
        target=options.target,
        databases=options.databases,
        only=options.only,
        name=options.new_name,
        into=options.into_database,
        with_globals=options.with_globals,
        owners=options.owners,
        binaries=_path(options.binaries),
        replace_databases=options.replace_database,
    )
    restore_into_connection(
        repository,
        _postgres(repository, source),
        source,
        wish,
        plan_only=shown.plan,
        show_globals=shown.show_globals,
        yes=shown.yes,
        as_json=shown.as_json,
    )


def _restore_physical(
    repository: SystemRepository, source: str, options: RestoreOptions, latest: bool, shown: Shown, *, parts: bool
) -> None:
    wanted = _asked(repository, options, latest)
    into = insist_on_place(_path(options.into), parts=parts, system=repository.system, source=source)
    proposal = propose(
        repository,
        _postgres(repository, source),
        source,
        wanted,
        into=into,
        target=options.target,
        base=options.base,
        timeline=options.timeline,
        tablespaces=mapped(options.tablespaces),
        binaries=_path(options.binaries),
        user=options.run_as,
        replace=options.replace_directory,
    )
    restore_data_directory(repository, proposal, plan_only=shown.plan, yes=shown.yes, as_json=shown.as_json)


def _asked(repository: SystemRepository, options: RestoreOptions, latest: bool) -> Asked:
    from lifeboat.cli.moment import asked

    return asked(
        at=options.at,
        lsn=options.lsn,
        name=options.name,
        recovery_point=options.recovery_point,
        latest=latest,
        zone=repository.policy.zone,
    )


def _time(repository: SystemRepository, options: RestoreOptions) -> datetime | None:
    from lifeboat.cli.moment import time_in

    return None if options.at is None else time_in(options.at, repository.policy.zone)[0]


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _refuse(given: bool, options: str, of: str, remedy: str = "") -> None:
    """Refuse options that what is asked for has no use for, rather than pass over them."""
    if given:
        raise RestoreError(
            f"{options} are for {of}, and what is asked for is none.", remedy or "Leave them out, or name another."
        )


def _postgres(repository: SystemRepository, source: str) -> PostgresSource:
    from lifeboat.policy.postgres_source import PostgresSource

    policy = repository.policy.sources[source]
    if not isinstance(policy, PostgresSource):
        raise PolicyError(
            f"The source {source} is of kind {policy.kind}; this version restores PostgreSQL.",
            "`lifeboat policy check` says what is not built yet.",
        )
    return policy
