"""PostgreSQL as a source: base backups, WAL, restores."""
