"""The last valid copy of each policy: what runs while its file is broken.

The copies lie in a directory that the caller names, used for one directory of policies only: one file
``<system>.last-valid.json`` each, written whole or not at all. Several processes may keep them at once: the last one
wins, and all of them write what the same files say. A copy also holds the values of the environment variables that the
policy was read with, since a variable that went missing may be what is wrong.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lifeboat.outside import utc_now
from lifeboat.policy.loading import LoadedPolicies, load_policies, parse_policy
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.naming import collisions
from lifeboat.policy.problems import PolicyProblem, PolicyRefused

_FORMAT = 1
_ENDING = ".last-valid.json"
# No process needs so long for one small file: what is older was left by one that died.
_ABANDONED = timedelta(hours=1)


def policies_to_run(
    directory: Path,
    state: Path,
    *,
    environment: Mapping[str, str] | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> LoadedPolicies:
    """The policies of a directory; in the place of a broken one its last valid copy, marked stale.

    The problems are those of the files as they are now. A removed file takes its copy with it. A directory that can't
    be read leaves every copy running. Where ``state`` can't be written or read, the policies run all the same and a
    notice says so: the next broken file then stops its DAGs.

    Args:
        directory: the policies.
        state: where the copies lie; made when it is missing, readable by its owner only.
        environment: the variables that ``${NAME}`` refers to; by default those of the process.
        clock: the present moment.
    """
    loaded = load_policies(directory, environment=environment)
    copies = _Copies(state, clock)
    for policy in loaded.policies.values():
        copies.keep(policy)
    policies = dict(loaded.policies)
    problems = list(loaded.problems)
    for system in copies.systems():
        if system in policies:
            continue
        if loaded.complete and system not in loaded.refused:
            copies.drop(system)
            continue
        stale = copies.read(system, loaded.refused.get(system, directory / f"{system}.yaml"))
        if isinstance(stale, PolicyProblem):
            problems.append(stale)
        elif stale is not None:
            policies[system] = stale
    problems += _drop_colliding(policies)
    return replace(
        loaded,
        policies=policies,
        problems=tuple(problems),
        notices=(*loaded.notices, *copies.notices),
    )


def _drop_colliding(policies: dict[str, LoadedPolicy]) -> list[PolicyProblem]:
    """Take out stale policies whose names a file that is valid now has claimed meanwhile."""
    problems = []
    for collision in collisions({name: loaded.policy.sources for name, loaded in policies.items()}):
        for system in collision.systems:
            if system in policies and policies[system].stale:
                stale = policies.pop(system)
                owners = " and ".join(collision.owners)
                problems.append(
                    PolicyProblem(
                        stale.path,
                        0,
                        "sources",
                        "Its last valid copy does not run either: "
                        f"DAGs of two systems would be called `{collision.id}`: {owners}.",
                        "Mend the file.",
                    )
                )
    return problems


class _Copies:
    def __init__(self, state: Path, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock
        self.notices: list[str] = []

    def keep(self, loaded: LoadedPolicy) -> None:
        path = self._path(loaded.policy.system)
        content = {
            "format_version": _FORMAT,
            "file": loaded.path.name,
            "digest": loaded.digest,
            "environment": dict(loaded.environment),
            "text": loaded.text,
        }
        data = json.dumps(content, ensure_ascii=False, indent=1).encode()
        try:
            if path.is_file() and path.read_bytes() == data:
                return
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clear_abandoned()
            _write_whole(path, data)
        except OSError as error:
            self.notices.append(
                f"The last valid copy of policy `{loaded.policy.system}` could not be kept in {self._state}: "
                f"{error.strerror}. If its file breaks, its DAGs stop."
            )

    def systems(self) -> list[str]:
        try:
            return sorted(path.name.removesuffix(_ENDING) for path in self._state.glob(f"*{_ENDING}"))
        except OSError as error:
            self.notices.append(f"The last valid copies of policies can't be read in {self._state}: {error.strerror}.")
            return []

    def read(self, system: str, file: Path) -> LoadedPolicy | PolicyProblem | None:
        try:
            content: Any = json.loads(self._path(system).read_bytes())
            text, digest, environment = content["text"], content["digest"], content["environment"]
            stale = parse_policy(text.encode(), file, environment=environment)
        except FileNotFoundError:  # another process dropped it meanwhile
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return self._useless(system, file, f"{type(error).__name__}")
        except PolicyRefused as error:
            return self._useless(system, file, str(error))
        if stale.digest != digest or stale.policy.system != system:
            return self._useless(system, file, "it is not what was written")
        notice = f"{file.name} is broken: this is its last valid copy, and it runs until the file is mended."
        return replace(stale, stale=True, notices=(notice, *stale.notices))

    def drop(self, system: str) -> None:
        try:
            self._path(system).unlink(missing_ok=True)
        except OSError as error:
            self.notices.append(
                f"The last valid copy of the removed policy `{system}` could not be dropped from {self._state}: "
                f"{error.strerror}."
            )

    def _path(self, system: str) -> Path:
        return self._state / f"{system}{_ENDING}"

    def _useless(self, system: str, file: Path, why: str) -> PolicyProblem:
        return PolicyProblem(
            file,
            0,
            "",
            f"There is no last valid copy to run meanwhile: {self._path(system)} can't be used ({why}).",
            "Mend the policy; the copy is then written anew.",
        )

    def _clear_abandoned(self) -> None:
        for path in self._state.glob(".*.tmp"):
            with suppress(FileNotFoundError):
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                if self._clock() - written > _ABANDONED:
                    path.unlink()


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
