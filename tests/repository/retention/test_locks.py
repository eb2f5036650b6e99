"""What a store has locked waits until its lock ends; a store that only repeats the headers of a lock is not believed.

On a real bucket with object lock, and on rclone's, which takes those headers, shows them, and locks nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lifeboat.errors import TargetError
from lifeboat.repository.retention.decisions import Action, Reason
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import verify_stored
from sandbox.s3_servers import MotoServer, RcloneS3
from tests.conftest import Clock
from tests.repository.retention.cleaned_system import CleanedSystem
from tests.repository.retention.locked_system import (
    MONTH,
    STORE,
    Bucket,
    locked,
    locking,
    present,
    reasons,
    shortened,
    with_second_bucket,
)
from tests.repository.world import SOURCE, SYSTEM, World


@pytest.fixture
def clock() -> Clock:
    return Clock(present())


@pytest.fixture
def system(make_world: Callable[..., World], moto: MotoServer) -> CleanedSystem:
    return locking(make_world(moto, ObjectLockEnabledForBucket=True))


def test_the_manifest_and_its_signature_are_locked_like_the_volumes(system: CleanedSystem, moto: MotoServer) -> None:
    until = system.world.clock() + MONTH
    shown = Bucket(system, moto).locks(locked(system))
    assert {"manifest.json", "manifest.json.sig"} < set(shown)
    assert len(shown) == 4
    assert set(shown.values()) == {until}


def test_a_copy_on_another_target_is_locked_as_a_whole(system: CleanedSystem, moto: MotoServer) -> None:
    system, second = with_second_bucket(system, moto)
    until = system.world.clock() + MONTH
    shown = second.locks(locked(system, on=("primary", "offsite")))
    assert len(shown) == 4
    assert set(shown.values()) == {until}


def test_a_locked_copy_waits_although_its_retention_was_shortened(system: CleanedSystem, moto: MotoServer) -> None:
    old, _, new = (locked(system) for _ in range(3))
    system = shortened(system)
    decision = next(one for one in system.plan().of("primary") if one.point.recovery_point == old)
    assert (decision.action, decision.reason) == (Action.STAYS, Reason.LOCK)
    assert "the store has locked it until" in decision.sentence(UTC)
    done = system.clean()
    assert done.deleted.gone == ()
    assert old in system.shown()

    bucket = Bucket(system, moto)
    bucket.end_locks(old)
    assert system.clean().deleted.gone == (old,)
    # What was written over is kept as an older version: it goes as well.
    key, _, _ = bucket.versions(old)[0]
    body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    assert {kind for _, _, kind in bucket.versions(old)} == {"Versions", "DeleteMarkers"}
    system.world.clock.advance(days=8)
    locked(system)
    assert [one.recovery_point for one in system.clean().removed] == [old]
    assert bucket.versions(old) == []
    assert bucket.versions(new) != []


@pytest.mark.parametrize("which", ["manifest.json", "manifest.json.sig", "base.tar"])
def test_one_locked_object_locks_its_copy(system: CleanedSystem, moto: MotoServer, which: str) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system, bucket = shortened(system), Bucket(system, moto)
    bucket.end_locks(old)
    assert reasons(system)[old] == (Action.GOES, Reason.PAST_TIER)
    key = next(key for key, _, _ in bucket.versions(old) if which in key.rsplit("/", 1)[-1])
    ends = system.world.clock() + timedelta(days=2)
    retention = {"Mode": "COMPLIANCE", "RetainUntilDate": ends}
    bucket.client.put_object_retention(Bucket=bucket.name, Key=key, Retention=retention)
    assert reasons(system)[old] == (Action.STAYS, Reason.LOCK)
    system.world.clock.now = ends
    assert reasons(system)[old] == (Action.GOES, Reason.PAST_TIER)


def test_what_was_hidden_before_it_was_locked_is_not_removed(system: CleanedSystem, moto: MotoServer) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system, bucket = shortened(system), Bucket(system, moto)
    bucket.end_locks(old)
    assert system.clean().deleted.gone == (old,)
    bucket.lock(old, system.world.clock() + MONTH)
    system.world.clock.advance(days=8)
    locked(system)
    assert reasons(system)[old] == (Action.WAITS, Reason.LOCK)
    assert system.clean().removed == ()


def test_where_our_clock_is_ahead_the_store_refuses_and_says_until_when_and_nothing_is_lost(
    system: CleanedSystem, moto: MotoServer
) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system, bucket = shortened(system), Bucket(system, moto)
    ends = bucket.locks(old)["manifest.json"]
    system.world.clock.now = ends + timedelta(days=1)
    locked(system)
    assert old in system.clean().deleted.gone
    system.world.clock.advance(days=8)
    locked(system)
    with pytest.raises(TargetError, match=rf"can't be removed: .* locked it until {ends:%Y-%m-%d %H:%M:%S} UTC"):
        system.clean()
    repository = system.repository()
    catalogue = repository.catalogue("primary")
    copies = {copy.manifest.recovery_point: copy for copy in catalogue.recovery_points(SOURCE, deleted=True).copies}
    verify_stored(catalogue.target, copies[old])
    for point in copies:
        bucket.end_locks(point)
    assert old in [one.recovery_point for one in system.clean().removed]
    assert bucket.versions(old) == []


class Blind:
    """A target whose locks can't be read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def locked_until(self, key: str) -> datetime | None:
        raise TargetError(f"Target primary: reading the lock of {key} failed.", "Allow s3:GetObjectRetention.")


