"""The way back of a whole chain: a full, three incrementals and WAL, until a server answers; and the same by hand.

By hand is a script as a careful operator would have it at hand: ``openssl | zstd -d | tar x`` of each link,
``pg_combinebackup``, the WAL two segments at a time, and a server that replays it. It does what it can to be fast
(``--link``, one sync at the end, as Lifeboat does) in one of its versions, and has PostgreSQL verify each link in
another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks import running
from benchmarks.fresh_disk import can_be_made, fresh_disk
from benchmarks.measuring import MIB, BenchmarkFailed, Measured, measure, middle_ratio
from benchmarks.report import mark_of, table_of
from benchmarks.rounds import Say, change, write_wal
from benchmarks.running import KEY, Taken
from benchmarks.scene import Scene
from sandbox.accounts import hand_over, remove_server_directory, server_account, server_directory
from sandbox.erp import DATABASE
from sandbox.postgres import SUPERUSER

INCREMENTALS = 3
MOST_OF_BY_HAND = 0.9
SLOT = "bench_chain"
LIMIT_SECONDS = 900
_TO_THE_ANSWER = ("fetch", "combine", "stage", "replay")
_LAST = "bench_last"
"""A table that the last of the WAL makes: who has its row has replayed everything."""
_END_OF_SEGMENT = (
    "SELECT ('0/0'::pg_lsn + (div(pg_wal_lsn_diff(pg_switch_wal(), '0/0'), size) + 1) * size - 1)::text FROM "
    "(SELECT setting::numeric AS size FROM pg_settings WHERE name = 'wal_segment_size') AS segment"
)
_VERIFY = "pg_verifybackup --quiet --exit-on-error"


@dataclass(frozen=True)
class ByHand:
    """One version of the script.

    Attributes:
        combine: options of ``pg_combinebackup``.
        synced: whether the server syncs what it replays, as one does that goes into use at once; else everything is
            synced once it has stopped.
        verified: whether PostgreSQL's own program verifies each link, and what was combined, as Lifeboat does.
    """

    title: str
    combine: str
    synced: bool = True
    verified: bool = False


SCRIPTS = {
    "plain": ByHand("by hand: openssl, zstd -d, tar x; pg_combinebackup; start", ""),
    "linked": ByHand("by hand, with --link, synced at its end", "--link --no-sync", synced=False),
    "verified": ByHand("by hand, the same with pg_verifybackup", "--link --no-sync", synced=False, verified=True),
}
"""The first one is what the mark is about."""


@dataclass(frozen=True)
class Back:
    """One way back.

    Attributes:
        answered: seconds until a query was answered by the server that had replayed everything.
        stopped: seconds until that server had been stopped cleanly and its directory was ready for use.
        phases: seconds by phase, up to the answer.
        peak_memory: of all processes at one moment, in bytes; what servers share counts once for each.
        start_up: seconds in which Python started, in neither.
    """

    answered: float
    stopped: float
    phases: dict[str, float]
    peak_memory: int
    start_up: float = 0.0


Rounds = dict[str, list[Back]]


def chain(here: Scene, level: int, wal_level: int, wal_megabytes: int, rounds: int, say: Say) -> Rounds:
    """Take the chain once on both sides, and bring it back in turns."""
    here.server.write_settings(summarize_wal="on")
    here.server.reload()
    room = server_directory(here.directory / "by-hand")
    try:
        _take(here, room, level, wal_level, wal_megabytes, say)
        found = _back_in_turns(here, room, level, rounds, say)
    finally:
        remove_server_directory(here.directory / "by-hand")
    here.server.write_settings(summarize_wal="off")
    here.server.reload()
    return found


def _back_in_turns(here: Scene, room: Path, level: int, rounds: int, say: Say) -> Rounds:
    contestants: dict[str, Callable[[Path], Back]] = {"ours": lambda into: _ours(here, level, into)}
    for name, script in SCRIPTS.items():
        contestants[name] = partial(_by_hand, here, script, room)
    found: Rounds = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        say(f"the chain's way back, round {number + 1} of {rounds}")
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with fresh_disk(room) as disk:
                found[name].append(contestants[name](disk / name))
    return found


def _take(here: Scene, room: Path, level: int, wal_level: int, wal_megabytes: int, say: Say) -> None:
    say("chain: a full, by both")
    here.clear(level)
    point = running.ours(here, "full", level).point
    running.ours(here, "verify", level, point=point)
    running.ours(here, "wal", level)
    _take_link(here, room, 0, level)
    for number in range(1, INCREMENTALS + 1):
        say(f"chain: incremental {number} of {INCREMENTALS}, by both")
        change(here)
        point = running.ours(here, "incremental", level).point
        running.ours(here, "verify", level, point=point)
        if number == INCREMENTALS:
            here.server.run_sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
        _take_link(here, room, number, level)
    say(f"chain: {wal_megabytes:,} MB of WAL, by both")
    write_wal(here, wal_megabytes)
    with here.server.connect(database=DATABASE) as session:
        session.execute(f"CREATE TABLE {_LAST} AS SELECT 1 AS one")
    # Up to the last byte of the segment: of one that it has a part of, `pg_receivewal` makes a `.partial`.
    end = str(here.server.run_sql(_END_OF_SEGMENT)[0][0])
    running.ours(here, "wal", level)
    _take_wal(here, room, end, wal_level)
    here.server.run_sql("SELECT pg_drop_replication_slot(%s)", [SLOT])
    hand_over(room)


def _take_link(here: Scene, room: Path, number: int, level: int) -> None:
    below = f"--incremental=manifest-{number - 1}" if number else ""
    running.shell(
        here,
        f"pg_basebackup --format=tar --wal-method=fetch --checkpoint=fast --pgdata=- {below} | zstd -q -T2 -{level} "
        f"| openssl enc {KEY} > {number}.tar.zst.enc; "
        f"openssl enc -d {KEY} < {number}.tar.zst.enc | zstd -q -d | tar --extract --to-stdout backup_manifest "
        f"> manifest-{number}",
        directory=room,
    )


def _take_wal(here: Scene, room: Path, end: str, level: int) -> None:
    running.shell(
        here,
        f"mkdir segments; cd segments; pg_receivewal --slot={SLOT} --endpos={end} --no-loop --directory=.; "
        f"printf '%s\\n' * | xargs -P2 -I@ /bin/bash -euo pipefail -c "
        f"'zstd -q -{level} < @ | openssl enc {KEY} > @.zst.enc; rm @'",
        directory=room,
    )


def _ours(here: Scene, level: int, into: Path) -> Back:
    here.settle()
    taken = running.ours(here, "restore", level, into=str(into), binaries=str(here.server.binaries))
    if not (into / "PG_VERSION").exists():
        raise BenchmarkFailed("our way back made no data directory")
    return _back_of(taken)


def _back_of(taken: Taken) -> Back:
    every = taken.phases or {}
    phases = {name: every[name] for name in ("plan", *_TO_THE_ANSWER)}
    return Back(sum(phases.values()), taken.seconds, phases, taken.peak_memory, taken.start_up)


def _by_hand(here: Scene, script: ByHand, room: Path, into: Path) -> Back:
    into.mkdir(mode=0o700)
    hand_over(into)
    here.settle()
    account = server_account()
    # PostgreSQL does not run as root, and so the operator has become the server's account.
    become = (
        []
        if account is None
        else ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]
    )
    measured = measure(
        [*become, "/bin/bash", "-euo", "pipefail", "-c", _script(script)],
        environment=here.environment(SUPERUSER) | {"PGHOST": str(into), "PGDATABASE": DATABASE, "ROOM": str(room)},
        directory=into,
    )
    return _told(measured)


def _script(script: ByHand) -> str:
    """The whole way back; it prints the moment at the end of each phase."""
    links = " ".join(f"link-{number}" for number in range(INCREMENTALS + 1))
    verify_link = f"{_VERIFY} link-$number" if script.verified else ""
    verify_all = f"{_VERIFY} data" if script.verified else ""
    fsync, sync = ("on", "") if script.synced else ("off", "sync --file-system data")
    # The lost server's own settings make it fast and unsafe; what Lifeboat's server has, this one has.
    settings = (
        f"-c listen_addresses= -c unix_socket_directories=$PWD -c fsync={fsync} -c archive_mode=off -c autovacuum=off "
        "-c hba_file=$PWD/hba.conf "
        "-c max_wal_size=1GB -c shared_buffers=128MB -c summarize_wal=off -c recovery_target_timeline=latest "
        "-c restore_command='cp wal/%f %p'"
    ).replace("cp wal", "cp $PWD/wal")
    return f"""
