"""What every target promises when something breaks: nothing half-done is visible, and the error says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifeboat.errors import Cancelled, TargetError, TargetUnavailable
from lifeboat.targets.target import Target
from sandbox.s3_servers import RcloneS3
from tests.targets.bodies import MIB, Body
from tests.targets.conftest import Place, s3_place


def raising(error: BaseException):
    def throw() -> None:
        raise error

    return throw


@pytest.mark.parametrize("at", [0, 3 * MIB, 30 * MIB])
@pytest.mark.parametrize(
    "error", [Cancelled("stopped"), KeyboardInterrupt(), OSError(5, "the source broke"), ValueError("bad")], ids=repr
)
def test_a_body_that_raises_leaves_nothing(place: Place, at: int, error: BaseException) -> None:
    target = place.open()
    with pytest.raises(type(error)) as caught:
        target.put("erp/database/object", Body(50 * MIB, at=at, then=raising(error)))
    assert caught.value is error
    assert getattr(error, "__notes__", []) == []
    assert target.stat("erp/database/object") is None
    assert place.remains() == []


def test_a_body_that_raises_leaves_the_older_object_alone(target: Target) -> None:
    target.put("object", Body(5))
    with pytest.raises(Cancelled):
        target.put("object", Body(20 * MIB, at=18 * MIB, then=raising(Cancelled("stopped"))))
    assert target.read("object") == Body(5).read()


def start_writer(place: Place, key: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **place.environment, "POLICY": json.dumps(place.policy)}
    script = Path(__file__).parent / "endless_writer.py"
    return subprocess.Popen([sys.executable, script, key], stdout=subprocess.PIPE, text=True, env=environment)


def test_a_writer_killed_in_mid_upload_leaves_nothing_visible_and_its_remains_can_be_removed(place: Place) -> None:
    writer = start_writer(place, "erp/database/object")
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "going\n"
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    target = place.open()
    assert target.stat("erp/database/object") is None
    assert list(target.list("")) == []
    assert place.remains() != []
    if place.kind != "moto":  # where every upload is from 2010
        assert target.abandon_uploads("erp/", older_than=datetime.now(UTC) - timedelta(hours=1)) == []
    assert target.abandon_uploads("shop/", older_than=datetime.now(UTC) + timedelta(hours=1)) == []
    assert target.abandon_uploads("erp/", older_than=datetime.now(UTC) + timedelta(hours=1)) == ["erp/database/object"]
    # rclone's SFTP server may notice only now that the writer is gone, and then names what it had under way once more:
    # its folders and all. A real clean-up comes two days later.
    for _ in range(1000):
        if not place.remains():
            break
        target.abandon_uploads("erp/", older_than=datetime.now(UTC) + timedelta(hours=1))
    assert place.remains() == []


def test_a_store_killed_in_mid_upload_is_a_clear_error_and_nothing_is_visible_later(own_rclone: RcloneS3) -> None:
    place = s3_place("rclone", own_rclone)
    target = place.open()
    with pytest.raises(TargetUnavailable, match="does not answer as it should") as caught:
        target.put("object", Body(60 * MIB, at=20 * MIB, then=own_rclone.kill))
    assert "run it again" in caught.value.remedy
    own_rclone.start()
    assert target.stat("object") is None
    assert list(target.list("")) == []
    assert target.put("object", Body(20 * MIB)) == 20 * MIB


def test_a_store_that_does_not_run_is_unavailable(own_rclone: RcloneS3) -> None:
    target = s3_place("rclone", own_rclone).open()
    own_rclone.kill()
    assert [finding.severity for finding in target.check()] == ["error"]
    for use in (
        lambda: target.put("a", Body(1)),
        lambda: target.put_new("a", b"1"),
        lambda: target.read("a"),
        lambda: target.stat("a"),
        lambda: list(target.list("")),
        lambda: target.list_folders(""),
        lambda: target.delete("a"),
        lambda: target.abandon_uploads("", older_than=datetime.now(UTC)),
    ):
        with pytest.raises(TargetUnavailable):
            use()


def test_a_place_that_does_not_exist_is_unavailable(place: Place) -> None:
    target = place.open(
        url="s3://no-such-bucket/x" if place.kind in ("moto", "rclone") else f"{place.policy['url']}-gone"
    )
    for use in (
        lambda: target.put("a", Body(1)),
        lambda: target.put("a", Body(20 * MIB)),
        lambda: target.put_new("a", b"1"),
        lambda: target.read("a"),
        lambda: target.stat("a"),
        lambda: list(target.list("")),
    ):
        with pytest.raises(TargetUnavailable, match="there is no") as caught:
            use()
        assert caught.value.remedy
    assert [finding.severity for finding in target.check()] == ["error"]


@pytest.mark.parametrize("place", ["moto", "rclone"], indirect=True)
def test_no_error_holds_the_secret(place: Place) -> None:
    assert place.server is not None
    target = place.open(url="s3://no-such-bucket/x")
    with pytest.raises(TargetError) as caught:
        target.put("a", Body(1))
    texts = [str(error) + repr(error) for error in (caught.value, caught.value.__cause__)]
    secret = place.server.connection("x").password
    assert secret is not None
    assert all(secret not in text for text in texts)
