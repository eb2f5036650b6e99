"""The command line restores on a machine that has what pyproject.toml declares, and no Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sandbox.accounts import CLONE, remove_server_directory, server_directory
from tests.cli.conftest import Ledger


def closure(name: str, extras: frozenset[str], found: dict[str, Distribution]) -> None:
    """A distribution and everything that it says it needs here."""
    known = distribution(name)
    found[known.metadata["Name"].lower()] = known
    for text in known.requires or []:
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""}) | {""}
        )
        if wanted and (requirement.name.lower() not in found or requirement.extras):
            if requirement.name.lower() in found and not requirement.extras - extras:
                continue
            closure(requirement.name, frozenset(requirement.extras), found)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds Lifeboat and what it declares, linked from ours: nothing is fetched."""
    place = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (packages,) = (place / "lib").glob("python*/site-packages")
    found: dict[str, Distribution] = {}
    closure("lifeboat", frozenset(), found)
    del found["lifeboat"]
    (packages / "lifeboat.pth").write_text(str(CLONE / "plugins"))  # as an editable installation has it
    for one in found.values():
        for file in one.files or []:
            top = file.parts[0]
            if top in ("..", "__pycache__"):
                continue
            origin, link = Path(str(one.locate_file(top))), packages / top
            if not link.exists() and origin.exists():
                _link(origin, link)
    return place / "bin" / "python"


def _link(origin: Path, link: Path) -> None:
    # A namespace that several distributions share must not be one's alone.
    if origin.is_dir() and not (origin / "__init__.py").exists() and origin.suffix != ".dist-info":
        link.mkdir()
        for inner in origin.iterdir():
            (link / inner.name).symlink_to(inner)
    else:
        link.symlink_to(origin)


def test_a_restore_needs_nothing_but_what_is_declared(ledger: Ledger, python: Path, tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    airflow = subprocess.run([python, "-c", "import airflow"], capture_output=True, text=True, env=bare, check=False)
    assert "ModuleNotFoundError: No module named 'airflow'" in airflow.stderr
    place = server_directory(tmp_path / "place")
    try:
        for words in (
            ("policy", "check"),
            ("list", "demo"),
            ("restore", "demo", "database", "--target", "offsite", "--into", str(place / "data"), "--yes"),
        ):
            ended = subprocess.run(
                [python, "-m", "lifeboat.cli", *ledger.protected.options(), *words],
                capture_output=True,
                text=True,
                env=bare,
                cwd=tmp_path,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
        assert (place / "data" / "PG_VERSION").is_file()
    finally:
        remove_server_directory(tmp_path / "place")
