"""The runbooks' commands as they stand on their pages, against a real system that was backed up and then lost."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lifeboat.kit.papers import PROJECT
from sandbox.accounts import remove_server_directory, server_account, server_directory
from sandbox.demo_belongings import INVOICE, INVOICES, REPOSITORY, SETTINGS
from sandbox.demo_system import make_demo_system
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_role import create_backup_role, let_read_everything
from sandbox.postgres_template import Template
from sandbox.processes import free_port
from sandbox.s3_servers import RcloneS3

PAGES = PROJECT / "docs" / "runbooks"
LIFEBOAT = Path(sys.executable).with_name("lifeboat")
SECRET_KEY = "runbook-secret-key"
DATABASE = "erp"
_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DEFINES = re.compile(r"""^(?:umask .*|\w+\(\) \{.*\}|export \w+="(?s:.*?)'\)")$""", re.MULTILINE)
"""What the rest of a page relies upon: functions, and variables that it makes itself."""


@dataclass(frozen=True)
class Lost:
    """What is left of a system.

    Attributes:
        kit: the recovery kit.
        break_glass: the private key.
        binaries: PostgreSQL's programs on the new machine.
        password: the superuser's, on the lost server.
        moment: just before the mistake, which dropped a table.
        home: where its files were, as the policy names it; nothing is there any more.
    """

    kit: Path
    break_glass: Path
    binaries: Path
    password: str
    moment: str
    home: Path


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[Lost]:
    """A database with a full, an archive and WAL, files, configuration and code, on two S3 stores; then all of it is
    gone but the stores, the kit and the key."""
    room = tmp_path_factory.mktemp("runbooks")
    names = ("primary", "offsite")
    stores = {name: RcloneS3(room / name, room / f"{name}.log", f"{name}-key", SECRET_KEY) for name in names}
    with stores["primary"] as primary, stores["offsite"] as offsite:
        for store in (primary, offsite):
            store.make_bucket("backups")
        server = PostgresServer(room / "server", template=postgres_template(18), settings={"fsync": "off"})
        with server:
            found = _back_up(room, server, primary, offsite)
        _lose(room)
        yield found


def _back_up(room: Path, server: PostgresServer, primary: RcloneS3, offsite: RcloneS3) -> Lost:
    password = create_backup_role(server)
    system = make_demo_system(
        room / "system",
        binaries=server.binaries,
        belongings=True,
        # What lies on the lost machine is lost with it.
        replacing={f"  local:\n    url: file://{room}/system/local\n    marker: demo-local\n": ""},
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")},
        "LIFEBOAT_POLICIES": str(system.policies),
        "AIRFLOW_CONN_DEMO_DATABASE": server.airflow_connection("lifeboat"),
        "AIRFLOW_CONN_DEMO_PRIMARY": primary.airflow_connection_uri(),
        "AIRFLOW_CONN_DEMO_OFFSITE": offsite.airflow_connection_uri(),
    }
    assert password

    def lifeboat(*words: str | Path) -> None:
        ended = subprocess.run([LIFEBOAT, *words], env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{words}: {ended.stderr}"

    server.run_sql(f"CREATE DATABASE {DATABASE}")
    let_read_everything(server)
    with server.connect(database=DATABASE) as session:
        session.execute("CREATE TABLE ledger (n int)")
        session.execute("CREATE TABLE invoices AS SELECT n AS id, n * 1.5 AS total FROM generate_series(1, 100) AS n")
    for source, tier in (
        *(("database", "daily"), ("database", "weekly"), ("files", "daily")),
        *(("configuration", "daily"), ("code", "daily")),
    ):
        lifeboat("backup", "demo", source, "--tier", tier)
    with server.connect(database=DATABASE) as session:
        session.execute("INSERT INTO ledger VALUES (1)")
        session.execute("SELECT pg_sleep(0.01)")
        row = session.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        session.execute("SELECT pg_sleep(0.01)")
        session.execute("DROP TABLE invoices")
        session.execute("INSERT INTO ledger VALUES (2)")
    lifeboat("backup", "demo", "database", "--tier", "wal")
    lifeboat("kit", "export", room / "kit.zip")
    shutil.copyfile(system.break_glass, room / "break-glass.pem")
    (room / "break-glass.pem").chmod(0o600)
    return Lost(
        room / "kit.zip",
        room / "break-glass.pem",
        server.binaries,
        server.passwords[SUPERUSER],
        row[0].isoformat(sep=" "),
        system.home,
    )


def _lose(room: Path) -> None:
    shutil.rmtree(room / "system")
    remove_server_directory(room / "server")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory of the new machine's that PostgreSQL's account reaches."""
    yield server_directory(tmp_path / "new")
    remove_server_directory(tmp_path / "new")


