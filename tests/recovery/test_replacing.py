"""A restore in the place of a data directory that is there: renamed aside when all is proven, and back when it fails;
and killed with -9 wherever one may be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lifeboat.cli.program import run
from lifeboat.errors import DestinationInUse, RestoreError
from lifeboat.postgres import directory_swap
from lifeboat.postgres.destination import UNFINISHED, Request
from lifeboat.postgres.directory_swap import RECORD, hand_over, left_behind, number_of, settle
from lifeboat.postgres.moments import Latest
from lifeboat.postgres.old_directory import aside_of, insist_on_no_server
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.restore import Restored, restore
from sandbox.accounts import CLONE, remove, server_directory
from sandbox.accounts import hand_over as give_to_servers
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.recovery.line import Line, commit, ledger, prepare, system_in
from tests.recovery.test_destination import servers_on

ROWS = "SELECT n FROM ledger UNION ALL SELECT n FROM elsewhere"
KILLED = Path(__file__).with_name("killed_restore.py")


@pytest.fixture(scope="module")
def shared(module_path: Path) -> Iterator[Line]:
    """A system with a chain that has a tablespace, and WAL; its server is stopped."""
    place = server_directory(module_path / "place")
    server = PostgresServer(module_path / "server", settings={"fsync": "off", "summarize_wal": "on"})
    with server:
        prepare(server)
        old = server_directory(module_path / "space")
        server.run_sql(f"CREATE TABLESPACE space LOCATION '{old.resolve()}'")
        server.run_sql("CREATE TABLE elsewhere (n int) TABLESPACE space")
        server.run_sql("INSERT INTO elsewhere VALUES (100)")
        line = Line(module_path, place, server, system_in(module_path))
        commit(server, 1)
        line.verify(line.full())
        commit(server, 2)
        line.link()
        commit(server, 3)
        line.wal()
        server.stop()
        yield line
    remove(place)


def replacing(line: Line) -> Request:
    """A restore to where something is that looks like a data directory, and can be told from one that came back."""
    request = line.request()
    old_directory(request.into)
    return replace(request, aside=aside_of(request.into, line.repository.outside.clock()))


def old_directory(place: Path) -> None:
    (place / "global").mkdir(parents=True)
    (place / "PG_VERSION").write_text("18\n")
    (place / "global" / "pg_control").write_text("of the old one")
    give_to_servers(place)


def is_old(place: Path) -> bool:
    return (place / "global" / "pg_control").read_bytes() == b"of the old one"


def beside(request: Request) -> set[str]:
    """What lies beside the destination and is neither it nor what gave way to it, nor tablespaces."""
    names = {path.name for path in request.into.parent.iterdir() if path.name.startswith(request.into.name)}
    return {name for name in names if not name.endswith((request.into.name, ".tablespaces")) and ".before-" not in name}


def restored_to(line: Line, request: Request) -> Restored:
    return restore(line.repository, line.plan(Latest()), request)


@pytest.fixture(params=[True, False], ids=["in one step", "in two renames"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As the file system can exchange two names, and as others can't."""
    if not request.param:
        monkeypatch.setattr(directory_swap, "exchange", lambda *_: False)
    return bool(request.param)


def test_without_the_word_the_refusal_names_it(shared: Line) -> None:
    with pytest.raises(DestinationInUse) as caught:
        restored_to(shared, replace(replacing(shared), aside=None))
    assert "--replace-directory" in caught.value.remedy


@pytest.mark.usefixtures("ways")
def test_the_new_one_has_the_name_and_the_old_one_is_whole_beside_it(shared: Line) -> None:
    request = replacing(shared)
    restored = restored_to(shared, request)
    assert restored.aside == request.aside
    assert restored.aside is not None
    assert "swap" in restored.phases
    assert is_old(restored.aside)
    assert not beside(request)
    assert ledger(shared.ask(restored, ROWS)) == [1, 2, 3, 100]


@pytest.mark.usefixtures("ways")
def test_what_fails_after_it_brings_the_old_one_back(shared: Line) -> None:
    request = replacing(shared)
    seen: list[bool] = []

    def confirm(into: Path) -> None:
        seen.append(is_old(into))
        raise RestoreError("The application's check failed.")

    with pytest.raises(RestoreError, match="application's check"):
        restore(shared.repository, shared.plan(Latest()), request, confirm=confirm)
    assert seen == [False]
    assert is_old(request.into)
    assert request.aside is not None
    assert not request.aside.exists()
    assert not beside(request)
    assert not list(Path(f"{request.into}.tablespaces").glob("*/*"))


def test_what_is_no_data_directory_is_never_renamed(shared: Line) -> None:
    request = replacing(shared)
    (request.into / "PG_VERSION").unlink()
    with pytest.raises(DestinationInUse, match="no data directory"):
        restored_to(shared, request)
    assert is_old(request.into)


