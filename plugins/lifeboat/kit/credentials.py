"""The secrets of a recovery kit: which a restore needs, sealed by the break-glass keys and by no other."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifeboat.errors import ConnectionUnknown, KeyUnavailable, LifeboatError, ManifestInvalid
from lifeboat.kit.contents import CREDENTIALS_SOURCE, CREDENTIALS_STREAM, KIT
from lifeboat.outside import Connection, Outside, as_airflow
from lifeboat.policy.encryption import AwsKmsKey, EncryptionPolicy, KeyPolicy, LocalKey, RsaPublicKey
from lifeboat.policy.model import Policy
from lifeboat.repository.catalogue import Catalogue
from lifeboat.repository.commit import commit, wrapped_keys
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.manifest import Manifest
from lifeboat.repository.signing import TrustedKeys
from lifeboat.repository.system import SystemRepository, Work, tool_versions
from lifeboat.streams.keys import local_key, opening_keyring, sealing_keyring
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.writing import Destination, StreamWriter
from lifeboat.targets.target import Target

LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True)
class Credentials:
    """What is secret: connections by their id, in Airflow's JSON form, and local keys (base64) by their name."""

    connections: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    local_keys: dict[str, str] = field(default_factory=dict, repr=False)
    notices: tuple[str, ...] = ()


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format_version: int = Field(default=1, ge=1, le=1)
    system: str
    connections: dict[str, dict[str, Any]]
    local_keys: dict[str, str]


def break_glass_keys(policy: Policy) -> list[RsaPublicKey]:
    """The policy's RSA keys, whose private halves lie outside of everything."""
    return [
        key.model_copy(update={"optional": False}) for key in policy.encryption.keys if isinstance(key, RsaPublicKey)
    ]


def gather(policy: Policy, outside: Outside, more: Collection[str] = ()) -> Credentials:
    """The secrets that a restore of a system needs: its targets', its wrapping keys', and the connections in ``more``.

    An optional key that is out of reach is left out, as it is in backups, and named in a notice.

    Raises:
        ConnectionUnknown: a connection is missing.
        KeyUnavailable: a local key is missing.
    """
    gathering = _Gathering(outside)
    for name, target in policy.targets.items():
        if target.scheme != "file":
            gathering.take(target.connection, f"target {name}")
    for key in policy.encryption.keys:
        try:
            gathering.take_key(key)
        except (KeyUnavailable, ConnectionUnknown) as error:
            if not key.optional:
                raise
            gathering.notices.append(f"The optional key {key.name} was out of reach: {error.what}")
    for connection_id in sorted(more):
        gathering.take(connection_id, "asked for")
    return Credentials(gathering.connections, gathering.local_keys, tuple(gathering.notices))


class _Gathering:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self.connections: dict[str, dict[str, Any]] = {}
        self.local_keys: dict[str, str] = {}
        self.notices: list[str] = []

    def take(self, connection_id: str | None, what: str) -> None:
        if connection_id is None:
            self.notices.append(f"The {what} is used with the machine's own credentials, which no kit can hold.")
            return
        found = self._outside.connection(connection_id)
        if found.type in ("sftp", "ssh"):
            found = _with_its_files(found)
        self.connections[connection_id] = as_airflow(found)
        if found.type == "aws" and not (found.password or found.extra.get("aws_secret_access_key")):
            self.notices.append(
                f"Connection {connection_id} ({what}) holds no keys: it leans on the machine that it is used on."
            )

    def take_key(self, key: KeyPolicy) -> None:
        if isinstance(key, LocalKey):
            self.local_keys[key.name] = base64.b64encode(local_key(key, self._outside)).decode("ascii")
        elif isinstance(key, AwsKmsKey):
            self.take(key.connection, f"key {key.name}")


def _with_its_files(connection: Connection) -> Connection:
    """The connection with its private key and its known hosts in it: their files may go with the worker."""
    from lifeboat.targets.sftp_access import self_contained

    try:
        return self_contained(connection)
    except (OSError, UnicodeDecodeError) as error:
        # Raised without its cause: what could not be decoded may be a key.
        what = error.filename if isinstance(error, OSError) else "a file"
        raise ConnectionUnknown(
            f"The connection {connection.id} names {what}, which can't be read here: a kit without it opens no target.",
            "Export on a machine that has it, or put the text into the connection's extra (private_key, host_key).",
        ) from None


