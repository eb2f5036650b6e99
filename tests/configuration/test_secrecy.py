"""No value is anywhere but in the encrypted objects: a canary is in each of them, and is looked for everywhere."""

from __future__ import annotations

import logging
import re
import traceback
from pathlib import Path
from typing import Any

import pytest

from lifeboat.cli.program import run
from lifeboat.configuration.items import About, Item
from lifeboat.errors import LifeboatError
from lifeboat.policy.naming import Tier
from tests.configuration.conftest import CANARY, Configuration
from tests.configuration.vault_stand_in import VaultStandIn


def full_of_canaries(settings: Configuration, vault: VaultStandIn, secrets_manager: Any) -> None:
    settings.write("erp.conf")
    settings.environment |= {
        "ERP_PASSWORD": CANARY,
        "AIRFLOW_CONN_ERP": f"postgres://erp:{CANARY}@db/erp?token={CANARY}",
        "AIRFLOW_VAR_ERP": CANARY,
    }
    vault.put("secret/erp", {"key": CANARY}, {"note": CANARY})
    secrets_manager.create_secret(Name="erp", SecretString=CANARY, Description=CANARY)
    settings.protects(f"""
        files: ["{settings.etc}"]
        environment: ["ERP_*"]
        airflow_connections: [erp]
        airflow_variables: [erp]
        secrets:
          - {{store: vault, connection: vault, names: [erp]}}
          - {{store: aws_secrets_manager, connection: aws, names: [erp]}}
    """)


def nowhere_in(tree: Path) -> None:
    """In no name and no byte of what is below a directory."""
    files = [path for path in tree.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert CANARY not in str(path)
        assert CANARY.encode() not in path.read_bytes(), path


def test_no_value_is_in_an_object_a_manifest_the_journal_a_log_or_what_a_command_says(
    settings: Configuration,
    vault: VaultStandIn,
    secrets_manager: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full_of_canaries(settings, vault, secrets_manager)
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "400")
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "botocore.parsers", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    caplog.clear()
    said = []

    def say(*words: str) -> int:
        assert not any(CANARY in word for word in words)
        code = run(["--policies", str(settings.world.policy.parent), *words])
        said.extend(capfd.readouterr())
        return code

    assert say("preflight", "demo", "settings") == 0
    assert say("backup", "demo", "settings", "--tier", "daily", "--deep") == 0
    settings.write("erp.conf", f"{CANARY} changed")
    vault.put("secret/erp", {"key": f"{CANARY} changed"})
    assert say("backup", "demo", "settings", "--tier", "change") == 0
    assert say("backup", "demo", "settings", "--tier", "change") == 0
    first, second = settings.shown()
    assert say("list", "demo", "settings", "--diff", first, second) == 0
    assert say("list", "demo", "settings", "--json") == 0
    assert say("verify", "demo", "settings", "--deep") == 0
    assert say("journal", "demo") in (0, 2)
    words = ("restore", "demo", "settings", "--recovery-point", first)
    assert say(*words, "--into-store", "--plan") == 0
    assert say(*words, "--into-store", "--break-glass", "a test", "--yes") == 0
    assert say(*words, "--into", str(settings.back / "x"), "--yes", "--json") == 0
    assert vault.newest("secret/erp") == {"key": CANARY}
    assert "erp.conf" in "".join(said)
    assert CANARY not in "".join(said)
    logged = [record for record in caplog.records if CANARY in record.getMessage() or CANARY in repr(record.args)]
    assert logged == []
    for root in settings.world.roots.values():
        nowhere_in(root)


def test_no_value_is_in_an_error_or_its_trace(
    settings: Configuration, vault: VaultStandIn, secrets_manager: Any
) -> None:
    full_of_canaries(settings, vault, secrets_manager)
    copy = settings.store()
    repository = settings.world.repository()
    for tree in (repository.target("primary").url.removeprefix("file://"),):
        for file in Path(tree).rglob("items.tar.*"):
            content = file.read_bytes()
            file.write_bytes(content[:-40] + bytes(40))
    with pytest.raises(LifeboatError) as caught:
        settings.verify(copy)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    vault.refused.add("secret/erp")
    assert CANARY not in repr(settings.take(Tier.CHANGE))


def test_a_value_is_in_no_repr() -> None:
    assert CANARY not in repr(Item(About("files/a", "file"), CANARY.encode()))


def test_the_policy_that_is_kept_on_a_target_says_names_and_no_values(
    settings: Configuration, vault: VaultStandIn, secrets_manager: Any
) -> None:
    full_of_canaries(settings, vault, secrets_manager)
    settings.store()
    (kept,) = settings.world.roots["primary"].rglob("policies/*")
    assert re.search("names: *.erp", kept.read_text())
