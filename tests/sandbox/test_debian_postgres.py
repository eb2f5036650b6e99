"""PostgreSQL 17 of another Debian release: complete, run with its own libraries, or clearly refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox import debian_postgres, postgres_builds
from sandbox.accounts import SandboxError, can_run
from sandbox.debian_postgres import MAJOR, fetch
from sandbox.postgres_builds import available, binaries


def test_all_programs_of_17_run_as_the_account_of_the_servers_and_through_a_link(tmp_path: Path) -> None:
    directory = binaries(MAJOR)
    for name in ("postgres", "initdb", "pg_combinebackup", "pg_verifybackup", "pg_waldump", "pg_dump", "pg_restore"):
        assert can_run(directory / name), name
    link = tmp_path / "pg_dump"
    link.symlink_to(directory / "pg_dump")
    said = subprocess.run([link, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"pg_dump (PostgreSQL) {MAJOR}.")


def test_a_directory_without_the_tools_of_17_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_postgres, "_TREE", tmp_path / "none")
    monkeypatch.setattr(postgres_builds, "_DISTRIBUTION", tmp_path)
    directory = tmp_path / str(MAJOR) / "bin"
    directory.mkdir(parents=True)
    for name in ("postgres", "pg_combinebackup"):
        (directory / name).touch()
    assert not available(MAJOR)
    (directory / "pg_verifybackup").touch()
    assert available(MAJOR)


@pytest.mark.parametrize("lacking", ["apt-get", "keys", "mirror"])
def test_where_it_cannot_be_fetched_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setattr(debian_postgres, "_TREE", tmp_path / "tree")
    if lacking == "apt-get":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif lacking == "keys":
        monkeypatch.setattr(debian_postgres, "_KEYS", tmp_path / "none.gpg")
    else:
        sources = tmp_path / "sources.list"
        sources.write_text(f"deb [trusted=yes] file:{tmp_path} {debian_postgres._release()} main\n")
        configuration = tmp_path / "apt.conf"
        configuration.write_text(f'Dir::Etc::SourceList "{sources}"; Dir::Etc::SourceParts "/dev/null";\n')
        monkeypatch.setenv("APT_CONFIG", str(configuration))
    with pytest.raises(SandboxError, match="can't be fetched|no apt-get") as refused:
        fetch()
    assert f"/usr/lib/postgresql/{MAJOR}/bin" in str(refused.value)
    assert not (tmp_path / "tree").exists()
