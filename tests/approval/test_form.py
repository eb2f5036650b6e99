"""What the fields of a restore's trigger form mean together."""

from __future__ import annotations

from typing import Any

import pytest

from lifeboat.errors import RestoreError
from lifeboat.operators.restore_form import Asked, asked_by, restore_form
from lifeboat.policy.loading import load_policy
from lifeboat.policy.model import Policy
from tests.repository.world import World

ID = "20261127T031500Z-restore-7f3a12bc"
FILES = """
sources:
  uploads:
    kind: files
    url: file:///srv/www
    queue: here
    tiers:
      daily: {schedule: "0 3 * * *", retention: 30d}
"""
WHO = "restore: {approvers: [ann, ben, cleo], scratch: [/srv/restores], hosts: {db1: {connection: db1_ssh}}}\n"


@pytest.fixture
def policy(world: World) -> Policy:
    world.policy.write_text(world.policy.read_text().replace("\nsources:\n", FILES) + WHO)
    return load_policy(world.policy).policy


def asked(policy: Policy, **fields: Any) -> Asked:
    form = {name: param.value for name, param in restore_form(policy).items()}
    return asked_by(form | {"source": "database", "reason": "lost"} | fields, policy, ID)


def test_a_scratch_place_is_made_below_the_policy_s(policy: Policy) -> None:
    one = asked(policy, time=" 2026-11-26 14:05 ")
    assert (one.destination, one.host) == ("scratch", "")
    assert one.options.into == f"/srv/restores/demo-database-{ID}"
    assert one.options.at == "2026-11-26 14:05"


def test_a_connection_takes_databases_and_a_directory_a_path(policy: Policy) -> None:
    server = asked(
        policy, destination="connection", place="staging", database="erp", new_name="erp_back", only=["public.invoices"]
    )
    assert (server.options.connection, server.options.into) == ("staging", None)
    assert (server.options.databases, server.options.new_name) == (("erp",), "erp_back")
    assert server.options.only == ("public.invoices",)
    directory = asked(policy, destination="worker_directory", place="/srv/data", target="offsite", lsn="0/3000028")
    assert (directory.options.into, directory.options.connection) == ("/srv/data", None)
    assert directory.options.words() == ["--into=/srv/data", "--lsn=0/3000028", "--target=offsite"]


def test_a_host_is_one_of_the_policy_s_and_has_a_place(policy: Policy) -> None:
    one = asked(policy, destination="ssh_host", host="db1", place="/var/lib/postgresql/18/main")
    assert (one.host, one.options.into) == ("db1", "/var/lib/postgresql/18/main")
    assert restore_form(policy)["host"].schema["enum"] == [None, "db1"]


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"destination": "worker_directory", "place": "/srv/data"}, "--replace-directory"),
        ({"destination": "connection", "place": "staging"}, "--replace-database"),
        ({"destination": "worker_directory", "place": "/srv/www", "source": "uploads"}, "--replace-files"),
    ],
)
def test_nothing_gives_way_unless_the_form_says_so(policy: Policy, fields: dict[str, Any], flag: str) -> None:
    plain, replacing = asked(policy, **fields), asked(policy, **fields, replace=True)
    assert [word for word in plain.options.words() if word.startswith("--replace")] == []
    assert [word for word in replacing.options.words() if word.startswith("--replace")] == [flag]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"place": "/srv/data"}, "takes no place"),
        ({"destination": "worker_directory"}, "needs a place"),
        ({"destination": "connection"}, "needs a place"),
        ({"destination": "ssh_host", "place": "/srv/data"}, "needs a host"),
        ({"destination": "worker_directory", "place": "/srv/data", "host": "db1"}, "takes no host"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(policy: Policy, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RestoreError, match=words):
        asked(policy, **fields)


def test_every_option_of_a_restore_is_typed_as_the_command_line_knows_it() -> None:
    import typer

    from lifeboat.cli.program import app
    from lifeboat.recovery.approval import options

    verb = typer.main.get_command(app).commands["restore"]  # type: ignore[attr-defined]
    known = {flag for parameter in verb.params for flag in parameter.opts}
    assert set(options._FLAGS.values()) <= known
    assert set(options._FLAGS) | {"owners"} == set(options.RestoreOptions.model_fields)
