"""Archives and exports of moments that have passed, on real servers: the source itself is gone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.backup.preflight import preflight
from lifeboat.errors import Cancelled, PolicyError, RebuildSkipped
from lifeboat.outside import utc_now
from lifeboat.policy.naming import Tier
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.logical_details import logical_details
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.sequence import sequence_findings
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_role import let_read_everything
from tests.backfill.killed_rebuild import PHASES, killed_rebuild
from tests.backfill.past import Past, left_in, past_system, patiently_committed, servers_in
from tests.recovery.line import SOURCE, Line, commit, prepare


@pytest.fixture(scope="module")
def past(module_path: Path) -> Iterator[Past]:
    """Rows 1 to 3, one after the other; 1 in the full, 2 and 3 in the WAL behind it. Then the server is lost."""
    place, space = server_directory(module_path / "place"), server_directory(module_path / "space")
    server = PostgresServer(module_path / "server", settings={"fsync": "off"})
    with server:
        prepare(server)
        server.run_sql(f"CREATE TABLESPACE far LOCATION '{space}'")
        server.run_sql("CREATE TABLE distant (n int) TABLESPACE far")
        # What would run, or end every look at once, wherever this cluster comes back.
        server.run_sql(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF current_setting('application_name') LIKE 'lifeboat rebuild%' THEN"
            " RAISE EXCEPTION 'refused'; END IF; END$$"
        )
        server.run_sql("CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION refuse()")
        server.run_sql(f"ALTER ROLE {SUPERUSER} SET statement_timeout = '1ms'")
        line = Line(module_path, place, server, past_system(module_path, place))
        found = Past(line)
        found.moments["before"] = patiently_committed(server, 1)
        line.verify(line.full())
        found.moments["second"] = patiently_committed(server, 2)
        found.moments["third"] = patiently_committed(server, 3)
        line.wal()
        server.stop()
        yield found
    for name in ("place", "space"):
        remove_server_directory(module_path / name)


def test_an_archive_of_a_moment_in_the_middle_holds_what_was_committed_by_then_and_nothing_later(past: Past) -> None:
    moment = past.moments["second"]
    copy = past.make(Tier.WEEKLY, moment)
    manifest, details = copy.manifest, logical_details(copy.manifest)
    assert past.archived(copy) == {"distant": 0, "ledger": 2}
    assert manifest.moment == moment
    assert {database.moment for database in details.databases} == {moment}
    assert RecoveryPointId.parse(manifest.recovery_point).begun == moment.replace(microsecond=0)
    assert manifest.begun > moment
    [base] = past.line.offer().bases
    assert manifest.rebuilt is not None
    assert (manifest.rebuilt.base, manifest.rebuilt.target, manifest.rebuilt.timeline) == (
        base.manifest.recovery_point, "primary", 1
    )  # fmt: skip
    assert manifest.rebuilt.wal_until is not None
    assert manifest.tiers == ("weekly",)
    [committed] = [one for one in past.line.events("backup_committed") if one.recovery_point == manifest.recovery_point]
    assert committed.details["rebuilt_from"] == base.manifest.recovery_point
    assert left_in(past.line.place) == []
    assert servers_in(past.line.place) == []


def test_it_says_of_the_lost_server_what_the_base_says_of_it_and_nothing_of_the_scratch_server(past: Past) -> None:
    copy = past.make(Tier.WEEKLY, past.moments["third"])
    server = past.line.offer().bases[0].details.server
    told = logical_details(copy.manifest).server
    assert (told.settings, told.tablespaces, told.timeline) == (server.settings, server.tablespaces, server.timeline)
    assert told.system_identifier == server.system_identifier
    [far] = server.tablespaces
    assert f"CREATE TABLESPACE far OWNER postgres LOCATION '{far.location}';" in past.globals(copy)
    assert str(past.line.place) not in past.globals(copy) + copy.document.decode()


def test_an_export_of_a_moment_in_the_middle_holds_the_rows_of_that_moment(past: Past) -> None:
    moment = past.moments["second"]
    copy = past.make(Tier.EXPORT, moment)
    assert past.exported(copy) == [1, 2]
    assert copy.manifest.moment == moment
    assert copy.manifest.tiers == ("export",)
    assert past.exported(past.make(Tier.EXPORT, past.moments["third"])) == [1, 2, 3]


def test_single_tables_of_a_past_moment_count_for_no_tier_and_stand_in_no_other_s_place(past: Past) -> None:
    moment = past.moments["second"] + timedelta(microseconds=9)
    first = past.make(Tier.EXPORT, moment, "public.ledger")
    second = past.make(Tier.EXPORT, moment, "public.ledger")
    assert first.manifest.tiers == second.manifest.tiers == ()
    assert first.manifest.recovery_point != second.manifest.recovery_point
    assert past.exported(second) == [1, 2]
    with suppress(RebuildSkipped):
        past.make(Tier.EXPORT, past.moments["second"])
    assert past.make(Tier.EXPORT, past.moments["second"], "public.ledger").manifest.tiers == ()


def test_what_is_there_already_is_not_made_again(past: Past) -> None:
    moment = past.moments["second"]
    with suppress(RebuildSkipped):
        past.make(Tier.WEEKLY, moment)
    before = past.committed()
    with pytest.raises(RebuildSkipped, match="There is a recovery point of the tier weekly for") as skipped:
        past.make(Tier.WEEKLY, moment)
    assert skipped.value.there in str(skipped.value)
    assert past.committed() == before
    event = past.line.events("backup_skipped")[-1]
    assert event.details["what"] == str(skipped.value)


@pytest.mark.parametrize("which", ["before the first full", "after the last WAL"])
def test_a_moment_out_of_reach_is_skipped_and_the_nearest_that_is_not_is_told(past: Past, which: str) -> None:
    [reach] = past.line.offer().reaches()
    early = which == "before the first full"
    moment = past.moments["before"] if early else reach.latest + timedelta(seconds=2)
    near = reach.earliest if early else reach.latest
    with pytest.raises(RebuildSkipped, match="can't be brought back from what was kept") as skipped:
        past.make(Tier.EXPORT, moment, later=timedelta(minutes=1))
    assert f"The nearest moment that can be is {near:%Y-%m-%d %H:%M:%S}" in str(skipped.value)
    assert not skipped.value.there
    assert left_in(past.line.place) == []


def test_a_moment_in_the_future_is_skipped(past: Past) -> None:
    with pytest.raises(RebuildSkipped, match="has not come yet"):
        past.make(Tier.WEEKLY, utc_now() + timedelta(hours=1))


def test_a_moment_that_its_tier_would_not_keep_any_more_is_skipped(past: Past) -> None:
    with pytest.raises(RebuildSkipped, match="The tier export keeps what stands for .* which has passed"):
        past.make(Tier.EXPORT, past.moments["second"], later=timedelta(days=31))


@pytest.mark.parametrize("tier", [Tier.WAL, Tier.DAILY, Tier.INCREMENTAL])
def test_physical_backups_and_wal_can_not_be_made_for_the_past(past: Past, tier: Tier) -> None:
    with pytest.raises(PolicyError, match=f"The tier {tier} of demo database can't be made for a moment"):
        past.make(tier, past.moments["second"])


def test_without_its_scratch_directory_preflight_says_so_and_the_source_is_not_asked(past: Past) -> None:
    away = past.line.place.with_name("away")
    past.line.place.rename(away)
    try:
        slot = past.slot(past.moments["second"] + timedelta(microseconds=5))
        findings = preflight(past.repository(), SOURCE, Tier.WEEKLY, tick=no_tick, past=slot)
    finally:
        away.rename(past.line.place)
    [error] = [finding for finding in findings if finding.severity == "error"]
    assert (error.subject, error.what) == (
        "scratch server", f"The scratch directory {past.line.place} is not there, or can't be written to."
    )  # fmt: skip
    assert not [
        finding
        for finding in preflight(past.repository(), SOURCE, Tier.WEEKLY, tick=no_tick, past=slot)
        if finding.severity == "error"
    ]


def test_one_that_is_stopped_leaves_nothing(past: Past) -> None:
    before = past.committed()

    def stop_when_the_server_runs() -> None:
        if servers_in(past.line.place):
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        past.make(Tier.WEEKLY, past.moments["second"] + timedelta(microseconds=1), tick=stop_when_the_server_runs)
    assert left_in(past.line.place) == []
    assert servers_in(past.line.place) == []
    assert past.committed() == before


@pytest.mark.parametrize("phase", PHASES)
def test_one_that_is_killed_leaves_no_server_and_the_next_removes_what_it_left(past: Past, phase: str) -> None:
    before = past.committed()
    moment = past.moments["second"] + timedelta(microseconds=2 + list(PHASES).index(phase))
    child = killed_rebuild(past, moment, phase)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    for pid in servers_in(past.line.place):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
    assert left_in(past.line.place) != []
    assert past.committed() == before
    assert past.exported(past.make(Tier.EXPORT, moment, "public.ledger")) == [1, 2]
    assert left_in(past.line.place) == []


def test_it_takes_the_next_number_of_its_row_and_its_moment_s_place_in_time(
    make_line: Callable[..., Line], tmp_path: Path, server_place: Path, make_postgres: Callable[..., PostgresServer]
) -> None:
    """Between archives of the living server: the row is in the order of making, and everything else by the moment."""
    server = make_postgres()
    prepare(server)
    let_read_everything(server)
    past = Past(Line(tmp_path, server_place, server, past_system(tmp_path, server_place)))
    past.line.verify(past.line.full())
    moments: list[datetime] = commit(server, 1)
    first = past.make(Tier.WEEKLY, None)
    commit(server, 2)
    past.line.wal()
    rebuilt = past.make(Tier.WEEKLY, moments[0])
    second = past.make(Tier.WEEKLY, None)
    assert [copy.manifest.sequence for copy in (first, rebuilt, second)] == [1, 2, 3]
    assert rebuilt.manifest.previous is not None
    assert rebuilt.manifest.previous.sha256 == first.sha256
    assert second.manifest.previous is not None
    assert second.manifest.previous.sha256 == rebuilt.sha256
    listed = past.committed()
    assert [copy.manifest.recovery_point for copy in listed] == [
        copy.manifest.recovery_point for copy in (rebuilt, first, second)
    ]
    assert sequence_findings(listed) == []
    assert [past.archived(copy)["ledger"] for copy in listed] == [1, 1, 2]
    assert "rebuilt" not in json.loads(first.document)
