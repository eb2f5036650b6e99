"""A configuration at the command line: backed up, compared, and brought back in three ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lifeboat.cli.program import run
from tests.cli.conftest import Said
from tests.configuration.conftest import (
    CANARY,
    Configuration,
    demo_system,
    make_world,
    moto,
    own_rclone,
    rclone,
    settings,
    vault,
)
from tests.configuration.vault_stand_in import VaultStandIn

__all__ = ["demo_system", "make_world", "moto", "own_rclone", "rclone", "settings", "vault"]


class Desk:
    """A person at a command line."""

    def __init__(self, settings: Configuration, capfd: pytest.CaptureFixture[str]) -> None:
        self.settings = settings
        self._capfd = capfd

    def say(self, *words: str) -> Said:
        self._capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.environment.items():
                patch.setenv(name, value)
            patch.setenv("COLUMNS", "400")
            code = run(["--policies", str(self.settings.world.policy.parent), *words])
        return Said(code, *self._capfd.readouterr())

    def back_up(self, tier: str = "daily") -> Said:
        told = self.say("backup", "demo", "settings", "--tier", tier, "--json")
        assert told.code == 0, told.err
        return told

    def points(self) -> list[str]:
        found = self.say("list", "demo", "settings", "--json").json["sources"][0]["recovery_points"]
        return [point["id"] for point in found]


@pytest.fixture
def desk(settings: Configuration, capfd: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    return Desk(settings, capfd)


def test_a_configuration_is_backed_up_listed_verified_and_brought_back(desk: Desk) -> None:
    desk.settings.write("app.conf", "one")
    assert "1 items" in desk.back_up().json["message"]
    desk.settings.write("app.conf", "two")
    changed = desk.back_up("change").json
    assert "1 changed" in changed["message"]
    assert changed["recovery_points"][0]["copies"] == ["primary", "offsite", "local"]
    unchanged = desk.back_up("change").json
    assert (unchanged["recovery_points"], unchanged["failures"]) == ([], [])
    told = desk.say("backup", "demo", "settings", "--tier", "change")
    assert (told.code, told.out) == (0, "")
    assert "nothing new is stored" in told.err
    first, second = desk.points()
    assert desk.say("verify", "demo", "settings", "--deep").code == 0
    into = desk.settings.back / "now"
    told = desk.say("restore", "demo", "settings", "--into", str(into), "--yes", "--json")
    assert told.code == 0, told.err
    assert told.json["restored"]["items"] == 1
    assert (into / desk.settings.name("app.conf")).read_text() == "two"
    told = desk.say("restore", "demo", "settings", "--into", str(into), "--recovery-point", first, "--yes")
    assert "is not empty" in told.err
    told = desk.say("restore", "demo", "settings", "--into", str(into), "--plan", "--json")
    assert (told.code, told.json["recovery_point"]) == (1, second)


def test_one_item_goes_to_standard_output_and_nothing_else_does(desk: Desk) -> None:
    desk.settings.write("app.conf", b"\x00\xff bytes as they are\n")
    desk.settings.write("other.conf")
    desk.back_up()
    name = desk.settings.name("app.conf")
    words = ("restore", "demo", "settings", "--stdout")
    capfd = desk._capfd
    capfd.readouterr()
    assert run(["--policies", str(desk.settings.world.policy.parent), *words, "--only", name]) == 0
    import os

    assert os.fsencode(capfd.readouterr().out.encode("utf-8", "surrogateescape")).endswith(b"bytes as they are\n")
    told = desk.say(*words, "--only", "**/other.conf")
    assert (told.code, told.out) == (0, CANARY)
    assert CANARY not in told.err
    for more, words_of_error in (
        ((), "which item"), (("--only", "**/*.conf"), "2 items"), (("--only", "none"), "Nothing in"),
        (("--only", name, "--json"), "nothing else"), (("--only", name, "--into", "/x"), "one is meant"),
    ):  # fmt: skip
        told = desk.say(*words, *more)
        assert (told.code, told.out) == (1, "")
        assert words_of_error in " ".join(told.err.split())
    assert "It is not said where to" in desk.say("restore", "demo", "settings").err


def test_secrets_go_back_into_their_store_when_it_is_agreed_to(desk: Desk, vault: VaultStandIn) -> None:
    vault.put("secret/a", {"value": CANARY})
    vault.put("secret/b", {"value": CANARY})
    desk.settings.protects("secrets: [{store: vault, connection: vault, names: [a, b]}]")
    desk.back_up()
    vault.put("secret/a", {"value": "lost"})
    words = ("restore", "demo", "settings", "--into-store", "--break-glass", "a test")
    told = desk.say(*words, "--plan", "--json")
    assert [one["state"] for one in told.json["secrets"]] == ["differs", "same"]
    assert vault.newest("secret/a") == {"value": "lost"}
    told = desk.say(*words)  # nobody is there to agree
    assert told.code == 1
    assert vault.newest("secret/a") == {"value": "lost"}
    told = desk.say(*words, "--yes")
    assert told.code == 0, told.err
    assert "differs: it gets a new version" in told.out
    assert vault.newest("secret/a") == {"value": CANARY}
    assert CANARY not in told.out + told.err
    told = desk.say(*words, "--yes", "--only", "secrets/vault/a", "--json")
    assert told.json["put_back"] == []


def test_a_diff_names_what_changed_and_never_a_value(desk: Desk) -> None:
    desk.settings.write("gone", f"{CANARY} one")
    desk.settings.write("changed", f"{CANARY} one")
    desk.settings.write("mode", f"{CANARY} one", 0o600)
    desk.settings.write("same", CANARY)
    desk.back_up()
    (desk.settings.etc / "gone").unlink()
    desk.settings.write("changed", f"{CANARY} two")
    (desk.settings.etc / "mode").chmod(0o640)
    desk.settings.write("new", CANARY)
    desk.back_up()
    first, second = desk.points()
    told = desk.say("list", "demo", "settings", "--diff", first, second, "--json")
    found = {one["name"]: (one["change"], one["what"]) for one in told.json["changes"]}
    assert found == {
        desk.settings.name("changed"): ("changed", ["content"]), desk.settings.name("gone"): ("removed", []),
        desk.settings.name("mode"): ("changed", ["mode"]), desk.settings.name("new"): ("added", []),
    }  # fmt: skip
    backwards = desk.say("list", "demo", "settings", "--diff", second, first)
    assert f"{desk.settings.name('gone')}" in backwards.out
    assert CANARY not in told.out + told.err + backwards.out + backwards.err
    assert "Nothing changed" in desk.say("list", "demo", "settings", "--diff", first, first).out
    assert "no recovery point" in desk.say("list", "demo", "settings", "--diff", first, "none").err
    assert "can't be compared" in desk.say("list", "demo", "database", "--diff", first, second).err
    assert "of one source" in desk.say("list", "demo", "--diff", first, second).err


def test_a_diff_over_a_change_of_the_key_names_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    import lifeboat.configuration.storing as storing

    desk.settings.write("changed", "one")
    desk.settings.write("same", "one")
    desk.back_up()
    desk.settings.write("changed", "two")
    monkeypatch.setattr(storing, "newest_believable", lambda *_: (None, "no key"))
    desk.back_up()
    monkeypatch.undo()
    first, second = desk.points()
    told = desk.say("list", "demo", "settings", "--diff", first, second, "--json")
    assert [one["name"] for one in told.json["changes"]] == [desk.settings.name("changed")]


def test_what_is_named_and_not_there_fails_the_preflight(desk: Desk) -> None:
    desk.settings.protects(f'files: ["{desk.settings.etc}/none"]')
    told = desk.say("backup", "demo", "settings", "--tier", "daily")
    assert told.code == 1
    assert "is not there" in told.err
    assert "is not said where to" in desk.say("restore", "demo", "settings", "--yes").err
    assert "for a configuration" in desk.say("restore", "demo", "database", "--stdout").err
