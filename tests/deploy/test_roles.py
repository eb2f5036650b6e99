"""The roles with least privileges: the SQL on real servers, the policies against a store that enforces them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pytest
from botocore.exceptions import ClientError

from lifeboat.cli.program import run
from sandbox.accounts import CLONE, SandboxError
from sandbox.demo_system import DemoSystem, make_demo_system
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from sandbox.s3_servers import MotoServer
from tests.deploy.conftest import run_sql_file
from tests.postgres.test_preflight import errors, look

ROLES = CLONE / "deploy" / "roles"
BUCKET, ROOT = "erp-backups", "arn:aws:s3:::erp-backups"
DATA = f"{ROOT}/lifeboat/erp/database/20261122T020000Z-full-7f3a/attempt-1/base.00000.zst.enc"
MANIFEST = f"{ROOT}/lifeboat/erp/database/20261122T020000Z-full-7f3a/manifest.json"
EVENT = f"{ROOT}/lifeboat/erp/journal/2026/11/22/an-event.json"
KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def statements(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["Statement"]
    return found


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allows(role: str, action: str, resource: str) -> bool:
    """Whether an IAM policy allows it: nothing is allowed that no statement allows, and a denial always wins.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
    """
    matching = [
        statement["Effect"]
        for statement in statements(ROLES / "aws" / f"{role}.json")
        if any(fnmatchcase(action, pattern) for pattern in as_list(statement["Action"]))
        and concerns(statement, resource)
    ]
    return "Allow" in matching and "Deny" not in matching


def concerns(statement: dict[str, Any], resource: str) -> bool:
    """Whether a statement is about a resource: one that it names, or none of those that it leaves out."""
    left_out = as_list(statement.get("NotResource", []))
    named = as_list(statement.get("Resource", "*" if left_out else []))
    fits = any(fnmatchcase(resource, pattern) for pattern in named)
    return fits and not any(fnmatchcase(resource, pattern) for pattern in left_out)


DELETING = ("s3:DeleteObject", "s3:DeleteObjectVersion")
BREAKING = ("s3:BypassGovernanceRetention", "s3:PutBucketPolicy", "s3:PutBucketVersioning", "s3:DeleteBucket")


def test_backup_writes_and_reads_back_and_never_deletes_nor_opens() -> None:
    assert all(allows("backup", action, DATA) for action in ("s3:PutObject", "s3:GetObject", "s3:PutObjectRetention"))
    assert allows("backup", "kms:GenerateDataKey", KEY)
    for place in (DATA, MANIFEST, EVENT, f"{ROOT}/lifeboat/.lifeboat/check"):
        assert not any(allows("backup", action, place) for action in DELETING)
    assert not allows("backup", "kms:Decrypt", KEY)
    assert not any(allows("backup", action, place) for action in BREAKING for place in (ROOT, DATA))


def test_restore_reads_and_opens_and_writes_nothing() -> None:
    assert allows("restore", "s3:GetObject", DATA)
    assert allows("restore", "kms:Decrypt", KEY)
    writing = ("s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload", *DELETING, *BREAKING)
    assert not any(allows("restore", action, place) for action in writing for place in (ROOT, DATA, MANIFEST, EVENT))
    assert not allows("restore", "kms:GenerateDataKey", KEY)


def test_workers_of_approved_restores_write_what_they_did_and_nothing_else() -> None:
    role, record = "restore_worker", f"{ROOT}/lifeboat/erp/evidence/2026/11/a-record.json"
    assert all(allows(role, "s3:PutObject", place) for place in (EVENT, record))
    assert allows(role, "s3:GetObject", DATA)
    assert allows(role, "kms:Decrypt", KEY)
    writing = ("s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload")
    assert not any(allows(role, action, place) for action in writing for place in (ROOT, DATA, MANIFEST))
    never = (*DELETING, *BREAKING, "s3:PutObjectRetention")
    assert not any(allows(role, action, place) for action in never for place in (ROOT, DATA, MANIFEST, EVENT, record))
    assert not allows(role, "kms:GenerateDataKey", KEY)


def test_retention_deletes_and_can_read_no_backup_and_passes_no_lock() -> None:
    assert all(allows("retention", action, place) for action in DELETING for place in (DATA, MANIFEST))
    assert allows("retention", "s3:GetObject", MANIFEST)
    assert allows("retention", "s3:PutObject", EVENT)
    for place in (DATA, MANIFEST):
        assert all(allows("retention", f"s3:{verb}ObjectRetention", place) for verb in ("Get", "Put"))
        assert not allows("retention", "s3:PutObjectLegalHold", place)
    assert all(
        allows("retention", f"s3:{one}", ROOT) for one in ("ListBucketVersions", "GetBucketObjectLockConfiguration")
    )
    assert not allows("retention", "s3:GetObject", DATA)
    assert not allows("retention", "s3:PutObject", DATA)
    assert not allows("retention", "s3:PutObject", MANIFEST)
    assert not any(allows("retention", f"kms:{action}", KEY) for action in ("Decrypt", "Encrypt", "GenerateDataKey"))
    assert not any(allows("retention", action, EVENT) for action in DELETING), "the record of deletions is no one's"
    assert not any(allows("retention", action, place) for action in BREAKING for place in (ROOT, DATA))


@pytest.mark.parametrize("file", sorted(ROLES.glob("*/*.json")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_policy_says_what_each_statement_is_for_and_never_uses_what_is_not(file: Path) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)
    assert len(set(sids)) == len(sids)
    assert len(file.read_text()) < 6144, "IAM takes no longer managed policy"
    for statement in document["Statement"]:
        if statement["Effect"] == "Allow":
            assert not any("*" in action for action in as_list(statement["Action"])), "an allowance names its actions"
            assert all(BUCKET in place or place == KEY for place in as_list(statement["Resource"]))


def test_the_buckets_own_policy_only_takes_away() -> None:
    found = {statement["Sid"]: statement for statement in statements(ROLES / "aws" / "bucket.json")}
    assert {statement["Effect"] for statement in found.values()} == {"Deny"}
    assert set(found["OnlyRetentionDeletes"]["Action"]) == set(DELETING)
    assert found["OnlyOverTls"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert "Condition" not in found["NobodyPassesALock"]


def test_the_stores_policy_gives_each_account_what_the_iam_policies_give() -> None:
    given: dict[str, set[str]] = {}
    for statement in statements(ROLES / "store" / "bucket.json"):
        assert statement["Effect"] == "Allow"
        for account in statement["Principal"]["AWS"]:
            given.setdefault(account, set()).update(statement["Action"])
    assert not given["lifeboat-backup"] & {*DELETING, *BREAKING}
    assert not {action for action in given["lifeboat-restore"] if not re.match(r"s3:(Get|List)", action)}
    assert set(DELETING) <= given["lifeboat-retention"]
    data = [one for one in statements(ROLES / "store" / "bucket.json") if "s3:GetObject" in one["Action"]]
    (own,) = [one for one in data if one["Principal"]["AWS"] == ["lifeboat-retention"]]
    key = DATA.removeprefix("arn:aws:s3:::")
    assert not any(fnmatchcase(key, place.removeprefix("arn:aws:s3:::")) for place in own["Resource"])


# ------------------------------------------------------------------------------------------- where they are enforced


def test_the_sql_makes_a_role_that_preflight_is_content_with(postgres_of_major: PostgresServer) -> None:
    server, file = postgres_of_major, ROLES / "backup_role.sql"
    with pytest.raises(SandboxError, match="no password for the role lifeboat"):
        run_sql_file(server, file)
    assert server.run_sql("SELECT count(*) FROM pg_roles WHERE rolname = 'lifeboat'") == [(0,)]
    server.write_settings(log_statement="all")
    server.reload()
    for server.passwords["lifeboat"] in ("the first pass'word", "the second pass'word"):  # may run again
        run_sql_file(server, file, password=server.passwords["lifeboat"])
    server.allow("replication", "lifeboat")
    assert errors(look(server)) == {}
    assert "pass'word" not in server.log.read_text(encoding="utf-8").replace("''", "'")
    rights = "rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication"
    assert server.run_sql(f"SELECT {rights} FROM pg_roles WHERE rolname = 'lifeboat'") == [
        (False, False, False, False, True)
    ]
    server.run_sql("CREATE TABLE salaries (n int)")
    with server.connect("lifeboat") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT * FROM salaries")


@dataclass
class Guarded:
    """A system whose bucket lies in a store that enforces IAM policies, and what each role may do with it there."""

    system: DemoSystem
    server: PostgresServer
    store: MotoServer
    keys: dict[str, dict[str, str]]
    place: Path

    def lifeboat(self, role: str, *words: str) -> int:
        """A verb of the command line, with the credentials of a role."""
        user = self.keys[role]
        extra = {"endpoint_url": self.store.endpoint, "region_name": "us-east-1"}
        primary = {
            "conn_type": "aws",
            "login": user["AccessKeyId"],
            "password": user["SecretAccessKey"],
            "extra": extra,
        }
        connections = {"demo_primary": primary}
        if role == "backup":
            connections["demo_database"] = json.loads(self.server.airflow_connection("lifeboat"))
        file = self.place / f"{role}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(connections))
        return run(["--policies", str(self.system.policies), "--connections", str(file), *words])

    def client(self, role: str) -> Any:
        return client(self.store, self.keys[role]["AccessKeyId"], self.keys[role]["SecretAccessKey"])


def client(store: MotoServer, key: str, secret: str, service: str = "s3") -> Any:
    return boto3.client(
        service,
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


@pytest.fixture
def guarded(tmp_path: Path, make_postgres: Callable[..., PostgresServer]) -> Iterator[Guarded]:
    server = make_postgres()
    create_backup_role(server)
    system = make_demo_system(
        tmp_path / "system",
        binaries=server.binaries,
        replacing={
            "    url: s3://backups/lifeboat\n    connection: demo_primary\n": f"    url: s3://{BUCKET}/lifeboat\n"
            "    connection: demo_primary\n    object_lock: governance\n",
            "  offsite:\n    url: s3://backups/lifeboat\n    connection: demo_offsite\n": "",
        },
    )
    text = system.policy.read_text()
    begin, end = text.index("  local:\n"), text.index("encryption:\n")
    system.policy.write_text(text[:begin] + "\n" + text[end:])
    with MotoServer(tmp_path / "moto.log") as store:
        client(store, "any", "thing").create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        iam, keys = client(store, "any", "thing", "iam"), {}
        for role in ("backup", "restore"):
            iam.create_user(UserName=role)
            document = (ROLES / "aws" / f"{role}.json").read_text(encoding="utf-8")
            iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=document)
            keys[role] = iam.create_access_key(UserName=role)["AccessKey"]
        # From here on every request is looked at.
        httpx.post(f"{store.endpoint}/moto-api/reset-auth", content=b"0").raise_for_status()
        yield Guarded(system, server, store, keys, tmp_path)


def refused(call: Callable[..., Any], **arguments: Any) -> bool:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return bool(error.value.response["Error"]["Code"] in ("AccessDenied", "403"))


def test_the_backup_role_is_enough_for_a_backup_and_the_restore_role_for_a_restore(
    guarded: Guarded, server_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guarded.server.run_sql("CREATE TABLE ledger AS SELECT generate_series(1, 1000) AS n")
    assert guarded.lifeboat("backup", "preflight", "demo", "database") == 0, capsys.readouterr()
    assert guarded.lifeboat("backup", "backup", "demo", "database", "--tier", "daily") == 0, capsys.readouterr()
    backup, restore = guarded.client("backup"), guarded.client("restore")
    keys = [found["Key"] for found in backup.list_objects_v2(Bucket=BUCKET)["Contents"]]
    data = next(key for key in keys if key.endswith(".zst.enc"))
    assert backup.head_object(Bucket=BUCKET, Key=data)["ObjectLockMode"] == "GOVERNANCE"

    assert refused(backup.delete_object, Bucket=BUCKET, Key=data)
    assert refused(restore.delete_object, Bucket=BUCKET, Key=data)
    assert refused(restore.put_object, Bucket=BUCKET, Key=data, Body=b"false")
    assert refused(backup.put_bucket_versioning, Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})

    into = server_place / "restored"
    assert guarded.lifeboat("restore", "restore", "demo", "database", "--into", str(into), "--yes") == 0, (
        capsys.readouterr()
    )
    assert "takes no events" in capsys.readouterr().err, "a restore that can't write its record says so"
    assert (into / "PG_VERSION").exists()
