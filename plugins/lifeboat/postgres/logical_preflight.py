"""Everything that a logical archive needs of a server and of this machine; nothing on the server is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, PostgresError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.client_programs import client_programs
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.logical_databases import chosen, databases_of, is_superuser, may_read_passwords
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.preflight import clock_findings, encryption_findings
from lifeboat.postgres.preflight_settings import version_findings
from lifeboat.postgres.preflight_standby import role_findings
from lifeboat.postgres.refusals import clean_message, quoted
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import Finding

Session = psycopg.Connection[TupleRow]
_MOST_NAMED = 5

_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'"
_UNREADABLE = f"""
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'S') AND {_OURS} AND NOT (
        has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind
            WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END
    ) ORDER BY 1"""  # noqa: S608 all of it is ours
_ROW_SECURITY = f"""
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relrowsecurity AND {_OURS} AND row_security_active(c.oid) ORDER BY 1"""  # noqa: S608 all of it is ours
_LARGE_OBJECTS = """
    SELECT count(*), count(*) FILTER (
        WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
            SELECT 1 FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))
        )
    ) FROM pg_largeobject_metadata m"""


def preflight_logical(
    repository: SystemRepository,
    source: PostgresSource,
    parameters: ConnectionParameters,
    *,
    tick: Callable[[], None],
) -> list[Finding]:
    """Look at programs, versions and databases, and at what the role may read in each of them.

    Returns:
        All findings, errors first, each with its remedy.
    """
    with connect_sql(parameters, tick=tick) as session:
        version = session.info.server_version
        findings = [
            *version_findings(version),
            *role_findings(session, allowed=source.standby, reads_tables=True),
            _programs(source, version // 10000),
            *encryption_findings(session, parameters),
            *clock_findings(session, repository.outside.clock),
        ]
        if not may_read_passwords(session):
            what = "The role may not read the roles' passwords: they will be missing in the archive's globals."
            remedy = (
                f"GRANT pg_read_all_data TO {quoted(parameters.keywords['user'])}; or set them anew after a restore."
            )
            findings.append(Finding("warning", "role passwords", what, remedy))
        taken, left = chosen(databases_of(session), source.logical)
        everything = is_superuser(session)
    for name, reason in left.items():
        severity: Any = "ok" if reason in ("it is a template", "the policy leaves it out") else "warning"
        findings.append(Finding(severity, f"database {name}", f"Database {name} is left out: {reason}."))
    for database in taken:
        tick()
        findings += _looked_into(repository, source, database.name, everything, tick)
    return sorted(findings, key=lambda finding: ("error", "warning", "ok").index(finding.severity))


def _programs(source: PostgresSource, major: int) -> Finding:
    try:
        programs = client_programs(source.binaries, at_least=major, why=f"read a server of version {major}")
    except LifeboatError as error:
        return Finding("error", "programs", error.what, error.remedy)
    return Finding("ok", "programs", f"pg_dump {programs.version} in {programs.directory}.")


def _looked_into(
    repository: SystemRepository, source: PostgresSource, database: str, everything: bool, tick: Callable[[], None]
) -> list[Finding]:
    parameters = connection_parameters(
        repository.outside.connection(source.connection),
        Tls(source.tls, source.tls_minimum),
        application_name="lifeboat preflight",
        database=database,
    )
    subject = f"database {database}"
    try:
        with connect_sql(parameters, tick=tick) as session:
            findings = [
                *([] if everything else _privileges(session, subject, quoted(parameters.keywords["user"]))),
                *_large_objects(session, subject, source, quoted(parameters.keywords["user"]), everything),
                *_elsewhere(session, subject),
            ]
    except PostgresError as error:
        return [Finding("error", subject, error.what, error.remedy)]
    except psycopg.Error as error:
        what = f"The server refused a question: {clean_message(str(error))}."
        return [Finding("error", subject, what, "Look at the server's log.")]
    return findings or [Finding("ok", subject, f"Database {database} can be read.")]


def _privileges(session: Session, subject: str, role: str) -> list[Finding]:
    findings = []
    if unreadable := _names(session, _UNREADABLE):
        what = f"Role {role} may not read {_listed(unreadable)}."
        findings.append(Finding("error", subject, what, f"Run as a superuser: GRANT pg_read_all_data TO {role};"))
    if hidden := _names(session, _ROW_SECURITY):
        what = f"Row security would hide rows from role {role} in {_listed(hidden)}; pg_dump refuses to read them so."
        findings.append(Finding("error", subject, what, f"Run as a superuser: ALTER ROLE {role} BYPASSRLS;"))
    return findings


def _large_objects(
    session: Session, subject: str, source: PostgresSource, role: str, everything: bool
) -> list[Finding]:
    row = session.execute(_LARGE_OBJECTS.encode()).fetchone()
    count, unreadable = row if row is not None else (0, 0)
    if count and not source.logical.large_objects:
        what = f"It holds {count} large objects, and the policy leaves them out."
        remedy = "Say `large_objects: true` under `logical`, or exclude the database by name."
        return [Finding("error", subject, what, remedy)]
    if unreadable and not everything:
        what = f"Role {role} may not read {unreadable} of {count} large objects: pg_dump would end with an error."
        remedy = (
            f"Run as a superuser: ALTER ROLE {role} SET lo_compat_privileges = on; (it may then write them, too), or "
            f"GRANT SELECT ON LARGE OBJECT … TO {role}; for each."
        )
        return [Finding("error", subject, what, remedy)]
    return []


def _elsewhere(session: Session, subject: str) -> list[Finding]:
    query = f"""
        SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'f' AND {_OURS} ORDER BY 1"""  # noqa: S608 all of it is ours
    if foreign := _names(session, query):
        what = f"The rows of foreign tables lie on other servers and are not in the archive: {_listed(foreign)}."
        return [Finding("ok", subject, what)]
    return []


def _names(session: Session, query: str) -> list[str]:
    return [str(name) for (name,) in session.execute(query.encode()).fetchall()]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
