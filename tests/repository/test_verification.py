"""Verification of stored bytes: each damage is found, and named."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import pytest

from lifeboat.errors import TargetUnavailable, VerificationFailed
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.verification import verify_stored
from sandbox.s3_servers import MotoServer, RcloneS3
from tests.repository.world import World


def keys_of(copy: Copy) -> list[str]:
    folder = copy.manifest.folder.attempt(copy.manifest.attempt)
    return [folder + volume.file for stream in copy.manifest.streams for volume in stream.volumes]


def flip(data: bytes, place: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


METHODS: tuple[Literal["read", "store"], ...] = ("read", "store")
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: flip(data, len(data) // 2),
    "shorter": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
}


def test_a_good_copy_is_read_to_the_last_byte(any_world: World) -> None:
    copy = any_world.point()
    seen: list[int] = []
    verified = verify_stored(any_world.repository().target("primary"), copy, passed=seen.append)
    assert (verified.method, verified.objects) == ("read", 3)
    assert verified.read_back == verified.stored_size == copy.manifest.stored_size == sum(seen)


def test_any_damage_is_found_and_named(any_world: World) -> None:
    copy = any_world.point()
    target = any_world.repository().target("primary")
    key = keys_of(copy)[1]
    good = target.read(key)
    for damage in DAMAGES.values():
        target.put(key, BytesIO(damage(good)))
        for method in METHODS:
            with pytest.raises(VerificationFailed, match=r"1 of 3 objects of .*full.* on primary are") as caught:
                verify_stored(target, copy, method=method)
            assert key in caught.value.what
            assert "Do not restore from this copy" in caught.value.remedy
    target.put(key, BytesIO(good))
    for method in METHODS:
        verify_stored(target, copy, method=method)


def test_all_that_is_wrong_is_named_at_once(world: World) -> None:
    copy = world.point(streams={f"stream-{number}": b"1" * 1000 for number in range(5)})
    first, second, third, fourth, good = keys_of(copy)
    world.file(first).unlink()
    world.file(second).write_bytes(b"")
    swapped = world.file(third).read_bytes()
    world.file(third).write_bytes(world.file(fourth).read_bytes())
    world.file(fourth).write_bytes(swapped)
    with pytest.raises(VerificationFailed, match="4 of 5 objects") as caught:
        verify_stored(world.repository().target("primary"), copy)
    assert all(key in caught.value.what for key in (first, second, third, fourth))
    assert good not in caught.value.what


def as_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def test_something_that_is_no_file_in_an_objects_place_is_one_more_damage(world: World) -> None:
    copy = world.point()
    first, second, _ = keys_of(copy)
    as_link(world.file(first))
    world.file(second).unlink()
    with pytest.raises(VerificationFailed, match="2 of 3 objects"):
        verify_stored(world.repository().target("primary"), copy)


def test_very_much_damage_is_counted_and_not_listed_without_end(world: World) -> None:
    copy = world.point(streams={f"stream-{number}": b"1" for number in range(30)})
    for key in keys_of(copy):
        world.file(key).unlink()
    with pytest.raises(VerificationFailed, match=r"30 of 30 .* And 10 more\."):
        verify_stored(world.repository().target("primary"), copy)


def test_a_target_that_is_away_says_nothing_about_the_copy(world: World) -> None:
    copy = world.point()
    (world.roots["primary"] / ".lifeboat-target").unlink()
    with pytest.raises(TargetUnavailable):
        verify_stored(world.repository().target("primary"), copy)


def test_a_stores_own_checksum_counts_where_it_keeps_one(make_world: Callable[..., World], moto: MotoServer) -> None:
    world = make_world(moto)
    # moto keeps the checksum of a whole object for multipart uploads only.
    noise = random.Random(3).randbytes(9 * 1024 * 1024)
    copy = world.point(streams={"base.tar": noise, "backup_manifest": b"{}"}, volume_size=len(noise))
    target = world.repository().target("primary")
    large, small = keys_of(copy)
    sizes = [stream.stored_size for stream in copy.manifest.streams]
    seen: list[int] = []
    verified = verify_stored(target, copy, method="store", passed=seen.append)
    assert (verified.method, verified.objects, verified.read_back) == ("store", 2, sizes[1])
    assert sum(seen) == verified.stored_size == sum(sizes)
    target.put(large, BytesIO(flip(target.read(large), 1_000_000)))
    with pytest.raises(VerificationFailed, match="its store's own checksum differs") as caught:
        verify_stored(target, copy, method="store")
    assert large in caught.value.what
    assert small not in caught.value.what


def test_a_store_that_keeps_none_is_read_back(make_world: Callable[..., World], rclone: RcloneS3) -> None:
    world = make_world(rclone)
    copy = world.point()
    verified = verify_stored(world.repository().target("primary"), copy, method="store")
    assert verified.read_back == verified.stored_size
