"""Wrapping keys: each alone opens, a missing one stops a backup, and no key is ever left out in silence."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lifeboat.connections import outside_from
from lifeboat.errors import KeyUnavailable
from lifeboat.outside import Outside
from lifeboat.policy.encryption import EncryptionPolicy
from lifeboat.policy.problems import Refused
from lifeboat.streams.encryption import wrapping_keys_of
from lifeboat.streams.key_making import new_break_glass_pair, new_local_key, write_secret
from lifeboat.streams.keys import KMS_PROVIDER, WrappingKey, opening_keyring, sealing_keyring
from lifeboat.streams.reading import Origin
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination, StreamWriter
from lifeboat.targets.local import LocalTarget
from sandbox.s3_servers import MotoServer
from tests.streams.conftest import FOLDER
from tests.streams.keys_made import nothing_outside, read_all, write_all

DATA = b"what must not be lost" * 1000


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every kind of key: ``local.key``, ``pair.pem``, ``pair.pub``, and others beside them."""
    directory = tmp_path_factory.mktemp("safe")
    write_secret(directory / "local.key", new_local_key())
    write_secret(directory / "wrong.key", new_local_key())
    for name in ("pair", "wrong"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072)  # a third of the time of 4096 bits
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(directory / f"{name}.pem", private.decode())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (directory / f"{name}.pub").write_bytes(public)
    return directory


