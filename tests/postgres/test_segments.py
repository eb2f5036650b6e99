from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import PostgresError
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import MIB, SegmentName, WalFile, WalFileKind, covering
from lifeboat.postgres.timelines import TimelineHistory
from sandbox.postgres import PostgresServer

sizes = st.integers(0, 10).map(lambda power: MIB << power)
positions = st.integers(0, 2**50).map(Lsn)
timelines = st.integers(1, 2**32 - 1)


@given(timelines, positions, sizes)
def test_a_segment_holds_its_positions_and_its_name_reads_back(timeline: int, lsn: Lsn, size: int) -> None:
    name = SegmentName.of(timeline, lsn, size)
    assert name.start(size) <= lsn < name.end(size)
    assert name.end(size) - name.start(size) == size
    assert SegmentName.parse(str(name)) == name
    assert name.next(size).start(size) == name.end(size)
    assert name < name.next(size)


@given(positions, st.integers(0, 40), st.integers(0, MIB), sizes)
def test_covering_segments_hold_every_byte_and_no_more(start: Lsn, segments: int, rest: int, size: int) -> None:
    stop = start + (segments * size + rest)
    names = list(covering(start, stop, 3, size))
    if start == stop:
        assert names == []
        return
    assert names[0].start(size) <= start < names[0].end(size)
    assert names[-1].start(size) < stop <= names[-1].end(size)
    assert all(earlier.next(size) == later for earlier, later in pairwise(names))


def test_names_are_those_of_the_server(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(initdb_arguments=("--wal-segsize=64",))
    lsn, name = server.run_sql("SELECT lsn, pg_walfile_name(lsn) FROM (SELECT '3A/7D000028'::pg_lsn AS lsn) AS x")[0]
    assert str(SegmentName.of(1, Lsn.parse(lsn), 64 * MIB)) == name


@pytest.mark.parametrize("size", [0, MIB - 1, MIB // 2, 3 * MIB, 2048 * MIB])
def test_a_size_that_no_segment_has_is_refused(size: int) -> None:
    with pytest.raises(PostgresError, match="power of two"):
        SegmentName.of(1, Lsn(0), size)


def test_a_name_that_does_not_fit_the_size_is_refused() -> None:
    with pytest.raises(PostgresError, match="can't exist"):
        SegmentName.parse("0000000100000000000000FF").start(1024 * MIB)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("000000020000000A000000FE", WalFileKind.SEGMENT),
        ("000000020000000A000000FE.partial", WalFileKind.PARTIAL),
        ("000000020000000A000000FE.00000028.backup", WalFileKind.BACKUP_LABEL),
        ("00000002.history", WalFileKind.HISTORY),
    ],
)
def test_each_kind_of_file_is_known_by_its_name(name: str, kind: WalFileKind) -> None:
    file = WalFile.parse(name)
    assert (file.kind, file.timeline) == (kind, 2)
    assert (file.segment is None) == (kind is WalFileKind.HISTORY)


@pytest.mark.parametrize(
    "name", ["", "archive_status", "00000001000000000000000a", "0000000100000000000000010", "00000002.history.x"]
)
def test_other_names_are_no_wal_files(name: str) -> None:
    with pytest.raises(PostgresError, match="no name of a WAL file"):
        WalFile.parse(name)


HISTORY = b"1\t0/3000000\tno recovery target specified\n# a remark\n\n\n2\t0/5A00028\tbefore 2026-11-22 02:00:00+00\n"


def test_a_history_tells_which_timeline_wrote_a_position() -> None:
    history = TimelineHistory.parse(3, HISTORY)
    assert [switch.parent for switch in history.switches] == [1, 2]
    assert history.switches[1].reason == "before 2026-11-22 02:00:00+00"
    assert (history.parent, history.begins) == (2, Lsn.parse("0/5A00028"))
    assert history.timeline_of(Lsn.parse("0/2FFFFFF")) == 1
    assert history.timeline_of(Lsn.parse("0/3000000")) == 2
    assert history.timeline_of(Lsn.parse("0/5A00028")) == 3


def test_the_segment_in_which_a_timeline_ends_is_taken_from_its_child() -> None:
    history = TimelineHistory.parse(3, HISTORY)
    names = [str(name) for name in history.covering(Lsn.parse("0/2000028"), Lsn.parse("0/6000100"), 16 * MIB)]
    assert names == [
        "000000010000000000000002",
        "000000020000000000000003",
        "000000020000000000000004",
        "000000030000000000000005",
        "000000030000000000000006",
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "cut short"),
        (b"1\t0/3000000\tx\n1\t0/4000000\tx\n", "does not rise"),
        (b"3\t0/3000000\tx\n", "does not rise"),
        (b"1\t0/3000000\tx\n2\t0/2000000\tx\n", "falling"),
        (b"1 later\n", "can't be read"),
    ],
)
def test_a_history_that_contradicts_itself_is_refused(content: bytes, what: str) -> None:
    with pytest.raises(PostgresError, match=what):
        TimelineHistory.parse(3, content)
