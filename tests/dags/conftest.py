"""One Airflow for all tests of runs, and what happens on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_template import Template
from tests.dags.play import Play, played


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[Play]:
    """Everything is up, and most runs have begun."""
    with played(tmp_path_factory.mktemp("stage"), postgres_template(WHEEL_MAJOR)) as begun:
        yield begun
