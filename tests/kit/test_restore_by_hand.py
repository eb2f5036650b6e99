"""The page for the worst night, every command of it, against a real backup, without Lifeboat."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lifeboat.kit.export import export
from lifeboat.kit.papers import PROJECT
from sandbox.accounts import server_account
from tests.kit.conftest import LostSystem, Papers

PAGE = PROJECT / "docs" / "restore-by-hand.md"
_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """The page's command blocks: for whom or for which kind of target, and the commands."""
    found = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert {language for language, _, _ in found} == {"sh"}
    return [(kind, commands) for _, kind, commands in found]


def shell(commands: str, variables: dict[str, str], *, as_server: bool = False) -> str:
    account = server_account() if as_server else None
    who = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    ended = subprocess.run(
        ["/bin/sh", "-e"],
        input=commands,
        env=variables,
        cwd="/",
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=500,
        check=False,
        **who,
    )
    assert ended.returncode == 0, ended.stdout[-6000:]
    return ended.stdout


@pytest.mark.timeout(600)
def test_the_page_and_a_kit_bring_a_database_back_to_a_moment_between_two_commits_without_lifeboat(
    lost: LostSystem, papers: Papers, server_place: Path, tmp_path: Path
) -> None:
    kit = tmp_path / "kit.zip"
    export([lost.repository], kit, actor="test", wheels=papers.wheels, project=papers.project)
    account = server_account()
    between = lost.times[6]
    variables = {
        # The interpreter's own directory, not that of the environment in which Lifeboat is installed.
        "PATH": os.pathsep.join(
            [str(Path(sys.base_prefix) / "bin"), str(tmp_path / "tools"), "/usr/local/bin", "/usr/bin", "/bin"]
        ),
        "LC_ALL": "C.UTF-8",
        "HOME": str(tmp_path),
        # Most modules of the wheels are never imported: compiling them all would double the test's time.
        "PIP_NO_COMPILE": "1",
        "KIT_FILE": str(kit),
        "BREAK_GLASS": str(lost.system.break_glass),
        "WORK": str(server_place),
        "SYSTEM": "demo",
        "SOURCE": "database",
        "TARGET": "primary",
        "MOMENT": between.isoformat(sep=" "),
        "PGBIN": str(lost.binaries),
        "ACCOUNT": account.name if account is not None else str(os.getuid()),
    }
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "rclone").symlink_to(Path(sys.executable).parent / "rclone")
    page = blocks()
    assert [kind for kind, _ in page if kind] == ["s3", "sftp", "file"] + ["server"] * 5
    first_of_server = [kind for kind, _ in page].index("server")
    ours = []
    for kind, commands in page[:first_of_server]:
        if kind == "sftp":
            ours.append("mv mirror mirror-from-s3; mkdir mirror; TARGET=offsite")
        elif kind == "file":
            ours.append("mv mirror mirror-from-sftp; mkdir mirror; TARGET=local")
        ours.append(commands)
    ours += [
        "diff -r mirror mirror-from-s3",
        "diff -r mirror mirror-from-sftp",
        "if reader/bin/python -c 'import lifeboat'; then echo 'lifeboat can be imported'; exit 1; fi",
        "if python3 -c 'import lifeboat'; then echo 'lifeboat can be imported'; exit 1; fi",
    ]
    told = shell("\n".join(ours), variables)
    assert "backup successfully verified" in told

    theirs = [f"trap '{lost.binaries}/pg_ctl -D {server_place}/data -m immediate stop || true' EXIT"]
    for kind, commands in page[first_of_server:-1]:
        assert kind == "server"
        theirs.append(commands)
        if "pause_state" in commands or "pg_is_in_recovery" in commands:
            for question in ("array_agg(n ORDER BY n) FROM ledger", "count(*) FROM far", "count(*) FROM near"):
                theirs.append(f"echo proof: $(ask {shlex.quote(f'SELECT {question}')})")
    told = shell("\n".join(theirs), variables | {"PATH": "/usr/bin:/bin"}, as_server=True)
    proofs = re.findall(r"^proof: (.*)$", told, re.MULTILINE)
    # Row 6 was committed just before the moment, row 7 just after: once while recovery stands still, once promoted.
    assert proofs == ["{0,1,2,3,4,5,6}", "1000", "1000"] * 2

    kind, last = page[-1]
    assert kind == ""
    shell(last, variables)
    assert not (server_place / "credentials.json").exists()
    for name in ("demo_primary", "kit-secret-key"):
        assert name not in told
