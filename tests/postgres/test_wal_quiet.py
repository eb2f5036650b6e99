"""What a server writes while nobody uses it is told from everything else."""

from __future__ import annotations

import struct

import pytest

from lifeboat.postgres.wal_quiet import is_quiet

CHECKPOINT, REDO, RUNNING = (0, 0x10), (0, 0xE0), (8, 0x10)
COMMIT, SWITCH, LOCK = (1, 0x00), (0, 0x40), (8, 0x00)


def page(flags: int = 0x0002) -> bytes:
    return struct.pack("<HHIQI4xQII", 0xD118, flags, 1, 0x4000000, 0, 7, 16 * 1024 * 1024, 8192)


def record(kind: tuple[int, int], length: int = 50) -> bytes:
    manager, info = kind
    head = struct.pack("<IIQBBxxI", length, 0, 0, info, manager, 0)
    return head + bytes(-(-length // 8) * 8 - len(head))


def test_checkpoints_and_running_transactions_are_housekeeping() -> None:
    whole = page() + record(REDO, 30) + record(CHECKPOINT, 114) + record(RUNNING)
    for cut in (0, 10, len(page()), len(page()) + 12, len(page()) + 25, len(whole)):
        assert is_quiet(whole[:cut])


@pytest.mark.parametrize("kind", [COMMIT, SWITCH, LOCK])
def test_any_other_record_is_not(kind: tuple[int, int]) -> None:
    assert is_quiet(page() + record(RUNNING))
    assert not is_quiet(page() + record(RUNNING) + record(kind))


def test_what_can_not_be_told_is_not() -> None:
    assert not is_quiet(page(0x0003) + record(RUNNING))  # begins with the rest of another record
    assert not is_quiet(page() + record(RUNNING) + bytes(24))
    assert not is_quiet(page() + record(RUNNING) * 146)  # more than a page
    assert not is_quiet(page() + record(RUNNING, 10_000)[:60])