class Desk:
    """Somebody with a page in front of him, who types what stands there and nothing else."""

    def __init__(self, page: str, room: Path, lost: Lost, variables: dict[str, str]) -> None:
        self._text = (PAGES / page).read_text(encoding="utf-8")
        tools = room / "tools"
        tools.mkdir()
        (tools / "lifeboat").symlink_to(LIFEBOAT)
        account = server_account()
        self._server = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
        self._variables = {
            "PATH": os.pathsep.join([str(tools), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(room),
            "LC_ALL": "C.UTF-8",
            "KIT_FILE": str(lost.kit),
            "BREAK_GLASS": str(lost.break_glass),
            "SYSTEM": "demo",
            "REASON": "the machine burnt",
            "PGBIN": str(lost.binaries),
            "ACCOUNT": account.name if account is not None else str(os.getuid()),
            "SUPERUSER": SUPERUSER,
            "PGPASSWORD": lost.password,
            "DATABASE": DATABASE,
            **variables,
        }
        named = set(re.findall(r"`([A-Z][A-Z_]+)`", self._text))
        unnamed = set(variables) - named
        assert not unnamed, f"{page} does not say what {unnamed} is"
        self._before: dict[str, list[str]] = {"": [], "server": []}

    def sections(self) -> dict[str, list[tuple[str, str]]]:
        """The blocks of the page, by the heading that they stand below."""
        found: dict[str, list[tuple[str, str]]] = {}
        for part in re.split(r"^## ", self._text, flags=re.MULTILINE)[1:]:
            blocks = _BLOCK.findall(part)
            assert {language for language, _, _ in blocks} <= {"sh"}
            found[part.partition("\n")[0]] = [(kind, commands) for _, kind, commands in blocks]
        return found

    def do(self, heading: str) -> str:
        """All commands below a heading, each block in turn; returns what they said.

        Shells don't live from one section to the next: what earlier blocks have defined is defined again, as for
        somebody who had to open another window.
        """
        told = ""
        for kind, commands in self.sections()[heading]:
            assert kind in self._before
            told += self._shell(kind, commands)
        return told

    def _shell(self, kind: str, commands: str) -> str:
        definitions = "\n".join(self._before[kind])
        ended = subprocess.run(
            ["/bin/sh", "-eu"],
            input=f"{definitions}\n{commands}",
            env=self._variables,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
            **(self._server if kind == "server" else {}),
        )
        assert ended.returncode == 0, f"{commands}\n{ended.stdout[-6000:]}"
        self._before[kind] += _DEFINES.findall(commands)
        return ended.stdout


def files_below(place: Path) -> int:
    return sum(path.is_file() and not path.is_symlink() for path in place.rglob("*"))


@pytest.mark.timeout(900)
def test_the_databases_page_brings_it_back_to_its_last_moment_to_one_before_a_mistake_and_one_table(
    lost: Lost, place: Path, tmp_path: Path
) -> None:
    port = str(free_port())
    desk = Desk(
        "database.md",
        tmp_path,
        lost,
        {
            "SOURCE": "database",
            "PLACE": str(place),
            "QUESTION": "SELECT (SELECT max(n) FROM ledger), to_regclass('invoices')",
            "MOMENT": lost.moment,
            "HOST": "127.0.0.1",
            "PORT": port,
            "TABLE": "public.invoices",
            "BESIDE": "erp_before",
        },
    )
    titles = list(desk.sections())
    assert "The kit is good" in desk.do(titles[0])
    assert "-logical-" in desk.do(titles[1])
    assert "Restored" in desk.do(titles[2])
    assert "Restored" in desk.do(titles[3])
    told = desk.do(titles[4])
    assert re.findall(r"^\d\|.*$", told, re.MULTILINE) == ["2|", "1|invoices"]
    try:
        assert "accepting connections" in desk.do(titles[5])
        assert "100" in desk.do(titles[6]).splitlines()
        assert "100" in desk.do(titles[7]).splitlines()
        assert not desk.sections()[titles[8]]
        assert len(titles) == 9
    finally:
        stop(lost, place / "latest")


def stop(lost: Lost, data: Path) -> None:
    account = server_account()
    who = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    command = [lost.binaries / "pg_ctl", "--pgdata", data, "--mode", "immediate", "stop"]
    subprocess.run(command, cwd="/", check=False, capture_output=True, **who)


@pytest.mark.timeout(600)
def test_the_files_page_brings_all_of_them_a_part_and_one_directory_in_use_back(lost: Lost, tmp_path: Path) -> None:
    back, used = tmp_path / "back", tmp_path / "used"
    (used / INVOICE).parent.mkdir(parents=True)
    (used / INVOICE).write_text("ruined")
    (used / "of today").write_text("stays")
    desk = Desk(
        "files.md",
        tmp_path,
        lost,
        {
            "SOURCE": "files",
            "BACK": str(back),
            "PART": "invoices/03/**",
            "ONE": INVOICE,
            "IN_USE": str(used),
        },
    )
    titles = list(desk.sections())
    assert "The kit is good" in desk.do(titles[0])
    assert Path(INVOICE).name in desk.do(titles[1])
    told = desk.do(titles[2])
    assert str(INVOICES + 2) in told.split()
    assert files_below(back / "all") == INVOICES + 2
    desk.do(titles[3])
    assert {path.parent.name for path in (back / "part").rglob("*.pdf")} == {"03"}
    desk.do(titles[4])
    assert (used / INVOICE).read_bytes() == (back / "all" / INVOICE).read_bytes()
    assert (used / "of today").read_text() == "stays"
    assert not desk.sections()[titles[5]]
    assert len(titles) == 6


@pytest.mark.timeout(900)
def test_the_full_systems_page_brings_everything_back_on_a_new_machine_in_eight_steps(
    lost: Lost, place: Path, tmp_path: Path
) -> None:
    root, port = tmp_path / "root", str(free_port())
    etc = root / str(lost.home / SETTINGS).lstrip("/")
    desk = Desk(
        "full-system.md",
        tmp_path,
        lost,
        {
            "NEW": str(place),
            "REPOSITORY": REPOSITORY,
            "PORT": port,
            "QUESTION": "SELECT max(n) FROM ledger",
            "ROOT": str(root),
            "DNS_UPDATE": f"touch {shlex.quote(str(tmp_path / 'dns'))}",
            "NAME": "localhost",
            "ADDRESS": "127.0.0.1",
            "CHECK": f"grep -q production {shlex.quote(str(etc))}",
        },
    )
    titles = list(desk.sections())
    assert [title.partition(".")[0] for title in titles] == [*map(str, range(1, 9)), "Hand over"]
    try:
        told = [desk.do(title) for title in titles]
    finally:
        stop(lost, place / "database" / "data")
    assert "The kit is good" in told[0]
    assert "Version 5" in told[1]
    assert (place / "application" / "invoice.py").read_text() == "VERSION = 5\n"
    assert "Restored" in told[2]
    assert files_below(place / "files" / "uploads") == INVOICES + 2
    assert "accepting connections" in told[4]
    assert etc.read_text().startswith("mode = production")
    assert (tmp_path / "dns").exists()
    assert "127.0.0.1" in told[5]
    assert "2" in told[6].splitlines()
    assert "demo.yaml" in told[7]
    # The kit brings the very pages along.
    assert (place / "kit" / "runbooks" / "lifeboat" / "full-system.md").read_text() == (
        PAGES / "full-system.md"
    ).read_text()
    for text in told:
        assert lost.password not in text
        assert SECRET_KEY not in text


def test_each_page_is_named_on_the_first_one_and_leads_to_what_is_there() -> None:
    first = (PAGES / "README.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in first
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (PAGES / link).exists(), f"{page.name} leads to {link}, which is not there"


def test_every_restore_on_a_page_that_writes_says_its_reason() -> None:
    for page in PAGES.glob("*.md"):
        for _, _, commands in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in commands.splitlines():
                if line.startswith("rescue restore") and "--plan" not in line:
                    assert ' --break-glass "$REASON"' in line, f"{page.name}: {line}"
