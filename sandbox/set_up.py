"""Make .venv and install what is pinned: run by the machine's own Python, before anything is installed.

python3 sandbox/set_up.py
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
VENV = CLONE / ".venv"
PYTHON = VENV / "bin" / "python"
BARE = CLONE / ".sandbox" / "bare"


def make_venv() -> None:
    """Make .venv with pip in it, unless it is there; install the distribution's package for that where we may."""
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False).returncode == 0
    ):
        return
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    made = _venv()
    if made.returncode != 0 and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"{sys.executable} can't make a virtual environment: installing {package}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "-qq", "update"], env=environment, check=False)
        subprocess.run(["apt-get", "-qq", "install", "--yes", package], env=environment, check=False)
        made = _venv()
    if made.returncode != 0:
        raise SystemExit(
            f"{sys.executable} can't make a virtual environment. On Debian and Ubuntu install the package {package}, "
            f"elsewhere the one that holds Python's venv and ensurepip.\n{made.stdout}{made.stderr}"
        )


def _venv() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False)


def installer_environment() -> dict[str, str]:
    """Let uv trust and ask what pip is told to: the machine's certificates, and its index where one is configured."""
    environment = os.environ | {"VIRTUAL_ENV": str(VENV)}
    if ssl.create_default_context().cert_store_stats()["x509_ca"]:
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    asked: list[Path | str] = [PYTHON, "-m", "pip", "config", "get", "global.index-url"]
    index = subprocess.run(asked, capture_output=True, text=True, check=False)
    if index.returncode == 0 and not environment.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX_URL"}:
        environment["UV_DEFAULT_INDEX"] = index.stdout.strip()
    return environment


def install() -> None:
    """Bring .venv to exactly what requirements.txt and requirements-dev.txt pin, and Lifeboat itself, editable."""
    pip: list[Path | str] = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", "sandbox/uv.txt"], dict(os.environ))
    environment = installer_environment()
    uv: list[Path | str] = [PYTHON, "-m", "uv", "pip"]
    # Compiled once here rather than at the first import: Airflow's processes start in a third of the time.
    sync: list[Path | str] = [*uv, "sync", "--quiet", "--require-hashes", "--compile-bytecode"]
    _run([*sync, "requirements.txt", "requirements-dev.txt", "sandbox/uv.txt"], environment)
    _run([*uv, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."], environment)


def _run(command: list[Path | str], environment: dict[str, str]) -> None:
    ended = subprocess.run(command, cwd=CLONE, env=environment, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(str(word) for word in command[1:])}: ended with code {ended.returncode}.")


def install_bare() -> None:
    """The command line with what it needs and no more: what a laptop has on the day Airflow is lost."""
    environment = installer_environment()
    uv: list[Path | str] = [PYTHON, "-m", "uv"]
    _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, BARE], environment)
    bare: list[Path | str] = ["pip", "install", "--quiet", "--python", BARE / "bin" / "python"]
    _run([*uv, *bare, "--constraints", "requirements.txt", "--editable", "."], environment)


if __name__ == "__main__":
    if sys.argv[1:] == ["--bare"]:
        install_bare()
    else:
        make_venv()
        install()
