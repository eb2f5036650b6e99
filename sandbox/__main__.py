"""The sandbox's commands: ``python -m sandbox up | down | status | demo | drill | clean``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lifeboat.errors import LifeboatError
from sandbox import demo as story
from sandbox.accounts import clear_outer_room
from sandbox.airflow import USER
from sandbox.services import BUCKET, ROOM, Services, clear, end_recorded, recorded, require_room, sweep
from sandbox.steps import Steps

UP = ROOM / "up"
# A log has no width of its own; the tables need a little more than the 80 columns that are taken for it.
_console = Console(width=None if sys.stdout.isatty() else 100)


def up() -> int:
    """Start everything and leave it running."""
    known = recorded(UP)
    if known and all(entry["alive"] for entry in known) and (UP / "ready").exists():
        _console.print((UP / "ready").read_text(encoding="utf-8"))
        _console.print("It was running already; [bold]make down[/bold] ends it.")
        return 0
    end_recorded(UP)
    clear(UP)
    ROOM.mkdir(exist_ok=True)
    require_room(ROOM, 3_000)
    steps = Steps(_console)
    services = Services(UP, detached=True, writer_rate=2)
    try:
        with steps.step("Start the services") as step:
            services.start(step.doing)
        story.fill_the_erp(services, steps)
        story.wait_for_airflow(services, steps)
    except BaseException:
        end_recorded(UP)
        raise
    said = "\n".join(
        (
            f"Airflow:  {services.airflow.url}  user {USER}, password in {services.airflow.password_file}",
            f"ERP:      127.0.0.1:{services.erp.port}, database erp",
            f"Targets:  {services.primary.endpoint}  {services.offsite.url(BUCKET)}  {services.system.local}",
            f"Slack:    messages in {services.slack.file}",
        )
    )
    (UP / "ready").write_text(said, encoding="utf-8")
    _console.print(escape(said), soft_wrap=True)
    _console.print("[bold]make down[/bold] ends it.")
    return 0


def down() -> int:
    """End what ``up`` started, and remove it."""
    sweep()
    ended = end_recorded(UP)
    clear(UP)
    _console.print(f"Ended: {', '.join(ended)}." if ended else "Nothing was running.")
    return 0


def status() -> int:
    """Show what of ``up`` is running; exit code 1 unless all is."""
    known = recorded(UP)
    table = Table("service", "process", "state")
    for entry in known:
        table.add_row(str(entry["name"]), str(entry["pid"]), "running" if entry["alive"] else "[red]ended[/red]")
    _console.print(table if known else "Nothing was started.")
    if (UP / "ready").exists():
        _console.print(escape((UP / "ready").read_text(encoding="utf-8")), soft_wrap=True)
    return 0 if known and all(entry["alive"] for entry in known) else 1


def demo() -> int:
    """Tell the whole story in the foreground, and leave nothing running whatever happens."""
    return _told(story.STORY)


def drill() -> int:
    """The same with the drill alone, and the backups that it needs."""
    return _told(story.DRILL)


def _told(parts: Sequence[Callable[[Services, Steps], None]]) -> int:
    ROOM.mkdir(exist_ok=True)
    sweep()
    require_room(ROOM, 3_000)
    directory = ROOM / f"demo-{os.getpid()}"
    steps = Steps(_console)
    services = Services(directory)
    try:
        with steps.step("Start the services") as step:
            services.start(step.doing)
        story.run(services, steps, parts)
    except BaseException:
        end_recorded(directory)
        _console.print(f"Logs are in {directory} until the next demo.", soft_wrap=True)
        raise
    services.stop()
    return 0


def clean() -> int:
    """Remove what lies outside the clone, when nothing is running."""
    sweep()
    if any(entry["alive"] for entry in recorded(UP)):
        down()
    if not any(_still_running()):
        clear_outer_room()
    return 0


def _still_running() -> list[bool]:
    names = (directory.name.removeprefix("demo-") for directory in ROOM.glob("demo-*"))
    return [psutil.pid_exists(int(name)) for name in names if name.isdigit()]


def _end_in_order(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Run the command that is named."""
    commands: dict[str, Callable[[], int]] = {c.__name__: c for c in (up, down, status, demo, drill, clean)}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(f"usage: python -m sandbox {' | '.join(commands)}", file=sys.stderr)
        return 2
    # A terminal that closes, or a stop from outside, ends things in the same order as Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_in_order)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started without
    try:
        return commands[sys.argv[1]]()
    except KeyboardInterrupt:
        return 130
    except LifeboatError as error:
        _console.print(f"[red]{escape(error.what)}[/red]\n{escape(error.remedy)}", soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
