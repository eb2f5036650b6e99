"""Calls to services that hold secrets: they can be stopped at any time, and nothing of what they carry is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as StillRunning
from contextlib import contextmanager
from typing import TypeVar

from lifeboat.targets.background import in_background

T = TypeVar("T")
_LOOK_SECONDS = 0.25
_TELL_BODIES = ("botocore", "boto3", "urllib3", "hvac", "requests")
"""Libraries whose loggers, botocore's above all, write requests and answers as a whole when somebody wants to debug."""


def waited_for(call: Callable[[], T], tick: Callable[[], None]) -> T:
    """The result of a call on a thread of its own; ``tick`` is called meanwhile, and may raise to give up."""
    with _without_bodies():
        future = in_background(call)
        while True:
            tick()
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except StillRunning:
                if future.done():
                    raise


@contextmanager
def _without_bodies() -> Iterator[None]:
    before: list[tuple[logging.Logger, int]] = []
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _TELL_BODIES]
    for name in {*_TELL_BODIES, *known}:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            before.append((logger, logger.level))
            logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
