"""The Dockerfiles against this tree: nothing here can build them, but what they name must be there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from lifeboat.postgres.preflight_settings import NEWEST_MAJOR, OLDEST_MAJOR
from sandbox.accounts import CLONE
from tests.deploy import stack

IMAGES = {"lifeboat": CLONE, "lifeboat-sftp": CLONE / "deploy" / "sftp"}


def dockerfile(directory: Path) -> str:
    """Instructions, one a line."""
    text = (directory / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r"\\\n\s*", " ", "\n".join(lines))


def argument(name: str) -> str:
    found = re.search(rf'^ARG {name}="?([^"\n]+)"?$', dockerfile(CLONE), flags=re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_version_of_airflow_is_one_everywhere() -> None:
    version = argument("AIRFLOW_VERSION")
    assert "FROM apache/airflow:${AIRFLOW_VERSION}" in dockerfile(CLONE)
    for name in ("requirements.in", "requirements.txt"):
        pins = re.findall(r"^apache-airflow==(\S+)", (CLONE / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert pins == [version], name
    # What the build itself looks at, so that pip can't move it.
    assert 'grep --quiet "^apache-airflow==${AIRFLOW_VERSION} " /opt/lifeboat/requirements.txt' in dockerfile(CLONE)
    assert re.search(rf"^apache-airflow=={re.escape(version)} ", (CLONE / "requirements.txt").read_text(), re.MULTILINE)
    built = [one["build"]["args"]["AIRFLOW_VERSION"] for one in stack.services().values() if one["image"] == "lifeboat"]
    assert set(built) == {version}


def test_nothing_is_installed_without_a_hash() -> None:
    installs = re.findall(r"pip install ([^&\n]+)", dockerfile(CLONE))
    assert len(installs) == 2
    requirements, package = installs
    assert "--require-hashes --only-binary :all: --requirement /opt/lifeboat/requirements.txt" in requirements
    assert "--no-deps --no-build-isolation" in package, "the build would fetch its own tools, unpinned"
    backend = tomllib.loads((CLONE / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [re.split(r"\W", name)[0] for name in backend] == ["setuptools"]
    assert re.search(r"^setuptools==", (CLONE / "requirements.txt").read_text(), flags=re.MULTILINE)


def test_the_image_has_what_celery_roles_and_metrics_need() -> None:
    pinned = (CLONE / "requirements.txt").read_text()
    for package in (
        "apache-airflow-providers-celery",
        "redis",
        "apache-airflow-providers-fab",
        "statsd",
        "psycopg2-binary",
    ):
        assert re.search(rf"^{package}==", pinned, flags=re.MULTILINE), package


def test_restores_find_server_programs_of_every_major_that_is_backed_up() -> None:
    majors = [str(major) for major in range(OLDEST_MAJOR, NEWEST_MAJOR + 1)]
    assert argument("PG_MAJORS").split() == majors
    assert '" postgresql-${major} postgresql-client-${major}"' in dockerfile(CLONE)
    for service in stack.services().values():
        if service["image"] == "lifeboat":
            assert service["build"]["args"]["PG_MAJORS"].split() == majors


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there(image: str) -> None:
    copies = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", dockerfile(IMAGES[image]), flags=re.MULTILINE)
    sources = [source for line in copies for source in line.split()]
    assert sources
    for source in sources:
        assert (IMAGES[image] / source).exists(), source
    ignored = IMAGES[image] / ".dockerignore"
    if ignored.exists():
        admitted = {line[1:] for line in ignored.read_text().splitlines() if line.startswith("!")}
        assert admitted == set(sources), "the builder would not see it, or would see more"


def test_every_volume_has_its_directory_in_the_image_with_the_right_owner() -> None:
    made = re.search(r"install -d -o airflow -g 0 -m 2775 ([^\n]+)", dockerfile(CLONE))
    assert made is not None
    wanted = {
        line.split(":")[1]
        for one in stack.airflow_services().values()
        for line in one["volumes"]
        if not line.startswith(".")
    }
    assert wanted - {"/opt/airflow/logs"} == set(made[1].split())


def test_the_repository_of_postgresql_is_believed_by_its_own_key_alone() -> None:
    lines = dockerfile(CLONE)
    assert '"Signed-By: /usr/share/postgresql-common/pgdg/apt.postgresql.org.gpg"' in lines
    assert not re.search(r"apt-key|trusted\.gpg|curl|wget|--allow-unauthenticated|trusted=yes", lines)


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", dockerfile(CLONE), flags=re.MULTILINE)
    assert users == ["root", "airflow"]
