"""The JSON Schema of a policy, published as ``docs/policy.schema.json`` for editors.

Source: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import json
from typing import Any

from lifeboat.policy.model import Policy
from lifeboat.policy.targets import PRIMARY


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy as plain data."""
    schema = Policy.model_json_schema()
    _close(schema)
    schema["properties"]["targets"]["required"] = [PRIMARY]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Lifeboat policy"}


def policy_schema_text() -> str:
    """The schema as the published file holds it."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _close(node: Any) -> None:
    """Hold names to their pattern: pydantic's ``patternProperties`` lets names that don't match stand unchecked."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            ((pattern, below),) = node.pop("patternProperties").items()
            node["additionalProperties"] = below
            node["propertyNames"] = {**node.get("propertyNames", {}), "pattern": pattern}
        for inner in node.values():
            _close(inner)
    elif isinstance(node, list):
        for inner in node:
            _close(inner)
