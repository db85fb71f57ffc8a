"""The key `scores` of a registered model: which outputs of an answer are counted, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from router.core.scores import (
    MAX_BINS,
    MOST_CLASSES,
    MOST_OUTPUTS,
    ClassSpec,
    OutputSpec,
    ScoreSpec,
    check_outputs,
    label_text,
    with_edges,
)
from router.settings.fields import STRICT, Finite

_EDGES = TypeAdapter(list[Finite])


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """What is counted of a model's answers, and what a shift of it means."""

    outputs: tuple[OutputSpec, ...] | None = None
    """None: what the answers to the input example suggest."""
    on_shift: Literal["report", "fail"] = "report"
    """Whether a shift of the first output's scores fails a canary, or is only reported."""


def _output(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError("must be a column's index, counted from 0, or its name")
    if isinstance(value, int) and not 0 <= value < 1_000_000:
        raise ValueError("must be a column's index, counted from 0")
    return value


def _bins(value: Any) -> int | tuple[float, ...]:
    if isinstance(value, list):
        edges = tuple(_EDGES.validate_python(value, strict=True))
        if not 1 <= len(edges) <= MAX_BINS or any(upper <= lower for lower, upper in pairwise(edges)):
            raise ValueError(f"must be 1 to {MAX_BINS} upper edges, each above the one before it")
        return edges
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_BINS:
        raise ValueError(f"must be a number of bins from 1 to {MAX_BINS}, or a list of their upper edges")
    return value


def _classes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be a list of 1 to {MOST_CLASSES} labels")
    labels = [label_text(label) for label in value]
    if None in labels:
        raise ValueError("must be labels: text, whole numbers, true or false")
    return ClassSpec(0, tuple(str(label) for label in labels)).classes


_BINS = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MAX_BINS},
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MAX_BINS},
    ]
}
_LABELS = {
    "type": "array",
    "items": {"type": ["string", "integer", "boolean"]},
    "minItems": 1,
    "maxItems": MOST_CLASSES,
}


class WrittenScores(BaseModel):
    """One output, and the bins or the classes it is counted in."""

    model_config = STRICT

    output: Annotated[int | str, PlainValidator(_output), WithJsonSchema({"type": ["integer", "string"]})] = 0
    """Which output: a column's index, counted from 0, or its name."""
    range: Annotated[list[Finite], Field(min_length=2, max_length=2)] = Field(default=[0.0, 1.0])
    """Lowest and highest score of the bins; scores outside count in the end bins and as out of range."""
    bins: Annotated[int | tuple[float, ...], PlainValidator(_bins), WithJsonSchema(_BINS)] = 20
    """Number of bins of equal width, or the upper edges of the bins: the last one ends the range."""
    classes: Annotated[tuple[str, ...], PlainValidator(_classes), WithJsonSchema(_LABELS)] | None = None
    """For answers that are labels: those to count by name. All others are counted together."""
    on_shift: Literal["report", "fail"] = "report"
    """report: a shift of the scores is reported. fail: a large one, proven, fails the canary."""

    @model_validator(mode="after")
    def _can_be_counted(self) -> Self:
        _spec(self)
        return self


_ONE: TypeAdapter[WrittenScores] = TypeAdapter(WrittenScores)
_SEVERAL = Annotated[list[WrittenScores], Field(min_length=1, max_length=MOST_OUTPUTS)]
_MANY: TypeAdapter[list[WrittenScores]] = TypeAdapter(_SEVERAL)
_OUTPUT_KEYS = frozenset(("output", "range", "bins", "classes"))


def _spec(written: WrittenScores) -> OutputSpec:
    low, high = written.range
    ranged = "range" in written.model_fields_set
    if written.classes:
        if ranged or "bins" in written.model_fields_set:
            raise ValueError("classes are counted one by one: name either them, or range and bins")
        return ClassSpec(written.output, written.classes)
    if isinstance(written.bins, int):
        return ScoreSpec(written.output, low, high, written.bins)
    first, last = written.bins[0], written.bins[-1]
    if ranged and high != last:
        raise ValueError(f"the range must end at the last of the bins, {last:g}, not at {high:g}")
    if not ranged and first <= 0:
        raise ValueError(f"must say where the first bin begins, such as range: [{first - 1:g}, {last:g}]")
    return with_edges(written.output, low, written.bins)


def _settings(written: Sequence[WrittenScores]) -> ScoreSettings:
    specs = tuple(map(_spec, written))
    check_outputs(specs)
    if any("on_shift" in one.model_fields_set for one in written[1:]):
        raise ValueError("only the first output is judged: say on_shift there")
    chosen = len(written) > 1 or bool(_OUTPUT_KEYS & written[0].model_fields_set)
    return ScoreSettings(specs if chosen else None, written[0].on_shift)


def _read(value: Any) -> ScoreSettings:
    if value is None:
        return ScoreSettings()
    # Each is validated by its own schema: a union of the two would list the errors of both.
    return _settings(
        _MANY.validate_python(value) if isinstance(value, list) else [_ONE.validate_python(value)]
    )


def _core(_source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    choices: list[CoreSchema | tuple[CoreSchema, str]] = [
        handler.generate_schema(WrittenScores),
        handler.generate_schema(_SEVERAL),
        core_schema.none_schema(),
    ]
    return core_schema.no_info_wrap_validator_function(
        lambda value, _: _read(value), core_schema.union_schema(choices)
    )


ScoresField = Annotated[ScoreSettings, GetPydanticSchema(_core)]
"""One output as a mapping, or a list of up to four of them."""
