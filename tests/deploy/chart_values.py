"""Values of the chart that its schema accepts, as a strategy of Hypothesis."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.deploy.chart import CHART, Object

SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
CONFIGS = (
    "models:\n  sentiment:\n",
    "models: # the first\n  z: {split: {production: 80, canary: 20, third: 0}, workers: 3}\n  a: {}\n",
    "registry: {cache_max_gib: 0.5}\nenvironments:\nmodels: {a: {environment: own, workers: 2}}\n",
    "models:\n  a: {keep_previous_seconds: 60}\nregistry:\n  uri: http://mlflow:5000\n",
    "# A tab\tand ünïcödé\nlog:\n  level: debug\nmodels:\n  a: {load_memory_mib: 7, worker_memory_mib: 5}\n",
)
"""Of the text `config` the schema says only that it is one."""


def values() -> st.SearchStrategy[Object]:
    """Any values that make an installation, of all keys some."""
    return _of(SCHEMA).flatmap(_that_go_together)


def _that_go_together(drawn: Object) -> st.SearchStrategy[Object]:
    """What is refused by a sentence, where one value does not go with another, is not drawn."""
    scaling = drawn.get("autoscaling", {})
    least = scaling.get("minReplicas", 2)
    if least > scaling.get("maxReplicas", 6):
        scaling["maxReplicas"] = least
    if not drawn.get("admin", {}).get("tls", {}).get("secret"):
        drawn["admin"] = {**drawn.get("admin", {}), "networkEncrypts": True}
    route = drawn.get("httpRoute", {})
    if route.get("enabled"):
        route["parentRefs"] = route.get("parentRefs") or [{"name": "public"}]
        drawn.pop("tls", None)
    return st.sampled_from(CONFIGS).map(lambda config: {**drawn, "config": config})


def _of(schema: Object) -> st.SearchStrategy[Any]:
    """What a part of the schema accepts; of what it leaves open, its examples."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"]
    if isinstance(kinds, list):
        return st.one_of(*(_of({**schema, "type": kind}) for kind in kinds))
    if "examples" in schema:
        empty: Any = {} if kinds == "object" else [] if kinds == "array" else schema["examples"][0]
        return st.sampled_from([*schema["examples"], empty])
    return _KINDS[kinds](schema)


def _number(schema: Object) -> st.SearchStrategy[float]:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum", 0)), schema.get("maximum", 86_400)
    return st.floats(low, high, exclude_min="exclusiveMinimum" in schema, allow_subnormal=False)


def _object(schema: Object) -> st.SearchStrategy[Object]:
    parts = {name: _of(part) for name, part in schema["properties"].items()}
    required = {name: parts.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=parts)


_KINDS = {
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "integer": lambda schema: st.integers(schema["minimum"], schema["maximum"]),
    "number": _number,
    "string": lambda schema: st.from_regex(schema.get("pattern", "[a-z]*"), fullmatch=True),
    "array": lambda schema: st.lists(
        _of(schema["items"]),
        min_size=schema.get("minItems", 0),
        max_size=min(3, schema.get("maxItems", 3)),
        unique=schema.get("uniqueItems", False),
    ),
    "object": _object,
}
