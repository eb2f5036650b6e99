"""A worker that runs a restore on another host, and is killed in the middle of it.

Usage: ``python remote_worker.py CONNECTION_FILE WORD…``; what is heard goes to standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lifeboat.outside import Connection
from lifeboat.recovery.remote_host import remote_host, run_remote


def main() -> None:
    """Run it to its end."""
    file, *words = sys.argv[1:]
    host = remote_host(Connection(**json.loads(Path(file).read_text(encoding="utf-8"))))
    run_remote(host, words, heard=lambda stream, line: print(stream, line, flush=True))


if __name__ == "__main__":
    main()
