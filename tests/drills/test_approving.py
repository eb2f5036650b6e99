"""Drills that somebody agrees to before they begin."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lifeboat.errors import RestoreError
from tests.drills.story import PAPERS, Story, outcomes, proof_of

AGREED = "drills: {approval: true}\nrestore: {approvers: [ann, ben]}\n"
MINUTES = timedelta(minutes=5)


def test_how_long_people_took_to_agree_is_a_phase_and_counts_in_every_recovery_time(story: Story) -> None:
    asked = story.repository().outside.clock()
    with story.saying(AGREED):
        story.practice(drill="0a0a0a0a", part="approve", later=MINUTES, approved=True).agree(asked, "ben")
        record = story.practice(drill="0a0a0a0a", later=MINUTES, approved=True).carry_out()
    assert record.passed, record.model_dump_json(indent=1)
    took = MINUTES // timedelta(milliseconds=1)
    for proof in record.proofs:
        assert took <= proof.milliseconds["approve"] < 2 * took
        assert proof.recovery_milliseconds > proof.milliseconds["approve"]
    assert record.drill is not None
    assert record.drill.recovery_milliseconds > took
    # What came while people were asked is lost by the incident that they were asked about.
    assert record.drill.incident == asked


def test_people_who_take_longer_than_the_objective_fail_the_drill(story: Story) -> None:
    asked = story.repository().outside.clock()
    with story.saying(AGREED, **{"rto: 1h": "rto: 4m"}):
        story.practice(drill="0b0b0b0b", part="approve", later=MINUTES, approved=True).agree(asked, "ben")
        record = story.practice(drill="0b0b0b0b", later=MINUTES, approved=True).carry_out()
    assert not record.passed
    assert not outcomes(proof_of(record, PAPERS))["recovery time"]


def test_a_drill_that_nobody_agreed_to_does_not_begin(story: Story) -> None:
    before = len(story.line.events("drill_begun"))
    with story.saying(AGREED):
        story.practice(drill="0c0c0c0c", part="approve", approved=True).agree(story.moments[4], "ben")
        # An approval of another drill is none.
        with pytest.raises(RestoreError, match="Nobody agreed to this drill of demo"):
            story.drill(approved=True)
    assert len(story.line.events("drill_begun")) == before
