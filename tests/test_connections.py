"""Connections without Airflow say the same as with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lifeboat.aws_clients import aws_clients
from lifeboat.connections import connections_from, outside_from
from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Connection, utc_now
from sandbox.s3_servers import MotoServer

URIS = [
    "postgres://backup:s3cret@db.example.com:5432/erp?sslmode=verify-full&connect_timeout=10",
    "postgresql://b%40ckup:p%2Fw%3A%40%23@DB.Example.com/erp%20live",
    "aws://AKIA:sec%2Fret%2Bkey@/?__extra__=%7B%22region_name%22%3A+%22eu-central-1%22%2C+%22n%22%3A+1%7D",
    "aws://",
    "google-cloud-platform://?extra=1",
    "http://https://hooks.example.com:8443/path",
    "postgres://u:p@%2Fvar%2Frun%2FPostgreSQL/erp",
    "slackwebhook://:xoxb-1@https%3A%2F%2Fhooks.slack.com",
    "postgres://[::1]:5433/erp",
    "postgres://user@host",
    "postgres://user:@host/?a=&b=%20x",
]
DOCUMENTS = [
    {
        "conn_type": "aws",
        "login": "AKIA",
        "password": "x",
        "extra": {"endpoint_url": "http://127.0.0.1:1", "n": [1, 2]},
    },
    {"conn_type": "postgresql", "host": "db", "port": "5432", "schema": "erp", "extra": '{"sslmode": "require"}'},
    {"conn_type": "my-type", "host": "db", "port": 1, "description": "a note"},
]

_AIRFLOW = """
import json, sys
from airflow.sdk.definitions.connection import Connection
found = []
for text in json.load(sys.stdin):
    c = Connection.from_json(text, conn_id="c") if text.startswith("{") else Connection.from_uri(text, conn_id="c")
    found.append([c.conn_type, c.host, c.port, c.login, c.password, c.schema, c.extra_dejson])
