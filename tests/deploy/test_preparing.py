"""`deploy/prepare.py` and the example's own files, each given to the program that will read it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from deploy import prepare
from deploy.example import make_bucket
from lifeboat.connections import outside_from
from lifeboat.errors import KeyUnavailable
from lifeboat.policy.loading import load_policies, load_policy
from lifeboat.repository.system import SystemRepository
from sandbox.accounts import CLONE, hand_over, server_account
from sandbox.debian_packages import program
from sandbox.postgres import PostgresServer
from sandbox.processes import Child, free_port, port_answers, release_port, run, start, wait_until
from sandbox.s3_servers import MotoServer
from tests.deploy import stack
from tests.deploy.conftest import run_sql_file


def dotenv(place: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (place / ".env").read_text().splitlines())


def test_every_variable_gets_a_new_value_that_only_its_owner_reads(prepared: Path) -> None:
    values = dotenv(prepared)
    assert set(values) == stack.used_variables()
    assert all(values.values())
    assert len(set(values.values())) == len(values)
    secret = [path for path in (prepared / "secrets").rglob("*") if path.suffix in (".key", ".pem")]
    secret += [prepared / ".env", prepared / "secrets" / "ssh" / "host", prepared / "secrets" / "store" / "users.json"]
    assert len(secret) == 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert {stat.S_IMODE((prepared / "secrets").stat().st_mode)} == {0o700}


def test_nothing_is_overwritten(prepared: Path) -> None:
    before = (prepared / ".env").read_bytes()
    with pytest.raises(prepare.NotPrepared, match="nothing is overwritten"):
        prepare.main(prepared)
    assert (prepared / ".env").read_bytes() == before


def test_the_safe_is_mounted_nowhere(prepared: Path) -> None:
    assert (prepared / "secrets" / "safe" / "break-glass.pem").exists()
    assert not [mount for mount in stack.mounts() if mount.source.rstrip("/") in ("./secrets", "./secrets/safe")]


def test_the_example_policy_is_valid_with_the_keys_where_they_are_mounted() -> None:
    found = load_policies(CLONE / "deploy" / "policies")
    assert found.problems == ()
    (loaded,) = found.policies.values()
    mounted = {
        f"{mount.target}/{name}"
        for mount in stack.mounts()
        if mount.service == "worker-backup" and mount.source == "./secrets/lifeboat"
        for name in ("local.key", "break-glass.pub", "signing.pem")
    }
    keys = {str(getattr(key, "file", None) or key.public_key_file) for key in loaded.policy.encryption.keys}  # type: ignore[union-attr]
    assert keys | {str(loaded.policy.signing.key.file)} == mounted


def test_until_the_policy_trusts_the_prepared_key_nothing_is_signed(prepared: Path, tmp_path: Path) -> None:
    own = prepared / "secrets" / "lifeboat"
    text = (CLONE / "deploy" / "policies" / "erp.yaml").read_text().replace("/etc/lifeboat", str(own))
    policy = tmp_path / "erp.yaml"
    policy.write_text(text)
    with pytest.raises(KeyUnavailable):
        _ = SystemRepository(load_policy(policy), outside_from({})).signer
    # The edit that the preparation asks for.
    key = load_pem_private_key((own / "signing.pem").read_bytes(), None)
    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    policy.write_text(re.sub(r"public_key: \S+", f"public_key: {public}", text))
    assert SystemRepository(load_policy(policy), outside_from({})).signer.key_id == "erp-example"


def test_certificates_name_the_servers_as_the_compose_file_does(prepared: Path) -> None:
    tls = prepared / "secrets" / "tls"
    authority = x509.load_pem_x509_certificate((tls / "authority.crt").read_bytes())
    for name in prepare.SERVERS:
        assert name in stack.services()
        shown = x509.load_pem_x509_certificate((tls / f"{name}.crt").read_bytes())
        shown.verify_directly_issued_by(authority)
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]


def test_the_stores_accounts_are_those_of_the_environment_and_of_its_policy(prepared: Path) -> None:
    accounts = json.loads((prepared / "secrets" / "store" / "users.json").read_text())["accessAccounts"]
    values = dotenv(prepared)
    assert {account["secret"] for account in accounts.values()} == {
        values[f"STORE_{role}_SECRET"] for role in ("BACKUP", "RETENTION", "RESTORE")
    }
    policy = json.loads(make_bucket.POLICY.read_text())
    named = {name for statement in policy["Statement"] for name in statement["Principal"]["AWS"]}
    assert named == set(accounts)
    assert stack.connections("worker-backup")["erp_primary"]["login"] in accounts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MotoServer]:
    with MotoServer(tmp_path / "moto.log") as server:
        yield server


def test_the_bucket_locks_and_keeps_versions_and_an_unfit_one_is_refused(
    store: MotoServer, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {f"STORE_{role}_SECRET": role for role in ("ROOT", "BACKUP", "RETENTION", "RESTORE")}
    environment["STORE_ENDPOINT"] = store.endpoint
    make_bucket.main(environment)
    make_bucket.main(environment)  # may run again
    assert "is ready" in capsys.readouterr().out
    client = boto3.client("s3", endpoint_url=store.endpoint, region_name="us-east-1", **_keys(store))
    assert client.get_object_lock_configuration(Bucket=make_bucket.BUCKET)["ObjectLockConfiguration"] == {
        "ObjectLockEnabled": "Enabled"
    }
    (loaded,) = load_policies(CLONE / "deploy" / "policies").policies.values()
    assert loaded.policy.targets["primary"].bucket == make_bucket.BUCKET
    assert loaded.policy.targets["primary"].object_lock is not None
    client.create_bucket(Bucket="made-without-lock")
    with pytest.raises(make_bucket.BucketUnfit, match="does not lock"):
        make_bucket.make(client, "made-without-lock")


def _keys(store: MotoServer) -> dict[str, str | None]:
    connection = store.connection("any")
    return {"aws_access_key_id": connection.login, "aws_secret_access_key": connection.password}


def test_sshd_takes_its_configuration(prepared: Path, server_place: Path) -> None:
    sshd, host_key, file = program("sshd"), server_place / "host_key", server_place / "sshd_config"
    shutil.copy(prepared / "secrets" / "ssh" / "host", host_key)
    host_key.chmod(0o600)
    text = (CLONE / "deploy" / "sftp" / "sshd_config").read_text()
    file.write_text(text.replace("/run/sshd/host_key", str(host_key)))
    for made in (host_key, file):
        hand_over(made)
    # As an ordinary user, so that it asks for no account of its own on this machine.
    words = ("-T", "-f", file, "-C", "user=lifeboat,host=any,addr=127.0.0.1")
    told = run(sshd.path, *words, environment=sshd.environment, account=server_account())
    effective = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    assert effective["passwordauthentication"] == "no"
    assert effective["authenticationmethods"] == "publickey"
    assert effective["chrootdirectory"] == "/srv/offsite"
    assert effective["forcecommand"] == "internal-sftp -d /data"
    assert effective["disableforwarding"] == "yes"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[Child, int]]:
    """Redis as the Compose file starts it, on another port."""
    found, port = program("redis-server"), free_port()
    *shell, script = stack.services()["redis"]["command"]
    environment = {
        "PATH": f"{found.path.parent}:/usr/bin:/bin",
        "REDIS_PASSWORD": "a-long-word",
        **found.environment,
    }
    script = script.replace("redis-server -", f"{found.path} - --port {port} --bind 127.0.0.1 --dir {tmp_path}")
    child = start("Redis", [*shell, script], log=tmp_path / "redis.log", environment=environment)
    try:
        wait_until(lambda: port_answers(port), within=20, what="Redis answers", child=child)
        yield child, port
    finally:
        child.stop()
        release_port(port)


def test_redis_asks_for_the_password_which_is_on_no_command_line(redis: tuple[Child, int]) -> None:
    from redis import Redis
    from redis.exceptions import AuthenticationError

    child, port = redis
    with pytest.raises(AuthenticationError), Redis(port=port) as stranger:
        stranger.ping()
    with Redis(port=port, password="a-long-word") as known:
        assert known.ping()
        assert known.config_get("appendonly")["appendonly"] == "yes"
        assert known.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert Path(f"/proc/{child.pid}/comm").read_text() == "redis-server\n", "it would not hear that it is to end"
    assert b"a-long-word" not in Path(f"/proc/{child.pid}/cmdline").read_bytes()


def test_the_example_database_lets_people_in_over_tls_alone(
    prepared: Path, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres(major=16)
    server.run_sql("CREATE DATABASE erp")
    run_sql_file(server, CLONE / "deploy" / "roles" / "backup_role.sql", password="word", database="erp")
    run_sql_file(server, CLONE / "deploy" / "example" / "erp.sql", database="erp")
    shown = prepared / "secrets" / "tls"
    for setting, name in (("ssl_cert_file", "erp.crt"), ("ssl_key_file", "erp.key")):
        place = server.data_directory / name
        shutil.copy(shown / name, place)
        place.chmod(0o600)
        hand_over(place)
        server.settings[setting] = str(place)
    server.write_settings(ssl="on", ssl_min_protocol_version="TLSv1.3")
    hba = CLONE / "deploy" / "example" / "pg_hba.sh"
    subprocess.run(["bash", hba], env={"PATH": "/usr/bin:/bin", "PGDATA": str(server.data_directory)}, check=True)
    server.restart()
    words = {"host": "erp", "hostaddr": "127.0.0.1", "port": str(server.port), "user": "lifeboat", "password": "word"}
    words |= {"sslrootcert": str(shown / "authority.crt"), "sslmode": "verify-full"}
    with psycopg.connect(dbname="erp", **words) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT count(*) FROM invoices")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(dbname="erp", **(words | {"sslmode": "disable"}))
