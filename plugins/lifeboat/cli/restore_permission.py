"""Whether a restore may begin: freely into a scratch place, elsewhere by a request that two people approved, or by
breaking the glass, of which everybody hears.

It holds back nobody who has a shell here, and the keys: docs/security.md. It holds back a slip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifeboat.cli.output import note
from lifeboat.errors import RestoreError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from lifeboat.recovery.approval.options import RestoreOptions
    from lifeboat.recovery.approval.request import RestoreRequest
    from lifeboat.repository.journal import Event
    from lifeboat.repository.manifest import Run
    from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Permission:
    """By what a restore begins.

    Attributes:
        request: the approved request; ``None``: without one.
        approvers: who approved it.
        approved: when the last of them did.
        broken: the reason for which the glass was broken; empty: it was not.
        place: where it ends then, in words.
        missing: what is raised where there is none; ``None``: there is.
    """

    request: RestoreRequest | None = None
    approvers: tuple[str, ...] = ()
    approved: datetime | None = None
    broken: str = ""
    place: str = ""
    missing: RestoreError | None = None

    @property
    def details(self) -> dict[str, Any]:
        """What the restore's first event says of it."""
        if self.request is not None:
            return {"request": self.request.id, "approvers": list(self.approvers)}
        return {"glass_broken": self.broken} if self.broken else {}

    @property
    def waited(self) -> timedelta | None:
        """How long people took; ``None`` where nobody was asked."""
        return None if self.request is None or self.approved is None else self.approved - self.request.made

    @property
    def actor(self) -> str:
        """Who does it, for the record; empty: whoever is at the command line."""
        if self.request is None:
            return ""
        by = f", approved by {' and '.join(self.approvers)}" if self.approvers else ""
        return f"airflow user {self.request.requester}{by}"

    @property
    def run(self) -> Run | None:
        """Whose work it is."""
        return None if self.request is None else self.request.run

    @property
    def reason(self) -> str:
        """What it is for."""
        if self.request is None:
            return f"glass broken: {self.broken}" if self.broken else ""
        return " · ".join(part for part in (self.request.reason, self.request.ticket) if part)

    def targets(self, repository: SystemRepository) -> list[str]:
        """The targets that must hear of it besides those that were looked at: a request names one to read from, and
        its use is known everywhere."""
        from lifeboat.recovery.approval.records import reached_targets

        return [] if self.request is None else reached_targets(repository)

    def begin(self, repository: SystemRepository, source: str, use: Event | None) -> None:
        """What is to be done after the restore's first event and before anything else.

        Args:
            use: that event; ``None`` where no target took it.

        Raises:
            RestoreError: the approval is used up, or its use could not be recorded.
        """
        if self.broken:
            _tell_everybody(repository, source, self)
        if self.request is None:
            return
        from lifeboat.recovery.approval.records import insist_on_first_use

        if use is None:
            raise RestoreError(
                f"The use of the request {self.request.id} could not be recorded, and one that is not could be used "
                "again.",
                "The warnings above say why. `--break-glass REASON` restores without an approval.",
            )
        insist_on_first_use(repository, self.request.id, use)


FREELY = Permission()
PERMISSION: ContextVar[Permission] = ContextVar("permission", default=FREELY)
"""That of the restore under way; every kind of restore goes on record in one place, which looks here."""


def insist_on_permission() -> None:
    """Go on only with a permission: called when the plan was shown, nothing stands in its way, and nothing was done.

    Raises:
        RestoreError: there is none; the text says how to get one.
    """
    if (missing := PERMISSION.get().missing) is not None:
        raise missing


@contextmanager
def permission(
    repository: SystemRepository,
    source: str,
    options: RestoreOptions,
    *,
    approval: str | None,
    break_glass: str | None,
    looks_only: bool,
) -> Iterator[RestoreOptions]:
    """Find out by what permission the block restores; yields what is to be restored.

    Without one the block goes on, and shows what it would do: :func:`insist_on_permission` stops it there.

    Args:
        looks_only: nothing is written anywhere: a plan, one item to standard output.

    Raises:
        RestoreError: the request is not one that may be carried out.
    """
    if approval is not None:
        options, granted = _by_request(repository, source, options, approval, break_glass)
    elif looks_only or is_scratch(repository, options):
        granted = FREELY
        if break_glass is not None:
            note("No glass is broken: this ends in a scratch place, or nowhere.")
    elif break_glass is not None and break_glass.strip():
        granted = Permission(broken=break_glass.strip(), place=_place(options))
    else:
        missing = RestoreError(
            f"{_place(options)} is no scratch place, and a restore that ends there needs the approval of two people.",
            f"Trigger the DAG {repository.system}_restore; or name a directory below one of the policy's "
            "`restore.scratch` or below the machine's for temporary files; or say --break-glass REASON, which is "
            "recorded and told to everybody.",
        )
        granted = Permission(missing=missing)
    token = PERMISSION.set(granted)
    try:
        yield options
    finally:
        PERMISSION.reset(token)


def is_scratch(repository: SystemRepository, options: RestoreOptions) -> bool:
    """Whether it ends in a scratch place, or is not said to end anywhere."""
    from pathlib import Path

    from lifeboat.recovery.approval.scratch import below_scratch

    if options.connection is not None or options.into_store:
        return False
    places = [options.into, *(text.partition("=")[2] for text in options.tablespaces)]
    return all(place is None or not place or below_scratch(Path(place), repository.policy) for place in places)


def _place(options: RestoreOptions) -> str:
    if options.into_store:
        return "A store of secrets"
    return f"The server of the connection {options.connection}" if options.connection else str(options.into)


def _by_request(
    repository: SystemRepository, source: str, options: RestoreOptions, approval: str, break_glass: str | None
) -> tuple[RestoreOptions, Permission]:
    from lifeboat.recovery.approval.options import RestoreOptions
    from lifeboat.recovery.approval.records import approved
    from lifeboat.recovery.approval.ruling import approvers_of

    if options != RestoreOptions() or break_glass is not None:
        raise RestoreError(
            "What is restored by an approved request stands in the request, whole.",
            "Say --approval and no other option of a restore.",
        )
    request, found = approved(repository, approval, source)
    approvers = tuple(approvers_of(found, request, repository.policy.restore))
    last = max((one.time for one in found.approvals if one.approver in approvers), default=None)
    note(f"Asked for by {request.requester}: {request.reason}; approved by {', '.join(approvers) or 'nobody: exempt'}.")
    return request.options, Permission(request, approvers, last)


def _tell_everybody(repository: SystemRepository, source: str, broken: Permission) -> None:
    """What keeps somebody from hearing of it does not keep back the restore."""
    from lifeboat.alerts.slack import escaped, tell
    from lifeboat.cli.output import warn
    from lifeboat.cli.recording import actor

    text = (
        f":rotating_light: *{repository.system}: the glass is broken*\n{escaped(actor())} restores {source} without "
        f"approval, into {escaped(broken.place)}.\n*Why:* {escaped(broken.broken)}"
    )
    for fault in tell(repository.policy, "critical", text, repository.outside):
        warn(fault)
