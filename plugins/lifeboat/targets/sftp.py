"""A directory on an SFTP server as a target: ``sftp://``."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from urllib.parse import quote

import asyncssh

from lifeboat.errors import TargetError
from lifeboat.outside import Outside
from lifeboat.targets.keys import check_key, check_prefix, fault_of_key
from lifeboat.targets.local_writing import name_of_upload
from lifeboat.targets.sftp_access import access_from
from lifeboat.targets.sftp_check import check, links_files
from lifeboat.targets.sftp_commits import Commits
from lifeboat.targets.sftp_errors import MISSING, Speaker
from lifeboat.targets.sftp_reading import ResumedReading
from lifeboat.targets.sftp_session import Link, Session
from lifeboat.targets.sftp_tree import Tree, info, modified
from lifeboat.targets.sftp_upload import Upload
from lifeboat.targets.target import Finding, Kept, ObjectInfo, Readable, no_locks


class SftpTarget:
    """Objects as files of mode 0600 in folders of mode 0700 below one directory of an SFTP server.

    One SSH connection serves everything; it is made when first needed, and anew when it broke. The server's host key
    must be the one that the connection pins.

    Args:
        name: the target's name in the policy.
        host: the server's name, as in the policy's URL.
        port: its port; ``None``: the connection's, or 22.
        root: the directory, absolute as the server shows it; it must exist.
        outside: finds the connection.
        connection: its id; it holds account and keys.
        marker: the id that the file ``.lifeboat-target`` in the root must hold; ``None``: no such file is asked for.
        silence: seconds without a sign of life after which a connection counts as broken.
        patience: seconds that an upload waits for a server to come back after its connection broke.

    Raises:
        ConnectionUnknown: there is no such connection.
        TargetUnavailable: something in it is missing or can't be read.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int | None = None,
        root: str,
        outside: Outside,
        connection: str,
        marker: str | None = None,
        silence: float = 60.0,
        patience: float = 120.0,
    ) -> None:
        access = access_from(outside.connection(connection), target=name, host=host, port=port)
        self._name = name
        place = f"[{host}]" if ":" in host else host
        self._url = f"sftp://{place}{'' if port is None else f':{port}'}{quote(root)}"
        speaker = Speaker(name, f"{access.host}:{access.port}", access.login, root, connection)
        self._session = Session(access, speaker, silence=silence)
        self._tree = Tree(speaker, root, marker)
        self._patience = patience
        self._links: bool | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return self._url

    @property
    def conditional_writes(self) -> bool:
        """True where the server makes hard links; found out by making one."""
        if self._links is None:
            self._links = links_files(self._session, self._tree)
        return self._links

    def check(self, kept: Kept | None = None) -> list[Finding]:
        """Findings on: server, host key, directory and marker, whether it can be written to, hard links, free space."""
        findings, linked = check(self._session, self._tree, f"target {self._name}", self._url)
        if linked is not None:
            self._links = linked
        return findings

    def put(self, key: str, body: Readable, *, retain_until: datetime | None = None, shared: bool = False) -> int:
        """As the protocol says. SFTP knows no object locks, and a file that has its name is never removed here:
        neither ``retain_until`` nor ``shared`` makes a difference."""
        check_key(self._name, key)
        return self._upload(key).run(body, Commits(self._tree, key).replacing)

    def put_new(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        """As the protocol says, without a lock."""
        check_key(self._name, key)
        self._upload(key).run(io.BytesIO(data), Commits(self._tree, key).only_if_new)

    def _upload(self, key: str) -> Upload:
        return Upload(self._session, self._tree, key, patience=self._patience)

    @contextmanager
    def open(self, key: str) -> Iterator[Readable]:
        check_key(self._name, key)
        stream = ResumedReading(self._session, self._tree, key)
        try:
            yield stream
        finally:
            stream.close()

    def read(self, key: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        check_key(self._name, key)
        stream = ResumedReading(self._session, self._tree, key)
        try:
            if stream.size > limit:
                raise TargetError(f"Target {self._name}: {key} is larger than {limit} bytes, which can't be right.")
            return stream.read()
        finally:
            stream.close()

    def stat(self, key: str) -> ObjectInfo | None:
        check_key(self._name, key)
        found = self._session.run(lambda link: self._tree.look(link, key), f"looking at {key}")
        return None if found is None else info(key, found)

    def stat_each(self, keys: Sequence[str]) -> dict[str, ObjectInfo]:
        for key in keys:
            check_key(self._name, key)
        found = self._session.run(lambda link: self._tree.look_at_each(link, keys), "looking at many objects")
        return {key: info(key, attributes) for key, attributes in found.items()}

    def list_folders(self, prefix: str) -> list[str]:
        check_prefix(self._name, prefix)
        names = self._session.run(lambda link: self._tree.folders(link, prefix), f"listing {prefix or self._tree.root}")
        return sorted(name for name in names if fault_of_key(name) is None)

    def delete(self, key: str) -> None:
        """As the protocol says; folders that become empty go as well."""
        check_key(self._name, key)

        async def work(link: Link) -> None:
            if await self._tree.look(link, key) is not None:
                with suppress(*MISSING):
                    await link.sftp.remove(self._tree.path(key))
            await self._tree.prune(link, key)

        self._session.run(work, f"deleting {key}")

    def dispose(self, key: str) -> None:
        """As :meth:`delete`: what becomes of the blocks is the server's."""
        self.delete(key)

    def locked_until(self, key: str) -> datetime | None:
        """``None``: nothing is locked here."""
        check_key(self._name, key)
        return None

    def extend_lock(self, key: str, until: datetime) -> bool:
        """Raises ``TargetError``: nothing can be locked here."""
        check_key(self._name, key)
        raise no_locks(self._name, key)

    def store_crc32(self, key: str) -> int | None:
        """``None``: a file system keeps no checksum of a file."""
        check_key(self._name, key)
        return None

    def abandon_uploads(self, prefix: str, *, older_than: datetime) -> list[str]:
        """As the protocol says. An upload that was written to after ``older_than`` is alive and stays."""
        check_prefix(self._name, prefix)

        async def work(link: Link) -> list[str]:
            keys = []
            for hidden, found in await self._tree.walk(link, prefix):
                folder, slash, last = hidden.rpartition("/")
                name = name_of_upload(last)
                if name is None or modified(found) >= older_than:
                    continue
                with suppress(*MISSING):
                    await link.sftp.remove(self._tree.path(hidden))
                await self._tree.prune(link, hidden)
                keys.append(f"{folder}{slash}{name}")
            return keys

        return self._session.run(work, f"cleaning up {prefix or self._tree.root}")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(self._name, prefix)
        entries: list[tuple[str, asyncssh.SFTPAttrs]] = self._session.run(
            lambda link: self._tree.walk(link, prefix), f"listing {prefix or self._tree.root}"
        )
        for key, found in entries:
            if fault_of_key(key) is None:
                yield info(key, found)
