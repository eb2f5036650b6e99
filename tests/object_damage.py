"""What can happen to a stored object: each way as a function of its file and of another object's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, Path], None]
"""An object, and another one of the same recovery point."""


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


DAMAGES: dict[str, Damage] = {
    "flipped": lambda path, _: rewrite(path, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
    "truncated": lambda path, _: rewrite(path, lambda data: data[:-1]),
    "longer": lambda path, _: rewrite(path, lambda data: data + b"\0"),
    "gone": lambda path, _: path.unlink(),
    "swapped": lambda path, beside: rewrite(path, lambda _data: beside.read_bytes()),
}
