"""Requests, approvals, refusals and uses in the journal: written to each target that answers, read from all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from pydantic import ValidationError

from lifeboat.errors import Cancelled, LifeboatError, ManifestInvalid, RestoreError, TargetUnavailable
from lifeboat.policy.built import built_targets
from lifeboat.recovery.approval.request import RestoreRequest, request_time
from lifeboat.recovery.approval.ruling import Approval, Found, objections
from lifeboat.repository.journal import Event, Journal, parse_event
from lifeboat.repository.layout import journal_folder
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import ObjectInfo

REQUESTS, APPROVALS, USES = "restore-request", "restore-approval", "command-restore"
"""How the runs are called that write such events: an event's key names its run, and no other key is read."""
_RUNS = tuple(f"-{run}-" for run in (REQUESTS, APPROVALS, USES))
_A_DAY = timedelta(days=1)


def reached_targets(repository: SystemRepository) -> list[str]:
    """The targets that answer, in the policy's order.

    Raises:
        TargetUnavailable: none does.
    """
    found, errors = [], []
    for name in built_targets(repository.policy):
        try:
            repository.target(name).list_folders(f"{repository.system}/")
        except Cancelled:
            raise
        except LifeboatError as error:
            errors.append(f"{name}: {error}")
        else:
            found.append(name)
    if not found:
        raise TargetUnavailable(
            f"No target of {repository.system} answers: what was approved can't be known.\n" + "\n".join(errors),
            "Bring one of them back; `lifeboat restore --break-glass REASON` restores without approval, and tells "
            "everybody.",
        )
    return found


def approval_journal(repository: SystemRepository, run: str, actor: str) -> Journal:
    """A journal on every target that answers.

    Raises:
        KeyUnavailable: nobody would believe it.
        TargetUnavailable: no target answers.
    """
    repository.signer.insist_on_validity(repository.outside.clock())
    return repository.journal(*reached_targets(repository), run=run, actor=actor)


def write_request(journal: Journal, request: RestoreRequest) -> None:
    """Put a request on record; raises ``TargetError``."""
    journal.write(
        "restore_requested",
        source=request.source,
        recovery_point=request.options.recovery_point or request.options.base,
        target=request.options.target,
        request=request.model_dump(mode="json"),
        sha256=request.sha256,
    )


def write_approval(journal: Journal, request: RestoreRequest, approver: str, answered: datetime) -> None:
    """Put somebody's yes on record; raises ``TargetError``."""
    journal.write(
        "restore_approved",
        source=request.source,
        request=request.id,
        sha256=request.sha256,
        approver=approver,
        answered=answered.isoformat(),
    )


def write_refusal(journal: Journal, request: RestoreRequest, why: str) -> None:
    """Put a no on record: nothing makes a yes of it any more; raises ``TargetError``."""
    journal.write("restore_refused", source=request.source, request=request.id, why=why)


def request_of_run(repository: SystemRepository, dag_id: str, run_id: str, since: datetime) -> RestoreRequest:
    """The newest request of a DAG run.

    Raises:
        RestoreError: it has none.
    """
    found = [
        request
        for event in _events(repository, since, lambda _unreadable: None)
        if (request := _request(event)) is not None and (request.run.dag_id, request.run.run_id) == (dag_id, run_id)
    ]
    if not found:
        raise RestoreError(
            f"The journal holds no request of the run {run_id}.",
            "Its task `plan` makes it; marked a success, it has made none. Trigger the DAG anew.",
        )
    return max(found, key=lambda request: request.made)


def found_of(repository: SystemRepository, request_id: str) -> Found:
    """What the journal says of a request, on all targets that answer together.

    Raises:
        RestoreError: it is no id of a request.
        TargetUnavailable: no target answers.
    """
    unreadable: list[str] = []
    requests: dict[str, RestoreRequest] = {}
    approvals: dict[str, Approval] = {}
    refusals: dict[str, str] = {}
    uses: dict[str, None] = {}
    for event in _events(repository, request_time(request_id), unreadable.append):
        request = _request(event)
        if request is not None and request.id == request_id:
            requests[event.sha256] = request
        if event.details.get("request") != request_id:
            continue
        if event.kind == "restore_approved":
            details = event.details
            approver, digest = str(details.get("approver") or ""), str(details.get("sha256") or "")
            approvals[event.sha256] = Approval(request_id, digest, approver, event.time)
        elif event.kind == "restore_refused":
            refusals[event.sha256] = str(event.details.get("why") or "nobody said why").rstrip(".")
        elif event.kind == "restore_begun":
            uses[event.sha256] = None
    return Found(
        tuple(requests.values()),
        tuple(approvals.values()),
        tuple(refusals.values()),
        tuple(uses),
        tuple(unreadable),
    )


def approved(repository: SystemRepository, request_id: str, source: str) -> tuple[RestoreRequest, Found]:
    """A request that may be carried out now.

    Raises:
        RestoreError: it may not; the text says all that is against it.
    """
    found = found_of(repository, request_id)
    against = objections(found, request_id, repository.policy.restore, repository.outside.clock())
    if not against and found.requests[0].source != source:
        against = [f"It is for the source {found.requests[0].source}."]
    if against:
        raise RestoreError(
            f"The request {request_id} does not let this restore begin. {' '.join(against)}",
            f"Trigger {repository.system}_restore anew, and let two people approve it.",
        )
    return found.requests[0], found


def insist_on_first_use(repository: SystemRepository, request_id: str, use: Event) -> None:
    """After a use was written: no other one may be there. Of two at the same time at most one goes on.

    Raises:
        RestoreError: there is another, or this one is not on record.
    """
    uses = found_of(repository, request_id).uses
    if uses != (use.sha256,):
        what = "Another restore began by it at the same time." if uses else "Its beginning is not on record."
        raise RestoreError(
            f"The request {request_id} does not let this restore begin. {what}",
            f"See that no other one is running, then trigger {repository.system}_restore anew.",
        )


def _request(event: Event) -> RestoreRequest | None:
    if event.kind != "restore_requested":
        return None
    try:
        request = RestoreRequest.model_validate(event.details.get("request"))
    except ValidationError:
        return None  # of a later version: unknown here, so not approved here
    return request if request.system == event.system else None


def _events(repository: SystemRepository, since: datetime, tell_unreadable: Callable[[str], None]) -> Iterator[Event]:
    """The events about restores from ``since`` on, each once, from whichever target has it whole."""
    given: set[str] = set()
    refused: dict[str, str] = {}
    for name in reached_targets(repository):
        target = repository.target(name)
        for info in _listed(repository, name, since):
            if info.key in given:
                continue
            try:
                event = parse_event(target.read(info.key), info.key, repository.trusted)
            except ManifestInvalid as error:
                refused[info.key] = error.what
                continue
            given.add(info.key)
            yield event
    for key in refused.keys() - given:
        tell_unreadable(refused[key])


def _listed(repository: SystemRepository, name: str, since: datetime) -> Iterator[ObjectInfo]:
    now = repository.outside.clock()
    day = since
    while day.date() <= now.date():
        for info in repository.target(name).list(journal_folder(repository.system, day)):
            if any(run in info.key for run in _RUNS):
                yield info
        day += _A_DAY


def ended_restore(repository: SystemRepository, request_id: str) -> Event | None:
    """The event that a restore by this request ended well with; ``None``: there is none."""
    found = [
        event
        for event in _events(repository, request_time(request_id), lambda _unreadable: None)
        if event.kind == "restore_ended" and event.details.get("request") == request_id
    ]
    return found[-1] if found else None
