"""An upload over SFTP beside rclone's, to one OpenSSH server on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.measuring import BenchmarkFailed, middle_ratio
from benchmarks.report import table_of
from benchmarks.rounds import Say
from lifeboat.connections import outside_from
from lifeboat.targets.sftp import SftpTarget
from sandbox.accounts import CLONE
from sandbox.loopback_server import installed_program
from sandbox.sftp_servers import OpenSsh


def measure(megabytes: int, rounds: int, say: Say) -> dict[str, list[float]]:
    """Seconds of each round's upload, ours and rclone's, in turns."""
    times: dict[str, list[float]] = {"ours": [], "rclone": []}
    (CLONE / ".sandbox").mkdir(exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="bench-", dir=CLONE / ".sandbox"))
    try:
        with OpenSsh(room / "room", room / "sshd.log") as server:
            root = server.make_directory("target")
            file = room / "body"
            file.write_bytes(secrets.token_bytes(megabytes * 1_000_000))
            outside = outside_from({"AIRFLOW_CONN_BENCH": server.airflow_connection_uri()})
            target = SftpTarget("bench", host="127.0.0.1", root=str(root), outside=outside, connection="bench")
            target.put("warm", file.open("rb"))
            for number in range(1, rounds + 1):
                say(f"SFTP, round {number} of {rounds}")
                os.sync()
                began = time.monotonic()
                with file.open("rb") as body:
                    target.put("ours", body)
                times["ours"].append(time.monotonic() - began)
                os.sync()
                began = time.monotonic()
                _rclone(server, file, f"{root}/rclone")
                times["rclone"].append(time.monotonic() - began)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return times


def _rclone(server: OpenSsh, file: Path, to: str) -> None:
    key, known = file.with_name("key"), file.with_name("known_hosts")
    key.touch(mode=0o600)
    key.write_text(server.private_key_text, encoding="ascii")
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key_text}\n", encoding="ascii")
    ended = subprocess.run(
        [
            installed_program("rclone"), "copyto", file, f":sftp:{to}", "--ignore-times", "--config", os.devnull,
            "--sftp-host", "127.0.0.1", "--sftp-port", str(server.port), "--sftp-user", server.login,
            "--sftp-key-file", key, "--sftp-known-hosts-file", known, "--sftp-shell-type", "none",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if ended.returncode != 0:
        raise BenchmarkFailed(f"rclone ended with code {ended.returncode}: {ended.stderr.strip()[-2000:]}")


def show(console: Console, megabytes: int, times: dict[str, list[float]]) -> None:
    """Both as a table."""
    table = table_of(f"An upload of {megabytes:,} MB over SFTP to OpenSSH", "", "time", "rate", "ours ÷ it")
    for name, title in (("ours", "Lifeboat: synced, measured, renamed"), ("rclone", "rclone copyto, start included")):
        seconds = median(times[name])
        ratio = "" if name == "ours" else f"{middle_ratio(times['ours'], times[name]):.2f}x"
        table.add_row(title, f"{seconds:.2f} s", f"{megabytes / seconds:,.0f} MB/s", ratio)
    console.print(table)
