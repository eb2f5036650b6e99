"""A configuration on a machine, a system that protects it, and what a person does with both."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lifeboat.backup.steps import Point, back_up, copy_to, verify
from lifeboat.configuration.details import ConfigurationDetails, configuration_details
from lifeboat.configuration.restoring import RestoredItems, restore_items
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.source import BackedUp
from sandbox.s3_servers import MotoServer
from tests.configuration.vault_stand_in import VaultStandIn
from tests.repository.conftest import demo_system, make_world, moto, own_rclone, rclone
from tests.repository.world import World

__all__ = ["demo_system", "make_world", "moto", "own_rclone", "rclone"]

SETTINGS = "settings"
CANARY = "canary-5f0c1d7e9a"
"""In every value: where it is found, a value is."""


@dataclass
class Configuration:
    """A folder of files, the system that protects it as its source ``settings``, and a place for what comes back."""

    world: World
    etc: Path
    back: Path
    environment: dict[str, str] = field(default_factory=dict)

    def protects(self, what: str) -> None:
        """Say in the policy what belongs to the source."""
        begin, end = "  settings:\n    kind: configuration\n    queue: here\n", "    tiers:\n      change:"
        text = self.world.policy.read_text()
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        said = textwrap.indent(textwrap.dedent(what).strip(), "    ")
        self.world.policy.write_text(f"{head}{begin}{said}\n{end}{tail}")

    def write(self, path: str, content: str | bytes = CANARY, mode: int = 0o640) -> Path:
        file = self.etc / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)
        return file

    def name(self, path: str = "", kind: str = "files") -> str:
        """What a file's item is called."""
        return f"{kind}{self.etc}/{path}".rstrip("/")

    def take(
        self,
        tier: Tier = Tier.DAILY,
        repository: SystemRepository | None = None,
        work: Work | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> BackedUp:
        """A backup by a tier; the clock moves on by a quarter of an hour."""
        repository = repository or self.world.repository()
        run = Run(command="a test")
        work = work or Work.new("full", begun=self.world.clock(), tiers=(tier,), run=run, actor="a test")
        journal = repository.journal("primary", run="test", actor="a test")
        done = back_up(repository, SETTINGS, tier, work, journal, progress=lambda _done, _total: None, tick=tick)
        self.world.clock.advance(minutes=15)
        return done

    def store(self, tier: Tier = Tier.DAILY) -> Copy:
        """The recovery point of a backup that must be as it should."""
        done = self.take(tier)
        assert done.alarm == ""
        (copy,) = done.copies
        return copy

    def verify(self, copy: Copy, *, target: str = "primary") -> None:
        """Deep."""
        repository = self.world.repository()
        journal = repository.journal(target, run="test", actor="a test")
        verify(
            repository, SETTINGS, target, [Point.of(copy)], journal, deep=True, passed=lambda _: None, tick=lambda: None
        )

    def copy(self, copy: Copy, target: str = "offsite") -> list[Copy]:
        repository = self.world.repository()
        journal = repository.journal(target, run="test", actor="a test")
        return copy_to(
            repository, SETTINGS, Tier.DAILY, target, [Point.of(copy)], journal,
            passed=lambda _: None, tick=lambda: None,
        )  # fmt: skip

    def restore(self, copy: Copy, *only: str, name: str = "back") -> RestoredItems:
        """Into a new directory below ``back``."""
        return restore_items(self.world.repository(), copy, self.back / name, only=only)

    def shown(self, target: str = "primary") -> list[str]:
        listing = self.world.repository().catalogue(target).recovery_points(SETTINGS)
        assert listing.unreadable == ()
        return [copy.manifest.recovery_point for copy in listing.copies]

    def events(self, kind: str) -> list[dict[str, object]]:
        """The details of the journal's events of a kind."""
        from lifeboat.repository.journal import Event, read_journal

        repository = self.world.repository()
        found = read_journal(repository.target("primary"), "demo", repository.trusted)
        return [dict(one.details) for one in found if isinstance(one, Event) and one.kind == kind]


def details(copy: Copy) -> ConfigurationDetails:
    return configuration_details(copy.manifest)


@pytest.fixture
def settings(make_world: Callable[[], World], tmp_path: Path) -> Configuration:
    """A folder that is empty, and targets that are directories."""
    etc, back = tmp_path / "etc", tmp_path / "restored"
    etc.mkdir()
    back.mkdir()
    source = f"""
sources:
  settings:
    kind: configuration
    queue: here
    files: ["{etc}"]
    tiers:
      change: {{schedule: "*/15 * * * *", retention: 30d}}
      daily: {{schedule: "0 3 * * *", retention: 30d}}
"""
    world = make_world().bent("\nsources:\n", source)
    environment = dict(world.environment)
    return Configuration(replace(world, environment=environment), etc, back, environment)


@pytest.fixture
def vault(settings: Configuration) -> object:
    """A stand-in of Vault, which the connection ``vault`` leads to."""
    with VaultStandIn() as server:
        settings.environment["AIRFLOW_CONN_VAULT"] = f"vault://:{server.token}@127.0.0.1:{server.port}/http"
        yield server


@pytest.fixture
def secrets_manager(settings: Configuration, moto: MotoServer) -> object:
    """A client of a Secrets Manager, which the connection ``aws`` leads to; it is empty in the end."""
    import boto3

    settings.environment["AIRFLOW_CONN_AWS"] = moto.airflow_connection_uri()
    client = boto3.client(
        "secretsmanager", endpoint_url=moto.endpoint, region_name="us-east-1",
        aws_access_key_id="moto", aws_secret_access_key="moto-secret",
    )  # fmt: skip
    yield client
    for secret in client.list_secrets()["SecretList"]:
        client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
