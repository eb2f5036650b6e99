"""``lifeboat retention simulate``: what would be kept at each month's end, its size and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.output import iso, note, out, say, show_json, show_table, size, warn
from lifeboat.cli.outside import check_source, surroundings
from lifeboat.cli.progress import bar
from lifeboat.cli.retention_sizes import A_DAY, Size, given_sizes, sizes_of
from lifeboat.errors import PolicyError, StreamError

if TYPE_CHECKING:
    from lifeboat.policy.model import LoadedPolicy, Policy
    from lifeboat.repository.retention.foreseeing import Makings
    from lifeboat.repository.retention.simulating import MonthEnd, Simulation, Stored
    from lifeboat.repository.system import SystemRepository

GB = 10**9
_BAR_COLUMNS = 50


@dataclass(frozen=True)
class Simulated:
    """One source's simulation, with the sizes that it was made with."""

    source: str
    sizes: Mapping[str, Size]
    simulation: Simulation


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("simulate")(simulate_verb)


def simulate_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str | None, typer.Argument(help="The source in it; by default every one.")] = None,
    years: Annotated[int, typer.Option(help="For how many years.", min=1, max=30)] = 7,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="The stored size of a kind, as full='80 GB'; of wal, that of a day. By default what the newest ones "
            "take. May be repeated.",
            metavar="KIND=SIZE",
        ),
    ] = None,
    growth: Annotated[
        float, typer.Option(help="By how many percent sizes grow in a year.", metavar="PERCENT", min=-99, max=1000)
    ] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the sizes into this file, too.", metavar="FILE.svg", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what this policy would keep at each month's end, its size and its cost. Nothing is changed."""
    if plot is not None and not plot.absolute().parent.is_dir():
        raise typer.BadParameter(f"There is no directory {plot.parent}.", param_hint="--plot")
    here = surroundings(ctx)
    loaded = here.loaded(system)
    given = given_sizes(sizes or [])
    repository = here.repository(loaded)
    now = repository.outside.clock()
    done = [
        _simulated(repository, name, given, growth / 100, now, years * 12, known=_kinds(loaded))
        for name in _sources(loaded, source)
    ]
    if plot is not None:
        _draw(plot, f"{system}: what would be stored, with {growth:g} % growth a year", done)
    if as_json:
        show_json(_document(loaded.policy, done, now, growth))
        return
    for one in done:
        _show(loaded.policy, one)
    if len(done) > 1:
        _show_ends(loaded.policy, system, _together(done))
    _explain(loaded.policy, now, plot)


def _sources(loaded: LoadedPolicy, source: str | None) -> list[str]:
    from lifeboat.policy.built import built_tiers

    runs = list(dict.fromkeys(name for name, _ in built_tiers(loaded.policy)))
    if source is not None:
        check_source(loaded, source)
        if source not in runs:
            raise PolicyError(f"Nothing of the source {source} is backed up by this version of Lifeboat.")
        return [source]
    return runs


def _kinds(loaded: LoadedPolicy) -> set[str]:
    """All kinds that the policy's sources make."""
    return {kind for name in _sources(loaded, None) for kind in _makings(loaded.policy, name).kinds_made()}


def _makings(policy: Policy, source: str) -> Makings:
    from lifeboat.backup.kinds import kind_of
    from lifeboat.policy.built import built_tiers
    from lifeboat.repository.retention.foreseeing import Makings

    wanted = policy.sources[source]
    kind = kind_of(wanted.kind)
    tiers = [tier for name, tier in built_tiers(policy) if name == source]
    return Makings(wanted, {tier: kind.point_kinds(tier, wanted) for tier in tiers}, kind.roles(), policy.zone)


