"""Roles and tablespaces of an archive: what of them a server lacks. What is there is never changed.

``pg_dumpall`` writes a statement on each line; those that make or alter a role that is there would give it the lost
server's password and rights, so they are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

_IDENTIFIER = r'("(?:[^"]|"")*"|[A-Za-z_\u0080-\uffff][\w$]*)'
_ROLE = re.compile(rf"(?:CREATE|ALTER) ROLE {_IDENTIFIER}[ ;]")
_COMMENT = re.compile(rf"COMMENT ON ROLE {_IDENTIFIER} ")
_GRANT = re.compile(rf"GRANT {_IDENTIFIER} TO {_IDENTIFIER}[ ;]")
_TABLESPACE = re.compile(rf"(?:CREATE|ALTER) TABLESPACE {_IDENTIFIER} ")
_GRANTED_BY = re.compile(rf" GRANTED BY {_IDENTIFIER}(?=;$)")


def missing_statements(script: str, roles: Collection[str], tablespaces: Collection[str]) -> Iterator[str]:
    """The statements of ``pg_dumpall --globals-only`` that make what a server lacks.

    Args:
        script: its whole output.
        roles, tablespaces: the names of those that the server has.
    """
    for statement in _statements(script):
        if (found := _ROLE.match(statement) or _COMMENT.match(statement)) is not None:
            if _plain(found[1]) not in roles:
                yield statement
        elif (found := _GRANT.match(statement)) is not None:
            if _plain(found[2]) not in roles:
                # Who had granted it may be nobody here.
                yield _GRANTED_BY.sub("", statement)
        elif (found := _TABLESPACE.match(statement)) is not None and _plain(found[1]) not in tablespaces:
            yield statement


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, without comments and ``psql``'s own commands; quoted text may span lines."""
    parts: list[str] = []
    quotes = 0
    for line in script.split("\n"):
        if not parts and (not line.strip() or line.startswith(("--", "\\"))):
            continue
        parts.append(line)
        quotes += line.count("'")
        if line.endswith(";") and quotes % 2 == 0:
            yield "\n".join(parts)
            parts, quotes = [], 0


def _plain(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier
