"""What only an S3 store as a target promises."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.connections import outside_from
from lifeboat.errors import Cancelled, ObjectExists, TargetError, TargetUnavailable
from lifeboat.targets.s3 import S3Target
from sandbox.s3_servers import MotoServer, RcloneS3, S3Server
from tests.targets.bodies import MIB, Body, digest
from tests.targets.conftest import Place, client_of, s3_place
from tests.targets.cutting_proxy import CuttingProxy

UNTIL = datetime(2031, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def moto_place(moto: MotoServer) -> Place:
    return s3_place("moto", moto)


@pytest.fixture
def rclone_place(rclone: RcloneS3) -> Place:
    return s3_place("rclone", rclone)


def head(place: Place, key: str) -> Any:
    return place.extra["client"].head_object(Bucket=place.extra["bucket"], Key=f"some/root/{key}")


# Options


@pytest.mark.parametrize("size", [100, 20 * MIB])
def test_encryption_and_storage_class_are_set_on_small_and_large_objects(moto_place: Place, size: int) -> None:
    assert moto_place.server is not None
    key_id = client_of(moto_place.server, "kms").create_key()["KeyMetadata"]["KeyId"]
    target = moto_place.open(sse="aws:kms", sse_kms_key=key_id, storage_class="STANDARD_IA")
    target.put("object", Body(size))
    shown = head(moto_place, "object")
    assert (shown["ServerSideEncryption"], shown["StorageClass"]) == ("aws:kms", "STANDARD_IA")
    assert shown["SSEKMSKeyId"].endswith(key_id)


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_an_object_is_locked_until_its_retention_ends(moto: MotoServer, checksums: str) -> None:
    place = s3_place("moto", moto, ObjectLockEnabledForBucket=True)
    target = place.open(object_lock="compliance", checksums=checksums)
    target.put("object", Body(100), retain_until=UNTIL)
    shown = head(place, "object")
    assert shown["ObjectLockMode"] == "COMPLIANCE"
    assert UNTIL <= shown["ObjectLockRetainUntilDate"] < UNTIL + timedelta(seconds=1)
    assert [finding.severity for finding in target.check() if "lock" in finding.what] == ["ok"]


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_an_object_that_is_written_once_is_locked_as_well(moto: MotoServer, checksums: str) -> None:
    place = s3_place("moto", moto, ObjectLockEnabledForBucket=True)
    place.open(object_lock="governance", checksums=checksums).put_new("manifest.json", b"{}", retain_until=UNTIL)
    shown = head(place, "manifest.json")
    assert shown["ObjectLockMode"] == "GOVERNANCE"
    assert UNTIL <= shown["ObjectLockRetainUntilDate"] < UNTIL + timedelta(seconds=1)


def test_a_lock_that_the_store_forgets_is_an_error_and_the_object_is_removed(moto: MotoServer) -> None:
    """moto forgets the lock of a multipart upload."""
    place = s3_place("moto", moto, ObjectLockEnabledForBucket=True)
    target = place.open(object_lock="compliance")
    with pytest.raises(TargetError, match="does not show a COMPLIANCE lock until 2031-05-01T12:00:01") as caught:
        target.put("object", Body(20 * MIB), retain_until=UNTIL)
    assert "s3:GetObjectRetention" in caught.value.remedy
    assert target.stat("object") is None


def test_no_lock_is_set_unless_it_is_asked_for(moto: MotoServer) -> None:
    place = s3_place("moto", moto, ObjectLockEnabledForBucket=True)
    place.open(object_lock="governance").put("without", Body(1))
    place.open().put("untold", Body(1), retain_until=UNTIL)
    assert "ObjectLockMode" not in head(place, "without")
    assert "ObjectLockMode" not in head(place, "untold")


@pytest.mark.parametrize("place", ["moto", "rclone"], indirect=True)
def test_a_lock_that_the_bucket_does_not_keep_is_an_error_before_a_byte_is_sent(place: Place) -> None:
    """moto refuses such an upload by itself; rclone answers 200, shows the lock in HEAD, and deletes the object."""
    target = place.open(object_lock="compliance")
    with pytest.raises(TargetError, match="does not lock") as caught:
        target.put("object", Body(100), retain_until=UNTIL)
    assert "object lock enabled" in caught.value.remedy
    assert place.remains() == []
    assert [finding.severity for finding in target.check() if "lock" in finding.what] == ["error"]


@pytest.mark.parametrize("size", [100, 20 * MIB])
def test_encryption_that_the_store_only_pretends_is_an_error_and_the_object_is_removed(
    rclone_place: Place, size: int
) -> None:
    """rclone encrypts nothing, but HEAD shows the header that came with the object."""
    target = rclone_place.open(sse="aws:kms", sse_kms_key="1234")
    with pytest.raises(TargetError, match="does not show encryption aws:kms"):
        target.put("object", Body(size))
    assert rclone_place.remains() == []


# Checksums


def test_the_store_s_own_checksum_of_a_long_object_is_the_one_we_computed(moto_place: Place) -> None:
    target = moto_place.open()
    target.put("object", Body(20 * MIB))
    assert target.store_crc32("object") == zlib.crc32(Body(20 * MIB).read())
    assert target.store_crc32("nothing") is None


def test_a_checksum_that_a_store_only_repeats_does_not_count(rclone_place: Place) -> None:
    """rclone takes a wrong CRC-32 with an object and gives it back as the object's."""
    client, bucket = rclone_place.extra["client"], rclone_place.extra["bucket"]
    wrong = {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": "AAAAAA=="}
    client.put_object(Bucket=bucket, Key="some/root/object", Body=b"abc", **wrong)
    assert (
        client.head_object(Bucket=bucket, Key="some/root/object", ChecksumMode="ENABLED")["ChecksumCRC32"] == "AAAAAA=="
    )
    target = rclone_place.open()
    assert target.store_crc32("object") is None
    assert any("its checksums prove nothing" in finding.what for finding in target.check())


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_checksums_are_sent_as_the_policy_says(moto_place: Place, checksums: str, size: int) -> None:
    sent: list[str] = []
    target = moto_place.open(checksums=checksums)
    assert isinstance(target, S3Target)

    def note(request: Any, **_: Any) -> None:
        sent.extend(name.lower() for name in request.headers if "checksum" in name.lower())

    target._client.meta.events.register("before-send.s3", note)
    target.put("object", Body(size))
    target.put_new("new", b"1")
    assert (sent == []) is (checksums == "when_required")
    assert target.read("new") == b"1"


# Broken connections


def through(place: Place, proxy: CuttingProxy) -> S3Target:
    assert place.server is not None
    connection = place.server.connection("store")
    document = {
        "conn_type": "aws",
        "login": connection.login,
        "password": connection.password,
        "extra": {**connection.extra, "endpoint_url": proxy.endpoint},
    }
    outside = outside_from({"AIRFLOW_CONN_STORE": json.dumps(document)})
    return S3Target("store", bucket=place.extra["bucket"], prefix="some/root", outside=outside, connection="store")


def s3_kinds(request: pytest.FixtureRequest) -> Place:
    return s3_place(request.param, request.getfixturevalue(request.param))


s3_only = pytest.fixture(params=["moto", "rclone"], name="s3")(s3_kinds)


def test_a_download_that_is_cut_goes_on_where_it_was_cut(s3: Place) -> None:
    s3.open().put("object", Body(20 * MIB))
    assert s3.server is not None
    with CuttingProxy(s3.server.port, after=3 * MIB, cuts=3) as proxy:
        summary = hashlib.sha256()
        with through(s3, proxy).open("object") as stream:
            while piece := stream.read(MIB + 1):
                summary.update(piece)
        assert proxy.cuts_left == 0
    assert summary.hexdigest() == digest(20 * MIB)


def test_a_download_that_is_cut_again_and_again_ends(s3: Place) -> None:
    s3.open().put("object", Body(20 * MIB))
    assert s3.server is not None
    with CuttingProxy(s3.server.port, after=MIB, cuts=1000) as proxy, through(s3, proxy).open("object") as stream:
        stream._pause = lambda _: None  # type: ignore[attr-defined]
        with pytest.raises(TargetError, match=r"at byte \d+ of 20971520"):
            stream.read()
        assert 1000 - proxy.cuts_left < 20


def test_a_download_never_goes_on_in_another_version_of_the_object(s3: Place) -> None:
    s3.open().put("object", Body(20 * MIB))
    assert s3.server is not None
    with CuttingProxy(s3.server.port, after=3 * MIB, cuts=1) as proxy, through(s3, proxy).open("object") as stream:
        stream.read(MIB)
        s3.open().put("object", io.BytesIO(bytes(20 * MIB)))
        with pytest.raises(TargetError, match="replaced while it was being read"):
            stream.read()


def test_an_object_whose_first_write_was_answered_into_a_broken_connection_is_our_own(moto_place: Place) -> None:
    target = moto_place.open()
    assert isinstance(target, S3Target)
    cut = iter([True])

    def lose_the_answer(response_dict: Any, **_: Any) -> None:
        if next(cut, False):
            response_dict["status_code"] = 500
            response_dict["body"] = b""

    target._client.meta.events.register("before-parse.s3.PutObject", lose_the_answer)
    target.put_new("manifest.json", b"mine")
    assert target.read("manifest.json") == b"mine"
    with pytest.raises(ObjectExists):
        target.put_new("manifest.json", b"mine")


# Being stopped


def test_an_upload_to_a_store_that_hangs_is_stopped_long_before_its_calls_time_out(
    own_rclone: RcloneS3, alarm: Callable[[float], None]
) -> None:
    target = s3_place("rclone", own_rclone).open()

    def freeze() -> None:
        own_rclone.freeze()
        alarm(0.5)

    begun = time.monotonic()
    try:
        with pytest.raises(Cancelled) as caught:
            target.put("object", Body(500 * MIB, at=20 * MIB, then=freeze))
    finally:
        own_rclone.thaw()
    assert time.monotonic() - begun < 30, "a call that hangs is given up after 60 s"
    assert "Remains of object may be left" in caught.value.__notes__[0]
    assert target.stat("object") is None


@pytest.mark.parametrize("use", ["put", "put_new", "read", "stat", "list", "delete", "dispose", "locked_until"])
def test_every_call_to_a_store_that_hangs_can_be_stopped(
    own_rclone: RcloneS3, alarm: Callable[[float], None], use: str
) -> None:
    target = s3_place("rclone", own_rclone).open()
    uses: dict[str, Callable[[], object]] = {
        "put": lambda: target.put("a", Body(1)),
        "put_new": lambda: target.put_new("a", b"1"),
        "read": lambda: target.read("a"),
        "stat": lambda: target.stat("a"),
        "list": lambda: list(target.list("")),
        "delete": lambda: target.delete("a"),
        "dispose": lambda: target.dispose("a"),
        "locked_until": lambda: target.locked_until("a"),
    }
    own_rclone.freeze()
    try:
        alarm(0.3)
        with pytest.raises(Cancelled):
            uses[use]()
    finally:
        own_rclone.thaw()


# Memory


def test_storing_a_long_object_takes_little_memory(rclone_place: Place) -> None:
    script = Path(__file__).parent / "memory_of_put.py"
    environment = {**os.environ, **rclone_place.environment, "POLICY": json.dumps(rclone_place.policy)}
    ended = subprocess.run([sys.executable, script, str(300 * MIB)], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) <= 40 * MIB
    client, bucket = rclone_place.extra["client"], rclone_place.extra["bucket"]
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == 300 * MIB


# What stores answer


def test_wrong_keys_are_an_error_that_names_the_connection(rclone_place: Place) -> None:
    assert rclone_place.server is not None
    document = {"conn_type": "aws", "login": "rclone-access", "password": "wrong-secret",
                "extra": {"endpoint_url": rclone_place.server.endpoint}}  # fmt: skip
    place = replace(rclone_place, environment={"AIRFLOW_CONN_STORE": json.dumps(document)})
    with pytest.raises(TargetUnavailable, match="SignatureDoesNotMatch") as caught:
        place.open().put("a", Body(1))
    assert "connection" in caught.value.remedy
    assert "wrong-secret" not in str(caught.value)


def test_a_bucket_without_a_prefix_works(s3: Place) -> None:
    target = s3.open(url=f"s3://{s3.extra['bucket']}")
    target.put_new("top/object", b"1")
    assert [found.key for found in target.list("")] == ["top/object"]
    assert target.list_folders("") == ["top"]
    assert target.url == f"s3://{s3.extra['bucket']}"


def test_objects_beside_the_root_are_not_seen(s3: Place) -> None:
    s3.extra["client"].put_object(Bucket=s3.extra["bucket"], Key="some/rooted/other", Body=b"1")
    assert list(s3.open().list("")) == []


# The servers themselves


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_no_secret_is_in_the_arguments_of_a_server(request: pytest.FixtureRequest, server: str) -> None:
    running: S3Server = request.getfixturevalue(server)
    arguments = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    secret = running.connection("x").password
    assert secret is not None
    assert secret.encode() not in arguments


@pytest.mark.parametrize(("size", "last_call"), [(100, "PutObject"), (20 * MIB, "CompleteMultipartUpload")])
@pytest.mark.parametrize("shared", [True, False])
def test_an_answer_that_is_lost_never_costs_an_object_that_another_process_may_count_on(
    rclone_place: Place, size: int, last_call: str, shared: bool
) -> None:
    """The lost answer is injected into the client: a connection can't be cut between the store's deed and its word."""
    from botocore.exceptions import ConnectionClosedError

    def lose(**_: object) -> None:
        raise ConnectionClosedError(endpoint_url="http://store")

    other, target = rclone_place.open(), rclone_place.open()
    assert isinstance(target, S3Target)
    target._client.meta.events.register(f"after-call.s3.{last_call}", lose)
    other.put("object", Body(size))
    with pytest.raises(TargetError):
        target.put("object", Body(size), shared=shared)
    assert (other.stat("object") is not None) == shared
