"""The journal: every event signed, chained and kept; what was changed, left out or slipped in shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lifeboat.errors import TargetUnavailable
from lifeboat.repository.journal import Event, Journal, JournalProblem, journal_schema_text, read_journal
from lifeboat.repository.journal_carrying import carry_events
from lifeboat.repository.signing import Signer
from tests.repository.world import World, everything

ROOT = Path(__file__).resolve().parents[2]


def journal(world: World, *targets: str, run: str = "run") -> Journal:
    return world.repository().journal(*(targets or ("primary",)), run=run, actor="tester")


def read(world: World, target: str = "primary", **more: Any) -> list[Event | JournalProblem]:
    repository = world.repository()
    return list(read_journal(repository.target(target), "demo", repository.trusted, **more))


def events(world: World, target: str = "primary", **more: Any) -> list[Event]:
    found = read(world, target, **more)
    assert [problem for problem in found if isinstance(problem, JournalProblem)] == []
    return [event for event in found if isinstance(event, Event)]


def problems(world: World, **more: Any) -> list[str]:
    return [problem.what for problem in read(world, **more) if isinstance(problem, JournalProblem)]


def three_events(world: World) -> list[Path]:
    """A run of three events, a minute apart; returns where they lie."""
    writer = journal(world)
    written = []
    for kind in ("backup_begun", "backup_committed", "published"):
        written.append(writer.write(kind, source="database", bytes=5))
        world.clock.advance(minutes=1)
    return [world.file(event.key) for event in written]


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert (ROOT / "docs" / "journal.schema.json").read_text() == journal_schema_text()


def test_a_stored_event_obeys_the_published_schema(world: World) -> None:
    schema = json.loads(journal_schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in three_events(world):
        jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text()) | {"kind": "nonsense"})


def test_events_come_back_in_order_and_chained(world: World) -> None:
    three_events(world)
    found = events(world)
    assert [event.number for event in found] == [1, 2, 3]
    assert [event.kind for event in found] == ["backup_begun", "backup_committed", "published"]
    assert found[0].previous is None
    assert found[0].details == {"bytes": 5}
    assert found[0].time == datetime(2026, 11, 22, 2, tzinfo=UTC)


@pytest.mark.parametrize("gone", [0, 1])
def test_an_event_removed_before_the_end_of_its_run_shows(world: World, gone: int) -> None:
    three_events(world)[gone].unlink()
    (problem,) = problems(world)
    assert "is missing" in problem


def test_a_changed_event_shows(world: World) -> None:
    path = three_events(world)[1]
    path.write_text(path.read_text().replace('"bytes":5', '"bytes":6'))
    found = problems(world)
    assert "was changed after it was signed" in found[0]
    assert "is missing" in found[1]


def test_an_event_written_in_another_form_shows(world: World) -> None:
    path = three_events(world)[2]
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
    (problem,) = problems(world)
    assert "not as it was written" in problem


def test_an_event_moved_to_another_time_shows(world: World) -> None:
    paths = three_events(world)
    paths[0].rename(paths[2].with_name(paths[2].name.replace("20261122T0202", "20261122T0259")))
    found = problems(world)
    assert any("does not stand where it was written" in problem for problem in found)
    assert any("is missing" in problem for problem in found)


def test_two_events_that_changed_places_show(world: World) -> None:
    first, second, _ = three_events(world)
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert sum("does not stand where it was written" in problem for problem in problems(world)) == 2


def test_a_signature_has_one_form_only(world: World) -> None:
    path = three_events(world)[2]
    text = path.read_text()
    last = text.index("==") - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    # The last letter before the padding carries two bits; the other four mean nothing.
    path.write_text(text[:last] + alphabet[alphabet.index(text[last]) ^ 1] + text[last + 1 :])
    assert "was changed after it was signed" in problems(world)[0]


def test_a_forged_event_shows(world: World) -> None:
    paths = three_events(world)
    last = Event.model_validate_json(paths[2].read_bytes())
    forged = last.model_copy(update={"number": 4, "time": world.clock(), "kind": "verified"})
    world.file(forged.key).write_bytes(forged.to_json())
    assert "was changed after it was signed" in problems(world)[0]
    stranger = Signer("somebody", world.repository().signer._key)
    signed = forged.model_copy(update={"key_id": "somebody"})
    signed = signed.model_copy(update={"signature": stranger.sign(signed.signed_bytes())})
    world.file(forged.key).write_bytes(signed.to_json())
    assert "'somebody'" in problems(world)[0]


def test_an_event_of_another_system_shows(world: World) -> None:
    path = three_events(world)[2]
    event = Event.model_validate_json(path.read_bytes()).model_copy(update={"system": "crm"})
    event = event.model_copy(update={"signature": world.repository().signer.sign(event.signed_bytes())})
    path.write_bytes(event.to_json())
    assert "does not stand where it was written" in problems(world)[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_an_event_can_be_changed_unnoticed(world: World, data: st.DataObject) -> None:
    found = sorted(world.roots["primary"].rglob("*-0002.json"))
    path = found[0] if found else three_events(world)[1]
    document = path.read_bytes()
    changed = bytearray(document)
    place = data.draw(st.integers(0, len(document) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        assert problems(world) != []
    finally:
        path.write_bytes(document)


def test_junk_between_the_events_shows_and_hides_none(world: World) -> None:
    paths = three_events(world)
    paths[0].with_name("20261122T020030.junk.json").write_bytes(b"\xff[[[")
    found = read(world)
    assert [type(one) for one in found] == [Event, JournalProblem, Event, Event]


def test_runs_that_interleave_are_chained_each_by_itself(world: World) -> None:
    first, second = journal(world, run="a"), journal(world, run="b")
    for number in range(6):
        (first if number % 2 else second).write("verified", source="database")
        world.clock.advance(seconds=1)
    found = events(world)
    assert [event.number for event in found] == [1, 1, 2, 2, 3, 3]
    assert len({event.run for event in found}) == 2


def test_two_processes_with_the_same_name_do_not_meet(world: World) -> None:
    for _ in range(2):
        journal(world, run="dag-run").write("verified")
    assert len(events(world)) == 2


def test_a_clock_set_back_in_mid_run_does_not_disorder_the_run(world: World) -> None:
    writer = journal(world)
    writer.write("backup_begun")
    world.clock.advance(hours=-3)
    writer.write("backup_committed")
    writer.write("published")
    assert [event.number for event in events(world)] == [1, 2, 3]


def test_many_events_of_one_moment_stay_in_order(world: World) -> None:
    writer = journal(world)
    for _ in range(12):
        writer.write("verified")
    assert [event.number for event in events(world)] == list(range(1, 13))


@pytest.mark.parametrize("details", [{"rate": 0.5}, {"list": [1, 2.0]}, {"a": {"b": [float("nan")]}}], ids=str)
def test_a_floating_point_number_is_refused_and_nothing_is_written(world: World, details: dict[str, Any]) -> None:
    writer = journal(world)
    with pytest.raises(ValidationError, match="no floating-point number"):
        writer.write("verified", **details)
    writer.write("verified", rate=1)
    assert [event.number for event in events(world)] == [1]


def test_text_that_is_no_text_is_written_all_the_same(world: World) -> None:
    journal(world).write("backup_failed", source="database", what="no such file: caf\udce9", names=["\ud800", "\u2028"])
    (event,) = events(world)
    assert event.details["what"] == "no such file: caf\\udce9"


def test_no_secret_is_in_the_journal(world: World) -> None:
    three_events(world)
    keys = world.loaded.policy.encryption.keys[0].file.parent
    secrets = [(keys / "local.key").read_text().strip(), (keys / "signing.pem").read_text().splitlines()[1]]
    for key, data in everything(world).items():
        assert not any(secret in data.decode() for secret in secrets), key


def away(world: World, target: str) -> Callable[[], None]:
    """Take a target away; call the result to bring it back."""
    marker = world.roots[target] / ".lifeboat-target"
    text = marker.read_text()
    marker.unlink()
    return lambda: marker.write_text(text) and None


def test_a_target_that_was_away_gets_its_events_delivered(world: World) -> None:
    writer = journal(world, "primary", "offsite", "local")
    writer.write("backup_begun")
    bring_back = away(world, "offsite")
    writer.write("backup_committed")
    assert writer.deliver() == ["offsite"]
    bring_back()
    writer.write("published")
    assert [event.number for event in read(world, "offsite") if isinstance(event, Event)] == [1, 3]
    assert writer.deliver() == []
    for target in ("primary", "offsite", "local"):
        assert [event.number for event in events(world, target)] == [1, 2, 3]
    assert writer.deliver() == []


def test_without_its_first_target_no_event_is_taken_for_written(world: World) -> None:
    writer = journal(world, "primary", "offsite")
    bring_back = away(world, "primary")
    with pytest.raises(TargetUnavailable):
        writer.write("backup_begun")
    bring_back()
    writer.write("backup_failed")
    assert [(event.number, event.kind) for event in events(world)] == [(1, "backup_failed")]
    assert [(event.number, event.kind) for event in events(world, "offsite")] == [(1, "backup_failed")]


def test_a_target_that_is_away_is_no_empty_journal(world: World) -> None:
    three_events(world)
    away(world, "primary")
    with pytest.raises(TargetUnavailable):
        read(world)


def test_a_range_of_days_is_read_alone(world: World) -> None:
    writer = journal(world)
    begun = world.clock()
    for _ in range(5):
        writer.write("verified")
        world.clock.advance(days=1)
    found = events(world, since=begun + timedelta(days=2), now=begun + timedelta(days=3))
    assert [event.number for event in found] == [3, 4]
    assert [event.number for event in events(world)] == [1, 2, 3, 4, 5]
    world.file(found[1].key).unlink()
    assert len(problems(world, since=begun + timedelta(days=2), now=begun + timedelta(days=4))) == 1


def carry(world: World, back: timedelta = timedelta(days=7)) -> int:
    repository = world.repository()
    return carry_events(
        repository.target("primary"),
        repository.target("offsite"),
        "demo",
        repository.trusted,
        now=world.clock(),
        back=back,
    )


def test_events_that_a_target_missed_for_days_are_carried_to_it(world: World) -> None:
    for _ in range(4):
        journal(world).write("verified")
        world.clock.advance(days=1)
    assert carry(world) == 4
    assert events(world, "offsite") == events(world)
    assert carry(world) == 0
    journal(world).write("verified")
    assert carry(world) == 1


def test_an_outage_that_ended_before_midnight_is_made_good_for(world: World) -> None:
    journal(world).write("verified")
    world.clock.advance(days=1)
    journal(world, "primary", "offsite").write("verified")
    assert carry(world) == 1
    assert events(world, "offsite") == events(world)


def test_nothing_older_than_asked_for_is_carried(world: World) -> None:
    for _ in range(4):
        journal(world).write("verified")
        world.clock.advance(days=1)
    assert carry(world, timedelta(days=2)) == 2


def test_an_event_that_can_not_be_believed_is_not_carried(world: World) -> None:
    path = three_events(world)[1]
    path.write_text(path.read_text().replace('"bytes":5', '"bytes":6'))
    assert carry(world) == 2
    assert [event.number for event in read(world, "offsite") if isinstance(event, Event)] == [1, 3]
