"""Locks reach as far as what stands on them, wherever a cleanup dies; only what has to be is looked at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import count
from typing import Any

import pytest

from lifeboat.errors import TargetError
from sandbox.s3_servers import MotoServer
from tests.conftest import Clock
from tests.repository.retention.cleaned_system import CleanedSystem, dies
from tests.repository.retention.locked_system import (
    MONTH,
    Bucket,
    events,
    locked,
    locking,
    present,
)
from tests.repository.world import SOURCE, SYSTEM, World


@pytest.fixture
def clock() -> Clock:
    return Clock(present())


@pytest.fixture
def system(make_world: Callable[..., World], moto: MotoServer) -> CleanedSystem:
    return locking(make_world(moto, ObjectLockEnabledForBucket=True))


def chain(system: CleanedSystem) -> tuple[str, str, datetime]:
    """A full and an incremental ten days younger, and until when the full must be locked."""
    full = locked(system)
    system.world.clock.advance(days=10)
    moment = system.world.clock()
    link = locked(system, kind="incremental", parent=full, chain=full, tiers=("incremental",))
    return full, link, moment + MONTH


def test_an_incremental_extends_the_lock_of_its_full_and_that_is_recorded(
    system: CleanedSystem, moto: MotoServer
) -> None:
    full, link, until = chain(system)
    bucket = Bucket(system, moto)
    assert max(bucket.locks(full).values()) < until
    before = bucket.locks(link)
    done = system.clean()
    assert done.extended == (full,)
    assert "1 locked for longer" in done.in_words()
    assert done.document()["locks_extended"] == [full]
    assert set(bucket.locks(full).values()) == {until}
    assert bucket.locks(link) == before
    (event,) = events(system, "locks_extended")
    assert (event.source, event.target) == (SOURCE, "primary")
    assert event.details["points"] == {full: {"until": until.isoformat()}}


class Counting:
    """A target that notes of which objects the lock was asked for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def locked_until(self, key: str) -> datetime | None:
        self.asked.append(key)
        found: datetime | None = self._inner.locked_until(key)
        return found

    def extend_lock(self, key: str, until: datetime) -> bool:
        raise AssertionError(f"the lock of {key} reaches far enough")


def test_where_the_locks_reach_only_the_manifest_of_what_is_needed_is_looked_at(system: CleanedSystem) -> None:
    full, _, _ = chain(system)
    system.clean()
    repository = system.repository()
    counting = Counting(repository.target("primary"))
    repository._targets["primary"] = counting  # type: ignore[assignment]
    assert system.clean(repository=repository).extended == ()
    assert counting.asked == [f"{SYSTEM}/{SOURCE}/{full}/manifest.json"]
    assert len(events(system, "locks_extended")) == 1


def test_wal_extends_the_lock_of_the_full_that_it_leads_on_from(system: CleanedSystem, moto: MotoServer) -> None:
    full = locked(system)
    system.world.clock.advance(days=5)
    moment = system.world.clock()
    locked(system, kind="wal", timeline=1, tiers=("wal",), good=False)
    assert system.clean().extended == (full,)
    assert set(Bucket(system, moto).locks(full).values()) == {moment + MONTH}


def test_a_lock_is_extended_although_the_plan_is_stopped(system: CleanedSystem, moto: MotoServer) -> None:
    for _ in range(5):
        system.point()
    system.world.clock.advance(days=31)
    full, _, until = chain(system)
    done = system.clean()
    assert any("4 of 6" in sentence for sentence in done.stopped)
    assert done.deleted.gone == ()
    assert done.extended == (full,)
    assert set(Bucket(system, moto).locks(full).values()) == {until}


def test_a_legal_hold_on_the_manifest_does_not_stand_for_the_locks_of_the_other_objects(
    system: CleanedSystem, moto: MotoServer
) -> None:
    full, _, until = chain(system)
    bucket = Bucket(system, moto)
    key = next(key for key, _, _ in bucket.versions(full) if key.endswith("/manifest.json"))
    bucket.client.put_object_legal_hold(Bucket=bucket.name, Key=key, LegalHold={"Status": "ON"})
    assert system.clean().extended == (full,)
    assert set(bucket.locks(full).values()) == {until}
    assert system.clean().extended == ()


def test_nothing_is_extended_where_something_cannot_be_believed(system: CleanedSystem) -> None:
    chain(system)
    repository = system.repository()
    repository.target("primary").put_new(f"{SYSTEM}/{SOURCE}/20260101T000000Z-full-7f3a/manifest.json", b"{}")
    done = system.clean()
    assert any("can't be believed" in sentence for sentence in done.stopped)
    assert done.extended == ()


def test_an_extension_that_is_killed_is_done_again_and_the_manifest_never_claims_more_than_is_locked(
    system: CleanedSystem, moto: MotoServer
) -> None:
    full, _, until = chain(system)
    bucket = Bucket(system, moto)
    before = bucket.locks(full)["manifest.json"]
    for at in count(1):
        bucket.lock(full, before)
        repository, mortal = system.dying("primary", at)
        with dies():
            system.clean(repository=repository)
        shown = bucket.locks(full)
        if shown.pop("manifest.json") >= until:
            assert min(shown.values()) >= until
        system.clean()
        assert set(bucket.locks(full).values()) == {until}
        if not mortal.dead:
            break
    assert at > len(shown) + 1


def test_a_denied_extension_fails_the_cleanup(system: CleanedSystem) -> None:
    chain(system)
    repository = system.repository()
    target: Any = repository.target("primary")

    def refuse(**_: object) -> None:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {}}, "PutObjectRetention")

    target._client.meta.events.register("before-call.s3.PutObjectRetention", refuse)
    with pytest.raises(TargetError, match="locking .* failed") as caught:
        system.clean(repository=repository)
    assert "s3:PutObjectRetention" in caught.value.remedy
