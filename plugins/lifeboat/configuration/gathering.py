"""Gathering a configuration: everything that the policy names, into memory."""

from __future__ import annotations

from collections.abc import Callable

from lifeboat.configuration.files import FETCHED_AGAIN, FileGathering
from lifeboat.configuration.gathered import Gathered
from lifeboat.configuration.remote_state import take_remote_state
from lifeboat.configuration.stores import take_secrets
from lifeboat.configuration.values import take_connections, take_environment, take_variables
from lifeboat.outside import Outside
from lifeboat.policy.configuration_source import ConfigurationSource


def gather(source: ConfigurationSource, outside: Outside, *, tick: Callable[[], None]) -> Gathered:
    """Everything that a policy names, with what could not be had of it.

    Args:
        tick: called often, about four times a second while a service is waited for; may raise to stop.

    Raises:
        SourceUnreadable: it is too much for a configuration.
    """
    gathered = Gathered()
    FileGathering("files", source.exclude, gathered, tick).take_all(source.files)
    if source.certificates is not None:
        FileGathering("certificates", source.exclude, gathered, tick).take_all(source.certificates.paths)
    infrastructure = FileGathering("infrastructure", source.exclude, gathered, tick, leave_out=(FETCHED_AGAIN,))
    infrastructure.take_all(source.folders)
    for state in source.remote:
        take_remote_state(state, outside, gathered, tick)
    take_environment(source.environment, outside, gathered)
    take_connections(source.airflow_connections, outside, gathered, tick)
    take_variables(source.airflow_variables, outside, gathered, tick)
    for store in source.secrets:
        take_secrets(store, outside, gathered, tick)
    return gathered
