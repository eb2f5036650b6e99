"""Timelines: which history of the server a position in the write-ahead log belongs to.

Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from lifeboat.errors import PostgresError
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import SegmentName, check_segment_size

_LINE = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(?:\s+(.*?))?\s*")


@dataclass(frozen=True)
class TimelineSwitch:
    """One line of a history file.

    Attributes:
        parent: the timeline that was left.
        switch: the first position that is no longer of that timeline.
        reason: what the server wrote as the reason; may be empty.
    """

    parent: int
    switch: Lsn
    reason: str


@dataclass(frozen=True)
class TimelineHistory:
    """The ancestry of one timeline, oldest first.

    Attributes:
        timeline: the timeline it tells of.
        switches: how its ancestors were left, one after the other; empty for timeline 1.
    """

    timeline: int
    switches: tuple[TimelineSwitch, ...] = ()

    @classmethod
    def parse(cls, timeline: int, content: bytes) -> TimelineHistory:
        """Read the content of ``<timeline>.history``.

        Raises ``PostgresError`` when a line can't be read, when timelines do not rise, or positions fall.
        """
        switches: list[TimelineSwitch] = []
        for line in content.decode("utf-8", "replace").splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise PostgresError(f"The history of timeline {timeline} has a line that can't be read: {line!r}.")
            switches.append(TimelineSwitch(int(match[1]), Lsn.parse(match[2]), match[3] or ""))
        history = cls(timeline, tuple(switches))
        history._check()
        return history

    def _check(self) -> None:
        if self.timeline > 1 and not self.switches:
            raise PostgresError(f"The history of timeline {self.timeline} names no parent: the file is cut short.")
        rising = [0, *(switch.parent for switch in self.switches), self.timeline]
        if any(later <= earlier for earlier, later in pairwise(rising)):
            raise PostgresError(f"The history of timeline {self.timeline} does not rise: {rising[1:]}.")
        places = [switch.switch for switch in self.switches]
        if places != sorted(places):
            raise PostgresError(f"The history of timeline {self.timeline} leaves its ancestors at falling positions.")

    @property
    def parent(self) -> int | None:
        """The timeline it branched from; ``None`` for one that has no ancestor."""
        return self.switches[-1].parent if self.switches else None

    @property
    def begins(self) -> Lsn:
        """The position at which it branched from its parent; the beginning of the log for one without ancestor."""
        return self.switches[-1].switch if self.switches else Lsn(0)

    def timeline_of(self, lsn: Lsn) -> int:
        """The timeline on which the byte at ``lsn`` was written, in this history."""
        return next((switch.parent for switch in self.switches if lsn < switch.switch), self.timeline)

    def covering(self, start: Lsn, stop: Lsn, segment_size: int) -> list[SegmentName]:
        """The segments that lead from ``start`` up to, and without, ``stop`` along this history.

        A segment in which a timeline ends is taken from its child, which begins with a copy of the parent's part of
        it. Raises ``PostgresError`` when ``stop`` lies before ``start``.
        """
        if stop < start:
            raise PostgresError(f"No WAL leads from {start} back to {stop}.")
        size = check_segment_size(segment_size)
        if start == stop:
            return []
        return [
            SegmentName.numbered(self.timeline_of(Lsn((number + 1) * size - 1)), number, size)
            for number in range(int(start) // size, -(-int(stop) // size))
        ]
