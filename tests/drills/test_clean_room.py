"""Airflow lost: a child that knows a recovery kit and a break-glass key, and nothing else."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifeboat.cli.clean_room import newest_kit
from lifeboat.errors import Cancelled, RestoreError
from lifeboat.kit.export import export
from lifeboat.policy.loading import load_policy
from lifeboat.recovery.bringing_back import Means
from lifeboat.recovery.drill.clean_room import PROGRAM, CleanRoom
from lifeboat.recovery.drill.scenarios import Moments
from lifeboat.recovery.evidence import Proof
from lifeboat.repository.building import building_place
from lifeboat.repository.system import SystemRepository
from sandbox.processes import wait_until
from tests.drills.killed_drill import PHASES, killed_drill
from tests.drills.story import PAPERS, Story, outcomes, proof_of, rows, what_of
from tests.drills.test_ending import asking
from tests.proving.test_restore_test import servers_in
from tests.recovery.line import SOURCE
from tests.seen import is_seen

PACKAGES = PROGRAM.parents[2]
CANARY = "a-password-nobody-may-see"


@pytest.fixture(scope="module")
def kit(story: Story, module_path: Path) -> Path:
    """A kit of the system as it is."""
    return exported(story, module_path / "kit.zip")


def exported(story: Story, file: Path, **more: Any) -> Path:
    with story.saying():
        export([story.repository()], file, actor="a test", **more)
    return file


def saying(story: Story, kit: Path, drills: str = "drills:\n") -> str:
    return f"{drills}  break_glass: {story.line.system.break_glass}\n  kit: {kit}\n"


def recover(
    story: Story,
    kit: Path,
    *,
    program: Path = PROGRAM,
    targets: tuple[str, ...] = ("primary", "offsite"),
    environment: Mapping[str, str] | None = None,
    means: Means | None = None,
    told: list[str] | None = None,
) -> Proof | None:
    """The files alone, by a child of this program."""
    repository = story.repository(environment=environment)
    now = repository.outside.clock()
    room = CleanRoom(
        kit,
        (story.line.system.break_glass,),
        load_policy(story.line.system.policy),
        replace(means or Means(), scratch=story.place),
        "demo-drill",
        tell=[].append if told is None else told.append,
        tick=lambda: None,
        program=program,
    )
    return room.recover(PAPERS, targets, Moments(now, now), (), repository.outside, {"approve": 5})


def test_with_airflow_lost_everything_comes_back_from_the_kit_and_the_break_glass_key_alone(
    story: Story, kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of these would change what a child does that had it.
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(9)\n")
    hostile = {
        "PYTHONPATH": str(tmp_path),
        "PGOPTIONS": "--search_path=nowhere",
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "LIFEBOAT_POLICIES": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_LIFEBOAT_KIT:DEMO:DEMO-LOCAL": f"generic://:{CANARY}@",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 9
    with story.saying(saying(story, kit, asking())):
        record = story.drill("airflow_lost", checks=(rows("4 to 4"),))
    assert record.passed, record.model_dump_json(indent=1)
    database = proof_of(record)
    assert outcomes(database)["rows.sql"]
    assert set(database.milliseconds) == {"open kit", "find", "fetch", "decrypt", "stage", "replay", "open", "check"}
    assert database.milliseconds["open kit"] > 0
    # What asks the copies that came back is the drill's, and gets what it gets in any other.
    assert what_of(proof_of(record, PAPERS), "application") == "sh ended well: firstsecond"
    assert record in story.records("offsite")
    assert list(story.place.iterdir()) == []


def test_a_kit_without_credentials_fails_the_drill_and_the_record_says_what_it_lacks(
    story: Story, tmp_path: Path
) -> None:
    bare = exported(story, tmp_path / "bare.zip", without_credentials=True)
    with story.saying(saying(story, bare)):
        record = story.drill("airflow_lost")
    assert not record.passed
    assert {proof.source for proof in record.proofs} == {SOURCE, PAPERS}
    assert all("was made without credentials" in proof.error and proof.remedy for proof in record.proofs)
    assert record in story.records("primary")


def test_of_a_directory_of_kits_the_newest_is_opened(story: Story, kit: Path, tmp_path: Path) -> None:
    # By its own word: a copy's time in the file system, and its name, say nothing.
    shutil.copy(kit, tmp_path / "z.zip")
    exported(story, tmp_path / "a.zip", without_credentials=True)
    assert newest_kit(tmp_path) == tmp_path / "a.zip"
    with pytest.raises(RestoreError, match=r"a\.zip was made without credentials"):
        recover(story, tmp_path)


def test_a_directory_without_a_kit_is_named(tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match=f"no recovery kit in {tmp_path}"):
        newest_kit(tmp_path)


def test_a_kit_that_is_not_there_is_named(story: Story, tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match=r"another\.zip"):
        recover(story, tmp_path / "another.zip")


def test_a_kit_that_is_older_than_a_source_or_a_target_says_which_it_lacks(story: Story, tmp_path: Path) -> None:
    with story.saying(**{f"\n  {PAPERS}:\n": "\n  letters:\n"}):
        export([story.repository()], tmp_path / "old.zip", actor="a test")
    with pytest.raises(RestoreError, match=f"does not know the source {PAPERS} and the target moon") as refused:
        recover(story, tmp_path / "old.zip", targets=("primary", "moon"))
    assert "export a new one" in refused.value.remedy


def test_a_kit_of_another_system_is_not_enough(story: Story, tmp_path: Path) -> None:
    policy = tmp_path / "another.yaml"
    policy.write_text(story.policy.replace("system: demo\n", "system: another\n"))
    export([SystemRepository(load_policy(policy), story.repository().outside)], tmp_path / "kit.zip", actor="a test")
    with pytest.raises(RestoreError, match="opens no system 'demo'"):
        recover(story, tmp_path / "kit.zip")


def test_a_key_that_nobody_brought_fails_the_drill_and_says_where_it_belongs(
    story: Story, kit: Path, tmp_path: Path
) -> None:
    with story.saying(f"drills:\n  break_glass: {tmp_path}/nobody-brought-it.pem\n  kit: {kit}\n"):
        record = story.drill("airflow_lost")
    assert "nobody-brought-it.pem" in proof_of(record).error
    assert "from the safe" in proof_of(record).remedy


TELLING = """
import json, os, pathlib, sys
request = json.loads(sys.stdin.read())
mine = pathlib.Path(os.environ["HOME"])
told = {
    "environment": dict(os.environ), "directory": os.getcwd(), "in it": os.listdir(), "words": sys.argv,
    "path": sys.path, "request": request,
}
sys.stderr.write("looking around\\n")
proof = {"source": "papers", "kind": "full", "recovery_point": "", "target": "", "chosen": "newest",
         "error": json.dumps(told), "rto_milliseconds": 0, "rpo_milliseconds": 0}
