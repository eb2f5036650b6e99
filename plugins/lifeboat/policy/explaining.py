"""From pydantic's errors to problems that a person can mend."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lifeboat.policy.document import Document, Key, dotted
from lifeboat.policy.problems import PolicyProblem, Refused, did_you_mean
from lifeboat.policy.schema import policy_schema

_WORDS = {
    "string_type": ("This is no text.", "Put it in quotes."),
    "int_type": ("This is no whole number.", "Write one, such as `3`."),
    "int_parsing": ("This is no whole number.", "Write one, such as `3`."),
    "bool_type": ("This is neither true nor false.", "Write `true` or `false`."),
    "bool_parsing": ("This is neither true nor false.", "Write `true` or `false`."),
    "dict_type": ("This has no keys below it.", "Write keys and values below it, indented."),
    "model_type": ("This has no keys below it.", "Write keys and values below it, indented."),
    "model_attributes_type": ("This has no keys below it.", "Write keys and values below it, indented."),
    "list_type": ("This is no list.", "Write `- …` lines below it, or `[a, b]`."),
    "tuple_type": ("This is no list.", "Write `- …` lines below it, or `[a, b]`."),
    "timezone_aware": ("This moment has no time zone.", "Write it as `2026-01-01T00:00:00Z`."),
    "union_tag_not_found": ("It does not say what `kind` it is.", "Add `kind:`."),
}


def problems_of(error: ValidationError, document: Document, file: Path) -> list[PolicyProblem]:
    """Every error of a validation, with its line, in the order of the file."""
    found = [_problem(detail, document, file) for detail in error.errors(include_url=False, include_input=False)]
    return sorted(found, key=lambda problem: (problem.line, problem.key))


def _problem(detail: ErrorDetails, document: Document, file: Path) -> PolicyProblem:
    key = _key_in_file(detail["loc"], document.data)
    what, remedy = _words_for(detail, key)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Refused):
        what, remedy, key = cause.what, cause.remedy, (*key, *cause.key)
    return PolicyProblem(file, document.line_of(key), dotted(key), what, remedy)


def _key_in_file(location: tuple[int | str, ...], data: Any) -> Key:
    """The key's path in the file: pydantic's own has the kinds of sources, and marks of keys, in between."""
    key: list[str | int] = []
    for number, part in enumerate(location):
        last = number == len(location) - 1
        if part == "[key]":
            continue
        if isinstance(data, Mapping):
            if part not in data and (not last or part == data.get("kind")):
                continue
            data = data.get(str(part))
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part] if part < len(data) else None
        key.append(part)
    return tuple(key)


def _words_for(detail: ErrorDetails, key: Key) -> tuple[str, str]:
    kind = detail["type"]
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "missing":
        return f"`{key[-1]}` is missing.", "Add it."
    if kind == "extra_forbidden":
        return f"`{key[-1]}` is no key here.", did_you_mean(str(key[-1]), _known_keys(detail["loc"][:-1]))
    context = detail.get("ctx", {})
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        expected = context.get("expected") or context.get("expected_tags") or ""
        subject = "This `kind`" if kind == "union_tag_invalid" else "This"
        return f"{subject} is none of the words possible here.", f"Write one of: {expected}."
    if kind == "string_pattern_mismatch":
        return "This does not have the form that it needs.", f"It must match `{context.get('pattern')}`."
    return f"{detail['msg']}.", "See docs/policy.md."


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that are possible at a place, by the schema."""
    node = _schema()
    for part in location:
        node = _below(_resolved(node), part)
    return sorted(_resolved(node).get("properties", {}))


@cache
def _schema() -> dict[str, Any]:
    return policy_schema()


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    for choice in node.get("anyOf", ()):
        if choice.get("type") != "null":
            return _resolved(choice)
    if "$ref" in node:
        name = str(node["$ref"]).rsplit("/", 1)[-1]
        return _resolved(_schema()["$defs"][name])
    return node


def _below(node: dict[str, Any], part: int | str) -> dict[str, Any]:
    mapping = node.get("discriminator", {}).get("mapping", {})
    if part in mapping:
        return {"$ref": mapping[part]}
    if part in node.get("properties", {}):
        below = node["properties"][part]
    elif isinstance(part, int):
        below = node.get("items", {})
    else:
        below = node.get("additionalProperties", {})
    return below if isinstance(below, dict) else {}
