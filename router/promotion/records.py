"""What is written beside a moved alias, as a tag of a version: who moved it, when, why, on what evidence.

A tag is one JSON object of at most 4 000 bytes: MLflow's server takes 100 000 characters, others far less.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from router.core.utc import utc
from router.promotion.ports import Command

PROMOTION_TAG = "canary_router.promotion"
"""Of the version that was promoted."""
ROLLBACK_TAG = "canary_router.rollback"
"""Of the version that was rolled back, which is the one that production left."""
MOST_BYTES = 4000
LONGEST_NAME = 100
"""Characters of who did it: with it, the longest reason and the longest name of a model a record fits."""


def facts_of(command: Command, former: int | None, target: int) -> dict[str, Any]:
    """What both records begin with: who moves production when, why, from which version and to which.

    `time` is UTC in whole seconds, `2026-11-20T14:32:07Z`: later ones are greater.
    """
    return {
        "time": utc(time.time(), "seconds"),
        "by": command.by,
        "reason": command.reason,
        "model": command.model,
        "from": former,
        "to": target,
    }


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
