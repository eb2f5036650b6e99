from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import pytest

from lifeboat.errors import VerificationFailed
from lifeboat.postgres import tar_check
from lifeboat.postgres.backup_manifest import file_checksum
from lifeboat.postgres.segments import MIB, SegmentName
from lifeboat.postgres.tar_check import ArchiveSummary, check_archives
from lifeboat.postgres.wal import WalWalker
from lifeboat.targets.target import Readable
from sandbox import postgres_builds
from sandbox.postgres import PostgresServer

Members = list[tuple[tarfile.TarInfo, bytes]]


@dataclass(frozen=True)
class Base:
    """A base backup as the server sends it: tar archives, tablespaces first, and its manifest."""

    archives: dict[str, bytes]
    manifest: bytes
    identifier: int

    def check(self, archives: dict[str, bytes] | None = None, **how: object) -> ArchiveSummary:
        given = self.archives if archives is None else archives
        streams: Iterable[tuple[str, io.BytesIO]] = ((name, io.BytesIO(data)) for name, data in given.items())
        return check_archives(streams, io.BytesIO(self.manifest), **how)  # type: ignore[arg-type]

    def changed(self, edit: Callable[[Members], object], name: str = "base.tar") -> dict[str, bytes]:
        """The archives, one of them written anew after ``edit`` had its way with the members."""
        members: Members = []
        with tarfile.open(fileobj=io.BytesIO(self.archives[name])) as tar:
            for member in tar:
                content = tar.extractfile(member)
                members.append((member, content.read() if content is not None else b""))
        edit(members)
        return self.archives | {name: packed(members)}


def packed(members: Members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def find(members: Members, name: str) -> int:
    return next(at for at, (member, _) in enumerate(members) if member.name == name)


@pytest.fixture(scope="module", params=postgres_builds.tested_majors(), ids=lambda major: f"postgresql-{major}")
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    room = tmp_path_factory.mktemp("base")
    server = PostgresServer(
        room / "server",
        major=request.param,
        settings={"fsync": "off", "allow_in_place_tablespaces": "on"},
        initdb_arguments=("--wal-segsize=1",),
    )
    with server:
        outside = server.data_directory.parent / "outside"
        outside.mkdir()
        shutil.chown(outside, server.data_directory.stat().st_uid)
        server.run_sql(f"CREATE TABLESPACE outside LOCATION '{outside}'")
        # 15 leaves tablespaces that lie in the data directory out of its base backups.
        elsewhere = outside.with_name("elsewhere")
        elsewhere.mkdir()
        shutil.chown(elsewhere, server.data_directory.stat().st_uid)
        server.run_sql(f"CREATE TABLESPACE inside LOCATION '{elsewhere if request.param == 15 else ''}'")
        for space in ("outside", "inside"):
            server.run_sql(f"CREATE TABLE of_{space} TABLESPACE {space} AS SELECT generate_series(1, 5000)")
        taken = room / "taken"
        server.run_program("pg_basebackup", "-D", taken, "-Ft", "-X", "fetch", "-c", "fast", "--no-sync")
        identifier = server.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
    manifest = (taken / "backup_manifest").read_bytes()
    names = [path.name for path in taken.glob("*.tar") if path.name != "base.tar"]
    names.sort(key=lambda name: manifest.index(f"pg_tblspc/{name.removesuffix('.tar')}/".encode()))
    return Base({name: (taken / name).read_bytes() for name in [*names, "base.tar"]}, manifest, identifier)


def test_a_good_backup_is_good_with_all_its_tablespaces(base: Base) -> None:
    summary = base.check()
    assert summary.archives == 3
    assert summary.files == base.manifest.count(b'"Size"')
    assert summary.system_identifier in (None, base.identifier)


def test_the_wal_in_a_backup_goes_to_the_walker(base: Base) -> None:
    walkers: list[WalWalker] = []

    def walk(name: str, stream: Readable) -> None:
        if not walkers:
            walkers.append(WalWalker(base.identifier, MIB, start))
        walkers[0].feed(name, stream)

    (needed,) = base.check().wal_ranges
    start = needed.start
    summary = base.check(on_wal=walk)
    assert summary.wal_segments[0] == str(SegmentName.of(1, start, MIB))
    assert walkers[0].position >= needed.end


def test_a_bad_wal_segment_in_a_backup_is_reported(base: Base) -> None:
    def refuse(name: str, stream: Readable) -> None:
        raise VerificationFailed(f"{name} is bad.")

    with pytest.raises(VerificationFailed, match=r"pg_wal/\w+: \w+ is bad"):
        base.check(on_wal=refuse)


def test_archives_in_another_order_are_found_all_the_same(base: Base) -> None:
    assert base.check(dict(reversed(base.archives.items()))).files == base.check().files


def test_an_order_that_would_cost_too_much_memory_is_refused(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_check, "MOST_PENDING", 100)
    base.check()
    with pytest.raises(VerificationFailed, match="not among the next 100"):
        base.check(base.changed(lambda members: members.reverse()))


def test_a_flipped_byte_in_a_file_is_reported_with_its_path(base: Base) -> None:
    def edit(members: Members) -> None:
        at = find(members, "global/1262")
        member, content = members[at]
        members[at] = (member, content[:4000] + bytes([content[4000] ^ 1]) + content[4001:])

    with pytest.raises(VerificationFailed, match="global/1262 differs from its CRC32C checksum"):
        base.check(base.changed(edit))


def test_a_fault_in_a_tablespace_is_reported_with_its_path(base: Base) -> None:
    name = next(iter(base.archives))
    faulty: list[str] = []

    def edit(members: Members) -> None:
        at = next(at for at, (_, content) in enumerate(members) if content)
        member, content = members[at]
        faulty.append(member.name)
        members[at] = (member, b"\xff" + content[1:])

    archives = base.changed(edit, name)
    with pytest.raises(VerificationFailed, match=f"pg_tblspc/{name.removesuffix('.tar')}/{faulty[0]} differs"):
        base.check(archives)


def test_missing_added_and_resized_files_are_all_reported(base: Base) -> None:
    def edit(members: Members) -> None:
        del members[find(members, "PG_VERSION")]
        at = find(members, "global/1262")
        members[at] = (members[at][0], members[at][1] + bytes(8192))
        members.insert(at, (tarfile.TarInfo("base/stranger"), b"x"))

    with pytest.raises(VerificationFailed) as caught:
        base.check(base.changed(edit))
    for what in ("PG_VERSION is missing", "base/stranger is not in the manifest", "global/1262 has"):
        assert what in caught.value.what


def test_swapped_archives_are_refused(base: Base) -> None:
    one, two, _ = base.archives
    with pytest.raises(VerificationFailed):
        base.check(base.archives | {one: base.archives[two], two: base.archives[one]})


def test_a_missing_archive_is_refused(base: Base) -> None:
    for name in base.archives:
        with pytest.raises(VerificationFailed, match="is missing"):
            base.check({other: data for other, data in base.archives.items() if other != name})


def test_an_archive_cut_short_is_refused_wherever_it_is_cut(base: Base) -> None:
    whole = base.archives["base.tar"]
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        last = tar.getmembers()[-1]
    for length in (0, 100, 512, len(whole) // 2, last.offset, last.offset_data, last.offset_data + 512, 700):
        with pytest.raises(VerificationFailed):
            base.check(base.archives | {"base.tar": whole[:length]})


def test_a_damaged_header_of_a_wal_segment_is_not_taken_for_the_end(base: Base) -> None:
    whole = bytearray(base.archives["base.tar"])
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        segment = next(member for member in tar if member.name.startswith("pg_wal/0"))
    whole[segment.offset + 150] ^= 1
    with pytest.raises(VerificationFailed, match=r"damaged at byte|can't be read"):
        base.check(base.archives | {"base.tar": bytes(whole)})


def test_bytes_behind_the_end_of_an_archive_are_refused(base: Base) -> None:
    with pytest.raises(VerificationFailed, match="is damaged at byte"):
        base.check(base.archives | {"base.tar": base.archives["base.tar"] + b"x"})


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.FIFOTYPE])
def test_what_postgresql_never_puts_into_an_archive_is_refused(base: Base, kind: bytes) -> None:
    def edit(members: Members) -> None:
        stranger = tarfile.TarInfo("base/stranger")
        stranger.type = kind
        members.insert(find(members, "global/1262"), (stranger, b""))

    with pytest.raises(VerificationFailed, match="stranger is neither a file, a directory nor a symbolic link"):
        base.check(base.changed(edit))


