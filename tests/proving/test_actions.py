"""Corrective actions: opened by what a record shows as wrong, closed by a later one that shows it right."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.recovery.actions import Topic, corrective_actions, failures, findings, shown_right
from lifeboat.recovery.evidence import Check, Proof, Record
from tests.proving.test_evidence import BEGUN, proof, record

DAY = timedelta(days=1)
GOOD = Check(name="opens", passed=True)
BAD = Check(name="opens", passed=False, what="It asks for a password.")
SLOW = {"fetch": 4_000_000, "replay": 200}


def row(*records: tuple[Proof, ...] | dict[str, str]) -> list[Record]:
    """A record a week; a dictionary stands for one that has nothing but lacking sources."""
    made = []
    for number, one in enumerate(records):
        begun = BEGUN + 7 * number * DAY
        if isinstance(one, dict):
            made.append(record(proof(source="another"), begun=begun, lacking=one))
        else:
            made.append(record(*one, begun=begun))
    return made


def told(records: list[Record]) -> list[tuple[str, str, int]]:
    return [(action.finding.source, action.finding.what, action.seen) for action in corrective_actions(records).open]


def test_records_without_a_fault_ask_for_nothing() -> None:
    actions = corrective_actions(row((proof(),), (proof(),)))
    assert (actions.open, actions.closed) == ((), ())
    assert corrective_actions([]).open == ()


def test_a_failed_recovery_opens_an_action_with_its_error_and_its_remedy_for_seven_days() -> None:
    (one,) = row((proof(error="The disk is full.", remedy="Make room.", checks=()),))
    (action,) = corrective_actions([one]).open
    assert (action.system, action.finding.source, action.finding.what) == ("demo", "database", "recovery")
    assert (action.finding.happened, action.finding.next_step) == ("The disk is full.", "Make room.")
    assert (action.opened, action.opened_by, action.due) == (one.ended, one.id, one.ended + 7 * DAY)
    assert (action.seen, action.closed, action.closed_by) == (1, None, "")


def test_a_failed_check_opens_an_action_by_its_name_for_thirty_days() -> None:
    (one,) = row((proof(checks=(GOOD, Check(name="rows.sql", passed=False, what="12 rows are lost."))),))
    (action,) = corrective_actions([one]).open
    assert (action.finding.topic, action.finding.what) == (Topic.CHECK, "rows.sql")
    assert action.finding.happened == "12 rows are lost."
    assert "back it up" in action.finding.next_step
    assert action.due == one.ended + 30 * DAY


def test_an_errors_remedy_is_not_taken_for_a_failed_checks() -> None:
    (one,) = row((proof(error="It stopped.", remedy="Start it.", checks=(BAD,)),))
    steps = {finding.what: finding.next_step for finding in findings(one)}
    assert steps["recovery"] == "Start it."
    assert steps["opens"] != "Start it."


def test_a_lacking_source_opens_an_action_with_the_reason() -> None:
    (action,) = corrective_actions(row({"files": "No recovery point is committed."})).open
    assert (action.finding.source, action.finding.what) == ("files", "nothing to bring back")
    assert action.finding.happened == "No recovery point is committed."
    assert "back it up" in action.finding.next_step


def test_a_recovery_in_which_nothing_was_looked_at_opens_an_action() -> None:
    assert told(row((proof(checks=()),))) == [("database", "nothing was looked at", 1)]


def test_a_recovery_over_its_rto_opens_an_action_that_names_the_longest_phase_although_the_record_passed() -> None:
    (one,) = row((proof(milliseconds=SLOW),))
    assert one.passed
    (action,) = corrective_actions([one]).open
    assert action.finding.what == "recovery time"
    assert not action.finding.fails
    assert action.finding.happened == "The recovery took 1 h 07 min, and the RTO is 1 h 00 min."
    assert "fetch (1 h 07 min)" in action.finding.next_step


@pytest.mark.parametrize(("rto", "taken"), [(30_000, 30_040), (3_599_001, 3_600_000), (3_600_000, 3_600_001)])
def test_lengths_that_differ_by_less_than_their_words_are_told_apart(rto: int, taken: int) -> None:
    (one,) = row((proof(milliseconds={"fetch": taken}, rto_milliseconds=rto),))
    (finding,) = findings(one)
    said, objective = finding.happened.removesuffix(".").split(", and the RTO is ")
    assert said.removeprefix("The recovery took ") != objective


@pytest.mark.parametrize("wrong", [proof(checks=(BAD,)), proof(milliseconds=SLOW), proof(error="It stopped."),
                                   proof(checks=())])  # fmt: skip
def test_what_one_proof_shows_as_wrong_it_does_not_show_as_right(wrong: Proof) -> None:
    (one,) = row((wrong,))
    (finding,) = findings(one)
    assert finding.key not in shown_right(one)


def test_an_action_is_carried_on_and_counted_and_keeps_its_day_while_its_words_are_the_newest() -> None:
    worse = Check(name="opens", passed=False, what="It is gone.")
    records = row((proof(checks=(BAD,)),), (proof(checks=(BAD,)),), (proof(checks=(worse,)),))
    (action,) = corrective_actions(records).open
    assert (action.seen, action.opened_by, action.opened) == (3, records[0].id, records[0].ended)
    assert (action.due, action.last_seen) == (records[0].ended + 30 * DAY, records[2].ended)
    assert action.finding.happened == "It is gone."


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (proof(checks=(BAD,)), proof()),
        (proof(error="It stopped.", checks=()), proof()),
        (proof(error="It stopped.", checks=()), proof(checks=(GOOD,))),
        (proof(milliseconds=SLOW), proof()),
        (proof(checks=()), proof()),
    ],
    ids=["check", "recovery", "recovery, and another check", "time", "nothing looked at"],
)
def test_a_later_record_that_shows_the_same_right_closes_it_and_the_one_after_does_not_tell_it_again(
    wrong: Proof, right: Proof
) -> None:
    records = row((wrong,), (right,), (right,))
    actions = corrective_actions(records[:2])
    assert actions.open == ()
    (action,) = actions.closed
    assert (action.closed, action.closed_by) == (records[1].ended, records[1].id)
    assert corrective_actions(records).closed == ()


def test_a_lacking_source_is_closed_by_something_to_bring_back_even_if_that_fails() -> None:
    records = row({"database": "none"}, (proof(error="It stopped.", checks=()),))
    actions = corrective_actions(records)
    assert [action.finding.what for action in actions.closed] == ["nothing to bring back"]
    assert [action.finding.what for action in actions.open] == ["recovery"]


@pytest.mark.parametrize(
    "later",
    [
        (proof(source="files"),),
        (proof(checks=(Check(name="rows.sql", passed=True),)),),
        (proof(error="It stopped.", checks=()),),
        {"database": "none"},
    ],
    ids=["another source", "another check", "did not come back", "lacking"],
)
def test_what_was_not_looked_at_again_stays_open(later: tuple[Proof, ...] | dict[str, str]) -> None:
    assert ("database", "opens", 1) in told(row((proof(checks=(BAD,)),), later))


def test_a_recovery_that_came_back_unlooked_at_closes_no_failed_one() -> None:
    records = row((proof(error="It stopped.", checks=()),), (proof(checks=()),))
    assert told(records) == [("database", "recovery", 1), ("database", "nothing was looked at", 1)]


def test_a_failed_recovery_of_short_time_closes_no_recovery_time() -> None:
    records = row((proof(milliseconds=SLOW),), (proof(error="It stopped.", checks=(), milliseconds={"fetch": 1}),))
    assert ("database", "recovery time", 1) in told(records)


def test_a_check_called_as_a_topic_is_not_taken_for_it() -> None:
    named = Check(name="recovery", passed=True)
    records = row((proof(error="It stopped.", checks=()),), (proof(error="It stopped.", checks=(named,)),))
    assert told(records) == [("database", "recovery", 2)]


def test_what_one_record_shows_both_right_and_wrong_is_wrong_and_seen_once() -> None:
    both = (proof(), proof(checks=(BAD,)), proof(checks=(BAD,)))
    assert told(row(both, both)) == [("database", "opens", 2)]
    assert told(row(both, both[::-1])) == [("database", "opens", 2)]


def test_what_comes_again_is_a_new_action_with_a_new_day() -> None:
    records = row((proof(checks=(BAD,)),), (proof(),), (proof(checks=(BAD,)),))
    (action,) = corrective_actions(records).open
    assert (action.opened_by, action.seen) == (records[2].id, 1)


def test_a_drill_opens_and_closes_and_a_restore_in_earnest_does_neither() -> None:
    bad, good = (proof(checks=(BAD,)),), proof()
    drill = record(*bad, kind="drill")
    assert told([drill]) == [("database", "opens", 1)]
    assert told([drill, record(good, kind="restore", begun=BEGUN + DAY)]) == [("database", "opens", 1)]
    assert told([record(*bad, kind="restore")]) == []
    assert len(corrective_actions([drill, record(good, kind="drill", begun=BEGUN + DAY)]).closed) == 1


def test_a_restore_in_earnest_tells_nothing_closed_by_another() -> None:
    records = [*row((proof(checks=(BAD,)),), (proof(),)), record(kind="restore", begun=BEGUN + 30 * DAY)]
    assert corrective_actions(records).closed == ()


def test_an_action_is_overdue_after_its_day_and_not_on_it_nor_when_closed() -> None:
    records = row((proof(checks=(BAD,)),), (proof(),))
    actions = corrective_actions(records[:1])
    (action,) = actions.open
    assert not action.overdue(action.due)
    assert action.overdue(action.due + timedelta(seconds=1))
    assert actions.overdue(action.due + DAY) == (action,)
    assert actions.overdue(action.due) == ()
    (closed,) = corrective_actions(records).closed
    assert not closed.overdue(closed.due + DAY)


def test_another_time_can_be_agreed_upon_and_a_failed_recovery_never_has_longer() -> None:
    (one,) = row((proof(error="It stopped.", checks=(BAD,)),))
    for days, due in ((60, [7, 60]), (3, [3, 3])):
        actions = corrective_actions([one], due_after=days * DAY)
        assert [action.due - one.ended for action in actions.open] == [day * DAY for day in due]


checks = st.lists(
    st.builds(Check, name=st.sampled_from(["a", "b", "recovery"]), passed=st.booleans()), max_size=3
).map(tuple)  # fmt: skip
proofs = st.builds(
    lambda source, error, checks, long: proof(
        source=source, error=error, checks=checks, milliseconds={"fetch": 4_000_000 if long else 5}
    ),
    st.sampled_from(["database", "files"]),
    st.sampled_from(["", "", "It stopped."]),
    checks,
    st.booleans(),
)
tests = st.tuples(
    st.lists(proofs, max_size=3),
    st.dictionaries(st.sampled_from(["database", "files", "code"]), st.just("none"), max_size=2),
    st.sampled_from(["restore_test", "restore_test", "drill", "restore"]),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    made = []
    for number, (found, lacking, kind) in enumerate(draw(st.lists(tests, max_size=6))):
        begun = BEGUN + number * DAY
        passed = bool(found) and not lacking and all(one.passed for one in found)
        # A record may hold no proof at all, which the shorthand would fill.
        made.append(record(begun=begun, kind=kind, lacking=lacking, proofs=tuple(found), passed=passed))
    return made


@given(histories())
def test_open_is_what_was_wrong_when_it_was_last_shown_either_way(history: list[Record]) -> None:
    expected: dict[object, bool] = {}
    for one in history:
        if one.kind != "restore":
            expected |= dict.fromkeys(shown_right(one), False)
            expected |= {finding.key: True for finding in findings(one)}
    actions = corrective_actions(history)
    assert {action.finding.key for action in actions.open} == {key for key, wrong in expected.items() if wrong}
    assert len({action.finding.key for action in actions.open}) == len(actions.open)


@given(histories())
def test_every_action_was_opened_by_a_record_that_shows_it_and_seen_as_often_as_records_did(
    history: list[Record],
) -> None:
    by_id = {one.id: one for one in history}
    for action in corrective_actions(history).open:
        opener = by_id[action.opened_by]
        since = history[history.index(opener) :]
        assert action.opened == opener.ended
        assert action.opened < action.due
        showing = [one for one in since if one.kind != "restore"
                   and action.finding.key in {finding.key for finding in findings(one)}]  # fmt: skip
        assert showing[0] == opener
        assert action.seen == len(showing)
        assert action.last_seen == showing[-1].ended
        assert all(action.finding.key not in shown_right(one) for one in since
                   if one.kind != "restore" and one not in showing)  # fmt: skip


@given(histories())
def test_one_more_record_closes_what_was_open_or_leaves_it_open(history: list[Record]) -> None:
    if not history:
        return
    before, after = corrective_actions(history[:-1]), corrective_actions(history)
    left = {action.finding.key for action in after.open}
    closed = {action.finding.key for action in after.closed}
    assert not left & closed
    was = {action.finding.key for action in before.open}
    assert closed <= was <= left | closed
    assert all(action.closed_by == history[-1].id for action in after.closed)
    assert history[-1].kind != "restore" or (left == was and not closed)


@given(histories())
def test_every_failed_record_has_a_finding_for_it_and_no_passed_one_has(history: list[Record]) -> None:
    for one in history:
        if one.proofs or one.lacking:
            assert bool(failures(findings(one))) is not one.passed


@given(histories())
def test_what_is_due_first_comes_first(history: list[Record]) -> None:
    days = [action.due for action in corrective_actions(history).open]
    assert days == sorted(days)
