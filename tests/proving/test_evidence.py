"""Evidence: a record is believed where it was written, as it was signed, and not otherwise; the journal knows of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lifeboat.errors import KeyUnavailable, TargetError
from lifeboat.recovery.evidence import Check, Drill, Proof, Record, Step, evidence_schema_text
from lifeboat.recovery.keeping import Unbelievable, keep, read_evidence, signed
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.manifest import Run
from tests.repository.world import World

ROOT = Path(__file__).resolve().parents[2]
BEGUN = datetime(2026, 11, 22, 2, tzinfo=UTC)


def proof(**more: Any) -> Proof:
    about: dict[str, Any] = {
        "source": "database", "kind": "full", "recovery_point": "20261122T000000Z-full-7f3a", "target": "primary",
        "chosen": "newest", "milliseconds": {"fetch": 1200, "replay": 300}, "size": 5,
        "checks": (Check(name="opens", passed=True),), "rto_milliseconds": 3_600_000, "rpo_milliseconds": 900_000,
    }  # fmt: skip
    return Proof(**about | more)


def record(*proofs: Proof, begun: datetime = BEGUN, **more: Any) -> Record:
    proofs = proofs or (proof(),)
    about: dict[str, Any] = {
        "kind": "restore_test", "mark": "0123abcd", "system": "demo", "begun": begun,
        "ended": begun + timedelta(minutes=1), "actor": "tester", "run": Run(command="lifeboat test"), "seed": 7,
        "policy_digest": "sha256:00", "lifeboat_version": "1", "proofs": proofs, "key_id": "unsigned",
        "passed": not more.get("lacking") and all(one.passed for one in proofs),
    }  # fmt: skip
    return Record(**about | more)


def kept(world: World, one: Record, *targets: str) -> Record:
    repository = world.repository()
    one = signed(one, repository.signer)
    names = targets or ("primary",)
    missed = keep(
        one, [repository.target(name) for name in names], repository.journal("primary", run="test", actor="tester")
    )
    assert missed == []
    return one


def read(world: World, since: datetime = BEGUN - timedelta(days=70), **more: Any) -> list[Record | Unbelievable]:
    repository = world.repository()
    until = more.get("until", BEGUN + timedelta(days=70))
    return list(read_evidence(repository.target("primary"), "demo", repository.trusted, since=since, until=until))


def test_the_published_schema_is_the_one_of_the_code_and_a_record_obeys_it(world: World) -> None:
    text = evidence_schema_text()
    assert (ROOT / "docs" / "evidence.schema.json").read_text() == text
    one = kept(world, record())
    jsonschema.validate(json.loads(world.file(one.key).read_text()), json.loads(text))


def test_a_record_comes_back_as_it_was_signed(world: World) -> None:
    one = kept(world, record())
    assert one.id == "20261122T020000Z-restore-test-0123abcd"
    assert read(world) == [one]


def test_records_of_several_months_come_in_order_and_only_those_asked_for(world: World) -> None:
    months = [datetime(2026, month, 15, tzinfo=UTC) for month in (10, 11, 12)]
    written = [kept(world, record(begun=month)) for month in months] + [
        kept(world, record(begun=datetime(2027, 1, 1, tzinfo=UTC)))
    ]
    assert read(world, since=months[0], until=datetime(2027, 1, 1, tzinfo=UTC)) == written
    assert read(world, since=months[0] + timedelta(seconds=1), until=months[2]) == written[1:3]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace('"fetch":1200', '"fetch":1'), id="another time"),
        pytest.param(lambda text: text.replace('"actor":"tester"', '"actor":"nobody"'), id="another actor"),
        pytest.param(lambda text: text.replace(",", ", ", 1), id="another form"),
        pytest.param(lambda text: text[:-20], id="cut short"),
        pytest.param(lambda text: text.replace('"passed":true', '"passed":false'), id="failed"),
    ],
)
def test_a_changed_record_is_not_believed(world: World, change: Any) -> None:
    path = world.file(kept(world, record()).key)
    path.chmod(0o600)
    path.write_text(change(path.read_text()))
    (found,) = read(world)
    assert isinstance(found, Unbelievable)


def test_a_record_under_another_name_is_not_believed(world: World) -> None:
    path = world.file(kept(world, record()).key)
    path.rename(path.with_name("20261123T020000Z-restore-test-0123abcd.json"))
    (found,) = read(world)
    assert isinstance(found, Unbelievable)
    assert "does not stand where it was written" in found.what


def test_the_journal_carries_the_digest_of_what_was_stored(world: World) -> None:
    one = kept(world, record())
    repository = world.repository()
    (event,) = list(read_journal(repository.target("primary"), "demo", repository.trusted))
    assert isinstance(event, Event)
    assert event.kind == "evidence_recorded"
    assert event.details == {
        "record": one.id, "sha256": one.sha256, "of": "restore_test", "passed": True, "sources": ["database"],
    }  # fmt: skip


def test_a_record_that_was_stored_by_a_try_that_was_cut_off_is_announced_by_the_next(world: World) -> None:
    one = record()
    kept(world, one)
    kept(world, one)
    assert len(read(world)) == 1


class Away:
    """A target that takes nothing."""

    name = "offsite"

    def put_new(self, key: str, data: bytes) -> None:
        raise TargetError("offsite is away.")


def test_a_target_that_is_away_does_not_keep_the_others_from_it_and_is_named(world: World) -> None:
    repository = world.repository()
    one = signed(record(), repository.signer)
    journal = repository.journal("primary", run="test", actor="tester")
    assert keep(one, [repository.target("primary"), Away()], journal) == ["offsite"]  # type: ignore[list-item]
    assert read(world) == [one]


def test_a_record_that_no_target_took_is_not_announced(world: World) -> None:
    repository = world.repository()
    journal = repository.journal("primary", run="test", actor="tester")
    with pytest.raises(TargetError, match="offsite is away"):
        keep(signed(record(), repository.signer), [Away()], journal)  # type: ignore[list-item]
    assert list(read_journal(repository.target("primary"), "demo", repository.trusted)) == []


def test_a_key_that_nobody_believes_at_that_time_signs_no_record(world: World) -> None:
    signer = world.repository().signer
    assert signer.valid_from is not None
    with pytest.raises(KeyUnavailable, match="not valid"):
        signed(record(begun=signer.valid_from - timedelta(days=1)), signer)


@pytest.mark.parametrize(
    ("proofs", "lacking"),
    [
        ((proof(error="The disk is full."),), {}),
        ((proof(checks=(Check(name="opens", passed=False),)),), {}),
        ((proof(checks=()),), {}),
        ((proof(),), {"files": "no recovery point"}),
    ],
    ids=["did not come back", "a check failed", "nothing was looked at", "a source is lacking"],
)
def test_no_record_says_that_it_passed_when_something_did_not(
    proofs: tuple[Proof, ...], lacking: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match="if and only if"):
        record(*proofs, lacking=lacking, passed=True)
    assert record(*proofs, lacking=lacking, passed=False).shown is False


@given(st.text(), st.text())
def test_any_words_can_be_recorded(what: str, name: str) -> None:
    one = record(proof(checks=(Check(name=name, passed=True, what=what),)))
    assert Record.model_validate_json(one.to_json()) == one


def test_names_that_are_no_text_can_be_recorded() -> None:
    one = record(proof(error="\udcff can't be read", checks=(Check(name="\udcff", passed=False),)))
    assert Record.model_validate_json(one.to_json()) == one
    assert one.proofs[0].checks[0].name == "\\udcff"


def test_a_record_that_is_no_drill_s_has_the_bytes_that_it_had_before_there_were_drills() -> None:
    told = json.loads(record().to_json())
    assert not {"drill", "tried", "newest_change", "lost_milliseconds"} & {*told, *told["proofs"][0]}


def test_what_a_drill_has_besides_is_signed_with_the_rest() -> None:
    drill = Drill(
        scenario="total_loss", incident=BEGUN, known_until=BEGUN, targets=("primary",), steps=(),
        rto_milliseconds=1, recovery_milliseconds=0,
    )  # fmt: skip
    one = record(proof(lost_milliseconds=0), kind="drill", drill=drill)
    told = json.loads(one.to_json())
    assert told["drill"]["scenario"] == "total_loss"
    assert told["proofs"][0]["lost_milliseconds"] == 0
    assert Record.model_validate_json(one.to_json()) == one


@pytest.mark.parametrize("wrong", [{"recovery_milliseconds": 2}, {"steps": (Step(name="dns", passed=False),)}])
def test_a_drill_with_a_failed_step_or_beyond_its_time_can_not_say_that_it_passed(wrong: dict[str, Any]) -> None:
    drill = Drill(
        **{
            "scenario": "total_loss", "incident": BEGUN, "known_until": BEGUN, "targets": ("primary",), "steps": (),
            "rto_milliseconds": 1, "recovery_milliseconds": 0,
        } | wrong
    )  # fmt: skip
    with pytest.raises(ValidationError, match="if and only if"):
        record(kind="drill", drill=drill, passed=True)
    assert not record(kind="drill", drill=drill, passed=False).passed
