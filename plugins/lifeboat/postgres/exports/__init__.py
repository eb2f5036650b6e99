"""Exports: tables as JSON lines and CSV, in one snapshot of each database, and single tables brought back from them."""
