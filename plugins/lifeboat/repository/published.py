"""The published JSON Schemas of what lies on targets.

Source: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import json

from pydantic import BaseModel


def published_schema(model: type[BaseModel], title: str) -> str:
    """The JSON Schema of a document, as its published file holds it.

    What it calls a default may be missing when read; Lifeboat writes every field.
    """
    schema = model.model_json_schema()
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