def test_a_destination_that_is_not_there_yet_is_simply_made(shared: Line) -> None:
    request = replacing(shared)
    remove(request.into)
    restored = restored_to(shared, request)
    assert restored.aside is None
    assert ledger(shared.ask(restored, ROWS)) == [1, 2, 3, 100]


def test_a_server_that_runs_there_is_left_alone_and_one_that_crashed_gives_way(shared: Line) -> None:
    first = restored_to(shared, shared.request())
    request = replace(
        shared.request(), into=first.into, aside=aside_of(first.into, shared.repository.outside.clock()),
        tablespaces={location: shared.place / "other-space" for location in locations(shared)},
    )  # fmt: skip
    with shared.opened(first) as server:
        with pytest.raises(DestinationInUse, match="A server runs in"):
            restored_to(shared, request)
        assert ledger(server.run_sql(ROWS)) == [1, 2, 3, 100]
        server.kill()
        assert (first.into / "postmaster.pid").exists()
        restored = restored_to(shared, request)
    assert restored.aside is not None
    assert (restored.aside / "postmaster.pid").exists()
    assert ledger(shared.ask(restored, ROWS)) == [1, 2, 3, 100]


def locations(line: Line) -> list[str]:
    return [one.location for one in line.offer().bases[0].details.tablespaces if one.location]


def test_a_lock_file_of_a_server_in_a_container_or_of_an_unknown_process_is_believed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    old_directory(data)
    lock = data / "postmaster.pid"
    lock.write_text(f"999999999\n{data}\n")
    insist_on_no_server(data)
    lock.write_text("1\n/var/lib/postgresql/data\n")
    with pytest.raises(DestinationInUse, match="container"):
        insist_on_no_server(data)
    # Renamed since, it is the same.
    data.rename(tmp_path / "aside")
    (tmp_path / "aside" / "postmaster.pid").write_text(f"999999999\n{data}\n")
    insist_on_no_server(tmp_path / "aside", known_as=data)


def test_a_process_that_works_there_is_seen_whatever_the_lock_file_says(tmp_path: Path) -> None:
    """A server's last processes may outlive it."""
    data = tmp_path / "data"
    old_directory(data)
    with subprocess.Popen(["sleep", "60"], cwd=data) as left:
        wait_until(lambda: Path(f"/proc/{left.pid}/comm").read_text() == "sleep\n", within=10, what="it works there")
        with pytest.raises(DestinationInUse, match=f"process {left.pid}"):
            insist_on_no_server(data)
        left.kill()
    insist_on_no_server(data)