def blinded(system: CleanedSystem) -> SystemRepository:
    repository = system.repository()
    repository._targets["primary"] = Blind(repository.target("primary"))  # type: ignore[assignment]
    return repository


def test_a_target_whose_locks_cannot_be_read_loses_nothing(system: CleanedSystem, moto: MotoServer) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system = shortened(system)
    Bucket(system, moto).end_locks(old)
    done = system.clean(repository=blinded(system))
    assert (done.deleted.gone, done.removed) == ((), ())
    assert any("its locks could not be read" in sentence for sentence in done.stopped)
    assert system.clean().deleted.gone == (old,)


def test_a_copy_that_goes_only_since_a_lock_keeps_another_one_is_asked_for_its_own_lock(
    system: CleanedSystem, moto: MotoServer
) -> None:
    """The first plan keeps the copy on one target since the other's goes; the other's is locked, and stays."""
    system, _ = with_second_bucket(system, moto)
    old, _, _ = (locked(system, on=("primary", "offsite")) for _ in range(3))
    world = system.world.bent("object_lock: compliance\n", "object_lock: compliance\n    retention: 1d\n")
    system = CleanedSystem(world, system.copies)
    assert [reasons(system, target)[old] for target in ("primary", "offsite")] == [(Action.STAYS, Reason.LOCK)] * 2


# A store that locks nothing


@pytest.fixture
def pretending(make_world: Callable[..., World], rclone: RcloneS3) -> tuple[CleanedSystem, CleanedSystem]:
    """A system on rclone's server without locks in its policy, and the same when its policy asks for them."""
    plain = CleanedSystem(make_world(rclone))
    return plain, CleanedSystem(plain.world.bent(STORE, f"{STORE}    object_lock: compliance\n"), plain.copies)


def test_a_store_that_locks_nothing_is_refused_by_preflight_and_by_an_upload(
    pretending: tuple[CleanedSystem, CleanedSystem],
) -> None:
    _, asking = pretending
    found = asking.repository().target("primary").check()
    assert [finding.what for finding in found if finding.severity == "error"] != []
    with pytest.raises(TargetError, match="the policy asks for object locks, but the bucket .* does not lock"):
        locked(asking)
    assert asking.shown() == []


def test_a_plan_never_believes_the_headers_of_a_lock_that_a_store_only_repeats(
    pretending: tuple[CleanedSystem, CleanedSystem], rclone: RcloneS3
) -> None:
    plain, asking = pretending
    old, _, _ = plain.days(3)
    asking = shortened(asking)
    bucket, store = Bucket(plain, rclone), plain.repository().target("primary")
    until = plain.world.clock() + MONTH
    for info in list(store.list(f"{SYSTEM}/{SOURCE}/{old}/")):
        address = {"Bucket": bucket.name, "Key": f"{bucket.prefix}/{info.key}"}
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        bucket.client.put_object(**address, Body=store.read(info.key), **lock)
        assert bucket.client.head_object(**address)["ObjectLockRetainUntilDate"] == until
    assert reasons(asking)[old] == (Action.GOES, Reason.PAST_TIER)


def test_a_store_that_locks_nothing_is_never_asked_to_extend_a_lock(
    pretending: tuple[CleanedSystem, CleanedSystem],
) -> None:
    """rclone's server would put the request's own text in the place of the object."""
    plain, asking = pretending
    full = plain.point()
    plain.point(kind="incremental", parent=full, chain=full, tiers=("incremental",))
    with pytest.raises(TargetError, match="does not lock"):
        asking.clean()
    plain.whole()
