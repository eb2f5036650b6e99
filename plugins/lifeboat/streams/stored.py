"""What a manifest says of one stream: under which name it was stored, in which volumes, with which digests."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

VOLUME_SUFFIX = ".zst.enc"
"""Ends every stored object's name: zstd inside an AWS Encryption SDK message."""


class StoredVolume(BaseModel):
    """One stored object.

    Attributes:
        number: its place in its stream, from 1.
        file: its name below the attempt's folder.
        stored_size: bytes at rest.
        sha256: of the bytes at rest, hexadecimal.
        crc32: of the bytes at rest; what stores that keep a checksum of whole objects can be asked for.
        plain_size: bytes before compression and encryption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    file: str
    stored_size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    crc32: int = Field(ge=0, lt=2**32)
    plain_size: int = Field(ge=0)


class StoredStream(BaseModel):
    """One stream of a recovery point: a tar, a manifest, a WAL segment.

    Attributes:
        name: what the stream is called inside the recovery point, and what its plain bytes should be called:
            ``base.tar``, ``16402.tar``, ``backup_manifest``, ``000000010000000000000003``.
        plain_sha256: of the plain bytes, where it was taken (WAL segments, small streams).
        volumes: the stored objects, in order; the plain stream is their plain contents one after the other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    plain_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    volumes: tuple[StoredVolume, ...] = Field(min_length=1)

    @property
    def plain_size(self) -> int:
        """Bytes before compression and encryption, over all volumes."""
        return sum(volume.plain_size for volume in self.volumes)

    @property
    def stored_size(self) -> int:
        """Bytes at rest, over all volumes."""
        return sum(volume.stored_size for volume in self.volumes)


def volume_file(stream: str, number: int) -> str:
    """The name of a stream's volume below the attempt's folder: ``base.tar.0001.zst.enc``."""
    return f"{stream}.{number:04d}{VOLUME_SUFFIX}"