def seal_credentials(
    repository: SystemRepository, credentials: Credentials, target: Target, work: Work, clock: Callable[[], datetime]
) -> None:
    """Write a system's credentials to a kit, and read back that exactly its break-glass keys have wrapped them.

    Raises:
        KeyUnavailable: a break-glass key can't be used.
    """
    system, point = repository.system, str(work.recovery_point)
    keyring = sealing_keyring(_only(break_glass_keys(repository.policy)), repository.outside)
    document = _Document(system=system, connections=credentials.connections, local_keys=credentials.local_keys)
    folder = RecoveryPointFolder(system, CREDENTIALS_SOURCE, point)
    destination = Destination(target, folder.attempt(work.attempt), system, CREDENTIALS_SOURCE, point, keyring)
    writer = StreamWriter(CREDENTIALS_STREAM, destination, repository.streams)
    try:
        writer.write(document.model_dump_json(indent=2).encode())
        stream = writer.finish()
    except BaseException as failure:
        writer.abort(failure)
        raise
    manifest = Manifest(
        system=system,
        source=CREDENTIALS_SOURCE,
        recovery_point=point,
        attempt=work.attempt,
        kind=KIT,
        sequence=1,
        previous=None,
        chain=point,
        begun=work.recovery_point.begun,
        committed=clock(),
        moment=work.recovery_point.begun,
        details={},
        streams=(stream,),
        wrapped_keys=wrapped_keys(keyring.wrapping_keys),
        tool_versions=tool_versions(),
        policy_digest=repository.loaded.digest,
        run=work.run,
    )
    commit(target, manifest, repository.signer)


def open_credentials(
    policy: Policy, kit: str, target: Target, trusted: TrustedKeys, break_glass: Sequence[Path]
) -> Credentials:
    """A system's credentials out of a kit.

    Args:
        policy: the kit's own, its RSA public keys in its text.
        kit: the kit's id.
        target: the kit's folder ``credentials``.
        break_glass: files with RSA private keys (PEM).

    Raises:
        KeyUnavailable: none of these keys opens them.
        ManifestInvalid, ObjectDamaged: they were changed.
    """
    keys = break_glass_keys(policy)
    if not keys:
        raise KeyUnavailable(
            f"The policy of {policy.system} names no break-glass key.", "The kit was made without credentials."
        )
    keyring = opening_keyring(_only(keys), Outside(_nowhere, _no_client), break_glass)
    copy = Catalogue(target, policy.system, trusted).read(RecoveryPointFolder(policy.system, CREDENTIALS_SOURCE, kit))
    manifest = copy.manifest
    stream = manifest.stream(CREDENTIALS_STREAM)
    if stream.plain_size > LARGEST:
        raise ManifestInvalid(
            f"The credentials of {policy.system} claim {stream.plain_size} bytes.", "Use another kit."
        )
    folder = manifest.folder.attempt(manifest.attempt)
    origin = Origin(target, folder, policy.system, CREDENTIALS_SOURCE, kit, keyring)
    with opened(stream, origin) as plain:
        data = plain.read()
    try:
        document = _Document.model_validate_json(data)
    except ValidationError:
        document = None
    if document is None or document.system != policy.system:
        # Raised here and not where it was caught: the error's context would carry secrets.
        raise ManifestInvalid(
            f"The credentials of {policy.system} can't be read.", "A newer Lifeboat may have made it."
        )
    return Credentials(document.connections, document.local_keys)


def _only(keys: Sequence[RsaPublicKey]) -> EncryptionPolicy:
    return EncryptionPolicy(keys=list(keys), accept_single_key=True)


def _nowhere(connection_id: str) -> NoReturn:
    raise ConnectionUnknown(f"The connection {connection_id} is not needed to open a kit.")


def _no_client(service: str, *_: object, **__: object) -> NoReturn:
    raise LifeboatError(f"No {service} is needed to open a kit.")


def as_environment(connections: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Connections as the variables ``AIRFLOW_CONN_<ID>`` that Airflow and the command line understand."""
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
