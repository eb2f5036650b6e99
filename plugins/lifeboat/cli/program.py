"""The program: its verbs, the options before them, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lifeboat.cli.attended import attended_verb
from lifeboat.cli.backup import backup_verb
from lifeboat.cli.bundle import bundle_verb
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.copying import copy_verb
from lifeboat.cli.drill import drill_verb
from lifeboat.cli.journal import app as journal_verbs
from lifeboat.cli.keys import app as key_verbs
from lifeboat.cli.kit import app as kit_verbs
from lifeboat.cli.listing import list_verb
from lifeboat.cli.output import fail, note, say, warn
from lifeboat.cli.outside import DEFAULT_POLICIES, Surroundings
from lifeboat.cli.policy import app as policy_verbs
from lifeboat.cli.preflight import preflight_verb
from lifeboat.cli.remains import remains_verb
from lifeboat.cli.report import app as report_verbs
from lifeboat.cli.restore import restore_verb
from lifeboat.cli.restore_test import restore_test_verb
from lifeboat.cli.retention import app as retention_verbs
from lifeboat.cli.target import app as target_verbs
from lifeboat.cli.verify import verify_verb
from lifeboat.errors import Cancelled, LifeboatError

UNEXPECTED = 70
"""EX_SOFTWARE of sysexits.h: a fault of ours."""
LAST_SECONDS = 3.0

app = typer.Typer(
    name="lifeboat",
    help="Back up whole systems by one written policy, and bring them back.",
    no_args_is_help=True,
    add_completion=False,
    # The rich form of help costs more time than all the rest of it.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(policy_verbs, name="policy")
app.command("preflight")(preflight_verb)
app.command("backup")(backup_verb)
app.command("list")(list_verb)
app.command("verify")(verify_verb)
app.command("copy")(copy_verb)
app.command("restore")(restore_verb)
app.command("attended")(attended_verb)
app.command("test")(restore_test_verb)
app.command("drill")(drill_verb)
app.command("bundle")(bundle_verb)
app.command("remains")(remains_verb)
app.add_typer(retention_verbs, name="retention")
app.add_typer(journal_verbs, name="journal")
app.add_typer(key_verbs, name="key")
app.add_typer(target_verbs, name="target")
app.add_typer(kit_verbs, name="kit")
app.add_typer(report_verbs, name="report")


def _tell_version(wanted: bool) -> None:
    if wanted:
        from lifeboat import __version__

        say(f"lifeboat {__version__}")
        raise typer.Exit


@app.callback()
def _before_the_verb(
    ctx: typer.Context,
    policies: Annotated[
        Path, typer.Option(help="The directory of policies.", metavar="DIR", envvar="LIFEBOAT_POLICIES")
    ] = DEFAULT_POLICIES,
    connections: Annotated[
        Path | None,
        typer.Option(
            help="A YAML or JSON file of connections; AIRFLOW_CONN_… variables go before it.",
            metavar="FILE",
            envvar="LIFEBOAT_CONNECTIONS",
        ),
    ] = None,
    break_glass_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="The private half of a break-glass key (PEM), to open backups with. May be repeated.", metavar="FILE"
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=_tell_version)
    ] = False,
    kit: Annotated[
        Path | None,
        typer.Option(
            help="A recovery kit instead of policies and connections; needs --break-glass-key.", metavar="FILE"
        ),
    ] = None,
) -> None:
    ctx.obj = Surroundings(policies, connections, tuple(break_glass_key or ()), kit)


_EVERYWHERE = ("--policies", "--connections", "--break-glass-key", "--kit")


def _sorted(arguments: Sequence[str]) -> list[str]:
    """The options that hold for every verb may stand behind it, too: they are brought to the front."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word in _EVERYWHERE:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith(tuple(f"{name}=" for name in _EVERYWHERE)):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def run(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code: 0 done, 1 failed, 2 not understood, 70 a fault of ours, 130 and
    143 stopped by a signal. Every other outcome has said on standard error what happened."""
    _log_to_stderr()
    with STOP.listening():
        try:
            typer.main.get_command(app)(_sorted(arguments), prog_name="lifeboat")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        except Cancelled as error:
            fail(error)
            return STOP.exit_code
        except LifeboatError as error:
            fail(error)
            return 1
        except Exception as error:
            # Work that was torn from a library's hands fails in the library's own words.
            if STOP.signal is not None:
                return STOP.exit_code
            _tell_fault(error)
            return UNEXPECTED
    return 0


def main() -> None:
    """Run the command that was typed, and end the process."""
    code = run(sys.argv[1:])
    if STOP.signal is None:
        sys.exit(code)
    _let_threads_end()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread that hangs on a silent server would hold the process.
    os._exit(code)


def _let_threads_end() -> None:
    end = time.monotonic() + LAST_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))


def _tell_fault(error: Exception) -> None:
    if os.environ.get("LIFEBOAT_DEBUG"):
        note(traceback.format_exc())
        return
    # Its text may hold what a library was given, passwords too: the kind alone is safe to show.
    note(f"error: Lifeboat failed in a way that it does not know: {type(error).__name__}.", "bold red")
    note("  → Run it again with LIFEBOAT_DEBUG=1 for all that is known, and report that.", "red")


class _Warnings(logging.Handler):
    """What the core logs as a warning or worse, in the command line's own form."""

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        warn(record.getMessage() + (f": {cause}" if isinstance(cause, LifeboatError) else ""))


def _log_to_stderr() -> None:
    ours = logging.getLogger("lifeboat")
    if not any(isinstance(handler, _Warnings) for handler in ours.handlers):
        ours.addHandler(_Warnings(logging.WARNING))
