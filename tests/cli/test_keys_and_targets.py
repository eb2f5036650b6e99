"""``lifeboat key new`` and ``lifeboat target mark``."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lifeboat.policy.loading import load_policy
from sandbox.demo_system import make_demo_system
from tests.cli.conftest import Said

Command = Callable[..., Said]


def test_new_keys_make_a_policy_together_with_the_lines_that_are_printed(tmp_path: Path, lifeboat: Command) -> None:
    words = [
        ("--local", str(tmp_path / "erp.key")),
        ("--break-glass", str(tmp_path / "glass.pem"), str(tmp_path / "glass.pub")),
        ("--signing", str(tmp_path / "signing.pem")),
    ]
    printed = []
    for one in words:
        said = lifeboat(None, "key", "new", *one)
        assert said.code == 0, said.err
        printed.append(yaml.safe_load(said.out))
        for file in one[1:]:
            text = Path(file).read_text().strip()
            if not file.endswith(".pub"):
                assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
                assert text not in said.out + said.err
    demo = make_demo_system(tmp_path / "system", binaries=tmp_path)
    policy = yaml.safe_load(demo.policy.read_text())
    policy["encryption"]["keys"] = [entry for part in printed[:2] for entry in part["encryption"]["keys"]]
    policy["signing"] = printed[2]["signing"]
    demo.policy.write_text(yaml.safe_dump(policy))
    loaded = load_policy(demo.policy)
    assert [key.kind for key in loaded.policy.encryption.keys] == ["local", "rsa_public"]


@pytest.mark.parametrize("which", ["--local", "--signing"])
def test_a_key_is_never_overwritten(tmp_path: Path, lifeboat: Command, which: str) -> None:
    file = tmp_path / "key"
    file.write_text("an old key")
    said = lifeboat(None, "key", "new", which, str(file))
    assert said.code == 1
    assert "File exists" in said.err
    assert file.read_text() == "an old key"


def test_half_a_pair_is_not_left_behind(tmp_path: Path, lifeboat: Command) -> None:
    private, public = tmp_path / "private", tmp_path / "missing" / "public"
    assert lifeboat(None, "key", "new", "--break-glass", str(private), str(public)).code == 1
    assert list(tmp_path.iterdir()) == []


def test_one_key_at_a_time(tmp_path: Path, lifeboat: Command) -> None:
    assert lifeboat(None, "key", "new").code == 2
    said = lifeboat(None, "key", "new", "--local", str(tmp_path / "a"), "--signing", str(tmp_path / "b"))
    assert said.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_marked_once_and_another_marker_is_respected(tmp_path: Path, lifeboat: Command) -> None:
    demo = make_demo_system(tmp_path, binaries=tmp_path)
    options = ("--policies", str(demo.policies))
    marker = demo.local / ".lifeboat-target"
    marker.unlink()
    said = lifeboat(None, *options, "target", "mark", "demo", "local")
    assert said.code == 0, said.err
    assert marker.read_text() == "demo-local\n"
    assert "already" in lifeboat(None, *options, "target", "mark", "demo", "local").out
    marker.write_text("somebody-else\n")
    said = lifeboat(None, *options, "target", "mark", "demo", "local")
    assert said.code == 1
    assert "somebody-else" in said.err
    assert marker.read_text() == "somebody-else\n"
    assert lifeboat(None, *options, "target", "mark", "demo", "primary").code == 1
    marker.unlink()
    demo.local.rmdir()
    said = lifeboat(None, *options, "target", "mark", "demo", "local")
    assert said.code == 1
    assert not demo.local.exists()


def test_a_directory_on_a_server_is_marked_there(tmp_path: Path, lifeboat: Command) -> None:
    demo = make_demo_system(
        tmp_path,
        binaries=tmp_path,
        offsite="sftp://vault.example.com/srv/lifeboat",
        replacing={"    connection: demo_offsite\n": "    connection: demo_offsite\n    marker: vault-1\n"},
    )
    said = lifeboat(None, "--policies", str(demo.policies), "target", "mark", "demo", "offsite")
    assert said.code == 1
    for piece in (".lifeboat-target", "vault-1", "/srv/lifeboat", "vault.example.com"):
        assert piece in " ".join(said.err.split())
