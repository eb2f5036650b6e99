"""What an SFTP server can do, found out by trying."""

from __future__ import annotations

import secrets
from contextlib import suppress

import asyncssh

from lifeboat.errors import TargetError
from lifeboat.targets.keys import RESERVED
from lifeboat.targets.sftp_errors import MISSING, is_lost
from lifeboat.targets.sftp_session import Link, Session, read_bytes
from lifeboat.targets.sftp_tree import Tree
from lifeboat.targets.target import Finding

_DATA = b"Lifeboat looks whether it can write here.\n"
_LITTLE_SPACE = 0.05


def links_files(session: Session, tree: Tree) -> bool:
    """Whether the server makes hard links in the target's directory, by which one writer of several wins."""

    async def work(link: Link) -> bool:
        linked, _ = await _try_out(link, tree)
        return linked

    return session.run(work, f"writing to {tree.root}")


def check(session: Session, tree: Tree, subject: str, url: str) -> tuple[list[Finding], bool | None]:
    """The findings on a server, and whether two writers are kept apart (``None``: could not be found out).

    A small file is written, read back, linked, renamed and removed, under names that no object has.
    """
    try:
        findings, linked = session.run(lambda link: _look(link, tree, subject, url), f"writing to {tree.root}")
    except TargetError as error:
        return [Finding("error", subject, error.what, error.remedy)], None
    return findings, linked


async def _look(link: Link, tree: Tree, subject: str, url: str) -> tuple[list[Finding], bool]:
    linked, removed = await _try_out(link, tree)
    findings = [Finding("ok", subject, f"{url} can be written to; its host key is the pinned one.")]
    if not linked:
        findings.append(
            Finding(
                "warning",
                subject,
                "The server makes no hard links: two writers of one object can't be kept apart.",
                "Let only one Airflow write to this target, or use OpenSSH on a file system with hard links.",
            )
        )
    if not removed:
        findings.append(Finding("ok", subject, "This account can't delete: that belongs to the one for retention."))
    findings += await _space(link, tree, subject)
    return findings, linked


async def _try_out(link: Link, tree: Tree) -> tuple[bool, bool]:
    """Whether files can be linked, and whether they can be removed. Raises what can't be done at all.

    An account that can't remove leaves one file, always the same.
    """
    await tree.insist_on_root(link)
    left = tree.path(f"{RESERVED}check")
    if not await _remove(link, [left]) and await link.sftp.lexists(left):
        await _write(link, left, "r+b")
        await _read_back(link, tree, left)
        return link.openssh, False
    name = f"{left}-{secrets.token_hex(8)}"
    names = [f"{name}-hidden", f"{name}-link", name]
    try:
        await _write(link, names[0], "xb")
        linked = await _link(link, names[0], names[1])
        await link.sftp.rename(names[0], name)
        await _read_back(link, tree, name)
    finally:
        removed = await _remove(link, names)
    if not removed:
        with suppress(asyncssh.SFTPError):
            await link.sftp.rename(name, left)
    return linked, removed


async def _write(link: Link, path: str, mode: str) -> None:
    async with await link.sftp.open(path, mode, asyncssh.SFTPAttrs(permissions=0o600), encoding=None) as file:
        await file.write(_DATA)
        with suppress(asyncssh.SFTPOpUnsupported):
            await file.fsync()


async def _read_back(link: Link, tree: Tree, path: str) -> None:
    async with await link.sftp.open(path, "rb", encoding=None) as file:
        found = await read_bytes(file, 4096)
    if found != _DATA:
        raise TargetError(
            f"{tree.speaker.title}: {tree.speaker.server} gave back other bytes than it was given.",
            "Look at the server's disk and log.",
        )


async def _link(link: Link, one: str, other: str) -> bool:
    try:
        await link.sftp.link(one, other)
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        # An OpenSSH that was told to deny the request does not offer it; its own rename makes hard links all the same.
        return link.openssh and isinstance(error, asyncssh.SFTPOpUnsupported)
    return True


async def _remove(link: Link, names: list[str]) -> bool:
    removed = True
    for name in names:
        try:
            await link.sftp.remove(name)
        except MISSING:
            continue
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            removed = False
    return removed


async def _space(link: Link, tree: Tree, subject: str) -> list[Finding]:
    try:
        space = await link.sftp.statvfs(tree.root)
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        return [Finding("ok", subject, "The server does not tell how much room it has.")]
    free, whole = space.bavail * space.frsize, space.blocks * space.frsize
    what = f"{free / 2**30:,.1f} GiB of {whole / 2**30:,.1f} GiB are free."
    if free < whole * _LITTLE_SPACE:
        return [Finding("warning", subject, what, "Make room, or shorten the retention.")]
    return [Finding("ok", subject, what)]