print("RESULT" + json.dumps(found))
"""


def test_airflow_reads_the_same_connections_the_same_way(tmp_path: Path) -> None:
    texts = [*URIS, *(json.dumps(document) for document in DOCUMENTS)]
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    ended = subprocess.run(
        [sys.executable, "-c", _AIRFLOW], input=json.dumps(texts), env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    theirs = json.loads(ended.stdout.partition("RESULT")[2])
    for text, their in zip(texts, theirs, strict=True):
        ours = connections_from({"AIRFLOW_CONN_C": text})("c")
        mine = [ours.type, ours.host, ours.port, ours.login, ours.password, ours.schema, dict(ours.extra)]
        assert [part or None for part in mine] == [part or None for part in their], text


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "connections.yaml"
    file.write_text("erp_db: postgres://in-file\nstore:\n  conn_type: aws\n  password: 12345\n  extra: {a: 1}\n")
    file.chmod(0o600)
    find = connections_from({"AIRFLOW_CONN_ERP_DB": "postgres://in-environment"}, file)
    assert find("erp_db").host == "in-environment"
    assert find("store") == Connection(id="store", type="aws", password="12345", extra={"a": 1})


def test_a_json_file_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"a": "postgres://host", "b": DOCUMENTS[0]}))
    file.chmod(0o640)
    find = connections_from({}, file)
    assert (find("a").host, find("b").login) == ("host", "AKIA")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "connections.yaml"
    file.write_text("a: postgres://u:s3cret@host\n")
    file.chmod(mode)
    with pytest.raises(ConnectionUnknown, match=f"{mode:04o}") as caught:
        connections_from({}, file)
    assert f"chmod 600 {file}" in caught.value.remedy


def test_an_unknown_connection_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(ConnectionUnknown, match="AIRFLOW_CONN_ERP_DB") as caught:
        connections_from({})("erp_db")
    assert "Set AIRFLOW_CONN_ERP_DB" in caught.value.remedy
    with pytest.raises(ConnectionUnknown, match=r"none\.yaml can't be read: No such file"):
        connections_from({}, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "s3cret",
        "://s3cret@host",
        "postgres://u:s3cret@host:port/x",
        "postgres://u:s3cret@host:99999999/x",
        "postgres://[s3cret/x",
        '{"conn_type": "aws", "password": "s3cret"',
        '{"password": "s3cret"}',
        '{"conn_type": "aws", "passwort": "s3cret"}',
        '{"conn_type": "aws", "password": ["s3cret"]}',
        '{"conn_type": "aws", "password": "s3cret", "port": "x"}',
        '{"conn_type": "aws", "password": "s3cret", "extra": "[1]"}',
        '{"conn_type": "aws", "password": "s3cret", "extra": "{"}',
        "aws://u:s3cret@/?__extra__=%7B",
    ],
)
def test_a_connection_that_is_not_well_formed_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(
        ConnectionUnknown, match="The connection c in the environment variable AIRFLOW_CONN_C"
    ) as caught:
        connections_from({"AIRFLOW_CONN_C": text})("c")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("content", ["a: [unclosed s3cret", "- s3cret", "1: postgres://s3cret", "{"])
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_file_that_is_not_well_formed_is_refused_without_showing_it(
    tmp_path: Path, content: str, suffix: str
) -> None:
    file = tmp_path / f"connections{suffix}"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConnectionUnknown) as caught:
        connections_from({}, file)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_empty_file_holds_no_connections(tmp_path: Path) -> None:
    file = tmp_path / "connections.yaml"
    file.touch(0o600)
    with pytest.raises(ConnectionUnknown, match="was not found"):
        connections_from({}, file)("a")


# AWS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with MotoServer(tmp_path_factory.mktemp("moto") / "moto.log") as running:
        yield running


def test_clients_reach_the_endpoint_of_the_connection(server: MotoServer) -> None:
    outside = outside_from({"AIRFLOW_CONN_STORE": server.airflow_connection_uri()})
    client = outside.aws_client("s3", "store", read_timeout=7)
    assert client.meta.endpoint_url == server.endpoint
    assert client.meta.config.read_timeout == 7
    client.create_bucket(Bucket="made-here")
    assert "made-here" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    assert outside.connection("store").login == "moto"
    assert outside.clock is utc_now


def test_one_service_may_have_an_endpoint_of_its_own() -> None:
    extra = {
        "endpoint_url": "http://127.0.0.1:1",
        "service_config": {"s3": {"endpoint_url": "http://127.0.0.1:2"}},
        "config_kwargs": {"read_timeout": 99, "s3": {"addressing_style": "path"}},
        "region_name": "eu-west-3",
    }
    make = aws_clients(Connection(id="c", type="aws", login="a", password="b", extra=extra))
    assert make("s3").meta.endpoint_url == "http://127.0.0.1:2"
    assert make("kms", read_timeout=7).meta.endpoint_url == "http://127.0.0.1:1"
    assert make("s3", read_timeout=7).meta.config.read_timeout == 99
    assert make("s3").meta.config.s3 == {"addressing_style": "path"}
    assert make("s3").meta.region_name == "eu-west-3"


def test_a_role_is_assumed_and_its_credentials_are_renewed(server: MotoServer) -> None:
    from datetime import UTC, datetime, timedelta

    connection = server.connection("store")
    extra = {
        **connection.extra,
        "role_arn": "arn:aws:iam::123456789012:role/backup",
        "assume_role_kwargs": {"RoleSessionName": "lifeboat", "DurationSeconds": 900},
    }
    connection = Connection(id="store", type="aws", login="moto", password="x", extra=extra)
    client = aws_clients(connection)("sts")
    assert "assumed-role/backup/lifeboat" in client.get_caller_identity()["Arn"]
    credentials = client._request_signer._credentials
    first = credentials.access_key
    assert first != "moto"
    credentials._expiry_time = datetime.now(UTC) - timedelta(seconds=1)
    assert client.get_caller_identity()
    assert credentials.access_key != first


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "postgres"}, "its type is postgres"),
        ({"login": "a"}, "only one of login and password"),
        ({"extra": {"assume_role_method": "assume_role_with_saml"}}, "needs Airflow"),
        ({"extra": {"config_kwargs": "x"}}, "config_kwargs in its extra is not a mapping"),
    ],
)
def test_a_connection_that_is_not_understood_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ConnectionUnknown, match=reason):
        aws_clients(Connection(**{"id": "c", "type": "aws", **fields}))


def test_boto3_is_imported_when_it_is_needed() -> None:
    code = "import sys, lifeboat.connections, lifeboat.targets.opening; print('boto3' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_variables_of_airflow_are_found_in_the_environment() -> None:
    outside = outside_from({"AIRFLOW_VAR_ERP_SETTINGS": "value", "OTHER": "x"})
    assert outside.variable("erp_settings") == "value"
    assert outside.environment["OTHER"] == "x"
    with pytest.raises(ConnectionUnknown, match="AIRFLOW_VAR_NONE"):
        outside.variable("none")


def test_a_description_is_kept() -> None:
    found = connections_from({"AIRFLOW_CONN_A": '{"conn_type": "http", "description": "the old one"}'})("a")
    assert found.description == "the old one"


def test_an_extra_that_airflow_can_not_read_is_an_error_and_not_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import BaseHook
    from airflow.sdk import Connection as AirflowConnection

    from lifeboat.operators.outside import airflow_outside

    def found(extra: str) -> None:
        connection = AirflowConnection(conn_id="a", conn_type="http", description="mine", extra=extra)
        monkeypatch.setattr(BaseHook, "get_connection", lambda _id: connection)

    found('{"token": "x"}')
    connection = airflow_outside().connection("a")
    assert (connection.extra, connection.description) == ({"token": "x"}, "mine")
    for broken in ("token=x", '["x"]'):
        found(broken)
        with pytest.raises(ConnectionUnknown, match="is no JSON mapping"):
            airflow_outside().connection("a")


def test_a_variable_that_airflow_does_not_have_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Variable

    from lifeboat.operators.outside import airflow_outside

    monkeypatch.setattr(Variable, "get", lambda name, default: {"there": "value"}.get(name, default))
    assert airflow_outside().variable("there") == "value"
    with pytest.raises(ConnectionUnknown, match="no variable 'none'"):
        airflow_outside().variable("none")
