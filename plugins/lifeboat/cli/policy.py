"""``lifeboat policy``: check, show, schema."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.output import note, say, show_fields, show_json, show_table
from lifeboat.cli.outside import surroundings
from lifeboat.errors import ConnectionUnknown

if TYPE_CHECKING:
    from lifeboat.outside import Outside
    from lifeboat.policy.checking import Verdict
    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.policy.problems import PolicyProblem
    from lifeboat.policy.schedule import WorstCase

app = typer.Typer(help="Check and show policies.", no_args_is_help=True)


@app.command("check")
def check_verb(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Policies to check; by default all of the directory.", metavar="FILE…")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say everything that is wrong with policies, and how much each source can lose at worst."""
    from lifeboat.policy.checking import check
    from lifeboat.policy.loading import load_policies

    if files:
        loaded, problems, notices = _read(files)
    else:
        directory = load_policies(surroundings(ctx).policies)
        loaded, problems = list(directory.policies.values()), list(directory.problems)
        notices = [("", notice) for notice in directory.notices]
    verdicts = [(policy, check(policy)) for policy in loaded]
    for policy, verdict in verdicts:
        problems += verdict.problems
        notices += [(policy.path.name, notice) for notice in verdict.notices]
    if as_json:
        _show_json(verdicts, problems, notices)
    else:
        _show(verdicts, problems, notices)
    if problems:
        raise typer.Exit(1)


def _read(files: Sequence[Path]) -> tuple[list[LoadedPolicy], list[PolicyProblem], list[tuple[str, str]]]:
    from lifeboat.policy.loading import load_policy, without_collisions
    from lifeboat.policy.problems import PolicyRefused

    read: dict[str, LoadedPolicy] = {}
    problems: list[PolicyProblem] = []
    for file in files:
        try:
            policy = load_policy(file)
        except PolicyRefused as error:
            problems += error.problems
        else:
            read[policy.policy.system] = policy
    usable, more = without_collisions(read)
    return list(usable.values()), [*problems, *more], []


_Verdicts = Sequence[tuple["LoadedPolicy", "Verdict"]]


def _show(
    verdicts: _Verdicts,
    problems: Sequence[PolicyProblem],
    notices: Sequence[tuple[str, str]],
) -> None:
    for file, notice in notices:
        note(f"notice: {file + ': ' if file else ''}{notice}", "dim")
    rows = [
        (
            policy.policy.system,
            source,
            case.tier.value,
            _reckoned(case),
            _words(case.total),
            _words(policy.policy.objectives.rpo_of(source)),
        )
        for policy, verdict in verdicts
        for source, case in verdict.worst_cases.items()
    ]
    if rows:
        show_table("Lost at worst", ("system", "source", "tier", "reckoned from", "at worst", "objective"), rows)
    for problem in problems:
        place = f"{problem.file}:{problem.line}" if problem.line else str(problem.file)
        note(f"{place}: {problem.key + ': ' if problem.key else ''}{problem.what}", "bold red")
        if problem.remedy:
            note(f"  → {problem.remedy}", "red")
    if not problems:
        say(f"No problems in {len(verdicts)} policies." if len(verdicts) != 1 else "No problems.", "green")


def _show_json(
    verdicts: _Verdicts,
    problems: Sequence[PolicyProblem],
    notices: Sequence[tuple[str, str]],
) -> None:
    show_json(
        {
            "ok": not problems,
            "problems": [
                {
                    "file": str(problem.file),
                    "line": problem.line,
                    "key": problem.key,
                    "what": problem.what,
                    "remedy": problem.remedy,
                }
                for problem in problems
            ],
            "notices": [{"file": file, "what": notice} for file, notice in notices],
            "worst_cases": [
                {
                    "system": policy.policy.system,
                    "source": source,
                    "tier": case.tier.value,
                    "period_seconds": int(case.period.total_seconds()),
                    "queue_seconds": int(case.queue.total_seconds()),
                    "run_seconds": int(case.run.total_seconds()),
                    "flush_seconds": None if case.flush is None else int(case.flush.total_seconds()),
                    "total_seconds": int(case.total.total_seconds()),
                    "objective_seconds": int(policy.policy.objectives.rpo_of(source).total_seconds()),
                }
                for policy, verdict in verdicts
                for source, case in verdict.worst_cases.items()
            ],
        }
    )


def _reckoned(case: WorstCase) -> str:
    if case.flush is None:
        return f"period {_words(case.period)} + queue {_words(case.queue)} + run {_words(case.run)}"
    return f"flush {_words(case.flush)} or hand-over {_words(case.between_runs)}, + commit {_words(case.run)}"


def _words(length: timedelta) -> str:
    from lifeboat.policy.duration import Duration

    return str(Duration.of(length))


@app.command("show")
def show_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a policy says, and which of the connections that it names are there."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    connections = _connections(loaded, here.outside())
    if as_json:
        show_json(
            {
                "system": system,
                "file": str(loaded.path),
                "digest": loaded.digest,
                "policy": loaded.policy.model_dump(mode="json", exclude_none=True),
                "connections": connections,
                "notices": list(loaded.notices),
            }
        )
        return
    _show_policy(loaded)
    show_table(
        "Connections", ("id", "found"), [(name, "yes" if found else "NO") for name, found in connections.items()]
    )
    for notice in loaded.notices:
        note(f"notice: {notice}", "dim")


def _connections(loaded: LoadedPolicy, outside: Outside) -> dict[str, bool]:
    found = {}
    for name in sorted(loaded.connections()):
        try:
            outside.connection(name)
        except ConnectionUnknown:
            found[name] = False
        else:
            found[name] = True
    return found


def _show_policy(loaded: LoadedPolicy) -> None:
    from lifeboat.policy.built import built_targets, built_tiers

    policy = loaded.policy
    runs = set(built_tiers(policy))
    usable = built_targets(policy)
    show_fields(
        f"{policy.system} ({policy.criticality})",
        [
            ("file", str(loaded.path)),
            ("digest", loaded.digest),
            ("about", policy.description or "—"),
            ("time zone", policy.timezone),
            ("objectives", f"RTO {policy.objectives.rto}, RPO {policy.objectives.rpo}"),
            ("keys", ", ".join(f"{key.name} ({key.kind})" for key in policy.encryption.keys)),
            ("signed by", policy.signing.key_id),
        ],
    )
    tiers: list[tuple[str, ...]] = [
        (
            name,
            source.kind,
            tier.value,
            str(each.schedule or "by hand"),
            str(each.retention),
            _yes((name, tier) in runs),
        )
        for name, source in policy.sources.items()
        for tier, each in source.tiers.items()
    ]
    show_table("Sources", ("source", "kind", "tier", "schedule", "kept", "runs"), tiers)
    targets: list[tuple[str, ...]] = [
        (name, target.url, _yes(target.required), target.verify, _yes(name in usable))
        for name, target in policy.targets.items()
    ]
    show_table("Targets", ("target", "where", "required", "verified by", "used"), targets)


def _yes(so: Any) -> str:
    return "yes" if so else "no"


@app.command("schema")
def schema_verb() -> None:
    """Print the JSON Schema of policies, for editors."""
    from lifeboat.policy.schema import policy_schema_text

    print(policy_schema_text(), end="")  # noqa: T201 this is the result