def test_a_foreign_archive_is_refused(base: Base) -> None:
    with pytest.raises(VerificationFailed, match="no archive of a base backup"):
        base.check({"16384.zip": b""})


def test_no_more_than_twenty_faults_are_listed(base: Base) -> None:
    with pytest.raises(VerificationFailed, match=r"and perhaps more") as caught:
        base.check({"base.tar": packed([])})
    assert caught.value.what.count("is missing") == tar_check.MOST_FAULTS


def test_many_files_cost_no_memory_in_either_stream() -> None:
    def peak(files: int) -> int:
        archive, manifest = Files(files).archive(), Files(files).manifest()
        tracemalloc.start()
        try:
            assert check_archives([("base.tar", archive)], manifest).files == files
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Both manifests are larger than the reader's buffer, so the two differ only in how many files they list.
    small, large = peak(5_000), peak(8_000)
    assert large < small * 1.2


class Files:
    """An archive of many small files and its manifest, both made while they are read."""

    def __init__(self, files: int) -> None:
        self._files = files

    def archive(self) -> Stream:
        return Stream(self._archive())

    def manifest(self) -> Stream:
        return Stream(self._manifest())

    def _archive(self) -> Iterator[bytes]:
        for number in range(self._files):
            member = tarfile.TarInfo(f"base/5/{number}")
            member.size = 1
            yield member.tobuf(tarfile.USTAR_FORMAT) + b"x".ljust(512, b"\0")
        yield bytes(1024)

    def _manifest(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        checksum = file_checksum("CRC32C")
        checksum.update(b"x")
        parts = (
            f'{{ "Path": "base/5/{number}", "Size": 1, "Last-Modified": "2026-11-22 02:00:00 GMT", '
            f'"Checksum-Algorithm": "CRC32C", "Checksum": "{checksum.hexdigest()}" }}'
            + ("\n" if number == self._files - 1 else ",\n")
            for number in range(self._files)
        )
        head = '{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n'
        for part in chain([head], parts, ['],\n"WAL-Ranges": [\n],\n']):
            digest.update(part.encode())
            yield part.encode()
        yield f'"Manifest-Checksum": "{digest.hexdigest()}"}}\n'.encode()


class Stream:
    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        held = [self._rest]
        length = len(self._rest)
        while length < size and (part := next(self._parts, b"")):
            held.append(part)
            length += len(part)
        whole = b"".join(held)
        given, self._rest = whole[:size], whole[size:]
        return given