told() {{ echo "$1 $EPOCHREALTIME"; }}
told begun
for number in {" ".join(str(number) for number in range(INCREMENTALS + 1))}; do
    mkdir -m 700 link-$number
    openssl enc -d {KEY} < "$ROOM/$number.tar.zst.enc" | zstd -q -d | tar --extract --directory=link-$number
    {verify_link}
done
told fetch
pg_combinebackup {script.combine} --output=data {links}
{verify_all}
rm -r {links}
told combine
mkdir wal
(cd "$ROOM/segments"; printf '%s\\n' *) | sed 's/.zst.enc$//' | xargs -P2 -I@ /bin/bash -euo pipefail -c \\
    'openssl enc -d {KEY} < "$ROOM/segments/@.zst.enc" | zstd -q -d > wal/@'
told stage
touch data/recovery.signal
echo 'local all all trust' > hba.conf
postgres -D data {settings.replace("'cp $PWD/wal/%f %p'", '"cp $PWD/wal/%f %p"')} > server.log 2>&1 &
ask() {{ psql --no-psqlrc --tuples-only --no-align --command "$1" 2>> ask.log; }}
until [ "$(ask 'SELECT NOT pg_is_in_recovery()' || true)" = t ]; do
    kill -0 $! && [ $SECONDS -lt {LIMIT_SECONDS} ] || {{ tail -5 server.log >&2; exit 1; }}
    sleep 0.1