def _simulated(
    repository: SystemRepository,
    source: str,
    given: Mapping[str, int],
    growth: float,
    now: datetime,
    months: int,
    *,
    known: set[str],
) -> Simulated:
    from lifeboat.repository.retention.rules import rules_of
    from lifeboat.repository.retention.simulating import Sizes, simulate

    policy = repository.policy
    if unknown := given.keys() - known:
        raise PolicyError(
            f"{policy.system} makes no recovery points of the kind {', '.join(sorted(unknown))}.",
            f"It makes {', '.join(sorted(known))}.",
        )
    makings = _makings(policy, source)
    for tier in makings.by_hand():
        warn(f"{source}: the tier {tier} has no schedule: nothing of it is simulated.")
    if "change" in makings.kinds:
        warn(f"{source}: nobody can foresee what its tier change will store: nothing of it is simulated.")
    if not makings.scheduled():
        raise PolicyError(f"No tier of the source {source} has a schedule: there is nothing to simulate.")
    makings, sizes = sizes_of(repository, source, makings, given)
    with bar(f"{policy.system} {source}: months", months, in_bytes=False) as shown:
        simulation = simulate(
            makings,
            rules_of(policy, source),
            Sizes({kind: one.stored_size for kind, one in sizes.items()}, growth),
            policy.retention.schedule,
            now,
            months,
            passed=shown.passed,
        )
    return Simulated(source, sizes, simulation)


def _together(done: Sequence[Simulated]) -> list[MonthEnd]:
    """All sources' months as one."""
    from lifeboat.repository.retention.simulating import MonthEnd, sum_of

    return [
        MonthEnd(
            ends[0].month, ends[0].at, {name: sum_of([end.targets[name] for end in ends]) for name in ends[0].targets}
        )
        for ends in zip(*(one.simulation.ends for one in done), strict=True)
    ]


def _cost(policy: Policy, target: str, stored: Stored) -> Decimal | None:
    price = policy.targets[target].price_per_gb_month
    return None if price is None else Decimal(stored.all_bytes) / GB * price


def _cost_of_all(policy: Policy, target: str, ends: Sequence[MonthEnd]) -> Decimal | None:
    """Each month is paid for as it is at its end."""
    costs = [_cost(policy, target, end.targets[target]) for end in ends]
    return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal())


def _draw(file: Path, title: str, done: Sequence[Simulated]) -> None:
    from lifeboat.cli.retention_chart import svg

    ends = _together(done)
    lines = {name: [end.targets[name].all_bytes for end in ends] for name in ends[0].targets}
    half = file.with_name(f".{file.name}.part")
    try:
        half.write_text(svg(title, [end.month for end in ends], lines), encoding="utf-8")
        half.replace(file)
    except OSError as error:
        raise StreamError(f"No picture can be written to {file}: {error.strerror}.", "Name another file.") from error
    finally:
        half.unlink(missing_ok=True)


def _show(policy: Policy, one: Simulated) -> None:
    title = f"{policy.system} {one.source}"
    show_table(
        f"{title}: sizes",
        ("kind", "size", ""),
        [(f"{kind}, a day" if kind in A_DAY else kind, size(how.stored_size), how.known_from)
         for kind, how in one.sizes.items()],
        right=(1,),
    )  # fmt: skip
    _show_ends(policy, title, one.simulation.ends)
    for stop in one.simulation.stops:
        warn(
            f"{title}: the cleanup would stop by itself. First on {stop.first.astimezone(policy.zone):%Y-%m-%d}: "
            f"{stop.going} of {stop.there} recovery points of tier {stop.tier} would go from {stop.target} at once, "
            f"more than `retention.most_deleted` and `retention.few_deleted` let go; {stop.times} times in all. "
            "The figures are as if somebody had let it go on each time."
        )


def _show_ends(policy: Policy, title: str, ends: Sequence[MonthEnd]) -> None:
    for target in ends[0].targets:
        _show_target(policy, f"{title} on {target}", target, ends)
    for target in ends[0].targets:
        _show_bars(f"{title} on {target}: █ kept, ▒ hidden", target, ends)
    for target in ends[0].targets:
        total = _cost_of_all(policy, target, ends)
        if total is not None:
            say(f"{title} on {target}: {total:,.2f} in {len(ends)} months.", "bold")


