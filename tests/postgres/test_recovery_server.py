from __future__ import annotations

import pytest

from lifeboat.postgres.recovery_server import way_of_syncing


@pytest.mark.parametrize(
    ("system", "release", "way"),
    [
        ("Linux", "5.8.0", "syncfs"),
        ("Linux", "6.18.44-fc-v657", "syncfs"),
        ("Linux", "10.0", "syncfs"),
        ("Linux", "5.7.19", "fsync"),
        ("Linux", "4.18.0-553.el8_10.x86_64", "fsync"),
        ("Linux", "unheard of", "fsync"),
        ("Darwin", "24.1.0", "fsync"),
    ],
)
def test_a_file_system_is_synced_as_a_whole_only_where_its_errors_are_told(system: str, release: str, way: str) -> None:
    assert way_of_syncing(system, release) == way
