"""Controls: what each kind of record is evidence for, by the names that auditors know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from lifeboat.recovery.controls import controls_of
from lifeboat.recovery.evidence import RecordKind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evidence.md"
KINDS: tuple[RecordKind, ...] = get_args(RecordKind)


def names(kind: RecordKind) -> set[str]:
    return {control.name for control in controls_of(kind)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_record_is_evidence_for_controls_of_every_framework(kind: RecordKind) -> None:
    frameworks = {control.framework for control in controls_of(kind)}
    assert frameworks == {"AWS Backup Audit Manager", "SOC 2", "ISO/IEC 27001:2022", "NIST SP 800-53"}
    assert len(names(kind)) == len(controls_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_control_says_in_one_sentence_what_a_record_shows_for_it(kind: RecordKind) -> None:
    for control in controls_of(kind):
        assert control.shows.endswith(".")
        assert "\n" not in control.shows
        assert control.title


def test_a_restore_test_is_evidence_for_tests_of_backups_and_a_drill_for_tests_of_the_plan_too() -> None:
    assert "SOC 2 A1.3" in names("restore_test")
    assert "NIST SP 800-53 CP-9(1)" in names("restore_test")
    assert "NIST SP 800-53 CP-4" not in names("restore_test")
    assert names("drill") - names("restore_test") == {
        "NIST SP 800-53 CP-4",
        "NIST SP 800-53 CP-10",
        "ISO/IEC 27001:2022 A.5.30",
    }


def test_a_real_restore_is_evidence_for_recovery_and_for_no_test() -> None:
    assert "NIST SP 800-53 CP-10" in names("restore")
    assert names("restore").isdisjoint({"SOC 2 A1.3", "NIST SP 800-53 CP-4", "NIST SP 800-53 CP-9(1)"})


def test_the_page_says_what_each_kind_of_record_shows_for_each_control() -> None:
    page = PAGE.read_text()
    rows = [f"| {kind.replace('_', ' ')} | {control.id} | {control.shows} |" for kind in KINDS
            for control in controls_of(kind)]  # fmt: skip
    assert [row for row in rows if row not in page] == []


def test_the_page_has_every_control_with_its_kinds_of_records() -> None:
    rows = dict(re.findall(r"^\| ([^|]+?) \|[^|]+\| ([^|]+?) \|", PAGE.read_text(), re.MULTILINE))
    kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        for control in controls_of(kind):
            kinds.setdefault(control.name, []).append(kind.replace("_", " "))
    assert {name: rows.get(name) for name in kinds} == {name: ", ".join(found) for name, found in kinds.items()}
