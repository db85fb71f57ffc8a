"""The frames of shadows: `shadow` has an idle worker answer a copy of a request that production took.

`compared` follows, once: how the version took it, and how far the two answers are the same. Its own answer
never leaves the worker.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert

from router.protocol.frames import Frame
from router.protocol.messages import PredictStatus, Query, ScoringProtocol, WireRefused

SHADOW, COMPARED = "shadow", "compared"

MOST_ROWS = 1 << 30
"""Of one request, above every `max_rows`. Sums of them are evidence, whose integers have 64 bits."""

_Count = Annotated[int, Meta(ge=0, le=MOST_ROWS)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class ShadowQuery(Struct, frozen=True, gc=False):
    """A copy of a request, and what production made of it."""

    query: Query
    production: bytes | None
    """Body of production's good answer; None where it gave none, or one that is too long to be read."""
    cut_off: float
    """Where a score becomes a decision."""


class Compared(Struct, frozen=True):
    """How a version took a copy of a request."""

    op: Literal["compared"]
    seq: int
    status: PredictStatus
    rows: _Count
    """As of `Answer`; so are the next four."""
    answer_rows: _Count | None
    all_nan: bool
    predict_seconds: _Seconds
    processor_seconds: _Seconds
    worker_seconds: _Seconds
    """As of `Batch`."""
    same_type: bool = True
    """As of `core.shadow_comparison.AnswersCompared`; so are the rest."""
    flips: _Count = 0
    compared_rows: _Count = 0
    difference: float | None = None

    @property
    def odd_length(self) -> bool:
        """Whether the version answered another number of rows than it was asked for."""
        return self.answer_rows is not None and bool(self.rows) and self.answer_rows != self.rows


def shadow_frame(sequence: int, asked: ShadowQuery) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of a `shadow` frame."""
    query = asked.query
    content_type = query.content_type
    if content_type is not None and not content_type.isascii():
        content_type = content_type.encode("utf-8", "replace").decode("utf-8")
    header = {
        "op": SHADOW,
        "seq": sequence,
        "content_type": content_type,
        "max_rows": query.max_rows,
        "protocol": query.protocol,
        "answered": asked.production is not None,
        "cut_off": asked.cut_off,
    }
    return header, [query.body, asked.production or b""]


class _Shadow(Struct):
    content_type: str | None
    max_rows: int | None
    protocol: ScoringProtocol
    answered: bool
    cut_off: float


def shadow_of(frame: Frame) -> ShadowQuery:
    """What a `shadow` frame asks, which the gateway wrote."""
    sent = convert(frame.header, _Shadow)
    body, production = frame.bodies
    query = Query(body, sent.content_type, sent.max_rows, sent.protocol)
    return ShadowQuery(query, production if sent.answered else None, sent.cut_off)


def compared_of(frame: Frame) -> Compared:
    """What a worker's `compared` frame says. Raises WireRefused."""
    try:
        compared = convert(frame.header, Compared)
    except ValidationError as error:
        raise WireRefused("a malformed comparison") from error
    if compared.flips > compared.compared_rows or frame.bodies:
        raise WireRefused("a malformed comparison")
    return compared
