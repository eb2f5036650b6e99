"""Planning by property: made-up manifests, every gap and fork that there can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import MomentUnreachable, TimelineConflict
from lifeboat.postgres.chains import chained
from lifeboat.postgres.details import FullDetails, Tablespace, WalDetails, as_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.moments import AtLsn, AtRecoveryPoint, AtTime, Latest
from lifeboat.postgres.reach import Base, WalRun, reach_of, wal_runs
from lifeboat.postgres.restore_planning import plan_restore
from lifeboat.postgres.segments import MIB, SegmentName
from lifeboat.postgres.server_facts import ServerFacts
from lifeboat.postgres.timelines import TimelineHistory, TimelineSwitch
from lifeboat.postgres.wal_planning import branch_in_words, plan_legs
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Manifest, Previous, Run
from lifeboat.streams.stored import StoredStream, StoredVolume

SIZE = MIB
CLUSTER = 7_000_000_000_000_000_001
BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
FACTS = ServerFacts(
    system_identifier=CLUSTER,
    version_num=180000,
    version="18",
    platform="made up",
    timeline=1,
    wal_segment_size=SIZE,
    block_size=8192,
    wal_block_size=8192,
    data_checksums=True,
)


def at(segment: float) -> Lsn:
    """A position, counted in segments."""
    return Lsn(int(segment * SIZE))


def when(minute: float) -> datetime:
    return BEGIN + timedelta(minutes=minute)


def stream(name: str) -> StoredStream:
    volume = StoredVolume(number=1, file=f"{name}.1", stored_size=100, sha256="0" * 64, crc32=0, plain_size=SIZE)
    return StoredStream(name=name, plain_sha256=None, volumes=(volume,))


def copy_of(kind: str, minute: float, details: FullDetails | WalDetails, names: list[str], number: int) -> Copy:
    name = f"{when(minute):%Y%m%dT%H%M%SZ}-{kind}-{number:04x}"
    manifest = Manifest(
        system="demo",
        source="database",
        recovery_point=name,
        attempt="attempt-01-00000000",
        timeline=details.timeline if kind == "wal" else None,
        kind=kind,
        sequence=number,
        previous=None if number == 1 else Previous(recovery_point="x", sha256="0" * 64),
        chain=name,
        begun=when(minute),
        committed=when(minute),
        moment=when(minute),
        details=as_details(details),
        streams=tuple(stream(name) for name in names),
        wrapped_keys=(),
        tool_versions={},
        policy_digest="sha256:" + "0" * 64,
        run=Run(),
    )
    return Copy(manifest, manifest.to_json(), b"", "primary")


def full(segment: float, minute: float, number: int = 1, *, timeline: int = 1) -> Copy:
    """A full that starts and stops in one segment; its end lies ``minute`` after the beginning."""
    details = FullDetails(
        system_identifier=CLUSTER,
        timeline=timeline,
        start_lsn=at(segment + 0.25),
        stop_lsn=at(segment + 0.5),
        started=when(minute - 1),
        stopped=when(minute),
        superuser="postgres",
        tablespaces=(Tablespace(oid=None, location=None, archive="base.tar"),),
        plain_total=1000,
        server=FACTS,
    )
    return copy_of("full", minute, details, ["base.tar", "backup_manifest"], number)


def run(
    start: float,
    end: float,
    minute: float,
    number: int = 1,
    *,
    timeline: int = 1,
    ended: bool = False,
    history: bool = False,
    begins: float | None = None,
    without: int | None = None,
) -> Copy:
    """A WAL run from one segment to another that covers everything up to ``minute``."""
    names = [str(SegmentName.numbered(timeline, one, SIZE)) for one in range(int(start), -(-int(end * SIZE) // SIZE))]
    partial = None
    if ended and at(end) % SIZE:
        names[-1] = partial = f"{names[-1]}.partial"
    if history:
        names.append(f"{timeline:08X}.history")
    if without is not None:
        del names[without]
    details = WalDetails(
        system_identifier=CLUSTER,
        timeline=timeline,
        segment_size=SIZE,
        start_lsn=at(int(start)),
        end_lsn=at(end),
        covered_until=when(minute),
        history=f"{timeline:08X}.history" if history else None,
        partial=partial,
        ended=ended,
        begins=None if begins is None else at(begins),
    )
    return copy_of("wal", minute, details, names, number)


def offered(*copies: Copy) -> tuple[list[Base], dict[int, list[WalRun]]]:
    fulls = [copy for copy in copies if copy.manifest.kind == "full"]
    return list(chained(fulls).bases), wal_runs(copy for copy in copies if copy.manifest.kind == "wal")


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[Copy], list[bool]]:
    """Fulls among WAL runs, one a minute, some of which are missing; whether each is there."""
    count = draw(st.integers(1, 12))
    there = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    lengths = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    copies: list[Copy] = []
    position, fulls = 10, 0
    for number in range(count):
        if number == 0 or draw(st.integers(0, 3)) == 0:
            fulls += 1
            copies.append(full(position, 10 * number + 5, fulls))
        end = position + 1 + lengths[number] if lengths[number] or copies[-1].manifest.kind == "full" else position
        if there[number]:
            copies.append(run(position, end, 10 * number + 10, number + 1))
        position = end
    return copies, there


@given(rows(), st.integers(0, 130))
def test_a_plan_has_every_segment_it_needs_covers_its_moment_and_begins_with_the_newest_full(
    row: tuple[list[Copy], list[bool]], minute: int
) -> None:
    copies, _ = row
    offers, runs = offered(*copies)
    moment = when(minute)
    able = [base for base in offers if base.details.stopped <= moment and covers(base, runs, moment)]
    try:
        plan = plan_restore(AtTime(moment), offers, runs, {})
    except MomentUnreachable:
        assert not able
        return
    assert plan.base == able[-1]
    stored = {name.name for copy in copies for name in copy.manifest.streams}
    assert {stage.name for stage in plan.stages} <= stored
    needed = range(-(-plan.base.details.stop_lsn // SIZE), plan.end_lsn // SIZE)
    assert {str(SegmentName.numbered(1, number, SIZE)) for number in needed} <= {stage.name for stage in plan.stages}
    assert max(stage.run.details.covered_until for stage in plan.stages) >= moment or any(
        one.details.covered_until >= moment and one.details.end_lsn == plan.end_lsn for one in plan.reach.runs
    )
    assert plan.target == {"recovery_target_time": moment.isoformat(sep=" ")}


def covers(base: Base, runs: dict[int, list[WalRun]], moment: datetime) -> bool:
    """By brute force: whether the runs that there are lead from the full to one that covers the moment."""
    known = {-(-base.details.stop_lsn // SIZE) * SIZE}
    grown = True
    while grown:
        grown = False
        for one in runs.get(1, []):
            if any(one.details.start_lsn <= position <= one.details.end_lsn for position in known):
                if one.details.covered_until >= moment:
                    return True
                if one.details.end_lsn not in known:
                    known.add(int(one.details.end_lsn))
                    grown = True
    return False


@given(rows())
def test_no_range_reaches_across_a_gap(row: tuple[list[Copy], list[bool]]) -> None:
    copies, _ = row
    offers, runs = offered(*copies)
    for base in offers:
        reach = reach_of(base, runs, {})
        position = -(-base.details.stop_lsn // SIZE) * SIZE
        for one in reach.runs:
            assert one.details.start_lsn <= position <= one.details.end_lsn
            position = int(one.details.end_lsn)
        assert reach.end_lsn == position
        assert reach.latest == max([reach.earliest, *(one.details.covered_until for one in reach.runs)])


def test_a_run_whose_manifest_lacks_a_segment_it_claims_is_a_gap() -> None:
    offers, runs = offered(full(10, 5), run(10, 14, 10, without=2), run(14, 15, 20, 2))
    reach = reach_of(offers[0], runs, {})
    assert "lacks 00000001000000000000000C" in reach.gap
    assert reach.end_lsn == at(11)


FORK = TimelineHistory(2, (TimelineSwitch(1, at(12.5), "promoted"),))


def forked() -> list[Copy]:
    """A primary that went on to segment 16 after another one was promoted at 12.5: at minute 30, while the old one
    was collected until minute 60, the new one until minute 50."""
    return [
        full(10, 5),
        run(10, 12, 20, 1),
        run(12, 16, 60, 2),
        run(12.5, 14, 50, 1, timeline=2, history=True, begins=12.5),
    ]


def test_a_dead_branch_proves_nothing_for_the_timeline_that_left_it() -> None:
    offers, runs = offered(*forked())
    reach = reach_of(offers[0], runs, {2: FORK})
    assert (reach.timeline, reach.latest, reach.end_lsn) == (2, when(50), at(14))
    with pytest.raises(MomentUnreachable):
        plan_restore(AtTime(when(55)), offers, runs, {2: FORK})


def test_a_moment_after_a_promotion_takes_the_new_timelines_segments() -> None:
    offers, runs = offered(*forked())
    plan = plan_restore(AtTime(when(40)), offers, runs, {2: FORK})
    assert plan.timeline == 2
    assert [stage.name[7:8] + stage.name[-2:] for stage in plan.stages] == ["10A", "10B", "20C", "20D"]


def test_a_run_that_ends_a_timeline_does_not_stand_for_what_followed_on_the_next() -> None:
    """One run brings the piece of the old timeline and the beginning of the new one, and both carry one moment."""
    ended = run(12, 12.5, 50, 2, ended=True)
    offers, runs = offered(*forked()[:2], ended, forked()[3])
    plan = plan_restore(AtTime(when(40)), offers, runs, {2: FORK})
    assert (plan.timeline, plan.end_lsn) == (2, at(14))
    assert str(SegmentName.numbered(2, 12, SIZE)) in {stage.name for stage in plan.stages}


def test_the_old_branch_is_reached_by_naming_its_timeline_or_its_recovery_point() -> None:
    copies = forked()
    offers, runs = offered(*copies)
    plan = plan_restore(AtTime(when(55)), offers, runs, {2: FORK}, timeline=1)
    assert (plan.timeline, plan.end_lsn) == (1, at(16))
    plan = plan_restore(AtRecoveryPoint(copies[2].manifest.recovery_point), offers, runs, {2: FORK})
    assert (plan.timeline, plan.end_lsn, plan.target) == (1, at(16), {})


def test_every_known_history_is_staged_so_that_no_timeline_is_used_twice() -> None:
    offers, runs = offered(*forked())
    plan = plan_restore(AtTime(when(55)), offers, runs, {2: FORK}, timeline=1)
    assert [stage.name for stage in plan.histories] == ["00000002.history"]


def test_a_full_of_a_dead_branch_does_not_lead_to_the_timeline_that_left_before_it() -> None:
    late = full(14, 58, 2)
    offers, runs = offered(*forked(), late)
    plan = plan_restore(Latest(), offers, runs, {2: FORK}, timeline=2)
    assert plan.base.manifest.recovery_point != late.manifest.recovery_point
    with pytest.raises(MomentUnreachable, match="timeline 2"):
        plan_restore(Latest(), offers, runs, {2: FORK}, base_id=late.manifest.recovery_point, timeline=2)


def test_the_piece_at_a_timelines_end_serves_when_nothing_follows_it() -> None:
    offers, runs = offered(full(10, 5), run(10, 12, 20, 1), run(12, 12.5, 50, 2, ended=True))
    plan = plan_restore(Latest(), offers, runs, {})
    assert plan.end_lsn == at(12.5)
    assert plan.stages[-1].stream.endswith(".partial")
    assert plan.reach.latest == when(20)


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_run_goes_on_where_the_last_one_ended_and_a_server_that_is_behind_is_refused(
    start: int, length: int, further: int
) -> None:
    details = wal(run(start, start + length, 1))
    position = at(start + length + further)
    [leg] = plan_legs(
        {1: details},
        system_identifier=CLUSTER,
        history=TimelineHistory(1),
        segment_size=SIZE,
        reserved_from=at(0),
        position=position,
    )
    assert (leg.timeline, leg.start, leg.end) == (1, at(start + length), None)
    with pytest.raises(TimelineConflict, match="older state"):
        plan_legs(
            {1: details},
            system_identifier=CLUSTER,
            history=TimelineHistory(1),
            segment_size=SIZE,
            reserved_from=at(0),
            position=Lsn(details.end_lsn - SIZE),
        )


def wal(copy: Copy) -> WalDetails:
    return WalDetails.model_validate(copy.manifest.details)


def legs(history: TimelineHistory, *committed: Copy) -> list[tuple[int, Lsn, Lsn | None]]:
    planned = plan_legs(
        {details.timeline: details for details in map(wal, committed)},
        system_identifier=CLUSTER,
        history=history,
        segment_size=SIZE,
        reserved_from=at(9.3),
        position=at(20),
    )
    return [(leg.timeline, leg.start, leg.end) for leg in planned]


def test_after_a_promotion_the_rest_of_the_old_timeline_is_brought_first() -> None:
    assert legs(FORK, run(10, 12, 20)) == [(1, at(12), at(12.5)), (2, at(12), None)]
    assert legs(FORK, run(12, 16, 20)) == [(2, at(12), None)]
    assert legs(FORK) == [(2, at(9), None)]


def test_the_same_timeline_with_another_beginning_is_another_server() -> None:
    ours = run(12.5, 14, 50, timeline=2, history=True, begins=12.5)
    assert legs(FORK, ours) == [(2, at(14), None)]
    with pytest.raises(TimelineConflict, match="begins at"):
        legs(TimelineHistory(2, (TimelineSwitch(1, at(13.5), "another"),)), ours)


def test_an_old_primary_that_goes_on_is_told_from_the_promoted_one() -> None:
    known = {1: wal(run(10, 12, 20)), 2: wal(run(12.5, 14, 50, timeline=2, begins=12.5))}
    assert "timeline 2" in branch_in_words(known, TimelineHistory(1))
    assert not branch_in_words(known, FORK)
    assert not branch_in_words({1: known[1]}, TimelineHistory(1))


@given(rows(), st.integers(10 * SIZE, 40 * SIZE))
def test_a_position_is_reached_exactly_when_the_wal_leads_there(
    row: tuple[list[Copy], list[bool]], position: int
) -> None:
    offers, runs = offered(*row[0])
    reaches = [reach_of(base, runs, {}) for base in offers]
    able = [one.base for one in reaches if one.base.details.stop_lsn <= position <= one.end_lsn]
    try:
        plan = plan_restore(AtLsn(Lsn(position)), offers, runs, {})
    except MomentUnreachable:
        assert not able
        return
    assert plan.base == able[-1]
    # The full brings the rest of its own segment, which is empty, itself.
    assert plan.end_lsn >= position or position <= -(-plan.base.details.stop_lsn // SIZE) * SIZE
