"""The command line: the same verbs when Airflow is gone.

Every verb's module is light; what moves bytes is imported when the verb runs.
"""

from __future__ import annotations


def main() -> None:
    """The installed command ``lifeboat``."""
    from lifeboat.cli.program import main as run_and_exit

    run_and_exit()
