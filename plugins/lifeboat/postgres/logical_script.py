"""The script that ``pg_restore`` writes, cut into statements and rows while it passes by.

Only its data section comes this way: rows between ``COPY … FROM stdin;`` and their end, and short statements that set
sequences and fill large objects. Definitions are never cut: a function's text may hold anything.
Source: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
"""

from __future__ import annotations

import re
from collections.abc import Callable

BATCH_BYTES = 256 * 1024
"""About so much of statements is handed over at once: a large object is filled by many."""

_MARK = re.compile(rb"""['"]|;\n""")
_END = b"\n\\.\n"
_HEADER_ENDS = b"SET row_security = off;\n"
_RESTRICT = re.compile(rb"^\\(?:un)?restrict [A-Za-z0-9]+\n", re.MULTILINE)
_LONGEST_TAIL = 400
TRANSACTION_TIMEOUT = b"SET transaction_timeout = 0;"
"""What ``pg_restore`` sets from 17 on without asking, and servers before 17 do not know."""


class DataScript:
    """Takes the script of a data section, in pieces of any size.

    ``BEGIN;`` and ``COMMIT;``, which ``pg_restore`` writes around large objects, are left out: the transaction is ours.
    """

    def __init__(
        self,
        *,
        run: Callable[[bytes], None],
        begin_rows: Callable[[bytes], None],
        rows: Callable[[bytes], None],
        end_rows: Callable[[], None],
    ) -> None:
        """Args: ``run`` is given whole statements, one or several; ``begin_rows`` a ``COPY``; ``rows`` lines of it."""
        self._run = run
        self._begin_rows = begin_rows
        self._rows = rows
        self._end_rows = end_rows
        self._buffer = b""
        self._seen = 0
        self._quote = b""
        self._statements: list[bytes] = []
        self._size = 0
        self._in_rows = False
        self._first = False

    def take(self, data: bytes) -> None:
        """Take more of the script."""
        self._buffer += data
        while self._take_rows() if self._in_rows else self._take_statement():
            pass

    def end(self) -> bool:
        """Hand over what is left; whether the script ended where one may end."""
        self._flush()
        return not self._in_rows and not self._buffer.strip()

    def _take_rows(self) -> bool:
        if self._first:
            if len(self._buffer) < len(_END) and self._buffer[:3] != _END[1:]:
                return False
            if self._buffer.startswith(_END[1:]):
                self._close(3)
                return True
            self._first = False
        end = self._buffer.find(_END)
        if end >= 0:
            self._rows(self._buffer[: end + 1])
            self._close(end + len(_END))
            return True
        # The beginning of an end may be the last of what is here.
        kept = len(_END) - 1
        if len(self._buffer) > kept:
            self._rows(self._buffer[:-kept])
            self._buffer = self._buffer[-kept:]
        return False

    def _close(self, size: int) -> None:
        self._buffer = self._buffer[size:]
        self._in_rows = False
        self._end_rows()

    def _take_statement(self) -> bool:
        if not self._seen:
            self._buffer = self._buffer.lstrip(b"\n")
            if self._buffer.startswith((b"--", b"\\")):
                _, newline, rest = self._buffer.partition(b"\n")
                if newline:
                    self._buffer = rest
                return bool(newline)
            if self._buffer in (b"", b"-"):
                return False
        while (found := _MARK.search(self._buffer, self._seen)) is not None:
            self._seen = found.end()
            mark = found[0]
            if not self._quote and mark == b";\n":
                statement, self._buffer = self._buffer[: found.end() - 1], self._buffer[found.end() :]
                self._seen = 0
                self._whole(statement)
                return True
            if not self._quote:
                self._quote = mark if mark in (b"'", b'"') else b""
            elif mark == self._quote:
                self._quote = b""
        # A semicolon at the very end may have its line end in the next piece.
        self._seen = max(self._seen, len(self._buffer) - 1)
        return False

    def _whole(self, statement: bytes) -> None:
        if statement in (b"BEGIN;", b"COMMIT;"):
            return
        if statement.startswith(b"COPY ") and statement.endswith(b" FROM stdin;"):
            self._flush()
            self._in_rows = self._first = True
            self._begin_rows(statement[:-1])
            return
        self._statements.append(statement)
        self._size += len(statement)
        # What a setting changes may be how the next statement is read.
        if self._size >= BATCH_BYTES or statement.startswith(b"SET "):
            self._flush()

    def _flush(self) -> None:
        if self._statements:
            self._run(b"\n".join(self._statements))
            self._statements, self._size = [], 0


def definitions_script(script: bytes) -> tuple[bytes, bytes]:
    """The script of a section without rows, in two parts: its settings, and what it defines; without ``psql``'s words.

    They are sent one after the other: settings decide how what follows is read.
    """
    head, line, rest = script.partition(_HEADER_ENDS)
    body, tail = rest[:-_LONGEST_TAIL], rest[-_LONGEST_TAIL:]
    return _RESTRICT.sub(b"", head) + line, body + _RESTRICT.sub(b"", tail)
