"""Lifeboat's command line on a database's own host, where a physical restore must end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lifeboat.errors import PolicyError
from lifeboat.policy.built import built_targets

if TYPE_CHECKING:
    from lifeboat.repository.system import SystemRepository


def on_host(
    repository: SystemRepository,
    name: str,
    words: Sequence[str],
    *,
    tell: Callable[[str], None],
    tick: Callable[[], None],
) -> tuple[int, str]:
    """Run it there; returns its exit code and what it printed.

    Raises:
        PolicyError: the policy knows no such host.
        RestoreError: it has another version or another policy than we, or was lost; nothing runs on there.
        TargetUnavailable: it can't be reached, or is not the right one.
        Cancelled: we were told to stop; it has ended there.
    """
    from lifeboat.recovery.remote_host import RemoteFailed, Stream, check_remote, remote_host, run_remote

    hosts = repository.policy.restore.hosts
    if name not in hosts:
        raise PolicyError(f"The policy of {repository.system} has no host {name!r}.", "Name it under `restore.hosts`.")
    host = remote_host(repository.outside.connection(hosts[name].connection))
    needed = {target.connection for target in built_targets(repository.policy).values() if target.connection}
    check_remote(host, repository.loaded, needs=needed, tick=tick)
    printed: list[str] = []

    def heard(stream: Stream, line: str) -> None:
        if stream == "out":
            printed.append(line)
        else:
            tell(line)

    try:
        run_remote(host, words, heard=heard, tick=tick)
    except RemoteFailed as error:
        return error.code, "\n".join(printed)
    return 0, "\n".join(printed)
