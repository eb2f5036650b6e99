"""What libpq is told about one connection: from a connection of Airflow's form and the policy's TLS rules.

Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from psycopg.conninfo import make_conninfo

from lifeboat.errors import PostgresError
from lifeboat.outside import Connection

CONNECT_SECONDS = 30.0
TlsMode = Literal["verify-full", "verify-ca", "require", "off"]

_FROM_EXTRA = frozenset(
    {
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslcrl",
        "sslcrldir",
        "sslsni",
        "sslnegotiation",
        "ssl_max_protocol_version",
        "channel_binding",
        "require_auth",
        "gssencmode",
        "krbsrvname",
        "passfile",
    }
)

_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "require_auth": "PGREQUIREAUTH",
    "channel_binding": "PGCHANNELBINDING",
    "sslmode": "PGSSLMODE",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
}
"""Source: https://www.postgresql.org/docs/current/libpq-envars.html"""


@dataclass(frozen=True)
class Tls:
    """What the policy demands of the connection's encryption.

    Attributes:
        mode: ``verify-full`` (certificate and host name), ``verify-ca`` (certificate), ``require`` (encrypted, server
            unproven), ``off``.
        minimum: the oldest protocol version that is accepted: ``1.2`` or ``1.3``, with or without ``TLSv`` before it.
    """

    mode: TlsMode = "verify-full"
    minimum: str = "1.3"

    def parameters(self) -> dict[str, str]:
        """The same in libpq's words."""
        if self.mode == "off":
            return {"sslmode": "disable"}
        return {"sslmode": self.mode, "ssl_min_protocol_version": f"TLSv{self.minimum.removeprefix('TLSv')}"}


@dataclass(frozen=True)
class ConnectionParameters:
    """libpq's keywords for one connection. The password is kept apart, so that no ``repr`` shows it.

    Attributes:
        connection_id: the name that the policy gives the connection, for messages.
        host: a host name, an address, or a folder with a socket.
        port: the TCP port, or the number in the socket's name.
        keywords: everything else but the secrets.
        secrets: ``password`` and ``sslpassword`` where given.
    """

    connection_id: str
    host: str
    port: int
    keywords: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_socket(self) -> bool:
        """Whether the server is reached through a Unix socket of this machine."""
        return self.host.startswith(("/", "@"))

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        return f"{self.host}:{self.port}"

    def environment(self, database: str) -> dict[str, str]:
        """The same as libpq's variables, secrets included, for a program that is to reach a database: never an argument
        of it. What libpq has no variable for is left out: the key's password (``sslpassword``), and times."""
        told = {
            variable: self.keywords[name]
            for name, variable in _VARIABLES.items()
            if self.keywords.get(name) is not None
        }
        if (password := self.secrets.get("password")) is not None:
            told["PGPASSWORD"] = password
        return told | {"PGDATABASE": database}

    def conninfo(self, **more: str) -> str:
        """libpq's connection string, secrets included: hand it to libpq at once and keep it nowhere."""
        return make_conninfo("", **{**self.keywords, **self.secrets, **more})


def connection_parameters(
    connection: Connection,
    tls: Tls,
    *,
    application_name: str = "lifeboat",
    database: str | None = None,
    connect_seconds: float = CONNECT_SECONDS,
) -> ConnectionParameters:
    """Build libpq's parameters from a connection and the policy's TLS rules.

    The connection's ``extra`` may name files and methods of authentication (``sslrootcert``, ``sslcert``, ``sslkey``,
    ``require_auth`` …); ``sslmode`` and the protocol's version come from the policy alone. A Unix socket needs no TLS.

    Raises:
        PostgresError: the connection names no host or no user.
    """
    if not connection.host:
        raise PostgresError(
            f"Connection {connection.id!r} names no host.", "Give it the server's host name, or the socket's folder."
        )
    if not connection.login:
        raise PostgresError(
            f"Connection {connection.id!r} names no login.", "Give it the role that was made for backups as its login."
        )
    port = connection.port or 5432
    extra = {key: str(value) for key, value in connection.extra.items() if key in _FROM_EXTRA and value is not None}
    secrets = {"sslpassword": extra.pop("sslpassword")} if "sslpassword" in extra else {}
    if connection.password:
        secrets["password"] = connection.password
    keywords = {
        "gssencmode": "disable",
        "channel_binding": "prefer",
        "keepalives": "1",
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "60000",
        **extra,
        "host": connection.host,
        "port": str(port),
        "user": connection.login,
        "dbname": database or connection.schema or "postgres",
        "connect_timeout": str(max(2, round(connect_seconds))),
        "application_name": application_name[:63],
        "client_encoding": "UTF8",
    }
    parameters = ConnectionParameters(connection.id, connection.host, port, keywords, secrets)
    if not parameters.is_socket:
        keywords.update(tls.parameters())
    return parameters
