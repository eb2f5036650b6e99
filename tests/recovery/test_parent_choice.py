"""What an incremental builds upon, by property: made-up links, verdicts and summaries."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.postgres.chains import chained
from lifeboat.postgres.details import IncrementalDetails, as_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.parent_choice import ServerState, Standing, Summary, choose_parent
from lifeboat.postgres.reach import Base
from lifeboat.repository.catalogue import Copy
from tests.recovery.test_planning import CLUSTER, at, full, when


def incremental(parent: Copy, start: float, minute: float, number: int, *, timeline: int | None = None) -> Copy:
    """An incremental on a made-up link, a segment long."""
    copy = full(start, minute, number)
    below = parent.manifest.details
    details = IncrementalDetails(
        **(copy.manifest.details | {"timeline": timeline or below["timeline"], "stop_lsn": str(at(start + 0.5))}),
        parent_manifest=parent.sha256,
    )
    manifest = copy.manifest.model_copy(
        update={
            "recovery_point": copy.manifest.recovery_point.replace("full", "incremental"),
            "kind": "incremental",
            "parent": parent.manifest.recovery_point,
            "chain": parent.manifest.chain,
            "details": as_details(details),
        }
    )
    return replace(copy, manifest=manifest, document=manifest.to_json())


def damaged(copy: Copy) -> Copy:
    manifest = copy.manifest.model_copy(update={"state": "damaged"})
    return replace(copy, manifest=manifest, document=manifest.to_json())


def on_timeline(copy: Copy, timeline: int) -> Copy:
    manifest = copy.manifest.model_copy(update={"details": copy.manifest.details | {"timeline": timeline}})
    return replace(copy, manifest=manifest, document=manifest.to_json())


def ids(*copies: Copy) -> list[str]:
    return [copy.manifest.recovery_point for copy in copies]


@st.composite
def links(draw: st.DrawFn) -> list[Copy]:
    """Fulls and incrementals in order of time, on two timelines, some damaged, some of them lost afterwards."""
    made: list[Copy] = []
    timeline = 1
    for number in range(1, draw(st.integers(0, 10)) + 1):
        if draw(st.integers(0, 9)) == 0:
            timeline += 1
        start = 10.0 * number
        able = [copy for copy in made if copy.manifest.state == "good" and of(copy) == timeline]
        if able and draw(st.booleans()):
            copy = incremental(draw(st.sampled_from(able)), start, start, number)
        else:
            copy = on_timeline(full(start, start, number), timeline)
        made.append(damaged(copy) if draw(st.integers(0, 5)) == 0 else copy)
    return [copy for copy in made if draw(st.integers(0, 6))]


def of(copy: Copy) -> int:
    return int(copy.manifest.details["timeline"])


def server(
    position: float = 200, timeline: int = 1, summaries: tuple[Summary, ...] | None = None, **more: object
) -> ServerState:
    state = ServerState(CLUSTER, timeline, at(position), True, True, summaries, None)
    return replace(state, **more)  # type: ignore[arg-type]


VERDICTS = st.sampled_from(["verified", "verified", "verified", "failed", "unknown"])


@given(links(), st.data())
def test_the_parent_is_the_newest_verified_link_on_a_whole_chain_of_the_servers_own_timeline(
    copies: list[Copy], data: st.DataObject
) -> None:
    standing: dict[str, Standing] = {name: data.draw(VERDICTS) for name in ids(*copies)}
    present = {copy.manifest.recovery_point: copy for copy in copies}

    def usable(copy: Copy) -> bool:
        """By following the parents, one by one."""
        name = copy.manifest.recovery_point
        if copy.manifest.state != "good" or of(copy) != 1 or standing[name] != "verified":
            return False
        while (parent := copy.manifest.parent) is not None:
            below = present.get(parent)
            if below is None or below.manifest.state != "good" or standing[parent] == "failed":
                return False
            copy = below
        return True

    able = [copy for copy in copies if usable(copy)]
    choice = choose_parent(chained(copies).bases, standing, server(), longest_chain=100)
    if not able:
        assert choice.parent is None
        assert choice.reason
        return
    assert choice.parent is not None
    assert choice.parent.copy.sha256 == able[-1].sha256
    assert choice.parent.links[0].manifest.kind == "full"
    assert choice.parent.links[0].manifest.recovery_point == choice.parent.manifest.chain
    good = {base.manifest.recovery_point for base in chained(copies).bases if base.details.timeline == 1}
    newer = [name for name in ids(*copies[copies.index(able[-1]) + 1 :]) if name in good]
    assert sorted(remark.split()[0] for remark in choice.remarks) == sorted(newer)


@given(links())
def test_a_chain_is_whole_or_named_as_broken(copies: list[Copy]) -> None:
    found = chained(copies)
    good = {name for copy in copies if copy.manifest.state == "good" for name in ids(copy)}
    assert {base.manifest.recovery_point for base in found.bases} | {one.recovery_point for one in found.broken} == good
    for base in found.bases:
        for below, link in pairwise(base.links):
            assert link.manifest.parent == below.manifest.recovery_point
            assert IncrementalDetails.model_validate(link.manifest.details).parent_manifest == below.copy.sha256


def chain_of(length: int) -> tuple[list[Copy], dict[str, Standing]]:
    copies = [full(10, 10)]
    for number in range(2, length + 1):
        copies.append(incremental(copies[-1], 10 * number, 10 * number, number))
    return copies, dict.fromkeys(ids(*copies), "verified")


def test_a_replayed_parent_is_no_parent() -> None:
    """The same id with another manifest: put back from elsewhere, or committed by another attempt."""
    [base, link, last], _ = chain_of(3)
    other = replace(link, manifest=link.manifest.model_copy(update={"note": "another"}))
    other = replace(other, document=other.manifest.to_json())
    found = chained([base, other, last])
    assert [one.manifest.recovery_point for one in found.bases] == ids(base, link)
    [broken] = found.broken
    assert "another one than it was made on" in str(broken)


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_chain_grows_as_long_as_the_policy_allows(length: int, longest: int) -> None:
    copies, standing = chain_of(length)
    choice = choose_parent(chained(copies).bases, standing, server(), longest)
    assert (choice.parent is None) is (length - 1 >= longest)
    assert choice.parent is not None or "as many as the policy allows" in choice.reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"summarizing": False}, "summarize_wal is off"),
        ({"checksums": False}, "data checksums were switched off"),
        ({"timeline": 2}, "on timeline 2"),
        ({"system_identifier": 5}, "system identifier is 5"),
        ({"position": 20}, "older state"),
    ],
)
def test_a_server_that_is_not_what_it_was_gets_a_full(changed: dict[str, object], reason: str) -> None:
    copies, standing = chain_of(2)
    choice = choose_parent(chained(copies).bases, standing, server(**changed), 100)  # type: ignore[arg-type]
    assert choice.parent is None
    assert reason in choice.reason


def test_without_any_link_a_full_is_taken() -> None:
    assert "no full yet" in choose_parent((), {}, server(), 100).reason


@st.composite
def seams(draw: st.DrawFn) -> tuple[list[Summary], list[Lsn]]:
    """Summaries that follow each other over some positions, some of them lost."""
    positions = sorted(draw(st.sets(st.integers(0, 60), min_size=2, max_size=8)))
    row = [Summary(1, at(one), at(other)) for one, other in pairwise(positions)]
    kept = [summary for summary in row if draw(st.integers(0, 5))]
    return kept, [at(position) for position in positions]


@given(seams(), st.integers(0, 59))
def test_summaries_must_reach_back_to_a_seam_at_the_parents_start_without_a_gap(
    made: tuple[list[Summary], list[Lsn]], start: int
) -> None:
    kept, positions = made
    copies = [full(start + 0.0, 10)]
    [base] = chained(copies).bases
    begin = base.details.start_lsn
    state = server(summaries=tuple(reversed(kept)), summarized=positions[-1])
    choice = choose_parent([base], dict.fromkeys(ids(*copies), "verified"), state, 100)
    end = max((one.end for one in kept), default=at(0))
    covered = all(
        any(one.start <= position < one.end for one in kept)
        for position in {begin, *(one for one in positions if begin <= one < end)}
    )
    seam = any(begin in (one.start, one.end) for one in kept)
    # What is behind the last summary is still being written, as is everything before the first one of a new parent.
    allowed = positions[-1] <= begin or (covered and seam)
    assert (choice.parent is not None) is allowed, choice.reason


def test_a_base_that_was_found_bad_later_takes_its_chain_with_it() -> None:
    copies, standing = chain_of(3)
    standing[copies[0].manifest.recovery_point] = "failed"
    choice = choose_parent(chained(copies).bases, standing, server(), 100)
    assert choice.parent is None
    assert "below it, failed" in choice.reason


def test_links_of_a_base() -> None:
    copies, _ = chain_of(3)
    last: Base = chained(reversed(copies)).bases[-1]
    assert [link.copy.sha256 for link in last.links] == [copy.sha256 for copy in copies]
    assert last.details.stopped == when(30)
