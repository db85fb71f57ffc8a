"""What is counted of a version's answers, in the frames of `messages`: read with the same suspicion.

Each function raises ValueError, of which msgspec's errors are some, TypeError or KeyError.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from msgspec import Meta, Struct, convert
from msgspec.structs import asdict

from router.core.scores import (
    MAX_BINS,
    MOST_CLASSES,
    MOST_OUTPUTS,
    NAME_CHARACTERS,
    ClassCounts,
    ClassSpec,
    OutputCounts,
    OutputSpec,
    ScoreCounts,
    ScoreSpec,
    check_outputs,
)

_Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_OutputName = Annotated[int, Meta(ge=0, lt=1_000_000)] | Annotated[str, Meta(max_length=NAME_CHARACTERS)]


class _ScoreOutput(Struct):
    """A ScoreSpec that a worker chose; checked before one is made, which computes every edge."""

    output: _OutputName
    low: _Finite
    high: _Finite
    bins: Annotated[int, Meta(ge=1, le=MAX_BINS)]
    upper: Annotated[tuple[float, ...], Meta(max_length=0)]
    """Edges of its own no worker chooses."""


class _ClassOutput(Struct):
    """A ClassSpec that a worker chose."""

    output: _OutputName
    classes: Annotated[tuple[str, ...], Meta(max_length=MOST_CLASSES)]


_OutputFields = Annotated[list[dict[str, Any]], Meta(max_length=MOST_OUTPUTS)]


def chosen_outputs(fields: Sequence[Mapping[str, Any]]) -> tuple[OutputSpec, ...]:
    """The outputs that the gateway asks for."""
    return tuple([convert(one, ClassSpec) if "classes" in one else convert(one, ScoreSpec) for one in fields])


def counted_outputs(fields: Any, asked: Sequence[OutputSpec] | None) -> tuple[OutputSpec, ...]:
    """The outputs that a worker counts; `asked`: those of the load, None when they were left to it."""
    sent = convert(fields, _OutputFields)
    if not sent:
        return ()
    if asked is not None:  # the operator chose them: nothing else can be counted
        if sent != orjson.loads(orjson.dumps(asked)):
            raise ValueError("other scores than were asked for")
        return tuple(asked)
    outputs: list[OutputSpec] = []
    for one in sent:
        if "classes" in one:
            outputs.append(ClassSpec(**asdict(convert(one, _ClassOutput))))
        else:
            outputs.append(ScoreSpec(**asdict(convert(one, _ScoreOutput))))
    check_outputs(outputs)
    return tuple(outputs)


def counts_of(fields: Sequence[Any], counted: Sequence[OutputSpec]) -> tuple[OutputCounts, ...]:
    """Counts per output, each of as many bins or classes as `counted` has; empty where none were sent."""
    if not fields:
        return ()
    if len(fields) != len(counted):
        raise ValueError("counts of other outputs")
    counts: list[OutputCounts] = []
    for one, spec in zip(fields, counted, strict=True):
        counts.append(_score_counts(one, spec) if isinstance(spec, ScoreSpec) else _class_counts(one, spec))
    return tuple(counts)


def _score_counts(fields: Any, spec: ScoreSpec) -> ScoreCounts:
    counts = convert(fields, ScoreCounts)
    if len(counts.bins) != spec.bin_count:
        raise ValueError("counts of other bins")
    if min(counts.bins) < 0 or min(counts.nan, counts.inf, counts.non_numeric, counts.out_of_range) < 0:
        raise ValueError("a count below zero")
    # NaN is in no range.
    if not (0 <= counts.positive_sum < math.inf and 0 <= counts.negative_sum < math.inf):
        raise ValueError("a sum that is not finite or below zero")
    return counts


def _class_counts(fields: Any, spec: ClassSpec) -> ClassCounts:
    counts = convert(fields, ClassCounts)
    if len(counts.counts) != spec.bin_count or min(counts.counts) < 0:
        raise ValueError("counts of other classes, or below zero")
    if not 0 <= counts.nan <= counts.counts[-1]:
        raise ValueError("more that are NaN than are on no list")
    return counts
