"""How the program begins and ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from lifeboat.cli import program
from tests.cli.conftest import Said

Command = Callable[..., Said]
HEAVY = ("airflow", "boto3", "psycopg", "aws_encryption_sdk", "cryptography", "pydantic", "zstandard", "yaml", "rich")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lifeboat.cli.program import run; code = run(['--help']);"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "0 []"
    for verb in (
        "policy",
        "preflight",
        "backup",
        "list",
        "verify",
        "copy",
        "restore",
        "journal",
        "key",
        "target",
        "report",
    ):
        assert f"\n  {verb} " in ended.stdout


def test_the_installed_command_is_there() -> None:
    command = Path(sys.executable).parent / "lifeboat"
    ended = subprocess.run([command, "policy", "schema"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("{")


def test_a_word_that_is_not_understood_ends_with_2(lifeboat: Command) -> None:
    assert lifeboat(None, "restaurant").code == 2
    assert lifeboat(None, "list", "--nonsense").code == 2


def test_a_fault_of_ours_shows_no_trace_and_no_text_of_a_library(
    lifeboat: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise ValueError("password=hunter2")

    monkeypatch.delenv("LIFEBOAT_DEBUG", raising=False)
    monkeypatch.setattr("lifeboat.policy.schema.policy_schema_text", fail)
    said = lifeboat(None, "policy", "schema")
    assert said.code == program.UNEXPECTED == 70
    assert "ValueError" in said.err
    assert "LIFEBOAT_DEBUG=1" in said.err
    assert "Traceback" not in said.err
    assert "hunter2" not in said.err
    monkeypatch.setenv("LIFEBOAT_DEBUG", "1")
    assert "Traceback" in lifeboat(None, "policy", "schema").err


def test_options_for_every_verb_may_stand_behind_it(tmp_path: Path, lifeboat: Command) -> None:
    for words in (("policy", "check", "--policies", str(tmp_path)), ("policy", "check", f"--policies={tmp_path}")):
        said = lifeboat(None, *words)
        assert said.code == 0
        assert str(tmp_path) in said.err
    assert lifeboat(None, "policy", "check", "--policies").code == 2


def test_the_page_names_every_verb_and_every_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    missing = []

    def walk(command: object, words: str) -> None:
        for parameter in getattr(command, "params", []):
            missing.extend(option for option in parameter.opts if option.startswith("--") and option not in page)
        for name, inner in getattr(command, "commands", {}).items():
            if f"{words} {name}".strip() not in page:
                missing.append(f"{words} {name}")
            walk(inner, f"{words} {name}".strip())

    group = typer.main.get_command(program.app)
    kit = group.commands.pop("kit")  # has a page of its own
    try:
        walk(group, "lifeboat")
    finally:
        group.commands["kit"] = kit
    assert missing in ([], ["--json"])
