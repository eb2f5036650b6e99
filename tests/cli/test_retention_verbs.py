"""``lifeboat retention run``, ``hold``, ``release``, ``undo`` and ``quarantine``, on targets that are directories."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from lifeboat.cli.program import run
from tests.cli.conftest import Said
from tests.repository.conftest import demo_system, make_world, moto, own_rclone, rclone, world
from tests.repository.retention.cleaned_system import CleanedSystem
from tests.repository.world import World

__all__ = ["demo_system", "make_world", "moto", "own_rclone", "rclone", "world"]


class Desk:
    """A person at a command line, and a system with two dailies past their time and two that stay."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        primary = f"url: file://{world.roots['primary']}\n"
        self.world = world.bent(primary, f"{primary}    undelete: 7d\n")
        self.world.clock.now = datetime.now(UTC) - timedelta(days=40)
        self.system = CleanedSystem(self.world)
        *self.old, self.base = self.system.days(3)
        self.world.clock.now = datetime.now(UTC) - timedelta(hours=2)
        self.new = self.system.point()
        self._capsys = capsys

    def say(self, *words: str) -> Said:
        return self.call("retention", *words)

    def call(self, *words: str) -> Said:
        self._capsys.readouterr()
        code = run(["--policies", str(self.world.policy.parent), *words])
        return Said(code, *self._capsys.readouterr())


@pytest.fixture
def desk(world: World, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(world, capsys)


def test_a_run_says_what_it_deleted_and_the_plan_says_until_when_that_can_be_taken_back(desk: Desk) -> None:
    told = desk.say("run", "demo", "database", "--target", "primary")
    assert (told.code, told.out.strip()) == (0, "demo database on primary: 2 deleted.")
    assert desk.say("run", "demo", "database", "--target", "primary").out.endswith("nothing had to go.\n")
    plan = desk.say("plan", "demo", "database", "--json").json
    said = {one["recovery_point"]: one for one in plan["sources"][0]["copies"] if one["target"] == "primary"}
    assert said[desk.old[0]]["action"] == "waits"
    assert said[desk.old[0]]["because"].startswith("Deleted, can be taken back until ")


def test_a_calendar_shows_one_target_and_counts_what_stays_and_goes(desk: Desk) -> None:
    told = desk.say("plan", "demo", "--calendar", "--target", "primary")
    assert told.code == 0
    assert "demo database on primary" in told.out
    assert "on offsite" not in told.out
    letters = {letter for line in told.out.splitlines() if line[:2] == "20" for letter in line[9:]}
    assert letters - set(" ·") == {"+", "x"}
    assert "x      2 goes" in told.out
    assert "+      2 kept for another reason" in told.out
    assert "Nothing was changed." in told.err
    desk.say("run", "demo", "--target", "primary")
    assert "-      2 deleted, its bytes are there" in desk.say("plan", "demo", "--calendar").out


def test_a_calendar_is_not_for_programs_and_they_may_ask_about_one_target(desk: Desk) -> None:
    assert desk.say("plan", "demo", "--calendar", "--json").code == 2
    (source,) = desk.say("plan", "demo", "--target", "primary", "--json").json["sources"]
    assert {one["target"] for one in source["copies"]} == {"primary"}
    assert desk.say("plan", "demo", "--target", "moon").code == 1


def test_an_undo_brings_back_and_holds_and_a_release_ends_the_hold(desk: Desk) -> None:
    desk.say("run", "demo")
    told = desk.say("undo", "demo", "database", desk.old[0], "--reason", "a lawsuit")
    assert told.code == 0
    assert f"Back: {desk.old[0]} on primary." in told.out
    assert "They are held now" in told.out
    assert desk.say("undo", "demo", "database", desk.old[0]).code == 1
    assert "held (a lawsuit)" in " ".join(desk.say("plan", "demo").out.split())
    assert desk.say("release", "demo", "database", desk.old[0], "--reason", "settled").code == 0
    assert "1 deleted" in desk.say("run", "demo").out


def test_a_list_counts_what_was_deleted_and_shows_it_when_asked_with_the_time_until_which_it_can_be_taken_back(
    desk: Desk,
) -> None:
    assert "deleted" not in desk.call("list", "demo").err
    desk.say("run", "demo", "--target", "primary")
    told = " ".join(desk.call("list", "demo").err.split())
    assert "demo database: deleted and not yet removed: 2 on primary. `--deleted` lists them." in told
    source = desk.call("list", "demo", "--deleted", "--json").json["sources"][0]
    assert [one["id"] for one in source["deleted"]] == desk.old
    for one in source["deleted"]:
        until, since = (datetime.fromisoformat(one[name]) for name in ("can_be_taken_back_until", "deleted"))
        assert until - since == timedelta(days=7)
        assert "daily is kept for 30d" in one["reason"]
    shown = " ".join(desk.call("list", "demo", "--deleted").out.split())
    assert "deleted, and not yet removed" in shown
    assert all(point in shown for point in desk.old)


def test_a_hold_that_not_every_target_took_fails_and_names_the_one_that_did_not(desk: Desk) -> None:
    away = desk.world.roots["offsite"].rename(desk.world.roots["offsite"].with_name("elsewhere"))
    told = desk.say("hold", "demo", "database", desk.old[0], "--reason", "the auditors")
    assert told.code == 1
    assert "offsite can't be reached and does not know of it" in told.err
    away.rename(desk.world.roots["offsite"])
    assert desk.say("hold", "demo", "database", desk.old[0], "--reason", "the auditors").code == 0
    assert "1 deleted" in desk.say("run", "demo", "--target", "primary").out


def test_what_can_not_be_believed_stops_the_run_until_it_is_set_aside_by_name(desk: Desk) -> None:
    manifest = desk.system.copies["primary", desk.old[0]].manifest.folder.manifest
    desk.world.file(manifest).write_text("{}")
    stopped = desk.say("run", "demo")
    assert stopped.code == 1
    assert "deleted" not in stopped.out
    assert f"{desk.old[0]} on primary can't be believed" in stopped.err
    assert "set aside by `lifeboat retention quarantine`" in " ".join(stopped.err.split())
    told = desk.say("quarantine", "demo", "database", desk.old[0], "--target", "primary", "--reason", "a disk error")
    assert told.code == 0
    assert "is set aside; its bytes stay" in told.out
    assert "1 deleted" in desk.say("run", "demo").out
    assert "is set aside: a disk error (" in " ".join(desk.say("plan", "demo").out.split())
    back = desk.say("quarantine", "demo", "database", desk.old[0], "--target", "primary", "--reason", "mended", "--end")
    assert "is judged again" in back.out


def test_a_run_that_is_stopped_by_a_guard_fails_and_deletes_nothing(desk: Desk) -> None:
    desk.world.clock.now = datetime.now(UTC) + timedelta(days=1)
    desk.system.point()
    told = desk.say("run", "demo", "--json")
    assert told.code == 1
    assert "one of the two clocks is wrong" in told.err
    done = json.loads(told.out[told.out.index("{") :])["cleaned"]
    assert [one["deleted"] for one in done] == [[], [], []]
