"""Who does it, and the journal of what a person does: as good a record as keys and targets at hand allow."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lifeboat.errors import KeyUnavailable, LifeboatError, TargetError
from lifeboat.repository.journal import Event, EventKind, Journal
from lifeboat.repository.signing import Signer

if TYPE_CHECKING:
    from lifeboat.recovery.evidence import Record
    from lifeboat.repository.system import SystemRepository
    from lifeboat.targets.target import Target


def actor() -> str:
    """The person at this command line: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def command(*words: str) -> str:
    """The command as it is recorded: the verb and what it was about, never a path of a key."""
    return shlex.join(["lifeboat", *words])


class BestEffortJournal(Journal):
    """A journal that never stands in the way: without a signing key, or where a target takes no events, it says so once
    and goes on. For what must work on the worst day: verifying and restoring.

    Args:
        names: the targets, the one that matters most first.
        tell: told each thing that will not be recorded.
    """

    def __init__(
        self, repository: SystemRepository, names: Sequence[str], *, run: str, tell: Callable[[str], None]
    ) -> None:
        self._tell = tell
        try:
            signer = repository.signer
            signer.insist_on_validity(repository.outside.clock())
            targets = _opened(repository, names, tell)
        except KeyUnavailable as error:
            tell(f"Nothing of this is written to the journal: {error.what}")
            signer, targets = _nobody(), []
        super().__init__(
            targets,
            repository.system,
            signer=signer,
            run=f"{run}-{os.urandom(4).hex()}",
            actor=actor(),
            clock=repository.outside.clock,
        )

    def write(
        self,
        kind: EventKind,
        *,
        source: str | None = None,
        recovery_point: str | None = None,
        target: str | None = None,
        **details: Any,
    ) -> Event:
        """Write an event where that is possible."""
        while True:
            try:
                return super().write(kind, source=source, recovery_point=recovery_point, target=target, **details)
            except TargetError as error:
                refusing, *rest = self._targets
                self._tell(f"The journal on {refusing.name} takes no events, and won't be asked again: {error.what}")
                self._targets = rest

    @property
    def heard(self) -> bool:
        """Whether a target takes what is written."""
        return bool(self._targets)

    def keep(self, record: Record) -> None:
        """Sign a record and keep it with the evidence, where that is possible."""
        from lifeboat.recovery.keeping import keep, signed

        if not self._targets:
            return  # nobody could be told of it
        try:
            missed = keep(signed(record, self._signer), self._targets, self)
        except (TargetError, KeyUnavailable) as error:
            self._tell(f"What this proved is not kept: {error.what}")
            return
        for name in missed:
            self._tell(f"{name} did not take the record of what this proved.")


def _opened(repository: SystemRepository, names: Sequence[str], tell: Callable[[str], None]) -> list[Target]:
    found = []
    for name in names:
        try:
            found.append(repository.target(name))
        except LifeboatError as error:
            tell(f"The journal on {name} is not written: {error.what}")
    return found


def _nobody() -> Signer:
    """Signs events that are stored nowhere."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Signer("nobody", Ed25519PrivateKey.generate())
