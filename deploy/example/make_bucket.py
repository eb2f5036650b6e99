"""Make the example's bucket in its S3 store: versions, object lock, and who may do what. May run again.

Object lock can only be switched on when a bucket is made; so a bucket that is there without it is an error here, and no
reason to go on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

BUCKET = "erp-backups"
POLICY = Path(__file__).resolve().parents[1] / "roles" / "store" / "bucket.json"
ROLES = ("backup", "retention", "restore")
_REGION = "us-east-1"


class BucketUnfit(Exception):
    """The bucket can't be what the policy needs; the text says why."""


def main(environment: Mapping[str, str]) -> None:
    """Make the bucket as the store's administrator, then let each role look whether it comes in."""
    client = _client(environment, "root")
    make(client, BUCKET)
    policy = json.loads(POLICY.read_text(encoding="utf-8"))
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    for role in ROLES:
        _client(environment, role).list_objects_v2(Bucket=BUCKET, MaxKeys=1)
    print(f"{BUCKET} is ready: it keeps versions and locks objects, and the accounts {', '.join(ROLES)} come in.")


def make(client: Any, bucket: str) -> None:
    """Make the bucket unless it is there, and insist on versions and object lock.

    Raises:
        BucketUnfit: it is there without one of them.
    """
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    remedy = f"Make another bucket, or remove {bucket} while it is still empty."
    try:
        lock = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]["ObjectLockEnabled"]
    except (ClientError, KeyError) as error:
        raise BucketUnfit(f"{bucket} does not lock objects. {remedy}") from error
    if lock != "Enabled":
        raise BucketUnfit(f"{bucket} does not lock objects. {remedy}")
    if client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
        raise BucketUnfit(f"{bucket} keeps no versions, so a lock protects nothing. {remedy}")


def _client(environment: Mapping[str, str], role: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=environment["STORE_ENDPOINT"],
        region_name=_REGION,
        aws_access_key_id=f"lifeboat-{role}",
        aws_secret_access_key=environment[f"STORE_{role.upper()}_SECRET"],
        verify=environment.get("STORE_AUTHORITY"),
    )


if __name__ == "__main__":
    try:
        main(os.environ)
    except (BucketUnfit, ClientError) as reason:
        sys.exit(f"The bucket is not ready: {reason}")
