"""The locks of an S3 store are read, extended and never passed; what is disposed of leaves no version behind.

moto does not know GetObjectRetention, and lets a lock be shortened that S3 would keep: what S3 answers there is put
into the client.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifeboat.errors import ObjectMissing, TargetError
from lifeboat.targets.s3 import S3Target
from lifeboat.targets.target import LOCKED_WITHOUT_END, Target
from sandbox.s3_servers import MotoServer
from tests.targets.conftest import Place, s3_place

UNTIL = datetime(2031, 5, 1, 12, 0, 0, tzinfo=UTC)
LATER = UNTIL + timedelta(days=3)


@pytest.fixture
def place(moto: MotoServer) -> Place:
    return s3_place("moto", moto, ObjectLockEnabledForBucket=True)


@pytest.fixture
def target(place: Place) -> Target:
    return place.open(object_lock="compliance")


def locked(target: Target, key: str = "a/b", until: datetime = UNTIL) -> None:
    target.put(key, io.BytesIO(b"0123456789"), retain_until=until)


def versions(place: Place) -> list[tuple[str, str]]:
    """Of everything in the bucket: its key, and what kind of version it is."""
    page = place.extra["client"].list_object_versions(Bucket=place.extra["bucket"])
    return sorted(
        (found["Key"].removeprefix("some/root/"), kind)
        for kind in ("Versions", "DeleteMarkers")
        for found in page.get(kind, ())
    )


def answering(target: Target, call: str, code: str, times: int = 1_000) -> None:
    """Let the store refuse a call."""
    assert isinstance(target, S3Target)
    left = iter(range(times))

    def refuse(**_: object) -> None:
        if next(left, None) is not None:
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, call)

    target._client.meta.events.register(f"before-call.s3.{call}", refuse)


def test_the_end_of_a_lock_is_read_by_whoever_asks(target: Target, place: Place) -> None:
    locked(target)
    place.open().put("a/free", io.BytesIO(b"1"))
    for one in (target, place.open()):
        assert one.locked_until("a/b") == UNTIL
        assert one.locked_until("a/free") is None
        assert one.locked_until("a/none") is None


def test_a_legal_hold_is_a_lock_without_an_end(target: Target, place: Place) -> None:
    locked(target)
    client, bucket = place.extra["client"], place.extra["bucket"]
    client.put_object_legal_hold(Bucket=bucket, Key="some/root/a/b", LegalHold={"Status": "ON"})
    assert target.locked_until("a/b") == LOCKED_WITHOUT_END
    with pytest.raises(TargetError, match="legal hold"):
        target.dispose("a/b")
    client.put_object_legal_hold(Bucket=bucket, Key="some/root/a/b", LegalHold={"Status": "OFF"})
    assert target.locked_until("a/b") == UNTIL


def test_whoever_may_not_read_an_object_asks_for_its_lock_alone(target: Target) -> None:
    locked(target)
    answering(target, "HeadObject", "403")
    answers: dict[str, Any] = {
        "GetObjectRetention": {"Retention": {"Mode": "COMPLIANCE", "RetainUntilDate": LATER}},
        "GetObjectLegalHold": {"LegalHold": {"Status": "OFF"}},
    }
    assert isinstance(target, S3Target)
    for call, answer in answers.items():
        target._client.meta.events.register(f"before-call.s3.{call}", _answer(answer))
    assert target.locked_until("a/b") == LATER


def _answer(parsed: dict[str, Any]) -> Callable[..., Any]:
    from botocore.awsrequest import AWSResponse

    return lambda **_: (AWSResponse("", 200, {}, None), {**parsed, "ResponseMetadata": {"HTTPStatusCode": 200}})


def test_an_object_without_any_lock_is_told_from_one_that_may_not_be_looked_at(target: Target) -> None:
    locked(target)
    answering(target, "HeadObject", "403")
    answering(target, "GetObjectRetention", "NoSuchObjectLockConfiguration", times=1)
    answering(target, "GetObjectLegalHold", "NoSuchObjectLockConfiguration", times=1)
    assert target.locked_until("a/b") is None
    answering(target, "GetObjectRetention", "AccessDenied")
    with pytest.raises(TargetError, match="reading the lock of a/b failed") as caught:
        target.locked_until("a/b")
    assert "s3:GetObjectRetention" in caught.value.remedy


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_lock_is_extended_in_its_own_mode_and_never_shortened(place: Place, mode: str) -> None:
    locked(place.open(object_lock=mode))
    other = place.open(object_lock="compliance" if mode == "governance" else "governance")
    assert other.extend_lock("a/b", UNTIL - timedelta(days=1)) is False
    assert other.extend_lock("a/b", UNTIL) is False
    assert other.locked_until("a/b") == UNTIL
    assert other.extend_lock("a/b", LATER - timedelta(microseconds=250_000)) is True
    shown = place.extra["client"].head_object(Bucket=place.extra["bucket"], Key="some/root/a/b")
    assert (shown["ObjectLockMode"], shown["ObjectLockRetainUntilDate"]) == (mode.upper(), LATER)


def test_what_was_not_locked_is_locked_in_the_policys_mode(target: Target, place: Place) -> None:
    place.open().put("a/free", io.BytesIO(b"1"))
    assert target.extend_lock("a/free", UNTIL) is True
    shown = place.extra["client"].head_object(Bucket=place.extra["bucket"], Key="some/root/a/free")
    assert shown["ObjectLockMode"] == "COMPLIANCE"
    with pytest.raises(ObjectMissing, match="a/none"):
        target.extend_lock("a/none", UNTIL)


def test_a_lock_that_the_store_takes_and_does_not_show_is_an_error(target: Target) -> None:
    locked(target)
    assert isinstance(target, S3Target)
    target._client.meta.events.register("before-call.s3.PutObjectRetention", _answer({}))
    with pytest.raises(
        TargetError, match=r"took a lock of a/b until 2031-05-04T12:00:00\+00:00 and does not"
    ) as caught:
        target.extend_lock("a/b", LATER)
    assert "s3:GetObjectRetention" in caught.value.remedy


def test_an_extension_that_is_denied_names_the_right_unless_somebody_else_was_first(
    target: Target, place: Place
) -> None:
    locked(target)
    answering(target, "PutObjectRetention", "AccessDenied")
    with pytest.raises(TargetError, match="locking a/b failed") as caught:
        target.extend_lock("a/b", LATER)
    assert "s3:PutObjectRetention" in caught.value.remedy
    # S3 denies what would shorten a lock: here another cleanup extends it between our look and our word.
    other = place.open(object_lock="compliance")

    def first(**_: object) -> None:
        other.extend_lock("a/b", LATER + timedelta(days=1))

    assert isinstance(target, S3Target)
    target._client.meta.events.register_first("before-call.s3.PutObjectRetention", first)
    assert target.extend_lock("a/b", LATER) is True
    assert target.locked_until("a/b") == LATER + timedelta(days=1)


# Disposal


def test_every_version_goes_and_every_delete_marker_and_those_of_no_other_key(place: Place) -> None:
    target = place.open()
    for key in ("a/b", "a/b.json", "a/b/c", "a/a"):
        target.put(key, io.BytesIO(b"old"))
        target.put(key, io.BytesIO(b"new"))
    target.delete("a/b")
    target.put("a/b", io.BytesIO(b"newest"))
    target.delete("a/b")
    assert versions(place).count(("a/b", "Versions")) == 3
    target.dispose("a/b")
    assert [one for one in versions(place) if one[0] == "a/b"] == []
    assert versions(place) == [(key, "Versions") for key in ("a/a", "a/b.json", "a/b/c") for _ in range(2)]


def test_more_versions_than_a_page_holds_all_go(place: Place) -> None:
    target = place.open()
    for _ in range(5):
        target.put("a/b", io.BytesIO(b"1"))
    target.put("a/b.json", io.BytesIO(b"1"))
    assert isinstance(target, S3Target)

    pages: list[object] = []

    def two(params: dict[str, Any], **_: object) -> None:
        params["MaxKeys"] = 2
        pages.append(dict(params))

    target._client.meta.events.register("provide-client-params.s3.ListObjectVersions", two)
    target.dispose("a/b")
    assert len(pages) == 3
    assert versions(place) == [("a/b.json", "Versions")]


@pytest.mark.parametrize("denied_at", [1, 2, 3, 4])
def test_an_old_version_is_never_seen_again_however_far_a_disposal_comes(place: Place, denied_at: int) -> None:
    target = place.open()
    target.put("a/b", io.BytesIO(b"old"))
    target.delete("a/b")
    target.put("a/b", io.BytesIO(b"new"))
    assert isinstance(target, S3Target)
    count = iter(range(1, 100))

    def refuse(**_: object) -> None:
        if next(count) == denied_at:
            raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {}}, "DeleteObject")

    target._client.meta.events.register("before-call.s3.DeleteObject", refuse)
    if denied_at == 4:
        target.dispose("a/b")
    else:
        with pytest.raises(TargetError):
            target.dispose("a/b")
    reader = place.open()
    assert reader.stat("a/b") is None or reader.read("a/b") == b"new"
    target.dispose("a/b")
    assert versions(place) == []


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_locked_version_is_refused_with_the_end_of_its_lock(place: Place, mode: str) -> None:
    target = place.open(object_lock=mode)
    locked(target)
    with pytest.raises(
        TargetError, match=rf"a/b can't be removed: .* locked it until 2031-05-01 12:00:00 UTC \({mode.upper()}\)"
    ) as caught:
        target.dispose("a/b")
    assert "when the lock has ended" in caught.value.remedy
    assert target.read("a/b") == b"0123456789"


def test_a_locked_version_behind_a_delete_marker_is_refused_and_stays_hidden(target: Target, place: Place) -> None:
    locked(target)
    target.delete("a/b")
    with pytest.raises(TargetError, match="locked it until 2031-05-01"):
        target.dispose("a/b")
    assert target.stat("a/b") is None
    assert versions(place) == [("a/b", "DeleteMarkers"), ("a/b", "Versions")]


def test_rights_that_are_missing_are_told_from_a_lock_and_named(place: Place) -> None:
    target = place.open()
    target.put("a/b", io.BytesIO(b"1"))
    answering(target, "DeleteObject", "AccessDenied", times=2)
    with pytest.raises(TargetError, match="answered AccessDenied") as caught:
        target.dispose("a/b")
    assert "s3:DeleteObjectVersion" in caught.value.remedy
    assert "GetObjectRetention" not in caught.value.remedy
    answering(target, "HeadObject", "403", times=1)
    answering(target, "GetObjectRetention", "AccessDenied", times=1)
    with pytest.raises(TargetError, match="answered AccessDenied") as caught:
        target.dispose("a/b")
    assert "s3:DeleteObjectVersion" in caught.value.remedy
    assert "s3:GetObjectRetention would show" in caught.value.remedy
    answering(target, "ListObjectVersions", "AccessDenied", times=1)
    with pytest.raises(TargetError, match="list versions") as caught:
        target.dispose("a/b")
    assert "s3:ListBucketVersions" in caught.value.remedy
    target.dispose("a/b")
    assert versions(place) == []


def test_no_lock_is_ever_passed(place: Place) -> None:
    """A governance lock yields to whoever has the right and says so: we never say so."""
    target = place.open(object_lock="governance")
    locked(target)
    sent: list[str] = []
    assert isinstance(target, S3Target)

    def note(request: Any, **_: Any) -> None:
        sent.extend(name.lower() for name in request.headers)

    target._client.meta.events.register("before-send.s3", note)
    with pytest.raises(TargetError):
        target.dispose("a/b")
    assert sent
    assert not any("bypass" in name for name in sent)
