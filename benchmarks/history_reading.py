"""A long history read in a process of its own: its job on standard input, its figures on standard output.

python -m benchmarks.history_reading < job.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.repository.journal import JournalProblem, read_journal
from lifeboat.repository.system import PRIMARY, SystemRepository

SOURCE = "database"


def _events(repository: SystemRepository) -> int:
    """The events one after the other, none of them kept."""
    number = 0
    for one in read_journal(repository.target(PRIMARY), repository.system, repository.trusted):
        if isinstance(one, JournalProblem):
            raise TypeError(f"{one.key}: {one.what}")
        number += 1
    return number


def main() -> None:
    """Read what the job names, its WAL points or its events, and say how many there were and how long it took."""
    job: dict[str, Any] = json.load(sys.stdin)
    repository = SystemRepository(load_policy(Path(job["policy"])), outside_from(job["environment"]))
    repository.target(PRIMARY).list_folders("")  # connected
    began = time.monotonic()
    if job["what"] == "wal":
        listing = repository.catalogue(PRIMARY).wal(SOURCE)
        found = 0 if listing.unreadable else len(listing.copies)
    else:
        found = _events(repository)
    json.dump({"seconds": time.monotonic() - began, "found": found}, sys.stdout)


if __name__ == "__main__":
    main()
