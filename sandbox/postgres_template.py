"""Clusters made once and copied for many servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR


@dataclass(frozen=True)
class Template:
    """A cluster made once and copied for each server: quicker than ``initdb``, but all share one system identifier."""

    major: int
    data: Path
    password: str

    @classmethod
    def make(cls, directory: Path, major: int = WHEEL_MAJOR) -> Template:
        """Run ``initdb`` in ``directory``, which must not exist."""
        server = PostgresServer(directory, major=major)
        server.create()
        return cls(major, server.data_directory, server.passwords[SUPERUSER])
