"""What a bucket deletes, freezes or keeps by itself is seen before a backup relies on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifeboat.targets.s3_rules import judge, look_at_rules
from lifeboat.targets.target import Finding, Kept
from sandbox.s3_servers import MotoServer, RcloneS3
from tests.targets.conftest import Place, s3_place

FOLDERS = ("some/root/erp/files/", "some/root/erp/journal/")
KEPT = Kept(("erp/files/", "erp/journal/"), timedelta(days=120))


def rule(**more: Any) -> dict[str, Any]:
    return {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, **more}


def worst(*rules: dict[str, Any], days: int = 120) -> list[Finding]:
    return [one for one in judge(rules, FOLDERS, timedelta(days=days), "target primary") if one.severity != "ok"]


@pytest.mark.parametrize(
    ("more", "severity"),
    [
        ({"Expiration": {"Days": 30}}, "error"),
        ({"Expiration": {"Days": 119}}, "error"),
        ({"Expiration": {"Days": 120}}, None),
        ({"Expiration": {"Date": datetime(2027, 1, 1, tzinfo=UTC)}}, "error"),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}}, None),
        ({"Expiration": {"Days": 30}, "Status": "Disabled"}, None),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "logs/"}}, None),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "some/root/erp/database/"}}, None),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "some/ro"}}, "error"),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "some/root/erp/files/2026"}}, "error"),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "some/root/erp/journal/"}}, "error"),
        ({"Expiration": {"Days": 30}, "Filter": {"Tag": {"Key": "tmp", "Value": "yes"}}}, None),
        ({"Expiration": {"Days": 30}, "Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}}, None),
        ({"Expiration": {"Days": 30}, "Filter": {"And": {"Prefix": "some/", "ObjectSizeGreaterThan": 9}}}, "error"),
        ({"Expiration": {"Days": 30}, "Filter": {"And": {"Prefix": "else/", "ObjectSizeGreaterThan": 9}}}, None),
        ({"Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]}, "warning"),
        ({"Transitions": [{"Days": 0, "StorageClass": "DEEP_ARCHIVE"}]}, "warning"),
        ({"Transitions": [{"Days": 365, "StorageClass": "GLACIER"}]}, None),
        ({"Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]}, None),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, None),
    ],
)
def test_a_rule_matters_when_it_comes_before_the_retention_ends_and_is_about_our_objects(
    more: dict[str, Any], severity: str | None
) -> None:
    found = worst(rule(**more))
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all("The rule tidy of the bucket" in one.what for one in found)


def test_a_rule_of_the_older_form_is_read_as_well() -> None:
    old = {"ID": "old", "Status": "Enabled", "Prefix": "some/", "Expiration": {"Days": 3}}
    assert [one.severity for one in worst(old)] == ["error"]
    assert worst({**old, "Prefix": "else/"}) == []


def test_part_of_a_day_counts_as_a_whole_one() -> None:
    findings = judge([rule(Expiration={"Days": 7})], FOLDERS, timedelta(days=7, hours=1), "target primary")
    assert "after 7 days, and the policy keeps them for 8 days" in findings[0].what


def test_what_is_as_it_should_be_and_what_could_be_better_are_remarks() -> None:
    findings = judge([], FOLDERS, timedelta(days=30), "target primary")
    assert [one.severity for one in findings] == ["ok", "ok"]
    assert "AbortIncompleteMultipartUpload" in findings[1].what
    aborting = rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7})
    older = rule(NoncurrentVersionExpiration={"NoncurrentDays": 14})
    said = [one.what for one in judge([aborting, older], FOLDERS, timedelta(days=30), "target primary")]
    assert not any("AbortIncompleteMultipartUpload" in what for what in said)
    assert any("14 days after they were deleted or replaced" in what for what in said)


def moto_place(moto: MotoServer) -> Place:
    return s3_place("moto", moto)


def test_a_real_bucket_is_asked_for_its_rules_and_its_versions(moto: MotoServer) -> None:
    place = moto_place(moto)
    client, bucket = place.extra["client"], place.extra["bucket"]
    said = [one.what for one in place.open().check(KEPT)]
    assert any("keeps no versions" in what for what in said)
    assert any("No rule of the bucket deletes or freezes" in what for what in said)
    assert not any("version" in one.what for one in place.open().check())
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [
                rule(ID="gone in a month", Expiration={"Days": 30}, Filter={"Prefix": "some/root/"}),
                rule(ID="cold", Transitions=[{"Days": 10, "StorageClass": "GLACIER"}]),
            ]
        },
    )
    findings = place.open().check(KEPT)
    assert any("keeps versions" in one.what for one in findings if one.severity == "ok")
    (error,) = [one for one in findings if one.severity == "error"]
    assert "The rule gone in a month of the bucket deletes objects after 30 days" in error.what
    assert "for 120 days" in error.what
    assert ["cold" in one.what for one in findings if one.severity == "warning" and "rule" in one.what] == [True]


def test_a_store_that_knows_no_such_rules_is_a_remark(rclone: RcloneS3) -> None:
    findings = s3_place("rclone", rclone).open().check(KEPT)
    assert all(one.severity != "error" for one in findings)
    assert any("It can't be told whether rules of" in one.what for one in findings)


@pytest.mark.parametrize(("code", "words"), [("AccessDenied", "so allow s3:Get"), ("NotImplemented", "does not tell")])
def test_what_the_account_may_not_ask_for_is_a_remark(code: str, words: str) -> None:
    """No server here has rights of single calls: the refusals are made up."""

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            def refuse(**arguments: Any) -> Any:
                raise ClientError({"Error": {"Code": code}}, name)

            return refuse

    findings = look_at_rules(Refusing(), "bucket", "some/root/", KEPT, "target primary")
    assert [(one.severity, words in one.what) for one in findings] == [("ok", True), ("ok", True)]
