"""What a drill's tasks read of the form."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from lifeboat.errors import RestoreError
from lifeboat.operators.drill import incident_of

PARIS = ZoneInfo("Europe/Paris")


def test_an_incident_without_an_offset_is_on_the_clock_of_the_policy() -> None:
    assert incident_of({"incident": "2026-07-01T14:30:00"}, PARIS) == datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
    assert incident_of({"incident": "2026-07-01T14:30:00Z"}, PARIS) == datetime(2026, 7, 1, 14, 30, tzinfo=UTC)
    assert incident_of({"incident": None}, PARIS) is None
    assert incident_of({}, PARIS) is None


@pytest.mark.parametrize("text", ["2026-10-25T02:30:00", "2026-03-29T02:30:00"], ids=["twice", "never"])
def test_an_incident_that_a_change_of_clocks_makes_two_or_none_is_asked_back(text: str) -> None:
    with pytest.raises(RestoreError, match="twice or never") as refused:
        incident_of({"incident": text}, PARIS)
    assert "+01:00" in refused.value.remedy
