"""Long tiers that are read physically and fall on one day."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

from lifeboat.backup.steps import back_up
from lifeboat.outside import utc_now
from lifeboat.policy.naming import Tier
from lifeboat.postgres.details import full_details
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from lifeboat.source import BackedUp
from tests.recovery.line import SOURCE, Line

WEEKLY = '      weekly:\n        schedule: "0 1 * * 0"\n        retention: 92d\n'
PHYSICAL = WEEKLY + (
    '        method: physical\n      monthly: {schedule: "0 1 * * 0#1", retention: 12 months, method: physical}\n'
)
SUNDAY = date(2026, 12, 6)


def test_one_full_carries_the_physical_tiers_of_one_day_and_each_run_says_so(line: Line) -> None:
    policy = line.system.policy
    text = policy.read_text(encoding="utf-8")
    assert WEEKLY in text
    policy.write_text(text.replace(WEEKLY, PHYSICAL), encoding="utf-8")
    line.repository = line.new_repository()

    def run(tier: Tier, due: date | None = SUNDAY) -> BackedUp:
        work = Work.new("full", begun=utc_now(), tiers=(tier.value,), run=Run(command="test"), actor="a test", due=due)
        return back_up(line.repository, SOURCE, tier, work, line.journal, progress=lambda *_: None, tick=lambda: None)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, (Tier.WEEKLY, Tier.MONTHLY)))
    ids = {copy.manifest.recovery_point for one in done for copy in one.copies}
    assert len(ids) == 1
    (made,) = (one for one in done if "It carries" in one.message)
    assert set(made.copies[0].manifest.tiers) == {"weekly", "monthly"}
    assert full_details(made.copies[0].manifest).due == SUNDAY
    (found,) = (one for one in done if one is not made)
    assert "of this day, too." in found.message
    assert len(line.events("backup_skipped")) == 1
    # A run that a person starts is made for itself, and so is that of another day.
    by_hand = run(Tier.WEEKLY, None)
    assert by_hand.copies[0].manifest.tiers == ("weekly",)
    assert "due" not in by_hand.copies[0].manifest.details
    assert run(Tier.WEEKLY, date(2026, 12, 13)).copies[0].manifest.recovery_point not in ids
