"""Secrets go back into the stores that they are from, and are compared there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lifeboat.configuration.kind import configuration_of
from lifeboat.configuration.returning import Return, give_back, planned_returns
from lifeboat.errors import RestoreError
from lifeboat.repository.catalogue import Copy
from tests.configuration.conftest import CANARY, SETTINGS, Configuration
from tests.configuration.vault_stand_in import VaultStandIn


def planned(settings: Configuration, copy: Copy, only: Sequence[str] = ()) -> list[Return]:
    repository = settings.world.repository()
    source = configuration_of(repository, SETTINGS)
    return planned_returns(repository, source, copy, only, tick=lambda: None)


def test_secrets_go_back_into_vault_new_ones_and_changed_ones_and_the_same_is_left_alone(
    settings: Configuration, vault: VaultStandIn
) -> None:
    for name in ("lost", "changed", "same", "deleted"):
        vault.put(f"secret/{name}", {"value": f"{CANARY} {name}"}, {"owner": name})
    settings.protects("secrets: [{store: vault, connection: vault, names: [lost, changed, same, deleted]}]")
    copy = settings.store()
    del vault.secrets["secret/lost"]
    vault.put("secret/changed", {"value": "other"}, {"owner": "somebody"})
    vault.put("secret/deleted", None)  # type: ignore[arg-type]
    returns = planned(settings, copy)
    assert {one.name: one.state for one in returns} == {
        "lost": "new", "changed": "differs", "same": "same", "deleted": "new"
    }  # fmt: skip
    for one in returns:
        give_back(one, lambda: None)
    for name in ("lost", "changed", "same", "deleted"):
        assert vault.newest(f"secret/{name}") == {"value": f"{CANARY} {name}"}
        assert vault.secrets[f"secret/{name}"]["custom"] == {"owner": name}
    assert len(vault.secrets["secret/changed"]["versions"]) == 3
    assert len(vault.secrets["secret/same"]["versions"]) == 1
    assert {one.state for one in planned(settings, copy)} == {"same"}


def test_a_secret_that_is_changed_after_the_plan_is_left_alone(settings: Configuration, vault: VaultStandIn) -> None:
    vault.put("secret/a", {"value": "old"})
    settings.protects("secrets: [{store: vault, connection: vault, names: [a]}]")
    copy = settings.store()
    vault.put("secret/a", {"value": "new"})
    (one,) = planned(settings, copy)
    vault.put("secret/a", {"value": "newer"})
    with pytest.raises(RestoreError, match="was the secret changed meanwhile"):
        give_back(one, lambda: None)
    assert vault.newest("secret/a") == {"value": "newer"}


def test_secrets_go_back_into_secrets_manager_with_their_tags_and_descriptions(
    settings: Configuration, secrets_manager: Any
) -> None:
    secrets_manager.create_secret(
        Name="lost", SecretString=CANARY, Description="of old", Tags=[{"Key": "team", "Value": "erp"}]
    )
    secrets_manager.create_secret(Name="changed", SecretBinary=b"\x00\xff", Description="binary")
    settings.protects("secrets: [{store: aws_secrets_manager, connection: aws, names: [lost, changed]}]")
    copy = settings.store()
    secrets_manager.delete_secret(SecretId="lost", ForceDeleteWithoutRecovery=True)
    secrets_manager.put_secret_value(SecretId="changed", SecretString="text now")
    secrets_manager.update_secret(SecretId="changed", Description="another")
    secrets_manager.tag_resource(SecretId="changed", Tags=[{"Key": "new", "Value": "tag"}])
    returns = planned(settings, copy)
    assert {one.name: one.state for one in returns} == {"lost": "new", "changed": "differs"}
    for one in returns:
        give_back(one, lambda: None)
    assert secrets_manager.get_secret_value(SecretId="lost")["SecretString"] == CANARY
    about = secrets_manager.describe_secret(SecretId="lost")
    assert (about["Description"], about["Tags"]) == ("of old", [{"Key": "team", "Value": "erp"}])
    assert secrets_manager.get_secret_value(SecretId="changed")["SecretBinary"] == b"\x00\xff"
    assert secrets_manager.describe_secret(SecretId="changed")["Description"] == "binary"
    assert {one.state for one in planned(settings, copy)} == {"same"}


def test_what_is_no_secret_goes_into_no_store(settings: Configuration) -> None:
    settings.write("a")
    copy = settings.store()
    with pytest.raises(RestoreError, match="is no secret of a store"):
        planned(settings, copy, ["files/**"])
    with pytest.raises(RestoreError, match="Nothing in"):
        planned(settings, copy)
