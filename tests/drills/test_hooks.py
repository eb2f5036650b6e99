"""Hooks: commands without a shell and HTTP requests, within their time, heard in few words."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lifeboat.errors import Cancelled, ConnectionUnknown
from lifeboat.outside import Connection, Outside
from lifeboat.policy.hooks import CommandHook, HttpHook
from lifeboat.recovery.hooks import MOST_SAID, call_hook, in_few_words

CANARY = "a-password-nobody-may-see"


def connection(name: str) -> Connection:
    if name == "known":
        return Connection("known", "http", login="erp", password=CANARY)
    if name == "token":
        return Connection("token", "http", password=CANARY)
    raise ConnectionUnknown(f"There is no connection {name}.")


def outside(**environment: str) -> Outside:
    return Outside(connection, lambda *_, **__: None, environment=environment)


def run(
    *command: str, tick: Any = lambda: None, variables: Mapping[str, str] | None = None, **more: Any
) -> tuple[bool, str]:
    hook = CommandHook(kind="command", command=command, **{k: v for k, v in more.items() if k != "env"})
    return call_hook(hook, variables or {}, outside(**more.get("env", {})), tick)


def test_a_command_that_ends_well_says_its_last_words() -> None:
    assert run("echo", "12 invoices") == (True, "echo ended well: 12 invoices")


def test_a_command_that_fails_says_its_code_and_its_last_words() -> None:
    passed, what = run("sh", "-c", "echo begun; echo 'no such table' >&2; exit 3")
    assert not passed
    assert what == "sh ended with code 3: begun | no such table"


def test_no_shell_reads_a_command() -> None:
    assert run("echo", "$HOME; exit 1 | cat")[1] == "echo ended well: $HOME; exit 1 | cat"


def test_a_command_gets_what_it_is_told_and_nothing_of_the_worker_but_what_the_policy_lists() -> None:
    env = {"WANTED": "given", "AIRFLOW_CONN_X": CANARY}
    words = ("sh", "-c", 'echo "$WANTED $PGPORT $AIRFLOW_CONN_X|"')
    hook = CommandHook(kind="command", command=words, environment=("WANTED", "NOWHERE"))
    # What a variable of the worker's holds may be a secret: it is heard by nobody.
    assert call_hook(hook, {"PGPORT": "5432"}, outside(**env), lambda: None) == (True, "sh ended well: … 5432 |")


def test_a_program_that_is_not_there_has_failed_and_is_named() -> None:
    assert run("/nowhere/program") == (False, "/nowhere/program can't be started: No such file or directory")


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    begun = time.monotonic()
    marked = f"100{os.getpid()}"
    passed, what = run("sh", "-c", f"sleep {marked} & sleep {marked}", timeout="1s")
    assert (passed, what) == (False, "it did not end within 1s")
    assert time.monotonic() - begun < 10
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if marked in (p.info["cmdline"] or [])] == []


def test_what_a_command_started_in_a_session_of_its_own_is_ended_as_well() -> None:
    marked = f"101{os.getpid()}"
    # Its parent has ended when the time is over: by then it is nobody's child.
    assert not run("sh", "-c", f"(setsid sleep {marked} &) ; exec sleep {marked}", timeout="1s")[0]
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if marked in (p.info["cmdline"] or [])] == []


def test_what_a_command_that_ended_well_left_in_the_background_is_its_own() -> None:
    marked = f"102{os.getpid()}"
    assert run("sh", "-c", f"setsid sleep {marked} >/dev/null 2>&1 & echo begun") == (True, "sh ended well: begun")
    [left] = [one for one in psutil.process_iter(["cmdline"]) if marked in (one.info["cmdline"] or [])]
    left.kill()


def test_a_command_that_a_signal_ended_has_failed() -> None:
    assert run("sh", "-c", "kill -9 $$") == (False, "sh ended with code 137")


def test_a_command_is_stopped_with_the_drill() -> None:
    ticks = iter(range(3))

    def tick() -> None:
        if next(ticks, None) is None:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        run("sleep", "600", tick=tick)


def test_what_looks_like_a_secret_is_not_repeated() -> None:
    said = (
        "postgres://erp:hunter2@db/erp\npassword=hunter2 token: abc123def\n"
        "key 0123456789abcdef0123456789abcdef0123\nAuthorization: Bearer xyz.abc"
    )
    told = in_few_words(said)
    for secret in ("hunter2", "abc123def", "0123456789abcdef", "xyz.abc"):
        assert secret not in told
    assert in_few_words(f"the word is {CANARY}", [CANARY]) == "the word is …"
    assert in_few_words("-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n") == "…"


@given(st.text(), st.lists(st.text(min_size=4), max_size=3))
def test_words_are_few_in_one_line_and_without_the_secrets(text: str, secrets: list[str]) -> None:
    told = in_few_words(text + "".join(secrets), secrets)
    assert len(told) <= MOST_SAID
    assert "\n" not in told


class Server(BaseHTTPRequestHandler):
    """Answers what its path says, and remembers what it was asked."""

    asked: list[tuple[str, str, str | None, bytes]]

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        type(self).asked.append((self.command, self.path, self.headers.get("Authorization"), self.rfile.read(length)))
        if self.path.startswith("/slow"):
            time.sleep(3)
        status = int(self.path.rpartition("/")[2].partition("?")[0])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, **more: Any) -> tuple[bool, str]:
    return call_hook(HttpHook(kind="http", url=url, **more), {}, outside(), lambda: None)


def test_an_answer_with_the_status_that_is_expected_is_good(address: str) -> None:
    assert ask(f"{address}/200?key=secret") == (True, f"GET {address}/200 answered 200")
    assert ask(f"{address}/204", method="POST", status=204, body='{"name": "erp"}')[0]
    assert Server.asked[-1] == ("POST", "/204", None, b'{"name": "erp"}')


def test_another_status_is_not_and_no_redirect_is_followed(address: str) -> None:
    assert ask(f"{address}/503") == (False, f"GET {address}/503 answered 503, not 200")
    assert not ask(f"{address}/302")[0]
    assert len(Server.asked) == 2


def test_credentials_come_from_a_connection_and_are_told_to_nobody(address: str) -> None:
    passed, what = ask(f"{address}/200", connection="known")
    assert passed
    assert CANARY not in what
    assert ask(f"{address}/200", connection="token")[0]
    basic = base64.b64encode(f"erp:{CANARY}".encode()).decode()
    assert [one[2] for one in Server.asked] == [f"Basic {basic}", f"Bearer {CANARY}"]
    assert ask(f"{address}/200", connection="nobody") == (False, "There is no connection nobody.")


def test_an_answer_that_does_not_come_in_time_is_none(address: str) -> None:
    passed, what = ask(f"{address}/slow/200", timeout="1s")
    assert not passed
    assert "did not end within" in what or "has no answer" in what


def test_an_address_that_nobody_serves_is_said() -> None:
    assert ask("http://127.0.0.1:9/health") == (
        False, "GET http://127.0.0.1:9/health has no answer: ConnectionRefusedError"
    )  # fmt: skip


@pytest.mark.parametrize("url", ["ftp://host/x", "https://user:pass@host/", "host/x", "https:///x"])
def test_an_address_that_is_none_or_holds_a_password_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpHook(kind="http", url=url)


def test_a_command_of_nothing_and_a_variable_of_no_name_are_refused() -> None:
    with pytest.raises(ValidationError):
        CommandHook(kind="command", command=())
    with pytest.raises(ValidationError):
        CommandHook(kind="command", command=("true",), environment=("A-B",))


def test_a_command_begins_in_the_place_it_is_given(tmp_path: Path) -> None:
    hook = CommandHook(kind="command", command=("pwd",))
    assert (
        call_hook(hook, {}, outside(), lambda: None, place=tmp_path)[1]
        == f"pwd ended well: {in_few_words(str(tmp_path))}"
    )
