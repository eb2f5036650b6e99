"""References to environment variables in the few fields that name a place: ``${NAME}``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

from lifeboat.policy.problems import Refused

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Environment:
    """The variables that a policy may refer to, and a record of those that it did.

    The record lets the last valid copy of a policy be read again where a variable has since gone.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self.used: dict[str, str] = {}

    def expand(self, text: str) -> str:
        """Put each variable's value in the place of its reference.

        Raises:
            Refused: a variable is not set or empty, or a ``${`` begins nothing that can be a reference.
        """
        missing = sorted({name for name in _REFERENCE.findall(text) if not self._variables.get(name)})
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            plural = "variables" if len(missing) > 1 else "variable"
            verb = "are" if len(missing) > 1 else "is"
            raise Refused(
                f"The environment {plural} {names} {verb} not set.",
                "Set it for every process that reads policies (DAG processor, workers, command line), "
                "or write the value itself.",
            )
        if "${" in _REFERENCE.sub("", text):
            raise Refused(
                "A `${` begins no reference to an environment variable.", "Write `${NAME}`: letters, digits and `_`."
            )
        return _REFERENCE.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        name = match.group(1)
        self.used[name] = self._variables[name]
        return self._variables[name]


def expanded(value: object, info: ValidationInfo) -> object:
    """Expand a text by the :class:`Environment` in the validation context, or by that of the process."""
    if not isinstance(value, str):
        return value
    context = info.context if isinstance(info.context, dict) else {}
    environment = context.get("environment")
    return (environment if isinstance(environment, Environment) else Environment()).expand(value)


ExpandedPath = Annotated[Path, BeforeValidator(expanded)]
ExpandedText = Annotated[str, BeforeValidator(expanded)]
