"""Start Airflow's processes out of one: what they all import is imported once, while the metadata database is made.

    python -m sandbox.airflow_launcher STATE_DIRECTORY PORT

Each ``airflow`` command alone spends most of its start importing; four of them on two cores take a minute and more.
Here one process imports, forks ``db migrate`` and the components, which import the rest meanwhile and begin to work
when the database is ready. Parsers and tasks are forks of them, and find Lifeboat imported as well: each would spend
a second and more on that, most of what it does.

Logs go to ``STATE_DIRECTORY/<component>.log``, process ids and exit codes to ``STATE_DIRECTORY/components.json``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# What DAG files import, and what tasks import besides when they run.
_PARSED = ("lifeboat.operators.backup", "lifeboat.operators.dag_parts")
_RUN = (
    "airflow.providers.amazon.aws.hooks.base_aws",
    "aws_encryption_sdk",
    "lifeboat.backup.steps",
    "lifeboat.postgres.kind",
)
# What a component imports while it waits for the database.
_COMPONENTS = {
    "api-server": ("airflow.api_fastapi.main",),
    "dag-processor": ("airflow.jobs.dag_processor_job_runner", *_PARSED),
    "scheduler": ("airflow.jobs.scheduler_job_runner", *_PARSED, *_RUN),
}


class _Gate:
    """Closed until the database is ready; a waiting component ends when it never will be."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def open(self) -> None:
        os.write(self._writer, b"+" * len(_COMPONENTS))

    def wait(self) -> None:
        os.close(self._writer)
        if os.read(self._reader, 1) != b"+":
            raise SystemExit(1)


def _run_airflow(*words: str) -> None:
    from airflow.__main__ import main

    sys.argv = ["airflow", *words]
    main()  # type: ignore[no-untyped-call]


def _fork(log: Path, work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        _work_and_exit(log, work)
    return pid


def _work_and_exit(log: Path, work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(written, 1)
        os.dup2(written, 2)
        work()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _record(state: Path, processes: dict[str, int], ended: dict[str, int]) -> None:
    draft = state / "components.json.draft"
    draft.write_text(json.dumps({"processes": processes, "ended": ended}), encoding="utf-8")
    draft.replace(state / "components.json")


def _component(name: str, gate: _Gate, *options: str) -> Callable[[], None]:
    def work() -> None:
        os.environ["AIRFLOW_API_APPS"] = "all"
        for module in _COMPONENTS[name]:
            importlib.import_module(module)
        gate.wait()
        _run_airflow(name, *options)

    return work


def _watch(state: Path, processes: dict[str, int], gate: _Gate) -> None:
    ended: dict[str, int] = {}

    def end(*_: object) -> None:
        for name, pid in processes.items():
            if name not in ended:
                os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    _record(state, processes, ended)
    names = {pid: name for name, pid in processes.items()}
    while len(ended) < len(processes):
        pid, status = os.wait()
        ended[names[pid]] = os.waitstatus_to_exitcode(status)
        _record(state, processes, ended)
        if names[pid] == "migration" and ended["migration"] == 0:
            gate.open()
        elif names[pid] == "migration":
            end()


def main() -> None:
    """Import, fork, and take notice of ends until we are told to end."""
    state, port = Path(sys.argv[1]), sys.argv[2]
    for module in ("airflow.__main__", "airflow.settings", "airflow.cli.commands.db_command", "airflow.utils.db"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    gate = _Gate()
    processes = {"migration": _fork(state / "migration.log", lambda: _run_airflow("db", "migrate"))}
    for name in _COMPONENTS:
        options = ("--host", "127.0.0.1", "--port", port) if name == "api-server" else ()
        processes[name] = _fork(state / f"{name}.log", _component(name, gate, *options))
    _watch(state, processes, gate)


if __name__ == "__main__":
    main()
