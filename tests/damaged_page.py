"""A table with a page that the server itself finds damaged."""

from __future__ import annotations

from sandbox.postgres import PostgresServer


def make_rotten(server: PostgresServer) -> None:
    """Make the table ``rotten``, and change some bytes of its second page behind the server's back."""
    server.run_sql("CREATE TABLE rotten AS SELECT generate_series(1, 5000) AS n")
    place = server.data_directory / str(server.run_sql("SELECT pg_relation_filepath('rotten')")[0][0])
    server.stop()
    with place.open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(b"garbage")
    server.start()
