"""Real servers: what lets us in stands nowhere else, and whom we don't know we don't speak with."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from sandbox.sftp_servers import SftpServer
from tests.code.conftest import CodeSet, Origin, ids
from tests.code.servers import GitDaemon, HttpsGit, https_server, ssh_server
from tests.repository.world import everything


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def https(code: CodeSet) -> Iterator[HttpsGit]:
    with https_server(code.origins, code.origins.parent) as server:
        yield server


def connected(code: CodeSet, **connections: dict[str, Any]) -> None:
    variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(told) for name, told in connections.items()}
    code.world = replace(code.world, environment={**code.world.environment, **variables})


class Watch:
    """Looks at the arguments and the environments of all processes, as anybody on the machine might."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        # As often as the machine has time for besides.
        while not self._over.wait(0.003):
            for file in ("cmdline", "environ"):
                for place in Path("/proc").glob(f"[0-9]*/{file}"):
                    try:
                        words = place.read_bytes()
                    except OSError:
                        continue
                    if b"git" in words:
                        self.seen.add(words)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def is_nowhere(secret: str, code: CodeSet, watch: Watch, told: str, logged: str) -> None:
    assert secret not in told
    assert secret not in logged
    assert any(b"clone" in words for words in watch.seen)
    assert not any(secret.encode() in words for words in watch.seen)
    assert not any(secret.encode() in content for content in everything(code.world).values())
    assert secret not in code.world.policy.read_text()


def test_a_repository_behind_https_is_read_and_mirrored_and_its_password_stands_nowhere(
    code: CodeSet, https: HttpsGit, caplog: pytest.LogCaptureFixture
) -> None:
    code.one.commit()
    mirror = Origin.make(code.origins / "mirrors" / "erp.git")
    caplog.set_level("DEBUG")
    code.protect(
        https.url(code.one.path), connection="forge", mirror=https.url(mirror.path.parent), mirror_connection="forge"
    )
    connected(code, forge=https.connection())
    with Watch() as watch:
        copy = code.snapshot()
    assert mirror.ids() == code.one.ids()
    assert ids(code.restore(copy)["erp"].path) == code.one.ids()
    is_nowhere(https.password, code, watch, repr(copy.manifest), caplog.text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong-Token"}, "Authentication failed"),
        ({"password": None}, "terminal prompts disabled"),
        ({"extra": {}}, "certificate"),
        ({"host": "git.example.com"}, "leads to git.example.com, and a repository's URL to 127.0.0.1"),
        ({"password": "two\nlines"}, "line end"),
    ],
)
def test_what_a_server_behind_https_refuses_is_told_without_the_password(
    code: CodeSet, https: HttpsGit, change: dict[str, Any], words: str
) -> None:
    code.one.commit()
    code.protect(https.url(code.one.path), connection="forge")
    connected(code, forge=https.connection(**change))
    with pytest.raises(Exception) as refused:
        code.take()
    assert words in str(refused.value)
    assert str(change.get("password")) not in str(refused.value)
    if "host" in change:
        assert https.asked == []


def test_a_repository_over_ssh_is_read_and_mirrored_and_its_key_stands_nowhere(
    code: CodeSet, ssh: SftpServer, caplog: pytest.LogCaptureFixture
) -> None:
    code.one.commit()
    mirror = Origin.make(code.origins / "mirrors" / "erp.git")
    base = f"ssh://{ssh.login}@127.0.0.1:{ssh.port}"
    caplog.set_level("DEBUG")
    code.protect(
        base + str(code.one.path), connection="forge", mirror=base + str(mirror.path.parent), mirror_connection="forge"
    )
    connected(code, forge=ssh.document("forge"))
    with Watch() as watch:
        copy = code.snapshot()
    assert mirror.ids() == code.one.ids()
    for line in ssh.private_key_text.splitlines()[1:-1]:
        is_nowhere(line, code, watch, repr(copy.manifest), caplog.text)


def test_a_port_and_an_account_may_stand_in_the_connection(code: CodeSet, ssh: SftpServer) -> None:
    code.one.commit()
    code.protect(f"ssh://127.0.0.1{code.one.path}", connection="forge")
    connected(code, forge=ssh.document("forge"))
    code.snapshot()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"host_key": None}, "nobody is believed at first sight"),
        ({"host_key": "another"}, "Host key verification failed"),
        ({"private_key": None}, "has no key"),
        ({"private_key": "another"}, "Permission denied"),
        ({"private_key": "nonsense"}, "private key that can't be read"),
        ({"private_key": None, "key_file": "/nowhere/key"}, "key_file /nowhere/key that can't be read"),
    ],
)
def test_what_is_not_right_over_ssh_is_told(
    code: CodeSet, ssh: SftpServer, extra: dict[str, str | None], words: str
) -> None:
    another = asyncssh.generate_private_key("ssh-ed25519")
    others = {
        "host_key": another.export_public_key().decode(), "private_key": another.export_private_key().decode()
    }  # fmt: skip
    code.one.commit()
    code.protect(f"ssh://{ssh.login}@127.0.0.1:{ssh.port}{code.one.path}", connection="forge")
    document = ssh.document("forge")
    document["extra"] |= {name: others[name] if value == "another" else value for name, value in extra.items()}
    connected(code, forge=document)
    with pytest.raises(Exception, match=words):
        code.take()


def test_a_git_daemon_is_read_and_written_where_the_policy_trusts_the_net(code: CodeSet) -> None:
    code.one.commit()
    mirror = Origin.make(code.origins / "mirrors" / "erp.git")
    with GitDaemon(code.origins, code.origins.parent / "daemon.log") as daemon:
        code.protect(daemon.url(code.one.path), git_protocol="true", mirror=daemon.url(mirror.path.parent))
        copy = code.snapshot()
        assert mirror.ids() == code.one.ids()
    assert ids(code.restore(copy)["erp"].path) == code.one.ids()
    with pytest.raises(Exception, match="No repository can be read"):
        code.take()
    # A connection that is missing fails nothing where nobody asks for one.
    code.protect(connection="missing")
    code.snapshot()


def test_the_configuration_of_the_machine_changes_nothing(
    code: CodeSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rewritten URL, a hook and a prompt of the worker's account, and whatever its environment says."""
    code.one.commit()
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "reference-transaction").chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "file:///nowhere/"]\n\tinsteadOf = file://\n[core]\n\thooksPath = {hooks}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    copy = code.snapshot()
    monkeypatch.undo()
    assert ids(code.restore(copy)["erp"].path) == code.one.ids()
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "trace").exists()