def _show_target(policy: Policy, title: str, target: str, ends: Sequence[MonthEnd]) -> None:
    tiers = list(ends[0].targets[target].tiers)
    columns = ("month", *(f"{tier} days" if tier in A_DAY else tier for tier in tiers),
               "besides", "hidden", "size kept", "size hidden", "cost")  # fmt: skip
    show_table(title, columns, [_row(policy, target, end) for end in ends], right=range(1, len(columns)))


def _row(policy: Policy, target: str, end: MonthEnd) -> tuple[str, ...]:
    stored = end.targets[target]
    cost = _cost(policy, target, stored)
    return (
        f"{end.month:%Y-%m}",
        *(str(count) for count in stored.tiers.values()),
        str(stored.besides),
        str(stored.hidden),
        size(stored.kept_bytes),
        size(stored.hidden_bytes),
        "" if cost is None else f"{cost:,.2f}",
    )


def _show_bars(title: str, target: str, ends: Sequence[MonthEnd]) -> None:
    from lifeboat.cli.retention_chart import bar as drawn

    columns = min(_BAR_COLUMNS, max(10, out().width - 26))
    most = max(end.targets[target].all_bytes for end in ends)
    show_table(
        title,
        ("month", "", "size"),
        [
            (
                f"{end.month:%Y-%m}",
                drawn(end.targets[target].kept_bytes, end.targets[target].hidden_bytes, most, columns),
                size(end.targets[target].all_bytes),
            )
            for end in ends
        ],
        right=(2,),
    )


def _explain(policy: Policy, now: datetime, plot: Path | None) -> None:
    from lifeboat.policy.built import built_targets

    note(
        f"It begins {now.astimezone(policy.zone):%Y-%m-%d} with empty targets; every run is in time, and every copy is "
        "verified. Each tier counts what is inside its retention; besides: what another rule keeps. Hidden: deleted, "
        "and not removed yet; it takes its room still."
    )
    without = [name for name in built_targets(policy) if policy.targets[name].price_per_gb_month is None]
    if without:
        keys = ", ".join(f"`targets.{name}.price_per_gb_month`" for name in without)
        note(f"The cost is not known without a price: {keys} in the policy gives it (a GB is 10^9 bytes).")
    if len(without) < len(built_targets(policy)):
        note("A month costs what is stored at its end; sums are of these. The currency is that of your prices.")
    if plot is not None:
        note(f"Drawn into {plot}.")
    note("Nothing was changed.")


def _document(policy: Policy, done: Sequence[Simulated], now: datetime, growth: float) -> dict[str, Any]:
    ends = done[0].simulation.ends
    return {
        "system": policy.system,
        "from": iso(now),
        "until": iso(ends[-1].at),
        "growth_percent": growth,
        "sources": [_source(policy, one) for one in done],
        "cost": {target: _plain(_cost_of_all(policy, target, _together(done))) for target in ends[0].targets},
    }


def _source(policy: Policy, one: Simulated) -> dict[str, Any]:
    return {
        "source": one.source,
        "sizes": {kind: {"bytes": how.stored_size, "known_from": how.known_from} for kind, how in one.sizes.items()},
        "months": [
            {
                "month": f"{end.month:%Y-%m}",
                "at": iso(end.at),
                "targets": {
                    target: {
                        "tiers": dict(stored.tiers),
                        "besides": stored.besides,
                        "kept": stored.kept,
                        "hidden": stored.hidden,
                        "kept_bytes": stored.kept_bytes,
                        "hidden_bytes": stored.hidden_bytes,
                        "cost": _plain(_cost(policy, target, stored)),
                    }
                    for target, stored in end.targets.items()
                },
            }
            for end in one.simulation.ends
        ],
        "stops": [
            {
                "target": stop.target,
                "tier": stop.tier,
                "first": iso(stop.first),
                "going": stop.going,
                "there": stop.there,
                "times": stop.times,
            }
            for stop in one.simulation.stops
        ],
    }


def _plain(cost: Decimal | None) -> str | None:
    """Money is no floating-point number: programs get the digits."""
    return None if cost is None else f"{cost:f}"
