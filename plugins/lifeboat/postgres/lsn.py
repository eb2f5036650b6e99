"""Log sequence numbers: the byte positions of PostgreSQL's write-ahead log.

Source: https://www.postgresql.org/docs/current/datatype-pg-lsn.html
"""

from __future__ import annotations

import re
from typing import Any, overload

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from lifeboat.errors import PostgresError

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_PATTERN = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"
_MAXIMUM = 2**64 - 1


class Lsn(int):
    """A byte position in the write-ahead log: an unsigned 64-bit number, written ``0/03000028``.

    Ordered like a number. ``lsn + bytes`` and ``lsn - bytes`` are positions, ``lsn - lsn`` is a number of bytes.
    Raises ``PostgresError`` for a number outside 64 bits. In a pydantic model it is read from and written as text.
    """

    __slots__ = ()

    def __new__(cls, value: int) -> Lsn:
        if not 0 <= value <= _MAXIMUM:
            raise PostgresError(f"{int(value)} is no log sequence number: it must lie between 0 and 2^64 - 1.")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read ``X/X``, two hexadecimal numbers of 32 bits each; raises ``PostgresError``."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise PostgresError(
                f"{text!r} is no log sequence number.",
                "Write it as PostgreSQL does: two hexadecimal numbers with a slash between them, such as 0/3000028.",
            )
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{int(self) >> 32:X}/{int(self) & 0xFFFFFFFF:08X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"

    def __add__(self, other: int, /) -> Lsn:
        return Lsn(int(self) + int(other))

    __radd__ = __add__

    @overload
    def __sub__(self, other: Lsn, /) -> int: ...  # type: ignore[overload-overlap] # an Lsn is an int, too
    @overload
    def __sub__(self, other: int, /) -> Lsn: ...
    def __sub__(self, other: int, /) -> int | Lsn:
        difference = int(self) - int(other)
        return difference if isinstance(other, Lsn) else Lsn(difference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": _PATTERN, "examples": ["0/3000028"]}

    @classmethod
    def _validate(cls, value: object) -> Lsn:
        if isinstance(value, Lsn):
            return value
        if not isinstance(value, str):
            raise ValueError("a log sequence number is text such as 0/3000028")  # noqa: TRY004 pydantic reports ValueError only
        try:
            return cls.parse(value)
        except PostgresError as error:
            raise ValueError(str(error)) from error
