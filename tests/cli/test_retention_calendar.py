"""``lifeboat retention plan --calendar``: what stays and goes of each day, as a person checks it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from lifeboat.cli.retention_calendar import calendar_lines
from lifeboat.repository.retention.decisions import Action, Decision, Reason
from lifeboat.repository.retention.points import HeldPoint, Role


def decision(
    moment: str, action: Action = Action.STAYS, reason: Reason = Reason.TIER, about: str = "daily"
) -> Decision:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    point = HeldPoint(f"{at:%Y%m%dT%H%M%SZ}-logical-0000", "logical", Role.ALONE, ("daily",), at, at)
    return Decision("primary", point, action, reason, about)


def lines(*decisions: Decision, zone: str = "UTC") -> list[str]:
    return [line.plain for line in calendar_lines(decisions, ZoneInfo(zone))]


def day(line: str, number: int) -> str:
    """The two letters of a day."""
    return line[9 + 2 * (number - 1) :][:2].strip()


def test_each_copy_stands_on_its_day_with_the_letter_of_the_tier_that_keeps_it() -> None:
    tiers = ("yearly", "monthly", "weekly", "daily", "incremental", "export", "wal")
    header, month = lines(*(decision(f"2026-11-{n:02d}T02:00", about=tier) for n, tier in enumerate(tiers, 3)))
    assert month.startswith("2026-11  ")
    assert [day(month, number) for number in range(2, 11)] == ["·", "Y", "M", "W", "D", "I", "E", "L", "·"]
    assert {number: day(header, number) for number in range(1, 32) if day(header, number)} == {
        number: str(number) for number in (1, 5, 10, 15, 20, 25, 30)
    }


def test_what_is_kept_for_another_reason_what_is_held_and_what_leaves_have_letters_of_their_own() -> None:
    _, month = lines(
        decision("2026-11-01T02:00", reason=Reason.NEWEST, about=""),
        decision("2026-11-02T02:00", reason=Reason.HOLD, about="a lawsuit"),
        decision("2026-11-03T02:00", Action.GOES, Reason.PAST_TIER),
        decision("2026-11-04T02:00", Action.WAITS, Reason.UNDELETE),
        decision("2026-11-05T02:00", Action.PURGED, Reason.UNDELETE_ENDED),
        decision("2026-11-06T02:00", Action.RETURNS, Reason.HOLD),
    )
    assert [day(month, number) for number in range(1, 8)] == ["+", "H", "x", "-", "#", "<", "·"]


def test_a_day_of_which_one_copy_stays_and_one_goes_shows_both_and_the_longest_kept_first() -> None:
    _, month = lines(
        decision("2026-11-08T02:00", Action.GOES, Reason.PAST_TIER),
        decision("2026-11-08T03:00", about="daily"),
        decision("2026-11-08T01:00", about="weekly"),
    )
    assert day(month, 8) == "Wx"


def test_a_day_is_one_of_the_policys_zone() -> None:
    _, utc = lines(decision("2026-11-08T23:30"))
    _, berlin = lines(decision("2026-11-08T23:30"), zone="Europe/Berlin")
    assert (day(utc, 8), day(utc, 9)) == ("D", "·")
    assert (day(berlin, 8), day(berlin, 9)) == ("·", "D")


def test_months_have_their_own_length_and_those_without_anything_take_one_line() -> None:
    said = lines(
        *(
            decision(f"{date}T01:00", about="monthly")
            for date in ("2024-01-31", "2024-02-29", "2024-04-01", "2025-02-01")
        )
    )
    assert [line[:7] for line in said[1:]] == ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2025-02"]
    assert day(said[2], 29) == "M"
    assert said[3] == "2024-03: nothing"
    assert said[5] == "2024-05 to 2025-01: nothing"
    assert [len(line.replace(" ", "")) - 7 for line in (said[1], said[2], said[4], said[6])] == [31, 29, 30, 28]


def test_nothing_is_drawn_where_nothing_is() -> None:
    assert lines() == []
