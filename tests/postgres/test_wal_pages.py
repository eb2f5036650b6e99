from __future__ import annotations

import io
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from lifeboat.errors import PostgresError, VerificationFailed
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import MIB, SegmentName
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.postgres.wal import WalWalker, check_segment
from lifeboat.postgres.wal_pages import PAGE
from sandbox import postgres_builds
from sandbox.accounts import hand_over
from sandbox.postgres import PostgresServer

SIZE = MIB


@dataclass(frozen=True)
class Wal:
    """The WAL of a server that was busy, crashed once, and was promoted once."""

    major: int
    identifier: int
    segments: dict[str, bytes]
    last_commit: datetime
    restore_point: Lsn
    promoted: dict[str, bytes]
    history: TimelineHistory

    def walker(self, start: Lsn | None = None, *, records: bool = True, checksums: bool = True) -> WalWalker:
        return WalWalker(self.identifier, SIZE, start, records=records, checksums=checksums)


def files_of(server: PostgresServer, *, before: str) -> dict[str, bytes]:
    folder = server.data_directory / "pg_wal"
    names = sorted(file.name for file in folder.iterdir() if len(file.name) == 24 and file.name < before)
    return {name: (folder / name).read_bytes() for name in names}


def grow(server: PostgresServer) -> None:
    server.run_program("pgbench", "-i", "-s", "1", "--quiet")
    server.run_program("pgbench", "-c", "2", "-t", "300")
    server.kill()
    server.start()
    server.run_sql("CREATE TABLE big AS SELECT g, repeat(md5(g::text), 600) AS t FROM generate_series(1, 200) AS g")
    server.run_sql("INSERT INTO big SELECT 0, string_agg(md5(g::text), '') FROM generate_series(1, 90000) AS g")
    server.run_sql("SELECT pg_logical_emit_message(false, 'long', repeat('x', 3000000))")


