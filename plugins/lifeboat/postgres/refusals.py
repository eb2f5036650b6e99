"""Why a server let nobody in, and what to do about it.

Source: https://www.postgresql.org/docs/current/client-authentication-problems.html
"""

from __future__ import annotations

import re

from lifeboat.errors import PostgresError
from lifeboat.postgres.parameters import ConnectionParameters

_REMEDIES: tuple[tuple[str, str], ...] = (
    ("no pg_hba.conf entry for replication", "Add a line for it to pg_hba.conf and reload: {hba}"),
    ("pg_hba.conf rejects replication", "A line of pg_hba.conf rejects it; put before that line: {hba}"),
    ("no pg_hba.conf entry", "Add a line for it to pg_hba.conf and reload: {hba}"),
    ("pg_hba.conf rejects", "A line of pg_hba.conf rejects it; put before that line: {hba}"),
    ("must be superuser or replication role", "Run as a superuser: ALTER ROLE {role} REPLICATION;"),
    ("permission denied to start WAL sender", "Run as a superuser: ALTER ROLE {role} REPLICATION;"),
    ("is not permitted to log in", "Run as a superuser: ALTER ROLE {role} LOGIN;"),
    ("permission denied for database", "Run as a superuser: GRANT CONNECT ON DATABASE {database} TO {role};"),
    ("password authentication failed", "Look at login and password of the connection."),
    ("no password supplied", "Give the connection a password."),
    ("requested standby connections exceeds", "Raise max_wal_senders, or end a sender that is no longer needed."),
    ("remaining connection slots are reserved", "Raise max_connections, or end connections that are not needed."),
    ("too many clients", "Raise max_connections, or end connections that are not needed."),
    ("too many connections for role", "Run as a superuser: ALTER ROLE {role} CONNECTION LIMIT -1;"),
    (
        "root certificate file",
        "Name the file with the authority's certificate as sslrootcert in the connection's extra.",
    ),
    ("signature failure", "Look at sslrootcert in the connection's extra: the server's authority is another one."),
    (
        "certificate verify failed",
        "Look at sslrootcert in the connection's extra: the server's authority is another one.",
    ),
    (
        "does not match host name",
        "Use the host name that stands in the server's certificate, or a certificate that has it.",
    ),
    ("server does not support SSL", "Switch TLS on at the server (ssl = on), or say less in the policy's tls."),
    ("protocol version", "Let the server speak the TLS version that the policy asks for, or lower tls_minimum."),
    ("does not exist", "Look at login and schema of the connection."),
    ("starting up", "Wait until the server has started."),
    ("shutting down", "Wait until the server is back."),
    ("Connection refused", "Look at host and port of the connection, and whether the server runs and listens there."),
    ("No such file or directory", "Look whether the server runs and keeps its socket in that folder."),
)


def connection_refused(parameters: ConnectionParameters, message: str) -> PostgresError:
    """The error for a connection that libpq could not make: its message on one line, without secrets, with a remedy."""
    text = clean_message(message, tuple(parameters.secrets.values()))
    hba = hba_line(parameters, replication="replication connection" in text)
    remedy = next(
        (remedy for sign, remedy in _REMEDIES if sign in text), "Look at the connection and the server's log."
    )
    keywords = parameters.keywords
    return PostgresError(
        f"Connection {parameters.connection_id!r} to {parameters.address} as {keywords['user']!r} failed: {text}.",
        remedy.format(hba=hba, role=quoted(keywords["user"]), database=quoted(keywords["dbname"])),
    )


def hba_line(parameters: ConnectionParameters, *, replication: bool) -> str:
    """The line of ``pg_hba.conf`` that would let the role in; the worker's address is left for the reader."""
    database = "replication" if replication else quoted(parameters.keywords["dbname"])
    role = quoted(parameters.keywords["user"])
    if parameters.is_socket:
        return f"local {database} {role} scram-sha-256"
    kind = "hostnossl" if parameters.keywords.get("sslmode") == "disable" else "hostssl"
    return f"{kind} {database} {role} <address of this worker>/32 scram-sha-256"


def quoted(name: str) -> str:
    """An SQL identifier, in quotes where it needs them."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def clean_message(message: str, secrets: tuple[str, ...] = ()) -> str:
    """libpq's message as one line without its prefixes and full stop, any of ``secrets`` put out."""
    lines = [
        re.sub(r"^(connection to server .*? failed|FATAL|ERROR):\s*", "", line.strip()) for line in message.split("\n")
    ]
    text = "; ".join(re.sub(r"^(FATAL|ERROR):\s*", "", line) for line in lines if line)
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return text.rstrip(".") or "no reason was given"
