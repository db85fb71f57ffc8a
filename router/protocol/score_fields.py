"""What frames say of scores: which are counted, their counts, and their marks.

A version's code runs where these are written, so they are read with suspicion. Everything a worker of ours
does not write raises one of `wire.NOT_OURS`.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

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
from router.protocol.exact import amount, exactly, number

_OUTPUTS = 1_000_000
_MARKS = {int}


def outputs_of(fields: Sequence[Mapping[str, Any]] | None) -> tuple[OutputSpec, ...] | None:
    """The `scores` of a `load` frame, which the gateway writes."""
    return None if fields is None else tuple(map(_output_of, fields))


def told_outputs(fields: Any, asked: Sequence[OutputSpec] | None) -> tuple[OutputSpec, ...]:
    """What a worker says it counts; `asked`: what the load asked for, None when that was left to it."""
    told = exactly(list, fields)
    if not told:
        return ()
    if asked is not None:  # the operator chose them: nothing else can be counted
        if told != [_plain(spec) for spec in asked]:
            raise ValueError("other scores than were asked for")
        return tuple(asked)
    if len(told) > MOST_OUTPUTS:
        raise ValueError("more outputs than anybody counts")
    outputs = tuple(map(_told_output, told))
    check_outputs(outputs)
    return outputs


def counts_of(fields: Any, counted: Sequence[OutputSpec]) -> tuple[OutputCounts, ...]:
    """Counts per output, each of as many bins or classes as `counted` has; empty where none were sent."""
    told = exactly(list, fields)
    if not told:
        return ()
    if len(told) != len(counted):
        raise ValueError("counts of other outputs")
    return tuple([_READERS[type(spec)](one, spec) for one, spec in zip(told, counted, strict=True)])


def marks_of(fields: Any, counted: Sequence[OutputSpec], answers: int) -> Sequence[int | None]:
    """The marks of so many answers: places among the marks of the first counted output."""
    if fields is None:
        return [None] * answers
    known = [mark for mark in exactly(list, fields) if mark is not None]
    if set(map(type, known)) != _MARKS or min(known) < 0 or max(known) >= counted[0].marks:
        raise ValueError("marks that are none")
    return list(fields)


def _output_of(fields: Mapping[str, Any]) -> OutputSpec:
    if "classes" in fields:
        return ClassSpec(fields["output"], tuple(fields["classes"]))
    return ScoreSpec(**{**fields, "upper": tuple(fields["upper"])})


def _plain(spec: OutputSpec) -> dict[str, Any]:
    # As it is after it went through a frame, which has lists for tuples.
    return {key: list(value) if type(value) is tuple else value for key, value in asdict(spec).items()}


def _told_output(fields: Any) -> OutputSpec:
    output = exactly(dict, fields)["output"]
    named = type(output) is str
    if not (len(output) <= NAME_CHARACTERS if named else 0 <= exactly(int, output) < _OUTPUTS):
        raise ValueError("an output that is none")
    if "classes" in fields:
        classes = exactly(list, fields["classes"])[: MOST_CLASSES + 1]
        return ClassSpec(output, tuple(exactly(str, label) for label in classes))
    low, high, bins = number(fields["low"]), number(fields["high"]), exactly(int, fields["bins"])
    # Checked before a ScoreSpec is made, which computes every edge. Edges of its own no worker makes up.
    if not (1 <= bins <= MAX_BINS and low < high and fields["upper"] == []):
        raise ValueError("scores that nobody can count")
    return ScoreSpec(output, low, high, bins)


def _score_counts(fields: Mapping[str, Any], spec: ScoreSpec) -> ScoreCounts:
    rest = (fields["nan"], fields["inf"], fields["non_numeric"], fields["out_of_range"])
    for count in rest:
        if type(count) is not int or count < 0:
            raise ValueError("a count that is none")
    counts = _counts(fields["bins"], spec.marks)
    return ScoreCounts(counts, amount(fields["positive_sum"]), amount(fields["negative_sum"]), *rest)


def _class_counts(fields: Mapping[str, Any], spec: ClassSpec) -> ClassCounts:
    counts, nan = _counts(fields["counts"], spec.marks), exactly(int, fields["nan"])
    if not 0 <= nan <= counts[-1]:
        raise ValueError("more that are NaN than are on no list")
    return ClassCounts(counts, nan)


_READERS: Mapping[type, Callable[[Any, Any], OutputCounts]] = {
    ScoreSpec: _score_counts,
    ClassSpec: _class_counts,
}


def _counts(fields: Any, number_of_marks: int) -> tuple[int, ...]:
    # The array refuses negative numbers and what is no integer, and makes one of true, all in C: there may be
    # two hundred bins, for every batch.
    counts = tuple(array("Q", fields))
    if len(counts) != number_of_marks:
        raise ValueError("counts of other bins")
    return counts
