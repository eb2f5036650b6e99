"""Policies from their files: all problems of all files at once.

A policy is a file ``<system>.yaml`` directly in the policies' directory, and the name must match the ``system`` it
says: so a file is found by the name in an alert, and the last valid copy of a file that can't even be read by its name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from lifeboat.policy.built import not_built
from lifeboat.policy.document import LARGEST_FILE, Document, read_document
from lifeboat.policy.environment import Environment
from lifeboat.policy.explaining import problems_of
from lifeboat.policy.model import LoadedPolicy, Policy
from lifeboat.policy.naming import collisions
from lifeboat.policy.problems import PolicyProblem, PolicyRefused


@dataclass(frozen=True)
class LoadedPolicies:
    """What a directory of policies says.

    Attributes:
        policies: the policies that may be used, by system.
        problems: everything that is wrong, in all files.
        notices: what a person should know about the directory as a whole.
        refused: the systems that a file is there for, but no usable one, each with that file.
        complete: whether the directory could be read; if not, a missing policy says nothing.
    """

    policies: dict[str, LoadedPolicy]
    problems: tuple[PolicyProblem, ...] = ()
    notices: tuple[str, ...] = ()
    refused: Mapping[str, Path] = field(default_factory=dict)
    complete: bool = True


def load_policy(path: Path, *, environment: Mapping[str, str] | None = None) -> LoadedPolicy:
    """Read one policy file.

    Args:
        path: the file.
        environment: the variables that ``${NAME}`` refers to; by default those of the process.

    Raises:
        PolicyRefused: (a ``PolicyError``) it can't be used; lists all its problems.
    """
    loaded = parse_policy(_read(path), path, environment=environment)
    if path.stem != loaded.policy.system:
        raise PolicyRefused([_misnamed(path, loaded)])
    return loaded


def parse_policy(data: bytes, path: Path, *, environment: Mapping[str, str] | None = None) -> LoadedPolicy:
    """Read a policy from bytes; ``path`` is what problems name. The file's name is not compared.

    Raises:
        PolicyRefused: (a ``PolicyError``) it can't be used; lists all its problems.
    """
    if len(data) > LARGEST_FILE:
        raise PolicyRefused([PolicyProblem(path, 0, "", "It is larger than 1 MiB.", "Is it a policy?")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyRefused([PolicyProblem(path, line, "", "It is not UTF-8.", "Save it as UTF-8.")]) from error
    document = read_document(text, path)
    variables = Environment(environment)
    try:
        policy = Policy.model_validate(document.data, context={"environment": variables})
    except ValidationError as error:
        raise PolicyRefused(problems_of(error, document, path)) from error
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return LoadedPolicy(policy, path, text, digest, notices=tuple(not_built(policy)), environment=dict(variables.used))


def load_policies(directory: Path, *, environment: Mapping[str, str] | None = None) -> LoadedPolicies:
    """Read every policy in a directory.

    A broken file leaves the others alone. Two files for one system, and names that collide, refuse all that take part.
    A directory without policies gives none, and a notice; a directory that is missing or can't be read is a problem.
    """
    try:
        files = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        problem = PolicyProblem(
            directory, 0, "", f"The directory of policies can't be read: {error.strerror}.", "Create or mount it."
        )
        return LoadedPolicies({}, (problem,), complete=False)
    problems: list[PolicyProblem] = []
    refused: dict[str, Path] = {}
    read: list[LoadedPolicy] = []
    for path in files:
        if path.suffix not in {".yaml", ".yml"}:
            continue
        try:
            read.append(_read_one(path, environment))
        except PolicyRefused as error:
            problems += error.problems
            refused.setdefault(path.stem, path)
    usable, more = _one_each(read)
    problems += more
    usable, more = without_collisions(usable)
    problems += more
    for loaded in read:
        if loaded.policy.system not in usable:
            refused.setdefault(loaded.policy.system, loaded.path)
    notices = () if usable or problems else (f"There is no policy in {directory}: nothing is backed up.",)
    return LoadedPolicies(usable, tuple(problems), notices, refused)


def _read_one(path: Path, environment: Mapping[str, str] | None) -> LoadedPolicy:
    if path.suffix == ".yml":
        raise PolicyRefused([PolicyProblem(path, 0, "", "A policy's file ends in `.yaml`.", "Rename it.")])
    return parse_policy(_read(path), path, environment=environment)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyRefused(
            [PolicyProblem(path, 0, "", f"It can't be read: {error.strerror}.", "Mend its path or its permissions.")]
        ) from error


def _one_each(read: list[LoadedPolicy]) -> tuple[dict[str, LoadedPolicy], list[PolicyProblem]]:
    by_system: dict[str, list[LoadedPolicy]] = defaultdict(list)
    for loaded in read:
        by_system[loaded.policy.system].append(loaded)
    usable: dict[str, LoadedPolicy] = {}
    problems = []
    for system, claims in by_system.items():
        if len(claims) > 1:
            names = " and ".join(f"`{loaded.path.name}`" for loaded in claims)
            problems += [
                _problem_at(
                    loaded, "system", f"{names} all say that they are system `{system}`.", "Keep or rename one of them."
                )
                for loaded in claims
            ]
        elif claims[0].path.stem != system:
            problems.append(_misnamed(claims[0].path, claims[0]))
        else:
            usable[system] = claims[0]
    return usable, problems


def _misnamed(path: Path, loaded: LoadedPolicy) -> PolicyProblem:
    return _problem_at(
        loaded,
        "system",
        f"The file is called `{path.name}`, and the system `{loaded.policy.system}`.",
        f"Rename the file to `{loaded.policy.system}.yaml`, or the system.",
    )


def without_collisions(
    policies: Mapping[str, LoadedPolicy],
) -> tuple[dict[str, LoadedPolicy], list[PolicyProblem]]:
    """The policies whose names collide with no other's, and a problem for each of the rest."""
    problems = []
    refused: set[str] = set()
    for collision in collisions({name: loaded.policy.sources for name, loaded in policies.items()}):
        refused.update(collision.systems)
        owners = " and ".join(collision.owners)
        problems += [
            _problem_at(
                policies[system],
                "sources",
                f"DAGs of two systems would be called `{collision.id}`: {owners}.",
                "Rename a source or a system.",
            )
            for system in collision.systems
        ]
    return {name: loaded for name, loaded in policies.items() if name not in refused}, problems


def _problem_at(loaded: LoadedPolicy, key: str, what: str, remedy: str) -> PolicyProblem:
    document: Document = read_document(loaded.text, loaded.path)
    return PolicyProblem(loaded.path, document.line_of((key,)), key, what, remedy)
