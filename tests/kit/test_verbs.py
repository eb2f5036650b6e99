"""``lifeboat kit``: the verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lifeboat.cli.kit import app
from lifeboat.cli.outside import Surroundings
from lifeboat.repository.journal import Event, read_journal
from lifeboat.streams.key_making import new_break_glass_pair
from tests.kit.conftest import LostSystem, Papers


@pytest.fixture
def connected(lost: LostSystem, monkeypatch: pytest.MonkeyPatch) -> LostSystem:
    for name, value in lost.variables.items():
        monkeypatch.setenv(name, value)
    return lost


def invoke(lost: LostSystem, *words: str | Path, break_glass: Path | None = None) -> Result:
    here = Surroundings(lost.system.policies, None, (break_glass or lost.system.break_glass,))
    return CliRunner().invoke(app, [str(word) for word in words], obj=here)


def test_export_writes_a_kit_and_journals_it_on_every_target(
    connected: LostSystem, papers: Papers, tmp_path: Path
) -> None:
    ended = invoke(connected, "export", tmp_path / "kit.zip", "--project", papers.project, "--json")
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert told["break_glass"] == {"demo": ["demo-break-glass"]}
    repository = connected.repository
    for target in ("primary", "local"):
        events = list(read_journal(repository.target(target), "demo", repository.trusted))
        assert any(
            isinstance(event, Event) and event.kind == "kit_exported" and event.details["kit"] == told["kit"]
            for event in events
        )


def test_check_ends_with_zero_for_a_good_kit_and_with_one_for_a_bad_key(
    connected: LostSystem, papers: Papers, tmp_path: Path
) -> None:
    kit = tmp_path / "kit.zip"
    assert invoke(connected, "export", kit, "--project", papers.project).exit_code == 0
    ended = invoke(connected, "check", kit, "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["good"] is True
    wrong = tmp_path / "wrong.pem"
    wrong.write_text(new_break_glass_pair().private)
    for more in ((), ("--alone",)):
        ended = invoke(connected, "check", kit, *more, break_glass=wrong)
        assert ended.exit_code == 1
        assert "would not do" in ended.output
