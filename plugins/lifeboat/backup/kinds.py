"""Which kinds of sources there are. A new kind is registered here and nowhere else."""

from __future__ import annotations

from lifeboat.errors import PolicyError
from lifeboat.source import Kind


def kind_of(name: str) -> Kind:
    """The verbs of a kind, by its name in a policy.

    Raises:
        PolicyError: this version has no such kind.
    """
    if name == "postgres":
        # Each kind is imported when it is used: its libraries take time and memory.
        from lifeboat.postgres.kind import PostgresKind

        return PostgresKind()
    if name == "files":
        from lifeboat.files.kind import FilesKind

        return FilesKind()
    if name == "code":
        from lifeboat.code.kind import CodeKind

        return CodeKind()
    if name == "configuration":
        from lifeboat.configuration.kind import ConfigurationKind

        return ConfigurationKind()
    raise PolicyError(
        f"Sources of kind {name!r} are not backed up by this version of Lifeboat.",
        "`lifeboat policy check` says what is.",
    )
