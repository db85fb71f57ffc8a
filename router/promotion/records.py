"""What is written beside a moved alias, as a tag of a version: who moved it, when, why, on what evidence.

A tag is one JSON object of at most 4 000 bytes: MLflow's server takes 100 000 characters, others far less.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

PROMOTION_TAG = "canary_router.promotion"
"""Of the version that was promoted."""
ROLLBACK_TAG = "canary_router.rollback"
"""Of the version that was rolled back, which is the one that production left."""
MOST_BYTES = 4000
LONGEST_NAME = 100
"""Characters of who did it: with it, the longest reason and the longest name of a model a record fits."""


def promotion_record(
    facts: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]], heads: Sequence[str]
) -> str:
    """The tag's value: `facts` whole, and of the rest as much as there is room for.

    `evidence` has one mapping per gateway with `checks`, `why` and what is shorter; `heads` are the digests
    of the last lines of the gateways' journals.
    """
    without_checks = [{key: one[key] for key in one if key != "checks"} for one in evidence]
    verdicts = [{key: one[key] for key in one if key not in ("checks", "why")} for one in evidence]
    for shown, known in (
        (evidence, heads),
        (without_checks, heads),
        (without_checks[:1], heads[:1]),
        (verdicts[:1], heads[:1]),
    ):
        value = orjson.dumps({**facts, "evidence": list(shown), "journal": list(known)})
        if len(value) <= MOST_BYTES:
            return value.decode()
    return orjson.dumps(dict(facts)).decode()


def time_of_record() -> str:
    """Now, in UTC and whole seconds: `2026-11-20T14:32:07Z`. Later ones are greater."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def rollback_record(facts: Mapping[str, Any]) -> str:
    """The tag's value."""
    return orjson.dumps(dict(facts)).decode()


def read_record(tags: Mapping[str, str], key: str) -> Mapping[str, Any]:
    """What the tag `key` among `tags` says; empty where it is missing, or is not one of these records."""
    try:
        record = orjson.loads(tags.get(key, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return record if isinstance(record, dict) else {}
