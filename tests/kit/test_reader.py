"""The reader of forty lines: what it reads, and all that it refuses."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import random
import runpy
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cryptographic_material_providers.mpl.errors import AwsCryptographicMaterialProvidersException
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from cryptography.exceptions import InvalidSignature, InvalidTag

from lifeboat.connections import outside_from
from lifeboat.kit.papers import PROJECT
from lifeboat.outside import utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.repository.commit import commit, wrapped_keys
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.manifest import Manifest, Run
from lifeboat.repository.system import SystemRepository, Work, tool_versions
from lifeboat.streams.key_making import new_break_glass_pair, new_local_key, new_signing_pair
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination, StreamWriter
from lifeboat.targets.local import LocalTarget
from sandbox.demo_system import DemoSystem, make_demo_system
from tests.kit.conftest import pinned_names

READER = PROJECT / "include" / "reader" / "lifeboat_reader.py"
PLAIN = random.Random(7).randbytes(2_500_000)
REFUSALS = (ValueError, AWSEncryptionSDKClientError, AwsCryptographicMaterialProvidersException, InvalidTag)
Change = Callable[[Path, dict[str, Any]], None]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> DemoSystem:
    return make_demo_system(tmp_path_factory.mktemp("system"), binaries=Path("/nowhere"))


@pytest.fixture
def folder(system: DemoSystem, tmp_path: Path) -> Path:
    """A recovery point with a stream of three volumes and an empty one."""
    return make_point(system, tmp_path)


def make_point(system: DemoSystem, root: Path) -> Path:
    repository = SystemRepository(load_policy(system.policy), outside_from({}))
    target = LocalTarget("local", root)
    work = Work.new("full", begun=utc_now(), tiers=("daily",), run=Run(command="test"), actor="test")
    place = RecoveryPointFolder("demo", "database", str(work.recovery_point))
    to = Destination(
        target, place.attempt(work.attempt), "demo", "database", str(work.recovery_point), repository.sealing
    )
    streams = []
    for name, plain in (("base.tar", PLAIN), ("empty", b"")):
        writer = StreamWriter(name, to, StreamSettings(volume_size=1024 * 1024))
        writer.write(plain)
        streams.append(writer.finish())
    now = utc_now()
    manifest = Manifest(
        system="demo",
        source="database",
        recovery_point=str(work.recovery_point),
        attempt=work.attempt,
        kind="full",
        sequence=1,
        previous=None,
        chain=str(work.recovery_point),
        begun=now,
        committed=now,
        moment=now,
        details={},
        streams=tuple(streams),
        wrapped_keys=wrapped_keys(repository.sealing.wrapping_keys),
        tool_versions=tool_versions(),
        policy_digest=repository.loaded.digest,
        run=work.run,
    )
    commit(target, manifest, repository.signer)
    return root / place.path


def public_key(system: DemoSystem) -> str:
    return load_policy(system.policy).policy.signing.trusted[0].public_key


def read(monkeypatch: pytest.MonkeyPatch, key: Path, folder: Path, stream: str, *more: str) -> bytes:
    """Run the reader in this process, which has paid for the import of the SDK already."""
    output = io.BytesIO()
    monkeypatch.setattr(sys, "argv", [str(READER), str(key), str(folder), stream, *more])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, write_through=True))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    runpy.run_path(str(READER))
    sys.stdout.flush()
    return output.getvalue()


def test_it_reads_all_volumes_with_either_key_and_the_signer_s_public_key(
    system: DemoSystem, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = system.keys / "local.key"
    raw = tmp_path / "raw.key"
    raw.write_bytes(base64.b64decode(local.read_bytes()))
    for key in (system.break_glass, local, raw):
        assert read(monkeypatch, key, folder, "base.tar", public_key(system)) == PLAIN
    assert read(monkeypatch, local, folder, "base.tar") == PLAIN
    assert read(monkeypatch, local, folder, "empty") == b""


def _volume(folder: Path, manifest: dict[str, Any], number: int) -> tuple[Path, dict[str, Any]]:
    volume = manifest["streams"][0]["volumes"][number - 1]
    return folder / manifest["attempt"] / volume["file"], volume


def _restated(path: Path, volume: dict[str, Any]) -> None:
    """Make the manifest agree with changed bytes, as somebody would who can write to the target."""
    volume["stored_size"] = path.stat().st_size
    volume["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()


def flip_a_byte(folder: Path, manifest: dict[str, Any]) -> None:
    path, _ = _volume(folder, manifest, 2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_a_byte_and_restate(folder: Path, manifest: dict[str, Any]) -> None:
    flip_a_byte(folder, manifest)
    _restated(*_volume(folder, manifest, 2))


def truncate(folder: Path, manifest: dict[str, Any]) -> None:
    path, _ = _volume(folder, manifest, 3)
    path.write_bytes(path.read_bytes()[:-100])


def truncate_and_restate(folder: Path, manifest: dict[str, Any]) -> None:
    truncate(folder, manifest)
    _restated(*_volume(folder, manifest, 3))


def cut_between_frames_and_restate(folder: Path, manifest: dict[str, Any]) -> None:
    path, volume = _volume(folder, manifest, 1)
    data = path.read_bytes()
    # The final frame begins with this marker.
    path.write_bytes(data[: data.rindex(b"\xff\xff\xff\xff")])
    _restated(path, volume)


def append(folder: Path, manifest: dict[str, Any]) -> None:
    path, _ = _volume(folder, manifest, 1)
    path.write_bytes(path.read_bytes() + b"more")


def append_and_restate(folder: Path, manifest: dict[str, Any]) -> None:
    append(folder, manifest)
    _restated(*_volume(folder, manifest, 1))


def swap_volumes(folder: Path, manifest: dict[str, Any]) -> None:
    volumes = manifest["streams"][0]["volumes"]
    volumes[0], volumes[1] = volumes[1], volumes[0]


def drop_the_first_volume(folder: Path, manifest: dict[str, Any]) -> None:
    del manifest["streams"][0]["volumes"][0]


def rename_a_stream(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["streams"][0]["name"] = "another"
    manifest["streams"][1]["name"] = "base.tar"


def claim_another_system(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["system"] = "another"


def claim_another_source(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["source"] = "another"


def claim_another_recovery_point(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["recovery_point"] = "20261122T020000Z-full-0000"


def claim_another_size(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["streams"][0]["volumes"][2]["plain_size"] -= 1


def claim_another_digest(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["streams"][0]["volumes"][2]["sha256"] = "0" * 64


def claim_another_stored_size(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["streams"][0]["volumes"][2]["stored_size"] += 1


def claim_another_format(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["format_version"] = 2


CHANGES = (
    flip_a_byte,
    flip_a_byte_and_restate,
    truncate,
    truncate_and_restate,
    cut_between_frames_and_restate,
    append,
    append_and_restate,
    swap_volumes,
    drop_the_first_volume,
    rename_a_stream,
    claim_another_system,
    claim_another_source,
    claim_another_recovery_point,
    claim_another_size,
    claim_another_digest,
    claim_another_stored_size,
    claim_another_format,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_was_changed_is_refused_even_where_the_manifest_agrees(
    system: DemoSystem, folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(folder, manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(REFUSALS):
        read(monkeypatch, system.keys / "local.key", folder, "base.tar")


def test_objects_of_another_recovery_point_are_refused(
    system: DemoSystem, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = make_point(system, tmp_path / "other")
    manifest, theirs = (json.loads((each / "manifest.json").read_bytes()) for each in (folder, other))
    path, volume = _volume(folder, manifest, 1)
    path.write_bytes(_volume(other, theirs, 1)[0].read_bytes())
    _restated(path, volume)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is another object"):
        read(monkeypatch, system.keys / "local.key", folder, "base.tar")


def test_a_manifest_that_the_given_key_did_not_sign_is_refused(
    system: DemoSystem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSignature):
        read(monkeypatch, system.keys / "local.key", folder, "empty", new_signing_pair().public)
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"note": ""', b'"note": "x"'))
    with pytest.raises(InvalidSignature):
        read(monkeypatch, system.keys / "local.key", folder, "empty", public_key(system))


@pytest.mark.parametrize("kind", ["rsa", "aes"])
def test_a_wrong_key_opens_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    key = tmp_path / "wrong.key"
    key.write_text(new_break_glass_pair().private if kind == "rsa" else new_local_key())
    with pytest.raises(REFUSALS):
        read(monkeypatch, key, folder, "base.tar")


def test_a_failure_ends_with_a_code_and_one_line_without_a_traceback(system: DemoSystem, folder: Path) -> None:
    flip_a_byte(folder, json.loads((folder / "manifest.json").read_bytes()))
    ended = subprocess.run(
        [sys.executable, READER, system.keys / "local.key", folder, "base.tar"], capture_output=True, check=False
    )
    assert ended.returncode != 0
    assert ended.stderr.startswith(b"WRONG, don't use the output: ValueError: ")
    assert ended.stderr.endswith(b" is not what was written\n")
    assert ended.stderr.count(b"\n") == 1


def test_it_has_at_most_forty_lines_of_code_and_never_imports_lifeboat() -> None:
    source = READER.read_text(encoding="utf-8")
    tree = ast.parse(source)
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    lines -= set(range(tree.body[0].lineno, (tree.body[0].end_lineno or 0) + 1))
    assert len(lines) <= 40
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    outside = imported - set(sys.stdlib_module_names)
    assert outside == {"zstandard", "aws_cryptographic_material_providers", "aws_encryption_sdk", "cryptography"}


def test_its_requirements_are_those_of_the_project_with_the_same_hashes() -> None:
    whole = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    own = PROJECT / "include" / "reader" / "requirements.txt"
    entries = [entry for entry in own.read_text(encoding="utf-8").split("\n\n", 1)[1].rstrip().split("\n") if entry]
    for entry in entries:
        assert entry.rstrip(" \\") in whole, f"run the pinning of {own.name} again: {entry}"
    assert {"aws-encryption-sdk", "zstandard", "cryptography"} <= set(pinned_names(own))
