"""What an SFTP server answers, as errors that say what to do."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import asyncssh

from lifeboat.errors import ObjectMissing, TargetError, TargetFull, TargetUnavailable

MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_DENIED = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect, asyncssh.SFTPCannotDelete)


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that another one may do better."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.PermissionDenied | asyncssh.KeyExchangeFailed):
        return False
    return isinstance(
        error,
        asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection | asyncssh.DisconnectError | ConnectionError,
    )


def was_lost(error: TargetError) -> bool:
    """Whether it was a broken connection that an explained error tells of."""
    return error.__cause__ is not None and is_lost(error.__cause__)


def may_come_back(error: TargetError) -> bool:
    """Whether a server that could not be reached, or broke off again, may be there a little later."""
    cause = error.__cause__
    return cause is not None and (is_lost(cause) or isinstance(cause, OSError | asyncssh.ChannelOpenError))


@dataclass(frozen=True)
class Speaker:
    """Makes the messages of one target.

    Args:
        target: its name.
        server: ``host:port``.
        login: the account there.
        root: the directory that holds the target.
        connection: the id of the connection.
        role: what the policy calls it: ``"Target"``, or ``"Source"`` where it is only read.
    """

    target: str
    server: str
    login: str
    root: str
    connection: str
    role: str = "Target"

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.role} {self.target}"

    def explain(self, error: BaseException, doing: str, key: str | None = None) -> TargetError:
        """The error of a target for what asyncssh raised while ``doing`` something."""
        begin = f"{self.title}: {doing} failed"
        if isinstance(error, MISSING) and key is not None:
            return self.no_object(key)
        if isinstance(error, asyncssh.SFTPError) and not is_lost(error):
            return self._answered(error, begin)
        if isinstance(error, asyncssh.PermissionDenied):
            return TargetUnavailable(
                f"{begin}: {self.server} lets {self.login} not in.",
                f"Correct login and key of the connection {self.connection}, or add its public key to the account's "
                "authorized_keys on the server; the server's log says more.",
            )
        if isinstance(error, asyncssh.KeyExchangeFailed):
            return TargetUnavailable(
                f"{begin}: {self.server} and Lifeboat have no algorithm in common ({error.reason}).",
                f"Is the right host key pinned in the connection {self.connection}? Else update the server.",
            )
        if isinstance(error, socket.gaierror):
            return TargetUnavailable(
                f"{begin}: the name of {self.server} is not known here.", "Correct the host, or this machine's DNS."
            )
        if isinstance(error, asyncssh.ChannelOpenError):
            return TargetUnavailable(
                f"{begin}: {self.server} opens no SFTP session.",
                "Allow the account SFTP (Subsystem sftp in sshd_config).",
            )
        return TargetUnavailable(
            f"{begin}: {self.server} does not answer as it should ({_reason(error)}).",
            "Look whether the server runs and can be reached from this machine; then run it again.",
        )

    def _answered(self, error: asyncssh.SFTPError, begin: str) -> TargetError:
        said = error.reason.strip().rstrip(".")[:200] or type(error).__name__
        text = f"{begin}: {self.server} answered: {said}."
        if isinstance(error, _FULL) or any(sign in said.lower() for sign in ("no space", "quota", "disk full")):
            return TargetFull(text, "Make room or raise the quota there, then run the backup again.")
        if isinstance(error, _DENIED):
            if self.role == "Source":
                return TargetError(text, f"Let {self.login} read all that is below {self.root}.")
            return TargetError(
                text,
                f"Let {self.login} write below {self.root}; deleting belongs to the account that applies retention.",
            )
        if isinstance(error, asyncssh.SFTPOpUnsupported):
            return TargetError(text, "This server can't do that: use one whose SFTP is complete, such as OpenSSH.")
        return TargetError(text, "The server's own log says more; a full disk and a quota are the usual causes.")

    def full(self, doing: str) -> TargetFull:
        """The error for a server whose disk has no room left, whatever it answered."""
        return TargetFull(
            f"{self.title}: {doing} failed: the disk of {self.root} on {self.server} is full.",
            "Make room there, then run the backup again.",
        )

    def no_object(self, key: str) -> ObjectMissing:
        return ObjectMissing(
            f"{self.title} holds no object {key}.",
            "Take another copy, or look at what the target holds: lifeboat list.",
        )

    def no_root(self) -> TargetUnavailable:
        return TargetUnavailable(
            f"{self.title}: there is no directory {self.root} on {self.server}.",
            "Make it, or mount what belongs there: Lifeboat does not, since a directory made where a disk should be "
            "mounted fills the wrong disk. In a chroot, the path is the one inside of it.",
        )

    def not_an_object(self, key: str) -> TargetError:
        return TargetError(
            f"{self.title}: {key} is a symbolic link, a device or a pipe, not an object.",
            "Somebody put it there by hand: move it away.",
        )

    def not_a_folder(self, folder: str) -> TargetError:
        return TargetError(
            f"{self.title}: the folder {folder} in {self.root} on {self.server} is a symbolic link, and "
            "Lifeboat follows none there: no listing would find what is stored behind it.",
            "Put what it leads to in its place (to use another disk, mount that disk there: mount --bind), or let the "
            "policy's url lead to it.",
        )

    def wrong_host_key(self, shown: asyncssh.SSHKey | None, *, pinned: bool) -> TargetUnavailable:
        """The error for a server that shows another host key than the pinned one, or where none is pinned."""
        line = "" if shown is None else " ".join(shown.export_public_key().decode().split()[:2])
        fingerprint = "no plain key" if shown is None else shown.get_fingerprint()
        compare = "compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the server itself"
        put = f'"host_key": "{line}"'
        if pinned:
            return TargetUnavailable(
                f"{self.title}: {self.server} shows another host key than the connection {self.connection} "
                f"expects: {fingerprint}. Nothing was sent there. Somebody may have put himself between.",
                f"Ask who runs the server whether its key was changed, and {compare}. Only then put {put} into the "
                "connection's extra.",
            )
        return TargetUnavailable(
            f"{self.title}: the connection {self.connection} does not say which host key {self.server} has. "
            f"It shows {fingerprint}. Nothing was sent there.",
            f"Before you believe it, {compare}. Then put {put} into the connection's extra.",
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    return text.strip().rstrip(".")[:200] or type(error).__name__
