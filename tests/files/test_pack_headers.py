"""The headers of packs' members: our short way to the plain ones says what the standard library says."""

from __future__ import annotations

import io
import os
import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from lifeboat.files import packing
from lifeboat.streams import tar_walking

NAMES = st.one_of(
    st.text(st.characters(min_codepoint=1, max_codepoint=126), min_size=1, max_size=130),
    st.binary(min_size=1, max_size=120).map(os.fsdecode).filter(lambda name: "\0" not in name),
)
NUMBERS = st.one_of(st.integers(0, 0o10000001), st.integers(0, 2**31))


def found(mode: int, uid: int, gid: int, mtime_ns: int) -> os.stat_result:
    return os.stat_result(
        (mode, 0, 0, 1, uid, gid, 0, 0, mtime_ns // 10**9, 0, 0.0, mtime_ns / 1e9, 0.0, 0, mtime_ns, 0)
    )


@given(
    NAMES,
    st.integers(0o100000, 0o107777),
    NUMBERS,
    NUMBERS,
    st.integers(-(10**18), 9 * 10**18),
    st.one_of(st.integers(0, 10**6), st.integers(0, 2**40)),
)
@example("a" * 100, 0o100644, 0o7777777, 0, 0, 8**11 - 1)
@example("a" * 101, 0o100644, 0o10000000, 0, -1, 8**11)
def test_a_header_is_the_one_that_the_library_makes(
    name: str, mode: int, uid: int, gid: int, mtime_ns: int, size: int
) -> None:
    seen = found(mode, uid, gid, mtime_ns)
    assert packing._header(name, seen, size) == packing._any_header(name, seen, size, mtime_ns // 10**9)


@given(NAMES, st.integers(0, 0o7777), NUMBERS, NUMBERS, st.integers(0, 9 * 10**18), st.integers(0, 2000))
def test_a_member_is_read_as_the_library_reads_it(
    name: str, mode: int, uid: int, gid: int, mtime_ns: int, size: int
) -> None:
    header = packing._header(name, found(mode, uid, gid, mtime_ns), size)
    tar = header + b"x" * size + bytes(-size % 512 + 1024)
    (member,) = list(tar_walking.members(io.BytesIO(tar), extended=True))
    with tarfile.open(fileobj=io.BytesIO(tar)) as library:
        (expected,) = library.getmembers()
    assert member.content is not None
    assert (os.fsencode(member.path), member.content.size) == (os.fsencode(name), expected.size)


def of_postgresql(name: str, size: int) -> bytes:
    """The header of a file in a base backup, as ``tarCreateHeader`` in PostgreSQL's ``src/port/tar.c`` makes it."""
    header = bytearray(512)
    for at, value in (
        (0, name.encode()), (100, b"0100600 "), (108, b"0000032 "), (116, b"0000032 "), (124, b"%011o " % size),
        (136, b"15016233012 "), (148, b" " * 8), (156, b"0"), (257, b"ustar\x0000"), (265, b"postgres"),
        (297, b"postgres"), (329, b"0000000 "), (337, b"0000000 "),
    ):  # fmt: skip
        header[at : at + len(value)] = value
    header[148:156] = b"%07o " % sum(header)
    return bytes(header)


def test_a_base_backup_s_header_is_read_the_short_way() -> None:
    assert tar_walking._plain_file(of_postgresql("base/5/1259", 106496)) == ("base/5/1259", 106496)
    assert tar_walking._plain_file(of_postgresql("global/1", 8**11 - 1)) == ("global/1", 8**11 - 1)


HEADERS = [
    packing._header("invoices/1.pdf", found(0o100640, 33, 33, 10**18), 48213),
    of_postgresql("base/16384/16397.1", 1 << 30),
]


@given(st.sampled_from(HEADERS), st.integers(0, 511), st.integers(1, 255))
def test_no_flipped_byte_of_a_header_is_read_the_short_way_unless_the_library_reads_the_same(
    whole: bytes, place: int, flip: int
) -> None:
    header = bytearray(whole)
    header[place] ^= flip
    short = tar_walking._plain_file(bytes(header))
    try:
        member = tarfile.TarInfo.frombuf(bytes(header), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        assert short is None
        return
    assert short in (None, (member.name, member.size))
