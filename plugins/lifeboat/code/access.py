"""Who we are on a Git server and which server we believe: read from a connection, handed to ``git`` through memory.

A password or a private key stands in memory of this process that only our own children open, in no argument, no
variable and no file: what is killed leaves nothing of it.
Sources: https://git-scm.com/docs/gitcredentials, https://man.openbsd.org/ssh_config, memfd_create(2)
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncssh

from lifeboat.code.git_program import Remote
from lifeboat.errors import SourceUnreadable
from lifeboat.outside import Connection, Outside
from lifeboat.policy.code_source import scheme_of
from lifeboat.repository.child_programs import in_memory

SSH_PORT = 22
_SSH_OPTIONS = (
    *("-F", os.devnull),  # the account's own configuration may lead anywhere
    *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"),
    *("-o", "StrictHostKeyChecking=yes", "-o", f"GlobalKnownHostsFile={os.devnull}", "-o", "UpdateHostKeys=no"),
    *("-o", "PasswordAuthentication=no", "-o", "KbdInteractiveAuthentication=no", "-o", "ForwardAgent=no"),
    *("-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=3"),
)


@dataclass(frozen=True)
class _Place:
    """Where a URL leads."""

    scheme: str
    host: str
    port: int | None
    user: str


def _place(url: str) -> _Place:
    scheme = scheme_of(url)
    if scheme == "ssh" and "://" not in url:
        user, _, rest = url.partition("@")
        return _Place("ssh", rest.partition(":")[0], None, user)
    parts = urlsplit(url)
    return _Place(scheme, parts.hostname or "", parts.port, parts.username or "")


@contextmanager
def remote_access(outside: Outside, connection_id: str | None, url: str) -> Iterator[Remote]:
    """A repository with what lets us in.

    Args:
        connection_id: the Airflow connection; ``None``: whoever asks may come in.
        url: where it is.

    Raises:
        SourceUnreadable: the connection leads elsewhere, or lacks something. No message holds a secret.
        ConnectionUnknown: there is no such connection.
    """
    place = _place(url)
    if place.scheme in ("file", "git"):
        # Neither asks who we are.
        yield Remote(url)
        return
    connection = outside.connection(connection_id) if connection_id is not None else None
    if connection is not None:
        _insist_on_host(connection, place)
    with ExitStack() as stack:
        if place.scheme == "ssh":
            yield _over_ssh(stack, connection, place, url)
        else:
            yield _over_https(stack, connection, url)


def _insist_on_host(connection: Connection, place: _Place) -> None:
    """A secret goes to the server that it belongs to, whatever a URL says."""
    named = connection.host or ""
    host = (urlsplit(named).hostname or "") if "://" in named else named.partition("/")[0]
    if host and host.lower() != place.host.lower():
        raise SourceUnreadable(
            f"The connection {connection.id} leads to {host}, and a repository's URL to {place.host}.",
            "Write the same host in both, or name another connection.",
        )


def _over_https(stack: ExitStack, connection: Connection | None, url: str) -> Remote:
    if connection is None:
        return Remote(url)
    settings = {}
    authority = _text(connection.extra, "ca_file")
    if authority:
        settings["http.sslCAInfo"] = authority
    password = connection.password or ""
    if not password:
        return Remote(url, settings=settings)
    login = connection.login or "x-access-token"
    if re.search(r"[\r\n\0]", login + password):
        raise SourceUnreadable(
            f"The connection {connection.id} has a line end in its login or password.", "Write them again without."
        )
    paths, descriptors = stack.enter_context(in_memory({"login": f"username={login}\npassword={password}\n"}))
    # For this server alone: one that sends us elsewhere sends us without it.
    parts = urlsplit(url)
    helper = f'!f() {{ test "$1" != get || cat {shlex.quote(paths["login"])}; }}; f'
    settings[f"credential.{parts.scheme}://{parts.netloc}.helper"] = helper
    return Remote(url, settings=settings, descriptors=descriptors, secrets=(password,))


def _over_ssh(stack: ExitStack, connection: Connection | None, place: _Place, url: str) -> Remote:
    if connection is None:
        raise SourceUnreadable(
            f"{url} is read over ssh, and no connection says with which key.",
            "Name a connection with private_key and host_key in its extra.",
        )
    port = place.port or connection.port or SSH_PORT
    key, secrets = _private_key(connection)
    files: dict[str, str | bytes] = {"key": key, "known hosts": _known_hosts(connection, place.host, port)}
    _, descriptors = stack.enter_context(in_memory(files))
    # ssh closes what it inherits, so it opens them where they are: with us. They are gone when we are.
    key_file, known_hosts = (f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in descriptors)
    words = ["ssh", *_SSH_OPTIONS, "-i", key_file, "-o", f"UserKnownHostsFile={known_hosts}"]
    if place.port is None:
        words += ["-p", str(port)]
    if not place.user:
        if not connection.login:
            raise SourceUnreadable(
                f"Neither {url} nor the connection {connection.id} says which account it is.", "Write a login there."
            )
        words += ["-l", connection.login]
    environment = {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}
    return Remote(url, environment=environment, secrets=secrets)


def _private_key(connection: Connection) -> tuple[bytes, tuple[str, ...]]:
    """The key as ssh reads it, and what no text may hold of it."""
    text, file = _text(connection.extra, "private_key"), _text(connection.extra, "key_file")
    if not text and file:
        try:
            text = Path(file).expanduser().read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SourceUnreadable(
                f"The connection {connection.id} names a key_file {file} that can't be read: {reason}.",
                "Put it there for the worker's user, or put the key itself into private_key.",
            ) from None
    if not text:
        raise SourceUnreadable(
            f"The connection {connection.id} has no key.",
            "Put private_key (its text) or key_file (its path on the worker) into its extra.",
        )
    passphrase = _text(connection.extra, "private_key_passphrase") or None
    try:
        key = asyncssh.import_private_key(text, passphrase)
        return key.export_private_key("openssh"), tuple(filter(None, (passphrase,)))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, asyncssh.KeyExportError, ValueError):
        raise SourceUnreadable(
            f"The connection {connection.id} has a private key that can't be read.",
            "Is it whole, and is private_key_passphrase right?",
        ) from None


def _known_hosts(connection: Connection, host: str, port: int) -> str:
    pinned, known = _text(connection.extra, "host_key"), _text(connection.extra, "known_hosts")
    name = host if port == SSH_PORT else f"[{host}]:{port}"
    if pinned:
        # As Airflow's SSH hook has it, a key without its type is an RSA key.
        lines = [line.split() for line in pinned.splitlines() if line.strip()]
        keys = [" ".join(words[:2]) if len(words) > 1 else f"ssh-rsa {words[0]}" for words in lines]
        return "".join(f"{name} {key}\n" for key in keys)
    if known and known.lower() != "none":
        try:
            return known if len(known.split()) > 1 else Path(known).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise SourceUnreadable(
                f"The connection {connection.id} names known_hosts {known} that can't be read: {error.strerror}.",
                "Write host_key with the server's public key into its extra instead.",
            ) from None
    raise SourceUnreadable(
        f"The connection {connection.id} does not say which host key {host} has: nobody is believed at first sight.",
        "Write host_key into its extra, as `ssh-keyscan` shows it and as you have compared it: ssh-ed25519 AAAA….",
    )


def _text(extra: Mapping[str, Any], name: str) -> str:
    value = extra.get(name)
    return value.strip("\n") if isinstance(value, str) else ""
