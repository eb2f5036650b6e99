"""Figures, lengths of time and moments in the words of reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000


def size_of(count: int) -> str:
    """Bytes, in powers of ten as disks are sold: ``1.2 GB``."""
    if count < 1000:
        return f"{count} B"
    value = count / 1000
    for unit in ("kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def length_of(milliseconds: int) -> str:
    """A length of time: ``0.3 s``, ``25 min 10 s``, ``4 h 00 min``."""
    if milliseconds < _MINUTE - 50:  # 59.95 s and more would be written as 60.0 s
        return f"{milliseconds / _SECOND:.1f} s"
    # Rounded up: what is over its objective must not read as if it were within.
    if milliseconds <= _HOUR - _SECOND:
        minutes, seconds = divmod(-(-milliseconds // _SECOND), 60)
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(-(-milliseconds // _MINUTE), 60)
    return f"{hours} h {minutes:02d} min"


def moment_of(at: datetime | None, zone: tzinfo) -> str:
    """A moment to the second on a zone's clock, with its offset: ``2026-11-22 03:00:00 UTC+01:00``."""
    if at is None:
        return "—"
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M:%S} {_offset(local)}"


def day_of(at: datetime, zone: tzinfo) -> str:
    """A moment's day on a zone's calendar: ``2026-11-22``."""
    return f"{at.astimezone(zone):%Y-%m-%d}"


def _offset(local: datetime) -> str:
    seconds = int((local.utcoffset() or timedelta()).total_seconds())
    if not seconds:
        return str(UTC)
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{UTC}{'-' if seconds < 0 else '+'}{hours:02d}:{minutes:02d}"


def ratio_of(milliseconds: int | None, before: int | None) -> str:
    """How one length of time compares with an earlier one: ``1.80 times``; a dash where there is nothing to compare."""
    return "—" if milliseconds is None or not before else f"{milliseconds / before:.2f} times"