@pytest.fixture(scope="module", params=postgres_builds.tested_majors(), ids=lambda major: f"postgresql-{major}")
def wal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wal:
    server = PostgresServer(
        tmp_path_factory.mktemp("wal") / "server",
        major=request.param,
        settings={"fsync": "off", "wal_keep_size": "1GB", "track_commit_timestamp": "on", "autovacuum": "off"},
        initdb_arguments=("--wal-segsize=1",),
    )
    with server:
        grow(server)
        point = Lsn.parse(server.run_sql("SELECT pg_create_restore_point('before lunch')")[0][0])
        committed = server.run_sql("SELECT timestamp FROM pg_last_committed_xact()")[0][0]
        server.run_sql("SELECT pg_switch_wal()")
        server.run_sql("CHECKPOINT")
        now = server.run_sql("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
        segments = files_of(server, before=now)
        identifier = server.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
        promoted, history = promote(server)
    return Wal(request.param, identifier, segments, committed, point, promoted, history)


def promote(server: PostgresServer) -> tuple[dict[str, bytes], TimelineHistory]:
    """Let the server become a standby of nobody and a primary again: on timeline 2."""
    server.stop()
    signal = server.data_directory / "standby.signal"
    signal.touch()
    hand_over(signal)
    server.start()
    server.run_sql("SELECT pg_promote()")
    server.run_sql("CREATE TABLE after_promotion AS SELECT generate_series(1, 1000)")
    server.run_sql("SELECT pg_switch_wal()")
    server.run_sql("CREATE TABLE after_switch AS SELECT 1")
    now = server.run_sql("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
    history = TimelineHistory.parse(2, (server.data_directory / "pg_wal" / "00000002.history").read_bytes())
    return files_of(server, before=now), history


def feed_all(walker: WalWalker, segments: dict[str, bytes]) -> WalWalker:
    for name, content in segments.items():
        walker.feed(name, io.BytesIO(content))
    return walker


def test_wal_is_proven_from_its_first_record_to_its_newest(wal: Wal) -> None:
    walker = feed_all(wal.walker(), wal.segments)
    assert walker.position == SegmentName.parse(list(wal.segments)[-1]).end(SIZE)
    assert walker.records > 5000
    assert walker.last_commit == wal.last_commit
    assert walker.last_transaction_end is not None
    assert walker.last_transaction_end >= wal.last_commit
    assert [(point.name, point.lsn < wal.restore_point) for point in walker.restore_points] == [("before lunch", True)]


def test_commit_times_need_no_checksums_and_pages_alone_need_no_records(wal: Wal) -> None:
    quick = feed_all(wal.walker(checksums=False), wal.segments)
    pages = feed_all(wal.walker(records=False), wal.segments)
    assert quick.last_commit == wal.last_commit
    assert quick.position == pages.position
    assert pages.records == 0


@pytest.mark.parametrize("wal", [postgres_builds.WHEEL_MAJOR], indirect=True)  # the others come without pg_waldump
def test_records_are_those_that_pg_waldump_lists(wal: Wal, tmp_path: Path) -> None:
    program = postgres_builds.binaries(wal.major) / "pg_waldump"
    for name, content in wal.segments.items():
        (tmp_path / name).write_bytes(content)
    walker = wal.walker()
    counts = {name: walker.feed(name, io.BytesIO(content)).records for name, content in wal.segments.items()}
    start = SegmentName.parse(next(iter(counts))).start(SIZE)
    listing = subprocess.run(
        [program, "--path", tmp_path, "--start", str(start), "--end", str(walker.position)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    begins = [Lsn.parse(match[1]) for line in listing if (match := re.search(r"lsn: (\S+),", line))]
    assert len(begins) == walker.records
    halfway = begins[len(begins) // 2]
    first = SegmentName.of(1, halfway, SIZE)
    rest = {name: content for name, content in wal.segments.items() if name >= str(first)}
    assert feed_all(wal.walker(halfway), rest).records == len([begin for begin in begins if begin >= halfway])


def test_a_walk_may_begin_at_any_record_and_nowhere_else(wal: Wal) -> None:
    whole = feed_all(wal.walker(), wal.segments)
    start = whole.restore_points[0].lsn
    rest = {name: content for name, content in wal.segments.items() if name >= str(SegmentName.of(1, start, SIZE))}
    assert feed_all(wal.walker(start), rest).position == whole.position
    with pytest.raises(VerificationFailed):
        feed_all(wal.walker(start + 8), rest)
    with pytest.raises(VerificationFailed, match="does not hold position"):
        feed_all(wal.walker(start), wal.segments)


def test_a_walk_goes_over_a_promotion(wal: Wal) -> None:
    names = wal.history.covering(
        SegmentName.parse(next(iter(wal.promoted))).start(SIZE), wal.history.begins + SIZE, SIZE
    )
    path = {str(name): wal.promoted[str(name)] for name in names if str(name) in wal.promoted}
    walker = feed_all(wal.walker(), path)
    assert {name[:8] for name in path} == {"00000001", "00000002"}
    assert walker.position > wal.history.begins


def test_a_piece_is_followed_by_the_child_that_begins_with_a_copy_of_it(wal: Wal) -> None:
    switch = wal.history.begins
    child = SegmentName.of(2, switch, SIZE)
    parent = SegmentName.of(1, switch, SIZE)
    walker = wal.walker()
    for name, content in wal.promoted.items():
        if name < str(parent):
            walker.feed(name, io.BytesIO(content))
    piece = wal.promoted[str(child)][: switch - child.start(SIZE)]
    summary = walker.feed(f"{parent}.partial", io.BytesIO(piece), until=switch)
    assert summary.end == switch == walker.position
    with pytest.raises(VerificationFailed, match="can't follow the piece"):
        walker.feed(parent.next(SIZE), io.BytesIO(wal.promoted[str(child)]))
    walker.feed(child, io.BytesIO(wal.promoted[str(child)]))
    assert walker.position > switch


def test_a_piece_that_ends_before_it_should_is_refused(wal: Wal) -> None:
    name, content = next(iter(wal.segments.items()))
    with pytest.raises(VerificationFailed, match="the records end here, before"):
        wal.walker().feed(f"{name}.partial", io.BytesIO(content[: SIZE // 2]), until=SegmentName.parse(name).end(SIZE))


def middle(wal: Wal) -> tuple[str, bytes, dict[str, bytes]]:
    """A full segment in the middle, and those up to it."""
    names = list(wal.segments)
    name = names[len(names) // 2]
    return name, wal.segments[name], {other: wal.segments[other] for other in names if other < name}


@pytest.mark.parametrize("offset", [0, 2, 4, 9, 16, 25, 35, 60, PAGE + 1, PAGE + 8, 40 * PAGE + 17, 77 * PAGE + 4000])
def test_a_flipped_byte_is_found_wherever_it_is(wal: Wal, offset: int) -> None:
    name, content, before = middle(wal)
    changed = bytearray(content)
    changed[offset] ^= 0x10
    after = {other: data for other, data in wal.segments.items() if other > name}
    with pytest.raises(VerificationFailed, match=r"WAL segment .*, offset \d+ \(position [0-9A-F]+/[0-9A-F]+\)"):
        feed_all(wal.walker(), before | {name: bytes(changed)} | after)


def test_a_flipped_byte_in_a_page_header_is_found_without_the_records(wal: Wal) -> None:
    name, content, _ = middle(wal)
    for offset in (0, 2, 4, 9, 25, 33, 37, 20 * PAGE, 20 * PAGE + 8):
        changed = bytearray(content)
        changed[offset] ^= 0x20
        with pytest.raises(VerificationFailed):
            check_segment(io.BytesIO(changed), name, segment_size=SIZE, system_identifier=wal.identifier)


def test_a_missing_segment_is_named(wal: Wal) -> None:
    segments = dict(wal.segments)
    name, _, _ = middle(wal)
    del segments[name]
    for records in (True, False):
        with pytest.raises(VerificationFailed, match=f"WAL segment {name} is missing"):
            feed_all(wal.walker(records=records), segments)


def test_swapped_segments_are_found(wal: Wal) -> None:
    name, content, before = middle(wal)
    other = list(before)[-1]
    with pytest.raises(VerificationFailed, match="belongs to position"):
        check_segment(io.BytesIO(content), other, segment_size=SIZE, system_identifier=wal.identifier)
    with pytest.raises(VerificationFailed, match="belongs to position"):
        check_segment(io.BytesIO(before[other]), name, segment_size=SIZE, system_identifier=wal.identifier)


def test_another_servers_segment_is_refused(wal: Wal) -> None:
    name, content, _ = middle(wal)
    with pytest.raises(VerificationFailed, match="system identifier"):
        check_segment(io.BytesIO(content), name, segment_size=SIZE, system_identifier=wal.identifier + 1)


def test_another_segment_size_is_refused(wal: Wal) -> None:
    name, content, _ = middle(wal)
    longer = SegmentName.of(1, SegmentName.parse(name).start(SIZE) // (2 * SIZE) * (2 * SIZE) + Lsn(0), SIZE)
    with pytest.raises(VerificationFailed):
        check_segment(
            io.BytesIO(wal.segments.get(str(longer), content) * 2),
            SegmentName.of(1, longer.start(SIZE), 2 * SIZE),
            segment_size=2 * SIZE,
            system_identifier=wal.identifier,
        )


def test_a_segment_cut_short_or_lengthened_is_refused(wal: Wal) -> None:
    name, content, before = middle(wal)
    for length in (0, 100, PAGE, SIZE - PAGE, SIZE - 1):
        for records in (True, False):
            with pytest.raises(VerificationFailed):
                feed_all(wal.walker(records=records), before | {name: content[:length]})
    with pytest.raises(VerificationFailed, match="bytes follow the end of the segment"):
        feed_all(wal.walker(), before | {name: content + b"\0"})


def test_a_zeroed_page_is_found(wal: Wal) -> None:
    name, content, before = middle(wal)
    holed = content[: 50 * PAGE] + bytes(PAGE) + content[51 * PAGE :]
    for records in (True, False):
        with pytest.raises(VerificationFailed, match="an empty page is followed by others"):
            feed_all(wal.walker(records=records), before | {name: holed})


@pytest.mark.parametrize("kept", [100 * PAGE, 100 * PAGE + 3000, SIZE - PAGE])
def test_an_end_filled_with_zeros_is_not_taken_for_a_switch(wal: Wal, kept: int) -> None:
    name, content, before = middle(wal)
    with pytest.raises(VerificationFailed):
        feed_all(wal.walker(), before | {name: content[:kept].ljust(SIZE, b"\0")})


def test_an_end_filled_with_zeros_right_behind_a_record_is_not_taken_for_a_switch(wal: Wal) -> None:
    name, content, before = middle(wal)
    walker = feed_all(wal.walker(), before)
    end = walker.feed(f"{name}.partial", io.BytesIO(content[: SIZE - 64])).end - SegmentName.parse(name).start(SIZE)
    assert PAGE < end < SIZE
    with pytest.raises(VerificationFailed, match="the records end here, before the end of the segment"):
        feed_all(wal.walker(), before | {name: content[:end].ljust(SIZE, b"\0")})


def test_a_record_that_a_crash_cut_short_is_passed_over(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(settings={"wal_keep_size": "1GB"}, initdb_arguments=("--wal-segsize=1",))
    server.run_sql("CREATE TABLE before_crash AS SELECT 1")
    begin, end = server.run_sql(
        "SELECT pg_current_wal_insert_lsn()::text, pg_logical_emit_message(false, 'x', repeat('x', 3000000))::text"
    )[0]
    server.kill()
    # As if the machine had died before the end of the long record reached the disk.
    kept = SegmentName.of(1, Lsn.parse(begin), SIZE).next(SIZE)
    assert kept < SegmentName.of(1, Lsn.parse(end), SIZE)
    for file in (server.data_directory / "pg_wal").iterdir():
        if len(file.name) == 24 and file.name > str(kept):
            file.unlink()
    server.start()
    server.run_sql("CREATE TABLE after_crash AS SELECT 1")
    server.run_sql("SELECT pg_switch_wal()")
    server.run_sql("CREATE TABLE later AS SELECT 1")
    now = server.run_sql("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
    segments = files_of(server, before=now)
    identifier = server.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
    walker = feed_all(WalWalker(identifier, SIZE), segments)
    assert walker.position > Lsn.parse(begin) + SIZE


def test_a_page_of_another_major_version_is_refused(wal: Wal) -> None:
    name, content, before = middle(wal)
    magic, major = (0xD113, 16) if wal.major == 15 else (0xD110, 15)
    other = struct.pack("<H", magic) + content[2:]
    with pytest.raises(VerificationFailed, match=f"comes from PostgreSQL {major}"):
        feed_all(wal.walker(), before | {name: other})


def test_what_is_no_segment_is_not_walked(wal: Wal) -> None:
    with pytest.raises(VerificationFailed, match="no WAL segment"):
        wal.walker().feed("00000002.history", io.BytesIO(b""))
    with pytest.raises(PostgresError):
        wal.walker().feed("pg_control", io.BytesIO(b""))
