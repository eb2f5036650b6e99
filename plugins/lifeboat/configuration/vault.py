"""HashiCorp Vault: its key-value engine of version 2.

The connection is written as Airflow's own for Vault: host, port (8200), schema ``http`` or ``https`` (the default), and
a token as password; or ``{"auth_type": "approle"}`` in its extra, the role's id as login (or as ``role_id`` in the
extra), and the secret id as password. ``namespace``, ``mount_point`` (of approle) and ``verify`` (a file of
certificates) may stand in the extra, too.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2,
https://airflow.apache.org/docs/apache-airflow-providers-hashicorp/stable/connections/vault.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lifeboat.configuration.stores import Secret
from lifeboat.errors import ConnectionUnknown, LifeboatError, RestoreError, SourceUnreadable
from lifeboat.outside import Connection

_TIMEOUT_SECONDS = 20


class VaultStore:
    """The secrets below one mount.

    A secret is ``{"data": {…}, "custom_metadata": {…}, "version": …}``.

    Raises:
        ConnectionUnknown: the connection can't be used for Vault.
        SourceUnreadable: Vault can't be reached, or does not let us in.
    """

    def __init__(self, connection: Connection, mount: str) -> None:
        self._mount = mount
        self._where = f"Vault ({connection.id})"
        with _told(SourceUnreadable, self._where, "let the connection in"):
            self._engine = _client(connection).secrets.kv.v2

    def read(self, name: str) -> Secret | None:
        """As :meth:`Store.read`."""
        from hvac.exceptions import InvalidPath

        rights = f"`read` on {self._mount}/data/{name}"
        with _told(SourceUnreadable, f"{self._mount}/{name} in {self._where}", rights):
            try:
                answer = self._engine.read_secret_version(
                    path=name, mount_point=self._mount, raise_on_deleted_version=True
                )["data"]
            except InvalidPath:
                return None
        about = answer.get("metadata") or {}
        secret: dict[str, Any] = {"data": answer["data"], "version": about.get("version")}
        if about.get("custom_metadata"):
            secret["custom_metadata"] = about["custom_metadata"]
        return secret

    def write(self, name: str, secret: Secret, present: Secret | None) -> None:
        """As :meth:`Store.write`. The version that was read is named: a secret that changed meanwhile is left alone."""
        rights = f"`create` and `update` on {self._mount}/data/{name} and on {self._mount}/metadata/{name}"
        with _told(RestoreError, f"{self._mount}/{name} in {self._where}", rights):
            if present is None or present.get("data") != secret["data"]:
                version = self._newest(name) if present is None else present["version"]
                self._engine.create_or_update_secret(
                    path=name, secret=secret["data"], cas=version, mount_point=self._mount
                )
            mine, theirs = secret.get("custom_metadata"), (present or {}).get("custom_metadata")
            if (mine or None) != (theirs or None):
                self._engine.update_metadata(path=name, custom_metadata=mine or {}, mount_point=self._mount)

    def _newest(self, name: str) -> int:
        """The number of the newest version, deleted ones too; 0 where there never was one."""
        from hvac.exceptions import InvalidPath

        try:
            about = self._engine.read_secret_metadata(path=name, mount_point=self._mount)["data"]
        except InvalidPath:
            return 0
        return int(about.get("current_version") or 0)


def _client(connection: Connection) -> Any:
    import hvac

    def refuse(reason: str, remedy: str) -> ConnectionUnknown:
        return ConnectionUnknown(f"The connection {connection.id} can't be used for Vault: {reason}.", remedy)

    extra = connection.extra
    scheme = connection.schema or "https"
    if not connection.host or scheme not in ("http", "https"):
        raise refuse("it has no host, or its schema is neither http nor https", "Write vault://:TOKEN@host:8200/https.")
    kind = extra.get("auth_type", "token")
    if kind not in ("token", "approle") or not connection.password:
        raise refuse("it has no password, or its auth_type is neither token nor approle", "Set the password.")
    client = hvac.Client(
        url=f"{scheme}://{connection.host}:{connection.port or 8200}",
        token=connection.password if kind == "token" else None,
        namespace=extra.get("namespace"),
        verify=extra.get("verify", True),
        timeout=_TIMEOUT_SECONDS,
    )
    if kind == "approle":
        role = connection.login or extra.get("role_id")
        if not role:
            raise refuse("approle needs the role's id as login", "Set it.")
        client.auth.approle.login(
            role_id=role, secret_id=connection.password, mount_point=extra.get("mount_point", "approle")
        )
    return client


@contextmanager
def _told(kind: type[LifeboatError], what: str, rights: str) -> Iterator[None]:
    """Failures of Vault in our words: its own may quote what was sent."""
    from hvac.exceptions import Forbidden, Unauthorized, VaultError
    from requests.exceptions import RequestException

    try:
        yield
    except (Forbidden, Unauthorized):
        raise kind(f"{what} is refused.", f"Vault's policy for the connection must grant it: {rights}.") from None
    except VaultError as error:
        raise kind(
            f"{what} can't be used: Vault answers with {type(error).__name__}.",
            "Is it unsealed, is the mount a key-value engine of version 2, was the secret changed meanwhile?",
        ) from None
    except RequestException as error:
        raise kind(
            f"{what} can't be reached ({type(error).__name__}).", "Look at the connection, and whether Vault runs."
        ) from None
