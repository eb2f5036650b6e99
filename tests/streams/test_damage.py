"""A stored object that is not what was written is always an error of ours, never plain bytes taken for good."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifeboat.errors import KeyUnavailable, LifeboatError, ObjectDamaged, ObjectMissing
from lifeboat.streams.context import ObjectContext
from lifeboat.streams.encryption import FRAME_BYTES, OpenedObject, seal, wrapping_keys_of
from lifeboat.streams.keys import Keyring
from lifeboat.streams.reading import Origin
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination
from lifeboat.targets.local import LocalTarget
from tests.streams.conftest import FOLDER
from tests.streams.keys_made import MIB, read_all, threads_of_streams, write_all

To = Callable[..., Destination]
From = Callable[..., Origin]
DATA = random.Random(8).randbytes(2 * MIB + 500_000)
POINT = "20261122T020000Z-full-7f3a"
CONTEXT = ObjectContext("erp", "database", POINT, "base.tar", 1)


def length_of_header(stored: bytes) -> int:
    from aws_encryption_sdk.internal.formatting.deserialize import deserialize_header

    body = BytesIO(stored)
    deserialize_header(body)
    return body.tell() + 16  # the header's authentication tag stands behind it


def frame_border(stored: bytes, frames: int) -> int:
    """Where so many whole frames end: each has a number, an IV, its bytes and a tag."""
    return length_of_header(stored) + frames * (4 + 12 + FRAME_BYTES + 16)


def as_written(stream: StoredStream, *stored: bytes) -> StoredStream:
    """The stream as a manifest would name it that was forged to fit the damage: the message alone must tell."""
    volumes = [
        volume.model_copy(update={"stored_size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        for volume, data in zip(stream.volumes, stored, strict=True)
    ]
    return stream.model_copy(update={"volumes": tuple(volumes)})


def flipped(position: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def damage(stored: bytes) -> bytes:
        place = position(stored) % len(stored)
        return stored[:place] + bytes([stored[place] ^ 0x10]) + stored[place + 1 :]

    return damage


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte": flipped(lambda _: 0),
    "in the message id": flipped(lambda _: 10),
    "in the context": flipped(lambda stored: stored.index(b"recovery-point") + 20),
    "in a wrapped key": flipped(lambda stored: length_of_header(stored) - 150),
    "in the header's tag": flipped(lambda stored: length_of_header(stored) - 1),
    "in the number of a frame": flipped(lambda stored: frame_border(stored, 1) + 3),
    "in a frame": flipped(lambda stored: frame_border(stored, 1) + 5000),
    "in a frame's tag": flipped(lambda stored: frame_border(stored, 1) - 1),
    "in the last frame": flipped(lambda stored: frame_border(stored, 2) + 100),
    "last byte": flipped(lambda _: -1),
    "empty": lambda _: b"",
    "one byte": lambda stored: stored[:1],
    "cut in the header": lambda stored: stored[:100],
    "cut behind the header": lambda stored: stored[: length_of_header(stored)],
    "cut at a frame's border": lambda stored: stored[: frame_border(stored, 1)],
    "cut at the last border": lambda stored: stored[: frame_border(stored, 2)],
    "cut in a frame": lambda stored: stored[: frame_border(stored, 1) + 70_000],
    "last byte missing": lambda stored: stored[:-1],
    "a byte appended": lambda stored: stored + b"\0",
    "itself appended": lambda stored: stored + stored,
    "a frame left out": lambda stored: stored[: frame_border(stored, 0)] + stored[frame_border(stored, 1) :],
    "a frame twice": lambda stored: stored[: frame_border(stored, 1)] + stored[frame_border(stored, 0) :],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, to: To) -> tuple[StoredStream, bytes]:
    root = tmp_path_factory.mktemp("written")
    stream = write_all(to(LocalTarget("store", root)), DATA)
    return stream, (root / FOLDER / "base.tar.0001.zst.enc").read_bytes()


def store_again(store: LocalTarget, *volumes: bytes) -> None:
    for number, data in enumerate(volumes, 1):
        store.put(f"{FOLDER}base.tar.{number:04d}.zst.enc", BytesIO(data))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("manifest", ["true", "forged"])
def test_a_damaged_object_is_never_read_to_a_good_end(
    store: LocalTarget,
    back_from: From,
    written: tuple[StoredStream, bytes],
    damage: Callable[[bytes], bytes],
    manifest: str,
) -> None:
    stream, stored = written
    damaged = damage(stored)
    store_again(store, damaged)
    named = stream if manifest == "true" else as_written(stream, damaged)
    with pytest.raises((ObjectDamaged, KeyUnavailable)) as caught:
        read_all(named, back_from(store))
    assert "base.tar.0001.zst.enc on store" in caught.value.what
    assert caught.value.remedy
    assert threads_of_streams() == []


def test_a_missing_object_is_named(store: LocalTarget, back_from: From, written: tuple[StoredStream, bytes]) -> None:
    with pytest.raises(ObjectMissing, match=r"base\.tar\.0001"):
        read_all(written[0], back_from(store))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, to: To) -> tuple[StoredStream, bytes]:
    root = tmp_path_factory.mktemp("small")
    stream = write_all(to(LocalTarget("store", root)), DATA[:600])
    return stream, (root / FOLDER / "base.tar.0001.zst.enc").read_bytes()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_an_object_can_be_changed_unnoticed(
    store: LocalTarget, back_from: From, small: tuple[StoredStream, bytes], data: st.DataObject
) -> None:
    stream, stored = small
    place = data.draw(st.integers(0, len(stored) - 1))
    changed = bytearray(stored)
    changed[place] ^= data.draw(st.integers(1, 255))
    store_again(store, bytes(changed))
    with pytest.raises(LifeboatError):
        read_all(as_written(stream, bytes(changed)), back_from(store))
    with suppress(ObjectDamaged):
        wrapping_keys_of(BytesIO(changed), "it")


@settings(max_examples=25, deadline=None)
@given(junk=st.binary(max_size=300))
def test_any_bytes_in_an_objects_place_are_an_error_of_ours(opening: Keyring, junk: bytes) -> None:
    with pytest.raises(LifeboatError):
        OpenedObject(BytesIO(junk), CONTEXT, opening, "it")
    with pytest.raises(ObjectDamaged):
        wrapping_keys_of(BytesIO(junk), "it")


def test_swapped_volumes_are_found_even_when_the_manifest_fits_them(
    store: LocalTarget, to: To, back_from: From
) -> None:
    stream = write_all(to(store), DATA[: 2 * MIB], volume_size=MIB)
    first, second = (store.read(FOLDER + volume.file) for volume in stream.volumes)
    store_again(store, second, first)
    with pytest.raises(ObjectDamaged):
        read_all(stream, back_from(store))
    with pytest.raises(ObjectDamaged, match=r"says of itself .*volume=2; expected .*volume=1"):
        read_all(as_written(stream, second, first), back_from(store))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"recovery_point": "20261121T020000Z-full-aaaa"}, "recovery-point=20261121T020000Z-full-aaaa"),
        ({"system": "crm"}, "system=crm"),
    ],
    ids=["of another recovery point", "of another system"],
)
def test_a_good_object_of_elsewhere_is_refused_although_its_key_fits(
    tmp_path: Path, store: LocalTarget, to: To, back_from: From, other: dict[str, str], says: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    elsewhere = LocalTarget("elsewhere", tmp_path / "elsewhere")
    ours = write_all(to(store), DATA[:5000])
    theirs = write_all(to(elsewhere, **other), DATA[:5000])
    stored = elsewhere.read(FOLDER + theirs.volumes[0].file)
    store_again(store, stored)
    with pytest.raises(ObjectDamaged, match=f"(SHA-256|bytes|says of itself .*{says})"):
        read_all(ours, back_from(store))
    with pytest.raises(ObjectDamaged, match=f"is not the object that belongs here: .*{says}"):
        read_all(as_written(ours, stored), back_from(store))


def test_the_same_data_sealed_once_more_is_not_what_was_written(
    store: LocalTarget, back_from: From, keyring: Keyring, written: tuple[StoredStream, bytes]
) -> None:
    again = seal(BytesIO(FRAME), CONTEXT, keyring).read()
    store_again(store, again)
    assert read_all(as_written(written[0], again), back_from(store)) == DATA
    (volume,) = written[0].volumes
    same_size = volume.model_copy(update={"stored_size": len(again)})
    with pytest.raises(ObjectDamaged, match="its SHA-256 differs"):
        read_all(written[0].model_copy(update={"volumes": (same_size,)}), back_from(store))
    with pytest.raises(ObjectDamaged, match=r"has \d+ bytes; \d+ were written"):
        read_all(
            written[0].model_copy(update={"volumes": (volume.model_copy(update={"stored_size": 5}),)}), back_from(store)
        )


def test_an_object_that_says_more_of_itself_than_it_should_is_refused(
    store: LocalTarget, back_from: From, keyring: Keyring, written: tuple[StoredStream, bytes]
) -> None:
    class Boasting(ObjectContext):
        def pairs(self) -> dict[str, str]:
            return super().pairs() | {"approved": "yes"}

    context = Boasting("erp", "database", POINT, "base.tar", 1)
    stored = seal(BytesIO(zstandard.compress(DATA)), context, keyring).read()
    store_again(store, stored)
    with pytest.raises(ObjectDamaged, match="approved=yes"):
        read_all(as_written(written[0], stored), back_from(store))


FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(DATA)
BROKEN_FRAMES = {
    "flipped in the data": FRAME[:500_000] + bytes([FRAME[500_000] ^ 1]) + FRAME[500_001:],
    "flipped in the checksum": FRAME[:-1] + bytes([FRAME[-1] ^ 1]),
    "cut short": FRAME[: len(FRAME) // 2],
    "nothing": b"",
    "junk behind the frame": FRAME + b"and then some",
    "a second frame": FRAME + zstandard.compress(b"more"),
    "no frame": b"not zstd at all" * 100,
    "less than the manifest says": zstandard.compress(DATA[:-1]),
    "more than the manifest says": zstandard.compress(DATA + b"1"),
}


@pytest.mark.parametrize("frame", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES)
def test_a_well_sealed_object_with_broken_contents_is_refused(
    store: LocalTarget, back_from: From, keyring: Keyring, written: tuple[StoredStream, bytes], frame: bytes
) -> None:
    stored = seal(BytesIO(frame), CONTEXT, keyring).read()
    store_again(store, stored)
    with pytest.raises(ObjectDamaged):
        read_all(as_written(written[0], stored), back_from(store))


def test_a_frame_that_asks_for_too_much_memory_is_refused(
    store: LocalTarget, back_from: From, keyring: Keyring, written: tuple[StoredStream, bytes]
) -> None:
    # RFC 8878, 3.1.1: magic number, descriptor, a window of 2 GiB, an empty last block.
    stored = seal(BytesIO(bytes.fromhex("28b52ffd 00 a8 010000")), CONTEXT, keyring).read()
    store_again(store, stored)
    with pytest.raises(ObjectDamaged, match="can't be decompressed"):
        read_all(as_written(written[0], stored), back_from(store))


def test_an_object_with_larger_frames_than_ours_is_refused(
    store: LocalTarget, back_from: From, encryption, outside, written: tuple[StoredStream, bytes], keyring: Keyring
) -> None:
    import aws_encryption_sdk

    stored, _ = aws_encryption_sdk.EncryptionSDKClient().encrypt(
        source=FRAME, keyring=keyring.keyring, encryption_context=CONTEXT.pairs(), frame_length=64 * MIB,
        algorithm=aws_encryption_sdk.Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
    )  # fmt: skip
    store_again(store, stored)
    with pytest.raises(ObjectDamaged):
        read_all(as_written(written[0], stored), back_from(store))


def test_whoever_reads_for_another_place_gets_nothing(
    store: LocalTarget, back_from: From, written: tuple[StoredStream, bytes]
) -> None:
    store_again(store, written[1])
    with pytest.raises(ObjectDamaged, match="is not the object that belongs here"):
        read_all(written[0], replace(back_from(store), source="files"))
