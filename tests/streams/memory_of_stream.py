"""Writes a long stream, reads it back, and prints the most memory that it took, in MiB: first after the writing."""

import random
import sys
import zlib
from pathlib import Path

from lifeboat.outside import Outside
from lifeboat.policy.encryption import EncryptionPolicy
from lifeboat.streams.keys import opening_keyring, sealing_keyring
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination, StreamWriter
from lifeboat.targets.local import LocalTarget

PIECE = 64 * 1024


def peak() -> int:
    # Not getrusage: its figure begins with that of the process which started this one.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def main(root: str, keys: str, kind: str, megabytes: str) -> None:
    names = ("first", "second")
    policy = EncryptionPolicy.model_validate(
        {"keys": [{"name": name, "kind": "local", "file": f"{keys}/{name}.key"} for name in names]}
    )
    outside = Outside(connection=None, aws_client=None)  # type: ignore[arg-type]
    target = LocalTarget("store", Path(root))
    place = (target, "it/", "erp", "database", "20261122T020000Z-full-7f3a")
    block = bytes(PIECE) if kind == "zeros" else random.Random(1).randbytes(4 * 1024 * 1024)
    writer = StreamWriter(
        "base.tar",
        Destination(*place, sealing_keyring(policy, outside)),
        StreamSettings(level=1, volume_size=50_000_000),
    )
    written = 0
    left = int(megabytes) * 1_000_000
    while left:
        # Repeats 4 MiB apart are beyond the window of level 2: as good as random.
        start = (left * 7919) % (len(block) - PIECE + 1)
        piece = block[start : start + min(PIECE, left)]
        written = zlib.crc32(piece, written)
        writer.write(piece)
        left -= len(piece)
    stream = writer.finish()
    print(peak(), flush=True)
    found = 0
    with opened(stream, Origin(*place, opening_keyring(policy, outside))) as plain:
        while data := plain.read(1024 * 1024):
            found = zlib.crc32(data, found)
    assert found == written
    print(peak(), len(stream.volumes), stream.stored_size)


main(*sys.argv[1:])
