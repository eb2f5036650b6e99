"""Rows as they stand in the files: read back value by value, and told by a fingerprint.

A row of JSON lines is an object in one line. A record of CSV (RFC 4180) may go over several lines; an empty field is
NULL, and ``""`` is the empty text. Both come to the same values: ``None``, or PostgreSQL's own text form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lifeboat.errors import VerificationFailed
from lifeboat.targets.target import Readable

PIECE_BYTES = 256 * 1024
LONGEST_ROW_BYTES = 2 * 1024**3
_MODULUS = 2**256
Value = str | None


class Fingerprint:
    """A fingerprint of rows that does not depend on their order: the sum of the rows' SHA-256, modulo 2**256.

    It tells a row that was lost, added, doubled or changed by accident; against people there is the signature.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, row: bytes | memoryview) -> None:
        """Count a row, without its line end."""
        self.rows += 1
        self._sum += int.from_bytes(hashlib.sha256(row).digest(), "big")

    @property
    def hex(self) -> str:
        """64 hexadecimal digits."""
        return f"{self._sum % _MODULUS:064x}"


def lines(content: Readable) -> Iterator[bytes]:
    """The lines of a stream, without their ends; the last one must have an end, too.

    Raises:
        VerificationFailed: the stream ends in mid-line.
    """
    pending: list[bytes] = []
    while piece := content.read(PIECE_BYTES):
        *whole, rest = piece.split(b"\n")
        if whole:
            pending.append(whole[0])
            yield b"".join(pending)
            yield from whole[1:]
            pending = []
        if rest:
            pending.append(rest)
    if pending:
        raise VerificationFailed("A file ends in the middle of a row.", "Use another copy of it.")


def csv_records(content: Readable) -> Iterator[bytes]:
    """The records of a CSV, the header among them, without their ends.

    Raises:
        VerificationFailed: it ends in mid-record.
    """
    # A quote in a quoted field is doubled: between records the number of quotes is even.
    pending: list[bytes] = []
    odd = False
    for line in lines(content):
        odd ^= line.count(b'"') % 2 == 1
        if odd:
            pending.append(line)
        elif pending:
            pending.append(line)
            yield b"\n".join(pending)
            pending = []
        else:
            yield line
    if pending:
        raise VerificationFailed("A file ends in the middle of a quoted value.", "Use another copy of it.")


_FIELD = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^",\n\r]*))(?P<end>,|\Z)')


def csv_values(record: bytes, count: int) -> list[Value]:
    """The values of one record; ``count`` is how many columns there are.

    Raises:
        VerificationFailed: it is no record of that many values.
    """
    if count == 0:
        if record:
            raise VerificationFailed("A row has values where there are no columns.", "Use another copy of it.")
        return []
    text = _decoded(record)
    values: list[Value] = []
    place = 0
    while True:
        field = _FIELD.match(text, place)
        if field is None:
            raise VerificationFailed("A row is no record of a CSV.", "Use another copy of it.")
        quoted, plain = field["quoted"], field["plain"]
        values.append(quoted.replace('""', '"') if quoted is not None else plain or None)
        place = field.end()
        if not field["end"]:
            break
    if len(values) != count:
        raise VerificationFailed(
            f"A row has {len(values)} values where there are {count} columns.", "Use another copy of it."
        )
    return values


def json_values(line: bytes, names: Sequence[str]) -> list[Value]:
    """The values of one line; ``names`` are the columns in their order.

    Raises:
        VerificationFailed: it is no object of these columns.
    """
    try:
        pairs = _DECODER.decode(_decoded(line))
    except (ValueError, RecursionError):
        raise VerificationFailed("A row is no JSON.", "Use another copy of it.") from None
    if not isinstance(pairs, _Pairs) or [name for name, _ in pairs] != list(names):
        raise VerificationFailed("A row's columns are not those that are recorded.", "Use another copy of it.")
    return [_value(value) for _, value in pairs]


class _Pairs(list[tuple[str, Any]]):
    """An object's members as they stand there: a name that comes twice does not hide the first."""


def _number(text: str) -> str:
    """A number as it is written: nothing is rounded."""
    return text


def _no_number(text: str) -> str:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_number, parse_float=_number, parse_constant=_no_number, strict=True
)


def _value(value: object) -> Value:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    raise VerificationFailed("A row holds a list or an object where a value should be.", "Use another copy of it.")


def _decoded(row: bytes) -> str:
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError:
        raise VerificationFailed("A row is not in UTF-8.", "Use another copy of it.") from None


_ESCAPES = {
    ord("\\"): "\\\\",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord("\v"): "\\v",
}


def copy_line(values: Sequence[Value]) -> bytes:
    """A row as ``COPY … FROM STDIN`` takes it in its text format.

    Source: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
    """
    return ("\t".join("\\N" if value is None else value.translate(_ESCAPES) for value in values) + "\n").encode()
