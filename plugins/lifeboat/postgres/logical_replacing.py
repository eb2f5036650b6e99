"""The databases in whose place others are to come: looked at before anything is done, and nothing changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.logical_naming import before_name, gave_way_as
from lifeboat.postgres.logical_planning import DatabasePlan, Home, Replaced

Session = psycopg.Connection[TupleRow]
MAINTENANCE = "postgres"
"""Where sessions of ours go when the connection's own database is to give way: nobody renames what he is in."""

_FACTS = """
    SELECT d.oid::int8, d.datistemplate, pg_has_role(d.datdba, 'USAGE'),
        CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_database_size(d.oid) END,
        ARRAY(SELECT gid FROM pg_prepared_xacts WHERE database = d.datname ORDER BY 1),
        ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE database = d.datname ORDER BY 1),
        ARRAY(SELECT subname::text FROM pg_subscription WHERE subdbid = d.oid ORDER BY 1)
    FROM pg_database d WHERE d.datname = %s"""
_SESSIONS = """
    SELECT coalesce(a.usename::text, 'a worker'), coalesce(
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        OR NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = a.usesysid)
            AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')), false)
    FROM pg_stat_activity a
    WHERE a.datid = %s::oid AND a.pid <> pg_backend_pid()
        AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker')"""


def find_replaced(
    session: Session, plans: Sequence[DatabasePlan], home: Home, own: str, now: datetime
) -> tuple[tuple[DatabasePlan, ...], list[LifeboatError]]:
    """The plans with what each of them replaces, and what forbids that.

    Args:
        session: one on the server.
        own: the database that the connection names.
        now: goes into the names that those which give way will have; UTC.
    """
    found: list[DatabasePlan] = []
    problems: list[LifeboatError] = []
    taken = {*home.databases, *(plan.name for plan in plans)}
    for plan in plans:
        row = session.execute(_FACTS, [plan.name]).fetchone()
        if row is None:
            found.append(plan)
            continue
        oid, template, ours, size, *standing = row
        sessions = session.execute(_SESSIONS, [oid]).fetchall()
        aside = before_name(plan.name, now, taken)
        taken.add(aside)
        found.append(replace(plan, replaces=Replaced(plan.name, int(oid), size, len(sessions), aside)))
        problems += _forbidding(plan.name, bool(template), *standing)
        problems += _lacking_rights(plan.name, home, owner=bool(ours), sessions=sessions)
    if len({plan.name for plan in plans}) < len(plans):
        problems.append(RestoreError("Two databases are to have one name.", "Name one with --database, and --as."))
    names = {plan.replaces.name for plan in found if plan.replaces is not None}
    if own in names and (MAINTENANCE in names or MAINTENANCE not in home.databases):
        problems.append(
            RestoreError(
                f"The connection itself leads to the database {own}, which is to be renamed.",
                "Let the connection name another database of the server.",
            )
        )
    return tuple(found), problems


def maintenance_database(plans: Sequence[DatabasePlan], own: str) -> str:
    """The database that sessions of ours go to: ``""`` for the connection's own."""
    return MAINTENANCE if any(plan.replaces is not None and plan.name == own for plan in plans) else ""


def earlier(plans: Sequence[DatabasePlan], home: Home) -> list[str]:
    """The databases that gave way to earlier restores and are still there."""
    replaced = {plan.name for plan in plans if plan.replaces is not None}
    return sorted(name for name in home.databases if gave_way_as(name) in replaced)


def _forbidding(
    name: str, template: bool, prepared: Sequence[str], slots: Sequence[str], subscriptions: Sequence[str]
) -> Iterator[LifeboatError]:
    if template:
        yield RestoreError(f"The database {name} is a template: new databases are copies of it.", "It is not replaced.")
    if prepared:
        yield RestoreError(
            f"The database {name} has prepared transactions, which forbid to rename it: {', '.join(prepared)}.",
            "Let their transaction manager end them, or in it: COMMIT PREPARED or ROLLBACK PREPARED.",
        )
    if slots:
        yield RestoreError(
            f"The database {name} has logical replication slots, which would stay with the old one: "
            f"{', '.join(slots)}.",
            "End what reads them and drop them (pg_drop_replication_slot); make them anew afterwards.",
        )
    if subscriptions:
        yield RestoreError(
            f"The database {name} has subscriptions, which would go on to change the old one: "
            f"{', '.join(subscriptions)}.",
            "In it: ALTER SUBSCRIPTION … DISABLE; … SET (slot_name = NONE); DROP SUBSCRIPTION. Its slot stays with "
            "the publisher.",
        )


def _lacking_rights(
    name: str, home: Home, *, owner: bool, sessions: Sequence[tuple[str, bool]]
) -> Iterator[LifeboatError]:
    if home.superuser:
        return
    if not owner:
        yield RestoreError(
            f"The connection's role does not own the database {name}, and may not rename it.",
            "Use a connection of a superuser, or of its owner with CREATEDB.",
        )
    if strangers := sorted({user for user, may_end in sessions if not may_end}):
        yield RestoreError(
            f"The connection's role may not end the sessions that {', '.join(strangers)} has in the database {name}.",
            "GRANT pg_signal_backend lets it end all but a superuser's; or end them yourself.",
        )
