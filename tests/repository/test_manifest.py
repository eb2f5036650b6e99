"""Manifests: what they refuse, what they promise, and that nothing can be slipped in behind their back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lifeboat.errors import ManifestInvalid, RecoveryPointMissing
from lifeboat.policy.signing import TrustedKey
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointFolder, RecoveryPointId
from lifeboat.repository.manifest import Manifest, manifest_schema_text, parse_manifest
from lifeboat.repository.signing import TrustedKeys
from lifeboat.streams.key_making import new_signing_pair
from tests.repository.world import SOURCE, World

ROOT = Path(__file__).resolve().parents[2]


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert (ROOT / "docs" / "manifest.schema.json").read_text() == manifest_schema_text()


def test_a_stored_manifest_obeys_the_published_schema(world: World) -> None:
    schema = json.loads(manifest_schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(world.point().document)
    jsonschema.Draft202012Validator(schema).validate(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(document | {"format_version": 2})


def test_a_manifest_holds_no_secret(world: World) -> None:
    document = world.point().document.decode()
    keys = world.loaded.policy.encryption.keys[0].file.parent
    for path in keys.iterdir():
        lines = [line for line in path.read_text().splitlines() if len(line) > 20 and "PUBLIC" not in path.read_text()]
        assert not any(line in document for line in lines)


def changed(copy: Copy, **values: Any) -> bytes:
    return json.dumps(json.loads(copy.document) | values).encode()


def read(world: World, copy: Copy) -> Copy:
    return world.repository().catalogue("primary").read(copy.manifest.folder)


def test_a_later_format_is_refused_by_name(world: World) -> None:
    copy = world.point()
    world.file(copy.manifest.folder.manifest).write_bytes(changed(copy, format_version=2, novelty=True))
    with pytest.raises(ManifestInvalid, match="is of format version 2; this Lifeboat reads version 1") as caught:
        read(world, copy)
    assert "newer Lifeboat" in caught.value.remedy


@pytest.mark.parametrize(
    "values",
    [
        {"system": "crm"},
        {"sequence": 0},
        {"sequence": 2},
        {"unknown": 1},
        {"recovery_point": "20261122T020000Z-full-zzzz"},
        {"recovery_point": "20260231T020000Z-full-7f3a"},
        {"attempt": "attempt-1"},
        {"kind": "wal"},
        {"committed": "2026-11-22T02:00:00"},
        {"streams": 5},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_or_its_place_is_refused(world: World, values: dict[str, Any]) -> None:
    copy = world.point()
    with pytest.raises(ManifestInvalid):
        parse_manifest(changed(copy, **values), copy.manifest.folder, "The manifest")


def rewritten(copy: Copy, change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    streams = json.loads(copy.document)["streams"]
    change(streams)
    return changed(copy, streams=streams)


@pytest.mark.parametrize(
    "change",
    [
        lambda streams: streams.append(streams[0]),
        lambda streams: streams[0]["volumes"].reverse(),
        lambda streams: streams[0]["volumes"].pop(0),
        lambda streams: streams[0]["volumes"].clear(),
        lambda streams: streams[0]["volumes"][0].update(file="../../crm/secret"),
        lambda streams: streams[0]["volumes"][0].update(file=streams[0]["volumes"][1]["file"]),
        lambda streams: streams[0]["volumes"][0].update(sha256="0"),
        lambda streams: streams[0]["volumes"][0].update(stored_size=-1),
    ],
    ids=["stream twice", "reversed", "gap", "none", "elsewhere", "file twice", "digest", "size"],
)
def test_a_manifest_with_impossible_objects_is_refused(world: World, change: Callable[..., object]) -> None:
    copy = world.point()
    with pytest.raises(ManifestInvalid):
        parse_manifest(rewritten(copy, change), copy.manifest.folder, "The manifest")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_manifest_can_be_changed_unnoticed(world: World, data: st.DataObject) -> None:
    listing = world.repository().catalogue("primary").recovery_points(SOURCE)
    copy = listing.copies[0] if listing.copies else world.point()
    path = world.file(copy.manifest.folder.manifest)
    document = bytearray(copy.document)
    document[data.draw(st.integers(0, len(document) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(document)
    try:
        with pytest.raises(ManifestInvalid):
            read(world, copy)
        assert world.repository().catalogue("primary").recovery_points(SOURCE).copies == ()
        assert len(world.repository().catalogue("primary").recovery_points(SOURCE).unreadable) == 1
    finally:
        path.write_bytes(copy.document)


@settings(max_examples=40, deadline=None)
@given(junk=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(json.dumps).map(str.encode)))
def test_junk_is_a_clear_error(junk: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(junk, RecoveryPointFolder("demo", "database", "20261122T020000Z-full-7f3a"), "The manifest")


DEEP = b"[" * 30_000


@pytest.mark.parametrize("signature", [None, b"", b"{}", b"[]", b"\xff", DEEP, b'{"algorithm": "none", "key_id": 1}'])
def test_a_manifest_without_a_good_signature_is_refused(world: World, signature: bytes | None) -> None:
    copy = world.point()
    path = world.file(copy.manifest.folder.signature(copy.manifest.attempt))
    path.unlink() if signature is None else path.write_bytes(signature)
    with pytest.raises(ManifestInvalid, match="signature"):
        read(world, copy)


def test_a_manifest_as_deep_as_the_sea_is_a_clear_error(world: World) -> None:
    copy = world.point()
    world.file(copy.manifest.folder.manifest).write_bytes(DEEP)
    with pytest.raises(ManifestInvalid):
        read(world, copy)


def resigned(world: World, copy: Copy, **values: Any) -> None:
    signature = json.loads(copy.signature) | values
    world.file(copy.manifest.folder.signature(copy.manifest.attempt)).write_text(json.dumps(signature))


def test_a_signature_of_another_algorithm_or_key_is_refused(world: World) -> None:
    copy = world.point()
    resigned(world, copy, algorithm="RS256")
    with pytest.raises(ManifestInvalid, match="only Ed25519 is known"):
        read(world, copy)
    resigned(world, copy, key_id="somebody")
    with pytest.raises(ManifestInvalid, match="'somebody'"):
        read(world, copy)
    resigned(world, copy, signature=base64.b64encode(b"0" * 64).decode())
    with pytest.raises(ManifestInvalid, match="was changed after it was signed"):
        read(world, copy)


def test_a_stranger_who_signs_with_the_name_of_our_key_is_not_believed(world: World, tmp_path: Path) -> None:
    copy = world.point()
    stranger = new_signing_pair()
    trusted = TrustedKey(id="demo-signing", public_key=stranger.public, valid_from=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ManifestInvalid, match="was never signed by 'demo-signing'"):
        TrustedKeys([trusted]).verify_file(
            copy.document, copy.signature, signed=copy.manifest.committed, what="The manifest"
        )


@pytest.mark.parametrize(
    ("since", "until", "believed"),
    [
        ("2026-11-22T02:00:00Z", None, True),
        ("2026-11-22T02:00:01Z", None, False),
        ("2026-01-01T00:00:00Z", "2026-11-22T02:00:00Z", False),
        ("2026-01-01T00:00:00Z", "2026-11-22T02:00:01Z", True),
    ],
)
def test_a_key_is_believed_for_its_own_time_only(world: World, since: str, until: str | None, believed: bool) -> None:
    copy = world.point()
    validity = f"valid_from: {since}" + (f"\n      valid_until: {until}" if until else "")
    bent = world.bent("valid_from: 2026-01-01T00:00:00Z", validity)
    if believed:
        assert read(bent, copy) == copy
    else:
        with pytest.raises(ManifestInvalid, match="was not valid"):
            read(bent, copy)


def test_a_manifest_moved_to_another_recovery_points_folder_is_refused(world: World) -> None:
    first, second = world.point(), world.point()
    catalogue = world.repository().catalogue("primary")
    for key in ("manifest.json", f"{first.manifest.attempt}/manifest.json.sig"):
        moved = world.file(second.manifest.folder.path + key)
        moved.parent.mkdir(exist_ok=True)
        moved.write_bytes(world.file(first.manifest.folder.path + key).read_bytes())
    with pytest.raises(ManifestInvalid, match=f"belongs to {first.manifest.folder.path}, not to where it lies"):
        catalogue.read(second.manifest.folder)
    assert [copy.manifest.recovery_point for copy in catalogue.recovery_points(SOURCE).copies] == [
        first.manifest.recovery_point
    ]


def test_a_signature_of_another_manifest_is_refused(world: World) -> None:
    first, second = world.point(), world.point()
    signature = world.file(second.manifest.folder.signature(second.manifest.attempt))
    signature.write_bytes(first.signature)
    with pytest.raises(ManifestInvalid, match="was changed after it was signed"):
        read(world, second)


def test_what_is_not_committed_is_missing(world: World) -> None:
    copy = world.point()
    world.file(copy.manifest.folder.manifest).unlink()
    with pytest.raises(RecoveryPointMissing):
        read(world, copy)


def test_the_first_of_a_sequence_alone_has_no_predecessor(world: World) -> None:
    repository = world.repository()
    first = world.point(repository)
    second = world.point(repository)
    assert (first.manifest.sequence, first.manifest.previous) == (1, None)
    assert second.manifest.sequence == 2
    assert second.manifest.previous is not None
    assert second.manifest.previous.sha256 == first.sha256
    with pytest.raises(ValidationError, match="only the first"):
        Manifest.model_validate(json.loads(first.document) | {"sequence": 3})


def test_what_was_rebuilt_bears_the_time_that_it_stands_for(world: World) -> None:
    point = world.point().manifest
    rebuilt = {"base": "20261122T020000Z-full-7f3a", "target": "primary", "timeline": 1, "wal_until": "0/3000000"}
    begun = RecoveryPointId.parse(point.recovery_point).begun
    values = point.model_dump() | {"rebuilt": rebuilt}
    Manifest.model_validate(values | {"moment": begun})
    with pytest.raises(ValidationError, match="recovery_point says another time than moment"):
        Manifest.model_validate(values | {"moment": begun + timedelta(seconds=1)})


def test_what_was_not_rebuilt_is_written_as_it_always_was(world: World) -> None:
    """A Lifeboat that does not know the field reads every other manifest."""
    assert "rebuilt" not in json.loads(world.point().document)