@pytest.fixture(scope="module")
def own_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A server that these tests freeze."""
    with MotoServer(tmp_path_factory.mktemp("kms") / "moto.log") as server:
        yield server


def outside_of(server: MotoServer) -> Outside:
    return outside_from({"AIRFLOW_CONN_KMS": server.airflow_connection_uri()})


def hurried(outside: Outside) -> Outside:
    """The same, but the service of the connection ``kms`` is given up after one short wait when it is silent."""

    def aws_client(service: str, connection: str | None = None, **config: Any) -> Any:
        once = {"connect_timeout": 3, "read_timeout": 3, "retries": {"total_max_attempts": 1}}
        return outside.aws_client(service, connection, **(config | (once if connection == "kms" else {})))

    return replace(outside, aws_client=aws_client)


@pytest.fixture(scope="module")
def arn(own_moto: MotoServer) -> str:
    client = outside_of(own_moto).aws_client("kms", "kms")
    return str(client.create_key()["KeyMetadata"]["Arn"])


def local(path: Path, name: str = "local", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "local", "file": str(path), **more}


def break_glass(path: Path, **more: Any) -> dict[str, Any]:
    return {"name": "glass", "kind": "rsa_public", "public_key_file": str(path), **more}


def kms(arn: str, **more: Any) -> dict[str, Any]:
    return {"name": "cloud", "kind": "aws_kms", "key_id": arn, "connection": "kms", **more}


def policy(*keys: dict[str, Any], single: bool = False) -> EncryptionPolicy:
    return EncryptionPolicy.model_validate({"keys": list(keys), "accept_single_key": single})


@pytest.fixture
def three(safe: Path, arn: str) -> EncryptionPolicy:
    return policy(local(safe / "local.key"), break_glass(safe / "pair.pub"), kms(arn))


def sealed(store: LocalTarget, encryption: EncryptionPolicy, outside: Outside):
    keyring = sealing_keyring(encryption, outside)
    to = Destination(store, FOLDER, "erp", "database", "20261122T020000Z-full-7f3a", keyring)
    return write_all(to, DATA)


def origin(store: LocalTarget, encryption: EncryptionPolicy, outside: Outside, *private: Path) -> Origin:
    keyring = opening_keyring(encryption, outside, private)
    return Origin(store, FOLDER, "erp", "database", "20261122T020000Z-full-7f3a", keyring)


def test_each_kind_of_key_alone_opens_what_three_have_sealed(
    store: LocalTarget, three: EncryptionPolicy, safe: Path, own_moto: MotoServer, arn: str
) -> None:
    outside = outside_of(own_moto)
    stream = sealed(store, three, outside)
    only_local = policy(local(safe / "local.key"), single=True)
    only_glass = policy(break_glass(safe / "pair.pub"), single=True)
    assert read_all(stream, origin(store, only_local, nothing_outside())) == DATA
    assert read_all(stream, origin(store, only_glass, nothing_outside(), safe / "pair.pem")) == DATA
    assert read_all(stream, origin(store, policy(kms(arn), single=True), outside)) == DATA


def test_the_header_names_all_three(
    store: LocalTarget, three: EncryptionPolicy, own_moto: MotoServer, arn: str
) -> None:
    stream = sealed(store, three, outside_of(own_moto))
    assert wrapping_keys_of(BytesIO(store.read(FOLDER + stream.volumes[0].file)), "it") == {
        WrappingKey("lifeboat", "local"),
        WrappingKey("lifeboat", "glass"),
        WrappingKey(KMS_PROVIDER, arn),
    }


def test_the_first_key_being_wrong_does_not_end_the_search(
    store: LocalTarget, three: EncryptionPolicy, safe: Path, own_moto: MotoServer, arn: str
) -> None:
    outside = outside_of(own_moto)
    stream = sealed(store, three, outside)
    wrong_first = policy(local(safe / "wrong.key"), break_glass(safe / "pair.pub"), kms(arn))
    assert read_all(stream, origin(store, wrong_first, nothing_outside(), safe / "pair.pem")) == DATA
    assert read_all(stream, origin(store, wrong_first, outside)) == DATA


@pytest.mark.parametrize("which", ["local", "glass", "kms"])
def test_a_wrong_key_is_an_unavailable_one(
    store: LocalTarget, three: EncryptionPolicy, safe: Path, own_moto: MotoServer, which: str
) -> None:
    outside = outside_of(own_moto)
    stream = sealed(store, three, outside)
    private = [safe / "wrong.pem"] if which == "glass" else []
    wrong = {
        "local": lambda: local(safe / "wrong.key"),
        "glass": lambda: break_glass(safe / "wrong.pub"),
        "kms": lambda: kms(str(outside.aws_client("kms", "kms").create_key()["KeyMetadata"]["Arn"])),
    }[which]()
    with pytest.raises(KeyUnavailable, match=r"base.tar.0001.zst.enc on store can't be opened"):
        read_all(stream, origin(store, policy(wrong, single=True), outside, *private))


def test_the_break_glass_key_opens_although_the_file_of_its_public_half_is_lost(
    store: LocalTarget, three: EncryptionPolicy, safe: Path, own_moto: MotoServer, tmp_path: Path
) -> None:
    stream = sealed(store, three, outside_of(own_moto))
    lost = policy(local(tmp_path / "gone.key"), break_glass(tmp_path / "gone.pub"))
    assert read_all(stream, origin(store, lost, nothing_outside(), safe / "wrong.pem", safe / "pair.pem")) == DATA


def test_a_connection_that_is_missing_does_not_hide_the_keys_that_are_there(
    store: LocalTarget, three: EncryptionPolicy, own_moto: MotoServer
) -> None:
    stream = sealed(store, three, outside_of(own_moto))
    at_home = origin(store, three, nothing_outside())
    assert any("cloud: AWS KMS key cloud: There is no connection kms" in left for left in at_home.keyring.left_out)
    assert read_all(stream, at_home) == DATA


def test_nothing_opens_without_any_key(three: EncryptionPolicy, tmp_path: Path, arn: str) -> None:
    lost = policy(local(tmp_path / "gone.key"), break_glass(tmp_path / "gone.pub"), kms(arn))
    with pytest.raises(KeyUnavailable, match=r"No wrapping key can be used here: local: .*; glass: .*; cloud: "):
        opening_keyring(lost, nothing_outside())


@pytest.mark.parametrize("missing", ["local", "glass", "cloud"])
def test_a_missing_key_stops_the_sealing(
    safe: Path, tmp_path: Path, own_moto: MotoServer, arn: str, missing: str
) -> None:
    keys = [local(safe / "local.key"), break_glass(safe / "pair.pub"), kms(arn)]
    keys[0]["file"] = str(tmp_path / "gone") if missing == "local" else keys[0]["file"]
    keys[1]["public_key_file"] = str(tmp_path / "gone") if missing == "glass" else keys[1]["public_key_file"]
    keys[2]["connection"] = "gone" if missing == "cloud" else "kms"
    with pytest.raises(KeyUnavailable, match=missing):
        sealing_keyring(policy(*keys), outside_of(own_moto))


@pytest.mark.parametrize("missing", ["local", "glass", "cloud"])
def test_an_optional_key_that_is_missing_is_left_out_and_said(
    store: LocalTarget, safe: Path, tmp_path: Path, own_moto: MotoServer, arn: str, missing: str
) -> None:
    gone = {
        "local": local(tmp_path / "gone", optional=True),
        "glass": break_glass(tmp_path / "gone", optional=True),
        "cloud": kms(arn, optional=True, connection="gone"),
    }[missing]
    encryption = policy(gone, local(safe / "local.key", name="other"))
    keyring = sealing_keyring(encryption, outside_of(own_moto))
    assert [left.partition(":")[0] for left in keyring.left_out] == [missing]
    assert keyring.wrapping_keys == {WrappingKey("lifeboat", "other")}
    stream = sealed(store, encryption, outside_of(own_moto))
    named = wrapping_keys_of(BytesIO(store.read(FOLDER + stream.volumes[0].file)), "it")
    assert named == keyring.wrapping_keys


def test_a_single_key_has_to_be_accepted_by_name(safe: Path) -> None:
    with pytest.raises((Refused, ValueError), match="is the only key"):
        policy(local(safe / "local.key"))
    assert policy(local(safe / "local.key"), single=True).keys


def test_a_service_that_is_away_when_the_sealing_begins_stops_it(safe: Path, own_moto: MotoServer, arn: str) -> None:
    outside = hurried(outside_of(own_moto))
    encryption = policy(local(safe / "local.key"), kms(arn))
    own_moto.freeze()
    try:
        with pytest.raises(KeyUnavailable, match=r"AWS KMS key cloud .* can't wrap a data key"):
            sealing_keyring(encryption, outside)
        degraded = sealing_keyring(policy(local(safe / "local.key"), kms(arn, optional=True)), outside)
        assert len(degraded.left_out) == 1
    finally:
        own_moto.thaw()


def test_a_service_that_goes_away_before_an_object_is_sealed_stops_the_writing(
    store: LocalTarget, safe: Path, own_moto: MotoServer, arn: str
) -> None:
    keyring = sealing_keyring(policy(local(safe / "local.key"), kms(arn)), hurried(outside_of(own_moto)))
    own_moto.freeze()
    try:
        to = Destination(store, FOLDER, "erp", "database", "20261122T020000Z-full-7f3a", keyring)
        writer = StreamWriter("base.tar", to, StreamSettings())
        with pytest.raises(KeyUnavailable, match="No data key could be wrapped by all keys"):
            writer.finish()
        writer.abort()
    finally:
        own_moto.thaw()
    assert list(store.list("")) == []


def test_a_service_that_is_away_when_an_object_is_opened_is_no_matter_while_another_key_is_there(
    store: LocalTarget, safe: Path, own_moto: MotoServer, arn: str
) -> None:
    outside = hurried(outside_of(own_moto))
    stream = sealed(store, policy(kms(arn), local(safe / "local.key")), outside_of(own_moto))
    both = origin(store, policy(kms(arn), local(safe / "local.key")), outside)
    alone = origin(store, policy(kms(arn), single=True), outside)
    own_moto.freeze()
    try:
        assert read_all(stream, both) == DATA
        with pytest.raises(KeyUnavailable, match="can't be opened with the keys at hand"):
            read_all(stream, alone)
    finally:
        own_moto.thaw()


def test_of_two_services_one_may_be_away(store: LocalTarget, tmp_path: Path, own_moto: MotoServer, arn: str) -> None:
    with MotoServer(tmp_path / "second.log") as second:
        environment = {
            "AIRFLOW_CONN_KMS": own_moto.airflow_connection_uri(),
            "AIRFLOW_CONN_SECOND": second.airflow_connection_uri(),
        }
        outside = outside_from(environment)
        other = str(outside.aws_client("kms", "second").create_key()["KeyMetadata"]["Arn"])
        both = policy(kms(arn), kms(other, connection="second") | {"name": "cloud2"})
        stream = sealed(store, both, outside)
        back = origin(store, both, hurried(outside))
        own_moto.freeze()
        try:
            assert read_all(stream, back) == DATA
        finally:
            own_moto.thaw()


def test_a_key_that_the_service_does_not_know_stops_the_sealing(own_moto: MotoServer, arn: str) -> None:
    unknown = policy(kms(arn[:-4] + "0000"), single=True)
    with pytest.raises(KeyUnavailable, match="can't wrap"):
        sealing_keyring(unknown, outside_of(own_moto))


KEY = bytes(range(100, 132))


@pytest.mark.parametrize(
    "text", [base64.b64encode(KEY), base64.b64encode(KEY) + b"\n", b"  " + base64.b64encode(KEY) + b"\r\n", KEY]
)
def test_a_local_key_may_be_written_in_either_way(
    store: LocalTarget, tmp_path: Path, outside: Outside, text: bytes
) -> None:
    (tmp_path / "plain.key").write_text(base64.b64encode(KEY).decode())
    (tmp_path / "this.key").write_bytes(text)
    stream = sealed(store, policy(local(tmp_path / "plain.key"), single=True), outside)
    assert read_all(stream, origin(store, policy(local(tmp_path / "this.key"), single=True), outside)) == DATA


@pytest.mark.parametrize(
    "text",
    [b"", b"secret-passphrase-of-32-letters!", base64.b64encode(KEY[:24]), b"\xff\xfe" * 10, base64.b64encode(KEY) * 2],
    ids=["empty", "a passphrase", "a short key", "binary", "two keys"],
)
def test_a_local_key_that_is_none_is_refused_and_not_shown(tmp_path: Path, outside: Outside, text: bytes) -> None:
    (tmp_path / "this.key").write_bytes(text)
    with pytest.raises(KeyUnavailable, match=r"Key local in file .*this.key is not 32 bytes") as caught:
        sealing_keyring(policy(local(tmp_path / "this.key"), single=True), outside)
    shown = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    assert "passphrase" not in shown
    assert not text or text.decode("latin-1") not in shown


def test_no_error_of_an_unreadable_key_holds_any_of_it(tmp_path: Path, outside: Outside) -> None:
    (tmp_path / "pair.pub").write_text("-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n-----END PUBLIC KEY-----\n")
    with pytest.raises(KeyUnavailable, match="is not an RSA public key") as caught:
        sealing_keyring(policy(break_glass(tmp_path / "pair.pub"), single=True), outside)
    assert "c2VjcmV0" not in str(caught.value)
    (tmp_path / "pair.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(KeyUnavailable, match="break-glass key can't be read") as caught:
        opening_keyring(policy(local(tmp_path / "gone"), single=True), outside, [tmp_path / "pair.pem"])
    assert "c2VjcmV0" not in str(caught.value)


def test_a_key_is_written_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", "first")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyUnavailable, match="No key can be written"):
        write_secret(tmp_path / "key", "second")
    assert (tmp_path / "key").read_text() == "first\n"


def test_new_keys_differ(tmp_path: Path) -> None:
    first, second = new_local_key(), new_local_key()
    assert first != second
    assert len(base64.b64decode(first)) == 32
    pair = new_break_glass_pair()
    assert "PRIVATE" in pair.private
    assert pair.private not in repr(pair)