print(json.dumps({"proof": proof}))
"""


def test_the_child_has_an_empty_environment_and_a_directory_of_its_own(
    story: Story, kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program that tells what it sees in the place of the real one."""
    monkeypatch.setenv("AIRFLOW_CONN_OFFSITE", CANARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "telling.py").write_text(TELLING)
    told: list[str] = []
    proof = recover(story, kit, program=tmp_path / "telling.py", told=told)
    assert proof is not None
    seen = json.loads(proof.error)
    home = seen["environment"].pop("HOME")
    assert set(seen["environment"]) == {"PATH", "LANG", "TZ"}
    assert seen["directory"] == home
    assert Path(home).parent == story.place
    assert seen["in it"] == []
    assert CANARY not in proof.error
    assert seen["request"]["before"] == {"approve": 5}
    assert str(tmp_path) not in seen["path"]
    assert str(story.line.system.policy) in seen["request"]["shut"]
    assert str(story.line.system.keys / "local.key") in seen["request"]["shut"]
    assert told == ["looking around"]
    assert list(story.place.iterdir()) == []


def test_the_hooks_that_ask_what_came_back_are_called_with_what_they_list_and_nothing_else(
    story: Story, kit: Path, tmp_path: Path
) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    with story.saying(asking().replace("true']}", "true'], environment: [WANTED]}")):
        policy = load_policy(story.line.system.policy).policy
        assert policy.drills is not None
        means = Means(application=policy.drills.application)
        given = {"WANTED": "given", "UNWANTED": CANARY}
        proof = recover(story, kit, program=tmp_path / "telling.py", environment=given, means=means)
    assert proof is not None
    assert json.loads(proof.error)["request"]["environment"] == {"WANTED": "given"}


def alone(words: str, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", words],
        input=given.decode(),
        env={"PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_airflow_can_be_imported_where_airflow_is_lost() -> None:
    ended = alone("from lifeboat.cli.clean_room import main; main()\nimport airflow.sdk", b"{}")
    assert "ModuleNotFoundError" in ended.stderr
    # What is no request is answered as well, without a word of it.
    assert json.loads(ended.stdout)["error"].endswith("ValidationError.")


def test_a_file_of_the_lost_machine_can_not_be_opened_and_any_other_can(tmp_path: Path) -> None:
    for name in ("demo.yaml", "other"):
        (tmp_path / name).write_text("what is in it")
    shut = (
        "import pathlib; from lifeboat.cli.clean_room import shut\n"
        f"p = pathlib.Path({str(tmp_path)!r}); shut([p / 'demo.yaml'])\n"
    )
    assert "what is in it" in alone(f"{shut}print((p / 'other').read_text())").stdout
    assert "taken for lost" in alone(f"{shut}print((p / 'demo.yaml').read_text())").stderr


def test_a_child_that_leaves_no_answer_has_failed(story: Story, kit: Path, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("import sys; sys.stdin.read(); print('nothing of use'); sys.exit(3)")
    with pytest.raises(RestoreError, match="ended with 3 and left no answer"):
        recover(story, kit, program=tmp_path / "silent.py")
    assert list(story.place.iterdir()) == []


# Holds the recovered server open until somebody ends it.
WAITING = f"""drills:
  application:
    {SOURCE}: {{kind: command, command: [sh, -c, 'touch asked; exec sleep 600']}}
"""


def test_stopped_it_leaves_nothing(story: Story, kit: Path) -> None:
    def stop_when_it_asks() -> None:
        if is_seen(PHASES["asking"], story.place):
            raise Cancelled("Stopped.")

    with story.saying(saying(story, kit, WAITING)), pytest.raises(Cancelled):
        story.drill("airflow_lost", tick=stop_when_it_asks)
    assert servers_in(story.place) == []
    assert list(story.place.iterdir()) == []


def test_killed_it_leaves_neither_a_child_nor_a_server(story: Story, kit: Path) -> None:
    with story.saying(saying(story, kit, WAITING)):
        child = killed_drill(story.line.system.policy, story.place, "asking", "airflow_lost")
        child.start()
        child.join()
    assert child.exitcode == -signal.SIGKILL
    wait_until(lambda: servers_in(story.place) == [], within=20, what="the child and its server to end")
    # What is left lies under the name that the next drill clears away.
    with building_place(story.place, "demo-drill"):
        pass
    assert list(story.place.iterdir()) == []
