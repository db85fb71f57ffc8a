"""Whether the candidate answers input examples, production's and its own, as production answers.

What a version was logged with as its example is what somebody thought a caller sends.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.gate.answers import AskedVersion, Fault, kind_of, predictions_in
from router.gate.errors import Arm
from router.gate.findings import Finding, judged, not_checked

CHECK = "example"
_SPLIT = "dataframe_split"
_NAMES = {Arm.PRODUCTION: "production's", Arm.CANDIDATE: "its own"}


@dataclass(frozen=True, slots=True)
class Examples:
    """Bodies of requests with the examples that versions were logged with; None where there is none."""

    production: bytes | None
    candidate: bytes | None

    def of(self, arm: Arm, sent: Collection[str] = ()) -> bytes | None:
        """That of `arm`; production's with those of the columns `sent` that only the candidate's has."""
        if arm is Arm.CANDIDATE:
            return self.candidate
        return _completed(self.production, self.candidate, sent) if sent else self.production


async def check_examples(
    versions: Mapping[Arm, AskedVersion], examples: Examples, sent: Collection[str] = ()
) -> Finding:
    """`sent`: columns that callers send already, though production does not need them.

    Raises AnswerRefused.
    """
    faults: list[str] = []
    notes: list[str] = []
    asked = []
    compared = False
    for arm in (Arm.PRODUCTION, Arm.CANDIDATE):
        if (body := examples.of(arm, sent)) is None:
            continue
        asked.append(_NAMES[arm])
        candidate = predictions_in((await versions[Arm.CANDIDATE].ask([body]))[0])
        production = predictions_in((await versions[Arm.PRODUCTION].ask([body]))[0])
        if isinstance(candidate, Fault):
            if arm is Arm.PRODUCTION and isinstance(production, Fault):
                notes.append(f"production does not answer its own input example itself: {production.why}")
            else:
                faults.append(f"it does not answer {_NAMES[arm]} input example: {candidate.why}")
        elif not isinstance(production, Fault):
            compared = True
            if (new := _shape(candidate)) != (old := _shape(production)):
                faults.append(f"to {_NAMES[arm]} input example it answers {new}, and production {old}")
    if not asked:
        return not_checked(CHECK, "neither version was logged with an input example")
    if not compared and not faults:
        notes.append("production answers none of them, so the answers' types are not compared")
    return judged(CHECK, faults, f"it answers {' and '.join(asked)} input example, as production does", notes)


def _shape(predictions: Any) -> str:
    """Type and shape of an answer, without how many rows it has: those are as many as were asked."""
    if not isinstance(predictions, list):
        return kind_of(predictions)
    # A missing value says nothing of the type.
    kinds = sorted({kind_of(row) for row in predictions if row is not None}) or ["null"]
    return f"{' or '.join(kinds)} per row"


def _completed(production: bytes | None, candidate: bytes | None, sent: Collection[str]) -> bytes | None:
    """Production's example where it has all of `sent`, or the candidate's has a value for the others; else
    as it is, which the candidate will refuse."""
    if production is None or candidate is None:
        return production
    try:
        document, other = orjson.loads(production), orjson.loads(candidate)
        table, values = document[_SPLIT], other[_SPLIT]
        first = dict(zip(values["columns"], values["data"][0], strict=True))
        added = [name for name in sent if name not in table["columns"] and name in first]
        table["columns"] += added
        for row in table["data"]:
            row += [first[name] for name in added]
    except (ValueError, LookupError, TypeError):
        return production
    return orjson.dumps(document)
