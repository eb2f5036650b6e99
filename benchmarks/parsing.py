"""How long Airflow's DAG processor takes for the DAG files, by the number of systems: parsing, and serialising."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.measuring import BenchmarkFailed
from sandbox.accounts import CLONE

SYSTEMS = (25, 50, 100)
DAGS = 10
"""For each system."""

_POLICY = """\
format_version: 1
system: {name}
description: The system {name}, with {sources} databases.
contacts: {{primary: {{name: Night shift, email: night@example.org}}}}
objectives: {{rto: 4h, rpo: 15m}}
targets:
  primary: {{url: s3://backups/{name}, connection: {name}_primary}}
  offsite: {{url: s3://far-backups/{name}, connection: {name}_offsite}}
  local: {{url: file:///backups/{name}, marker: {name}, retention: 7d}}
encryption:
  keys:
    - {{name: worker, kind: local, file: /etc/lifeboat/{name}.key}}
    - {{name: safe, kind: rsa_public, public_key_file: /etc/lifeboat/safe.pub}}
signing:
  key: {{connection: {name}_signing}}
  key_id: {name}
  trusted:
    - id: {name}
      public_key: w3mSWX3PlnZlIBRlVadDh0fuXc6Odn4GHf8pV86lNJw=
      valid_from: 2026-01-01T00:00:00Z
sources:
"""
_SOURCE = """\
  database{number}:
    kind: postgres
    connection: {name}_database{number}
    tiers:
      wal: {{schedule: "*/5 * * * *", retention: 30d, expected_run: 4m, queue: wal}}
      daily: {{schedule: "0 2 * * *", retention: 30d, queue: backup}}
"""
_ALERTS = "alerts: {{channels: {{operations: {{kind: slack, connection: {name}_slack}}}}}}\n"


@dataclass(frozen=True)
class Parsed:
    """One look at all DAG files.

    Attributes:
        systems: how many policies there were.
        dags: how many DAGs they made.
        parsing, serialising: processor seconds, by file.
        versions: what Airflow compares before it makes a new version of a DAG, by its id.
    """

    systems: int
    dags: int
    parsing: dict[str, float]
    serialising: dict[str, float]
    versions: dict[str, str]

    def of(self, file: str) -> float:
        """Seconds for a file in all."""
        return self.parsing[file] + self.serialising[file]


def write_policies(directory: Path, systems: int, dags: int = DAGS) -> None:
    """Policies that make ``dags`` DAGs each: a WAL and a daily one for every source."""
    sources = range(1, dags // 2 + 1)
    for number in range(systems):
        name = f"system{number:03d}"
        text = _POLICY.format(name=name, sources=len(sources))
        text += "".join(_SOURCE.format(name=name, number=source) for source in sources)
        (directory / f"{name}.yaml").write_text(text + _ALERTS.format(name=name), encoding="utf-8")


def measure(counts: Sequence[int] = SYSTEMS) -> list[Parsed]:
    """Parse with each number of systems, and with the last of them once more in another process.

    Raises:
        BenchmarkFailed: a DAG file could not be imported, or a DAG's version moved from one parse to the next.
    """
    with tempfile.TemporaryDirectory() as room:
        found = []
        for count in counts:
            directory = Path(room) / f"policies-{count}"
            directory.mkdir()
            write_policies(directory, count)
            found.append(_parse(Path(room), directory, count, seed="1"))
        again = _parse(Path(room), directory, counts[-1], seed="2")
    moved = sorted(dag for dag, version in found[-1].versions.items() if again.versions.get(dag) != version)
    if moved:
        raise BenchmarkFailed(f"{len(moved)} DAGs got a new version without a change, {moved[0]} among them.")
    return found


def _parse(room: Path, directory: Path, systems: int, *, seed: str) -> Parsed:
    with _processor(room, seed) as (asked, answers):
        asked.write(json.dumps({"policies": str(directory), "only": None}) + "\n")
        asked.flush()
        line = answers.readline()
    if not line:
        raise BenchmarkFailed(f"The process that parses ended: {(room / 'parsing.log').read_text()[-2000:]}")
    told: dict[str, Any] = json.loads(line)
    if told["errors"] or len(told["dags"]) != systems * DAGS:
        raise BenchmarkFailed(f"{len(told['dags'])} DAGs of {systems * DAGS}, import errors: {told['errors']}")
    versions = {name: dag["version"] for name, dag in told["dags"].items()}
    return Parsed(systems, len(versions), told["processor"]["parsing"], told["processor"]["serialising"], versions)


@contextmanager
def _processor(room: Path, seed: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """A process that parses as Airflow's DAG processor does; ``seed`` gives its sets an order of their own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LIFEBOAT"))}
    environment = inherited | {
        "AIRFLOW_HOME": str(room / f"airflow-{seed}"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Airflow gives a file up after 30 seconds by the clock; here it is measured, however busy the machine is.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",
        "AIRFLOW__CORE__DAGS_FOLDER": str(CLONE / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(CLONE / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{room}/airflow-{seed}.db",
        "PYTHONPATH": os.pathsep.join((str(CLONE), str(CLONE / "plugins"))),
        "PYTHONHASHSEED": seed,
    }
    with (room / "parsing.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.dags.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            yield process.stdin, process.stdout
        finally:
            process.kill()
            process.communicate()
