"""A worker of the first attempt: stores half of an object and waits for a line before it goes on to its commit."""

import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from lifeboat.errors import LifeboatError
from lifeboat.repository.commit import commit
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import StreamWriter
from tests.conftest import Clock
from tests.repository.world import SOURCE, World


def main(policy: str, mark: str) -> int:
    world = World(Path(policy), Clock(datetime(2026, 11, 22, 2, tzinfo=UTC)), {}, os.environ)
    repository = world.repository()
    work = world.work(mark=mark)
    to = repository.destination(repository.target("primary"), SOURCE, work)
    writer = StreamWriter("base.tar", to, StreamSettings(waiting=1024 * 1024))
    for _ in range(16):
        writer.write(random.Random(1).randbytes(1024 * 1024))
    print("in the middle", flush=True)
    sys.stdin.readline()
    stored = writer.finish()
    try:
        commit(repository.target("primary"), world.manifest(repository, work, (stored,)), repository.signer)
    except LifeboatError as error:
        print(type(error).__name__)
        return 1
    return 0


sys.exit(main(*sys.argv[1:]))
