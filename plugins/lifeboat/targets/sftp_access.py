"""Who we are on an SFTP server and which server we believe: read from a connection as Airflow's SSH and SFTP hooks do.

Source: https://airflow.apache.org/docs/apache-airflow-providers-ssh/stable/connections/ssh.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from lifeboat.errors import TargetUnavailable
from lifeboat.outside import Connection

DEFAULT_PORT = 22
# AES-GCM is several times as fast as the others in this library; what it carries is sealed already.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True)
class Access:
    """How one server is reached.

    Attributes:
        connection: the connection's id, for messages.
        host: its name or address.
        port: its port.
        login: the account there.
        pinned: whether the connection says which host key is right.
        options: what ``asyncssh.connect`` is told besides; holds secrets.
    """

    connection: str
    host: str
    port: int
    login: str
    pinned: bool
    options: Mapping[str, Any] = field(repr=False)


def access_from(connection: Connection, *, target: str, host: str, port: int | None, role: str = "Target") -> Access:
    """What a connection says of a server.

    Its fields: ``host``, ``port``, ``login``, ``password``; in *extra*: ``private_key`` (text) or ``key_file`` (path),
    ``private_key_passphrase``, ``host_key`` (``ssh-ed25519 AAAA…``) or ``known_hosts`` (a path, or the text of such a
    file), ``ciphers``. ``no_host_key_check`` is never obeyed.

    Args:
        connection: of type ``sftp`` or ``ssh``.
        target: the target's name, for messages.
        host: the host that the target's URL names; the connection's must be the same, or empty.
        port: the port that the URL names, if any; likewise.
        role: as :class:`Speaker` has it.

    Raises:
        TargetUnavailable: something in it is missing, or can't be read. No message holds a secret.
    """

    def refuse(what: str, remedy: str) -> TargetUnavailable:
        return TargetUnavailable(f"{role} {target}: the connection {connection.id} {what}.", remedy)

    if connection.type not in ("sftp", "ssh"):
        raise refuse(f"is of type {connection.type!r}", "An sftp:// place takes one of type sftp or ssh.")
    if connection.host and connection.host.lower() != host.lower():
        raise refuse(f"leads to {connection.host}, but the url names {host}", "Write the same host in both places.")
    if port is not None and connection.port is not None and port != connection.port:
        raise refuse(f"has port {connection.port}, but the url says {port}", "Write the same port in both.")
    if not connection.login:
        raise refuse("has no login", "Write there the account on the server.")
    keys = _client_keys(connection, refuse)
    if not keys and not connection.password:
        raise refuse(
            "has neither a key nor a password",
            "Put private_key (its text) or key_file (its path on the worker) into its extra.",
        )
    known, algorithms = _host_keys(connection.extra, refuse)
    options: dict[str, Any] = {
        "username": connection.login,
        "password": connection.password or None,
        "client_keys": keys or None,
        "known_hosts": known,
        "encryption_algs": _words(connection.extra.get("ciphers")) or list(_CIPHERS),
    }
    if algorithms:
        options["server_host_key_algs"] = algorithms
    return Access(
        connection=connection.id,
        host=host,
        port=port or connection.port or DEFAULT_PORT,
        login=connection.login,
        pinned=known != ([], [], []),
        options=options,
    )


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list | tuple) else []


def _text(extra: Mapping[str, Any], name: str) -> str:
    value = extra.get(name)
    # In a URI a key's line ends are easily written as two characters.
    return value.replace("\\n", "\n").strip() if isinstance(value, str) else ""


def _client_keys(connection: Connection, refuse: Any) -> list[asyncssh.SSHKey]:
    text, file = _text(connection.extra, "private_key"), _text(connection.extra, "key_file")
    if not text and not file:
        return []
    place = "private_key" if text else f"key_file {file}"
    try:
        data = f"{text}\n" if text else Path(file).expanduser().read_text(encoding="ascii")
        # asyncssh's own messages may quote what it read: none of them goes any further.
        return [asyncssh.import_private_key(data, _text(connection.extra, "private_key_passphrase") or None)]
    except OSError as error:
        reason, remedy = f"names a {place} that can't be read ({error.strerror})", "Put it there, readable by us alone."
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError, ValueError) as error:
        locked = isinstance(error, asyncssh.KeyEncryptionError) or "passphrase" in str(error).lower()
        reason = f"has a {place} that can't be opened" if locked else f"has a {place} that is no private key"
        remedy = (
            "Put private_key_passphrase into its extra, or correct it."
            if locked
            else "It is all the text from -----BEGIN … to -----END …; a key of PuTTY is to be exported."
        )
    raise refuse(reason, remedy)


def _host_keys(extra: Mapping[str, Any], refuse: Any) -> tuple[Any, list[str]]:
    pinned, known = _text(extra, "host_key"), _text(extra, "known_hosts")
    if pinned:
        keys = [_public_key(line, refuse) for line in pinned.splitlines() if line.strip()]
        families = {_family(key.get_algorithm()) for key in keys}
        algorithms = sorted(_HOST_KEY_ALGORITHMS, key=lambda name: _family(name) not in families)
        return (keys, [], []), algorithms
    if not known or known.lower() == "none":
        return ([], [], []), []
    try:
        text = known if len(known.split()) > 1 else Path(known).expanduser().read_text(encoding="utf-8")
        return asyncssh.import_known_hosts(text), []
    except OSError as error:
        reason = f"names a file known_hosts {known} that can't be read ({error.strerror})"
    except ValueError:
        reason = "has known_hosts that can't be read"
    raise refuse(reason, "Write host_key with the server's public key into its extra instead.")


def _public_key(line: str, refuse: Any) -> asyncssh.SSHKey:
    words = line.split()
    # As Airflow's SSH hook has it, a key without its type is an RSA key.
    text = line if len(words) > 1 else f"ssh-rsa {line}"
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError):
        raise refuse(
            "has a host_key that is no public key",
            "Write it as in the server's /etc/ssh/ssh_host_ed25519_key.pub: ssh-ed25519 AAAA….",
        ) from None


def _family(algorithm: bytes | str) -> str:
    name = algorithm if isinstance(algorithm, str) else algorithm.decode()
    return "rsa" if "rsa" in name else name


def self_contained(connection: Connection) -> Connection:
    """The same connection with the files that it names put into it, for a recovery kit.

    Raises:
        OSError: one of them can't be read.
    """
    extra = dict(connection.extra)
    file, known = _text(extra, "key_file"), _text(extra, "known_hosts")
    if file and not _text(extra, "private_key"):
        extra["private_key"] = Path(file).expanduser().read_text(encoding="ascii")
    extra.pop("key_file", None)
    if known and known.lower() != "none" and len(known.split()) == 1:
        extra["known_hosts"] = Path(known).expanduser().read_text(encoding="utf-8")
    return Connection(
        id=connection.id,
        type=connection.type,
        host=connection.host,
        port=connection.port,
        login=connection.login,
        password=connection.password,
        schema=connection.schema,
        extra=extra,
    )
