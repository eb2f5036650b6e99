"""The program of a drill in which Airflow is lost: one source comes back by ``--kit`` and ``--break-glass-key`` alone.

Not a verb: :mod:`lifeboat.recovery.drill.clean_room` starts this file in an empty environment, tells it on standard
input what to do, and reads its last line.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.recovery.drill.clean_room import Answer, Request

_PACKAGES = Path(__file__).resolve().parents[2]


class Lost(PermissionError):
    """A file is opened that is taken for lost."""


def main() -> int:
    """Recover what standard input says; returns the exit code."""
    sys.path.insert(0, str(_PACKAGES))
    # Whatever imports it, here or in a library, fails as where it was never installed.
    sys.modules["airflow"] = None  # type: ignore[assignment]
    from lifeboat.cli.cancellation import STOP
    from lifeboat.errors import Cancelled, LifeboatError
    from lifeboat.recovery.drill.clean_room import Answer, Request

    with STOP.listening():
        try:
            request = Request.model_validate_json(sys.stdin.buffer.read())
            shut(request.shut)
            answer = recover(request)
        except Cancelled:
            return STOP.exit_code
        except LifeboatError as error:
            answer = Answer(error=error.what, remedy=error.remedy)
        except Lost as error:
            answer = Answer(error=f"{error.filename} is wanted, and it is taken for lost.", remedy="Export a new kit.")
        except Exception as error:
            # Its text may hold what a library was given, passwords too: the kind alone is safe to show.
            answer = Answer(error=f"Lifeboat failed in a way that it does not know: {type(error).__name__}.")
    sys.stdout.write(f"{answer.model_dump_json()}\n")
    sys.stdout.flush()
    return 0


def shut(lost: Collection[Path]) -> None:
    """Keep this process from opening files that are taken for lost, for the rest of its life."""
    names = {os.fspath(path) for path in lost}

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[0] in names:
            raise Lost(errno.EACCES, "It is taken for lost in this drill", arguments[0])

    sys.addaudithook(audit)


def recover(request: Request) -> Answer:
    """Bring the source back as ``lifeboat --kit`` does, look at it, and remove it.

    Raises:
        KeyUnavailable, ManifestInvalid, ObjectDamaged, PolicyError: the kit does not open, or lacks something.
        Cancelled: we were told to stop; nothing is left.
    """
    from lifeboat.cli.cancellation import STOP
    from lifeboat.cli.outside import Surroundings
    from lifeboat.connections import outside_from
    from lifeboat.outside import utc_now
    from lifeboat.recovery.bringing_back import BringingBack, Means
    from lifeboat.recovery.drill.clean_room import Answer
    from lifeboat.recovery.drill.recovering import OPEN_KIT, SourceRecovery
    from lifeboat.recovery.drill.scenarios import Moments

    kit = newest_kit(request.kit)
    _tell(f"Opening {kit}")
    here = Surroundings(policies=Path("/nowhere"), kit=kit, break_glass=request.break_glass)
    loaded = here.loaded(request.system)
    insist_on_contents(loaded, request, kit)
    repository = here.repository(loaded)
    # Without any key each try would fail by itself, and for the same reason.
    _ = repository.opening
    hooks = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(found) for name, found in request.connections.items()}
    means = Means(
        scratch=request.scratch,
        binaries=request.binaries,
        user=request.user,
        checks=request.checks,
        application=request.application,
        verify=request.verify,
        variables=request.variables,
        heartbeat=request.heartbeat,
        outside=outside_from(request.environment | hooks),
    )
    recovery = SourceRecovery(
        repository,
        BringingBack(repository, means, request.name, STOP.check),
        request.targets,
        Moments(request.incident, request.known_until, request.back_to),
        frozenset(request.late),
        tell=_tell,
        tick=STOP.check,
        before=request.before | {OPEN_KIT: max(0, (utc_now() - request.since) // timedelta(milliseconds=1))},
    )
    return Answer(proof=recovery.recover(request.source))


def newest_kit(place: Path) -> Path:
    """The kit itself; of a directory of kits, the one that was made last.

    Raises:
        ManifestInvalid: it can't be read; one that can't be might be the newest.
        RestoreError: there is none in the directory.
    """
    from lifeboat.errors import RestoreError
    from lifeboat.kit.archive import open_archive
    from lifeboat.kit.opening import read_manifest

    if not place.is_dir():
        return place
    made = {}
    for path in sorted(place.glob("*.zip")):
        with open_archive(path) as archive:
            made[path] = read_manifest(archive)[0].created
    if not made:
        raise RestoreError(f"There is no recovery kit in {place}.", "Export one there: `lifeboat kit export`.")
    return max(made, key=lambda path: made[path])


def insist_on_contents(loaded: LoadedPolicy, request: Request, kit: Path) -> None:
    """Insist on the kit's policy knowing what is to come back, and from where.

    Raises:
        PolicyError: it does not: the kit is older than that.
    """
    from lifeboat.errors import PolicyError

    lacking = [f"the source {request.source}"] if request.source not in loaded.policy.sources else []
    lacking += [f"the target {name}" for name in request.targets if name not in loaded.policy.targets]
    if lacking:
        raise PolicyError(
            f"The policy of {request.system} in the kit {kit} does not know {' and '.join(lacking)}.",
            "The kit was made before: export a new one, and put it where this one was.",
        )


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
