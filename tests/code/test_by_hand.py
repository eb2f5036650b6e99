"""Without Lifeboat: the reader of forty lines, and `git clone`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sandbox.accounts import CLONE
from tests.code.conftest import CodeSet, Origin, git, ids


def test_a_bundle_is_read_by_the_stock_reader_and_cloned_by_git(code: CodeSet, tmp_path: Path) -> None:
    code.one.commit()
    code.one.commit("refs/heads/feature/a")
    code.one.tag("v1")
    code.one.set("refs/refs/heads/main", code.one.ids()["refs/heads/main"])
    long = Origin.make(code.origins / "long.git", "--object-format=sha256")
    long.commit()
    code.protect(code.one.url, long.url)
    copy = code.snapshot()
    key = next(Path(word) for word in code.world.policy.read_text().split() if word.endswith("local.key"))
    folder = code.world.roots["primary"] / copy.manifest.folder.path
    for origin in (code.one, long):
        bundle = tmp_path / f"{origin.path.stem}.bundle"
        with bundle.open("wb") as file:
            subprocess.run(
                [sys.executable, CLONE / "include" / "reader" / "lifeboat_reader.py", key, folder, bundle.name],
                stdout=file,
                check=True,
            )
        git("clone", "--quiet", "--mirror", bundle, tmp_path / "back" / origin.path.name)
        assert ids(tmp_path / "back" / origin.path.name) == origin.ids()
        git("fsck", "--full", "--strict", at=tmp_path / "back" / origin.path.name)
