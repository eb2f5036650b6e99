"""Everything that an export needs of a server, looked at before it begins; nothing on the server is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lifeboat.errors import PostgresError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.exports.choosing import choose
from lifeboat.postgres.exports.session import Sql, exact_session, export_parameters
from lifeboat.postgres.exports.snapshot import survey
from lifeboat.postgres.exports.tables import Inventory, Table
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.preflight import clock_findings, encryption_findings
from lifeboat.postgres.preflight_standby import role_findings
from lifeboat.postgres.refusals import quoted
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import Finding

OLDEST = 150000
MOST_NAMED = 10


def preflight_export(
    repository: SystemRepository, source: PostgresSource, *, tick: Callable[[], None]
) -> list[Finding]:
    """Look at version, encryption, clock, databases, the policy's lists and the right to read every table.

    No right of replication is asked for: an export works where there is none, such as on Amazon RDS.

    Returns:
        All findings, errors first, each with its remedy.

    Raises:
        PostgresError: the server can't be reached.
    """
    parameters = export_parameters(repository, source, "preflight")

    def to(database: str) -> ConnectionParameters:
        return export_parameters(repository, source, "preflight", database=database)

    with exact_session(parameters, tick=tick) as session:
        findings = [
            *_version(session),
            *role_findings(session, allowed=source.standby, reads_tables=True),
            *encryption_findings(session, parameters),
        ]
        findings += clock_findings(session, repository.outside.clock)
        try:
            inventories = survey(to, source, session, tick=tick)
        except PostgresError as error:
            findings.append(Finding("error", "databases", error.what, error.remedy))
        else:
            findings += _tables(inventories, source, parameters)
    return sorted(findings, key=lambda finding: ("error", "warning", "ok").index(finding.severity))


def _version(session: Sql) -> list[Finding]:
    version = session.info.server_version
    if version < OLDEST:
        what = f"The server is PostgreSQL {version // 10000}; Lifeboat knows 15 and later."
        return [Finding("error", "version", what, "Upgrade it.")]
    return [Finding("ok", "version", f"The server is PostgreSQL {version // 10000}.")]


def _tables(
    inventories: Mapping[str, Inventory], source: PostgresSource, parameters: ConnectionParameters
) -> list[Finding]:
    choice = choose(list(inventories.values()), source.export)
    findings = [
        Finding("error", "export", problem, "Mend the names under `export` in the policy; they are case-sensitive.")
        for problem in choice.problems
    ]
    role = quoted(parameters.keywords["user"])
    for database, tables in choice.tables.items():
        if unreadable := [table for table in tables if not table.readable]:
            what = f"Role {role} may not read {_named(unreadable)} of database {database}."
            remedy = f"GRANT pg_read_all_data TO {role}; or exclude them."
            findings.append(Finding("error", "tables", what, remedy))
        if filtered := [table for table in tables if table.filtered]:
            what = f"Row security would hide rows of {_named(filtered)} of database {database} from role {role}."
            findings.append(Finding("error", "row security", what, f"ALTER ROLE {role} BYPASSRLS; or exclude them."))
    findings += [
        Finding("warning", "tables", remark, "A backup of the database holds them.") for remark in choice.remarks
    ]
    count = sum(len(tables) for tables in choice.tables.values())
    if not count and not choice.problems:
        findings.append(Finding("warning", "tables", "There is no table to export.", "Look at `export` in the policy."))
    elif count:
        findings.append(Finding("ok", "tables", f"{count} tables of {len(choice.tables)} databases are exported."))
    return findings


def _named(tables: Sequence[Table]) -> str:
    more = f" and {len(tables) - MOST_NAMED} more tables" if len(tables) > MOST_NAMED else ""
    return ", ".join(table.path for table in tables[:MOST_NAMED]) + more
