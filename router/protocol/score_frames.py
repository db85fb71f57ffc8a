"""The frames of a child that reads the scores of answers: of a version that runs elsewhere, as it gave them.

`start` says what to count, or leaves it to the answer to the version's input example; `chosen` follows. Each
`answers` frame holds some answers, those of one alias beside each other, and one `counts` frame follows it.
An answer is written by whoever runs elsewhere, and this child reads it, so what it sends is read with the
suspicion of `messages`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct, convert
from msgspec.structs import asdict

from router.core.scores import OutputCounts, OutputSpec
from router.core.version_address import Engine
from router.protocol.frames import Frame, FrameLimits
from router.protocol.messages import LoadSpec, WireRefused, load_spec, printable
from router.protocol.score_fields import counted_outputs, counts_of

START, CHOSEN, ANSWERS, COUNTS = "start", "chosen", "answers", "counts"
LIMITS = FrameLimits(header_bytes=1 << 20, body_bytes=0)
"""What such a child may send: counts of a few outputs, and a number for each answer."""

_NOT_OURS = (KeyError, TypeError, ValueError, OverflowError)


class Chosen(Struct, frozen=True):
    """What is counted of a version's answers, as of `VersionInfo`."""

    scores: tuple[Any, ...] = ()
    suggested_scores: tuple[Any, ...] = ()
    note: str = ""


class CountedAnswers(Struct, frozen=True):
    """What some answers count for."""

    counts: tuple[tuple[OutputCounts, ...], ...]
    """Of each alias, per counted output."""
    bin_indexes: tuple[int | None, ...]
    """Of each answer, as `Answer.bin_index`."""


def start_frame(spec: LoadSpec, engine: Engine, example: bytes | None) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of a `start` frame. `example`: the version's answer to its input example, None
    where it was not asked, or what is counted is settled."""
    return {"op": START, "engine": engine, **asdict(spec)}, [] if example is None else [example]


class _Start(Struct):
    engine: Engine


def start_of(frame: Frame) -> tuple[LoadSpec, Engine, bytes | None]:
    """What a `start` frame says, which the gateway wrote."""
    return load_spec(frame.header), convert(frame.header, _Start).engine, next(iter(frame.bodies), None)


def chosen_header(chosen: Chosen) -> dict[str, Any]:
    """What will be counted."""
    return {"op": CHOSEN, **asdict(chosen)}


class _Chosen(Struct):
    scores: list[Any]
    suggested_scores: list[Any]
    note: Annotated[str, Meta(max_length=2000)]


def chosen_of(header: Mapping[str, Any], asked: Sequence[OutputSpec] | None) -> Chosen:
    """What a `chosen` frame's header says; `asked`: `scores` of the load. Raises WireRefused."""
    try:
        sent = convert(header, _Chosen)
        return Chosen(
            counted_outputs(sent.scores, asked),
            counted_outputs(sent.suggested_scores, None),
            printable(sent.note),
        )
    except _NOT_OURS as error:
        raise WireRefused("a malformed choice of scores") from error


def answers_header(groups: Sequence[int]) -> dict[str, Any]:
    """The header of an `answers` frame, whose bodies are so many answers of each alias."""
    return {"op": ANSWERS, "groups": groups}


class _Answers(Struct):
    groups: list[int]


def groups_of(frame: Frame) -> list[int]:
    """How many answers of each alias an `answers` frame has, which the gateway wrote."""
    return convert(frame.header, _Answers).groups


def counts_header(counted: CountedAnswers) -> dict[str, Any]:
    """What the answers of one frame count for."""
    return {"op": COUNTS, **asdict(counted)}


class _Counts(Struct):
    counts: list[list[Any]]
    bin_indexes: list[Annotated[int, Meta(ge=0)] | None]


def counts_of_answers(
    header: Mapping[str, Any], outputs: Sequence[OutputSpec], groups: Sequence[int]
) -> CountedAnswers:
    """What a `counts` frame's header says of an `answers` frame with these `groups`. Raises WireRefused."""
    try:
        sent = convert(header, _Counts)
        counts = tuple([counts_of(one, outputs) for one in sent.counts])
        known = [index for index in sent.bin_indexes if index is not None]
        fits = (
            len(counts) == len(groups) and all(counts),
            len(sent.bin_indexes) == sum(groups),
            not known or max(known) < outputs[0].index_count,
        )
        if not all(fits):
            raise ValueError("counts of other answers")
        return CountedAnswers(counts, tuple(sent.bin_indexes))
    except _NOT_OURS as error:
        raise WireRefused("malformed counts of scores") from error
