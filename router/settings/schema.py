"""The JSON Schema of the configuration file, made from the models, for editors."""

import json
from typing import Any

from router.settings.gateway import Settings


def schema_json() -> str:
    """Text of `config/router.schema.json`: JSON Schema, draft 2020-12.

    It knows keys, types, ranges and meanings. What needs arithmetic or another key — a split of 100 in all,
    roles, loopback — only the gateway judges.
    """
    schema = _tidy(Settings.model_json_schema())
    del schema["$defs"]["ModelSettings"]["properties"]["salt"]["default"]  # it is the model's name
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mlflow-canary-router"}
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any, *, named: bool = False) -> Any:
    """Without pydantic's titles, which repeat the keys, and with each description on one line.

    `named` says that the keys of `node` are names of ours, where a `title` would be a real key.
    """
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: " ".join(value.split())
        if key == "description" and not named
        else _tidy(value, named=key in ("properties", "$defs"))
        for key, value in node.items()
        if named or key != "title"
    }