done
told replay
[ "$(ask 'SELECT one FROM {_LAST}')" = 1 ] || {{ echo 'not all of the WAL was replayed' >&2; exit 1; }}
kill -INT $!
wait $!
{sync}
told stopped
"""


def _told(measured: Measured) -> Back:
    moments = [line.split() for line in measured.output.splitlines()]
    at = {name: float(moment) for name, moment in moments}
    names = ("begun", *_TO_THE_ANSWER)
    phases = {after: at[after] - at[before] for before, after in pairwise(names)}
    return Back(sum(phases.values()), at["stopped"] - at["begun"], phases, measured.peak_memory)


def show(console: Console, found: Rounds, wal_megabytes: int, plain: int) -> None:
    """Both ways back as a table, with the ratios of rounds."""
    table = table_of(
        f"The way back of {plain / 1e6:,.0f} MB: a full, {INCREMENTALS} incrementals, {wal_megabytes:,} MB of WAL",
        *("", "query answered", "ours ÷ it", "mark", "stopped cleanly", "ours ÷ it", "peak memory"),
    )
    titles = {"ours": "Lifeboat, every link verified"} | {name: script.title for name, script in SCRIPTS.items()}
    ours = found["ours"]
    first = next(iter(SCRIPTS))
    for name, rounds in found.items():
        answered, stopped = (
            middle_ratio([_get(one, what) for one in ours], [_get(one, what) for one in rounds])
            for what in ("answered", "stopped")
        )
        table.add_row(
            titles[name],
            f"{median(one.answered for one in rounds):.2f} s",
            "" if name == "ours" else f"{answered:.2f}x",
            mark_of(answered, MOST_OF_BY_HAND) if name == first else "",
            f"{median(one.stopped for one in rounds):.2f} s",
            "" if name == "ours" else f"{stopped:.2f}x",
            f"{max(one.peak_memory for one in rounds) / MIB:,.0f} MiB",
        )
    console.print(table)
    for name, rounds in found.items():
        console.print(f"{titles[name]}: {_phases(rounds)}", highlight=False)
    whole = [one.answered + one.start_up for one in ours]
    where = "Each on an empty file system." if can_be_made() else "All on one disk, with what was removed before."
    console.print(
        f"{where} Not in the time: {median(one.start_up for one in ours):.1f} s in which Python starts and imports; "
        f"with them the ratio is {middle_ratio(whole, [one.answered for one in found[first]]):.2f}.\n"
    )


def _get(back: Back, what: str) -> float:
    return back.answered if what == "answered" else back.stopped


def _phases(rounds: Sequence[Back]) -> str:
    names = rounds[0].phases
    return ", ".join(f"{name} {median(one.phases[name] for one in rounds):.2f} s" for name in names)