@pytest.mark.usefixtures("ways")
def test_a_server_that_is_started_there_meanwhile_keeps_its_directory(
    shared: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replacing(shared)
    exchange, exchanged = directory_swap.exchange, []

    def seen(one: Path, other: Path) -> bool:
        exchanged.append(other)
        return exchange(one, other)

    monkeypatch.setattr(directory_swap, "exchange", seen)
    working: list[subprocess.Popen[bytes]] = []

    def examine(_: OpenServer) -> None:
        working.append(subprocess.Popen(["sleep", "60"], cwd=request.into))

    try:
        with pytest.raises(DestinationInUse, match="A server runs in"):
            restore(shared.repository, shared.plan(Latest()), request, examine=examine)
    finally:
        for one in working:
            one.kill()
            one.wait()
    assert exchanged == []
    assert is_old(request.into)
    assert not beside(request)


@pytest.mark.usefixtures("ways")
def test_one_that_is_started_in_the_moment_of_the_exchange_has_it_back(
    shared: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replacing(shared)
    insist = directory_swap.insist_on_no_server

    def started(data: Path, known_as: Path | None = None) -> None:
        insist(data)
        if known_as is not None:
            raise DestinationInUse("A server was started in it.")

    monkeypatch.setattr(directory_swap, "insist_on_no_server", started)
    with pytest.raises(DestinationInUse, match="was started"):
        restored_to(shared, request)
    assert is_old(request.into)
    assert not beside(request)


def test_the_plan_shows_what_gives_way_and_where_it_will_lie(shared: Line, capfd: pytest.CaptureFixture[str]) -> None:
    request = replacing(shared)
    code = run([*words_for(shared, request), "--plan"])
    said = "".join(capfd.readouterr().out.split())  # a long path may be folded
    assert code == 0
    assert f"isrenamedto{request.into}.before-" in said
    assert is_old(request.into)


def words_for(line: Line, request: Request) -> list[str]:
    return [
        *("--policies", str(line.system.policies), "restore", "demo", "database"),
        *("--into", str(request.into), "--binaries", str(request.binaries), "--replace-directory"),
        *("--break-glass", "a test", "--yes"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "phase",
    ["fetch", "combine", "stage", "replay", "check", "swap", "tablespace placed", "exchanged", "in place"],
)
def test_a_restore_killed_with_9_leaves_nothing_running_and_nothing_half_and_the_same_command_succeeds(
    shared: Line, phase: str, capfd: pytest.CaptureFixture[str]
) -> None:
    request = replacing(shared)
    command = [sys.executable, str(KILLED), phase, *words_for(shared, request)]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": f"{CLONE / 'plugins'}:{CLONE}"}, capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    wait_until(lambda: not servers_on(request.into), within=30, what="every server and program has died")
    came = phase in ("exchanged", "in place")
    assert is_old(request.into) is not came
    if came:
        # It was proven before: it can be used, and is left as it is.
        assert (request.into / "global" / "pg_control").stat().st_size == 8192
    new = number_of(request.into)
    words = words_for(shared, request)
    if came:
        # The one that came back uses the tablespaces' places beside it.
        words += [
            word for location in locations(shared) for word in ("--tablespace", f"{location}={shared.place}/{phase}")
        ]
    capfd.readouterr()
    assert run(words) == 0, capfd.readouterr().err
    aside = sorted(request.into.parent.glob(f"{request.into.name}.before-*"))
    assert [is_old(one) for one in aside].count(True) == 1
    assert [number_of(one) for one in aside].count(new) == 1
    assert not beside(request)
    again = Restored(request.into, None, False, (), {})  # type: ignore[arg-type]
    assert ledger(shared.ask(again, ROWS)) == [1, 2, 3, 100]


class Killed(BaseException):
    """Stands for kill -9: nothing that clears away is let through."""


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("step", range(8))
def test_wherever_it_is_killed_the_old_one_or_the_new_one_is_whole_and_neither_is_lost(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PostgreSQL, before each rename and behind the last."""
    root, into, aside, space = (tmp_path / name for name in (f"data{UNFINISHED}", "data", "data.before-x", "space"))
    old_directory(into)
    for folder in (root / "data" / "global", space):
        folder.mkdir(parents=True)
    (root / "data" / "global" / "pg_control").write_text("new")
    new = number_of(root / "data")
    done = 0

    def counted(does: Callable[..., object]) -> Callable[..., object]:
        def do(*arguments: object) -> object:
            nonlocal done
            if done == step:
                raise Killed
            done += 1
            return does(*arguments)

        return do

    built = root / "PG_18_1"
    built.mkdir()
    placed = {str(space): {"PG_18_1": number_of(built)}}

    def place() -> None:
        built.rename(space / "PG_18_1")

    with monkeypatch.context() as patched:
        patched.setattr(directory_swap, "_take_back", lambda *_: None)
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(directory_swap, "exchange", counted(directory_swap.exchange))
        patched.setattr(directory_swap, "sync", counted(directory_swap.sync))
        with contextlib.suppress(Killed):
            hand_over(root, into, aside, placed, place, lambda _: None)
    settled = settle(root)
    assert settled or step < 1 or not (root / RECORD).exists()
    if number_of(into) == new:
        assert is_old(aside)
        assert (space / "PG_18_1").exists()
        assert not (root / "data").exists()
    else:
        assert is_old(into)
        assert not aside.exists()
        assert not (space / "PG_18_1").exists()
        assert number_of(root / "data") == new
    assert not settle(root)


def test_what_lies_there_and_was_not_written_down_is_never_removed(tmp_path: Path) -> None:
    root, into, aside = tmp_path / f"data{UNFINISHED}", tmp_path / "data", tmp_path / "data.before-x"
    old_directory(into)
    (root / "data").mkdir(parents=True)
    (root / "data" / "PG_VERSION").touch()
    hand_over_until_it_is_written(root, into, aside)
    remove(root / "data")
    old_directory(root / "data")
    with pytest.raises(DestinationInUse, match="not what a restore that was cut short has built"):
        settle(root)
    assert is_old(root / "data")


def hand_over_until_it_is_written(root: Path, into: Path, aside: Path) -> None:
    record = directory_swap.HandingOver(str(into), str(aside), number_of(root / "data"), number_of(into))
    record.write(root)


def test_what_somebody_has_put_into_a_tablespaces_place_since_is_not_taken_for_ours(tmp_path: Path) -> None:
    root, into, space = tmp_path / f"data{UNFINISHED}", tmp_path / "data", tmp_path / "space"
    for folder in (root / "data", root / "PG_18_1", space):
        folder.mkdir(parents=True)
    placed = {str(space): {"PG_18_1": number_of(root / "PG_18_1")}}
    directory_swap.HandingOver(str(into), "", number_of(root / "data"), None, placed).write(root)
    (space / "PG_18_1").mkdir()
    assert number_of(space / "PG_18_1") not in left_behind(root)
    assert settle(root)
    assert (space / "PG_18_1").exists()
