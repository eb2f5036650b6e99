"""Tables for what may be too much for memory: a million paths of a snapshot, or digests of its files."""

from __future__ import annotations

import sqlite3

_CACHE_KIB = 64 * 1024


def scratch_tables() -> sqlite3.Connection:
    """A private database that SQLite keeps in memory as far as its cache goes, and beyond on disk, in a file without a
    name. For one thread; whoever opens it closes it.

    Source: https://www.sqlite.org/inmemorydb.html#temp_db
    """
    # An empty name is what makes it private.
    base = sqlite3.connect("", isolation_level=None)
    base.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    base.execute("PRAGMA journal_mode = OFF")
    # One transaction for its whole life: ending one for each row took most of the time.
    base.execute("BEGIN")
    return base
