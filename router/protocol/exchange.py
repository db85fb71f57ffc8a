"""What one exchange with a worker carries: a frame of requests one way, their answers the other.

A `predict` frame holds many requests. Each `answers` frame that follows holds those that came out of one
predict, so a frame of requests is over when each of them was in one. Several frames may be under way at once;
each answer names the sequence of its own. A version's code runs where answers are written, so they are read
with suspicion: only the exact types and ranges that a worker of ours writes get through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router.core.outputs import OutputSpec
from router.protocol.exact import NAME_CHARACTERS, amount
from router.protocol.frames import Frame
from router.protocol.messages import Answer, PredictStatus, Query, ScoringProtocol
from router.protocol.score_fields import counts_of, marks_of
from router.protocol.wire import NOT_OURS, WireRefused

PREDICT, ANSWERS = "predict", "answers"
_VERDICTS = {str(verdict): verdict for verdict in PredictStatus}
_PROTOCOLS = {str(protocol): protocol for protocol in ScoringProtocol}
_INTEGERS = {int}
_COUNTS = {int, type(None)}
_BOOLEANS = {bool}


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers that came out of one predict, with the places of their requests in the frame."""

    sequence: int
    places: tuple[int, ...]
    answers: tuple[Answer, ...]
    """At most one of them carries scores: those of the whole batch."""


def predict_frame(sequence: int, queries: Sequence[Query]) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of a `predict` frame; its answers repeat `sequence`."""
    types = [query.content_type and _sendable(query.content_type) for query in queries]
    most = [query.max_rows for query in queries]
    header = {
        "op": PREDICT,
        "seq": sequence,
        "content_types": types,
        "max_rows": most,
        "protocols": [query.protocol for query in queries],
    }
    return header, [query.body for query in queries]


def queries_of(frame: Frame) -> list[Query]:
    """The requests in a `predict` frame."""
    header = frame.header
    parts = zip(frame.bodies, header["content_types"], header["max_rows"], header["protocols"], strict=True)
    return [Query(body, kind, rows, _PROTOCOLS[protocol]) for body, kind, rows, protocol in parts]


def answers_frame(batch: Batch) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of an `answers` frame. All answers of a batch took the same time, its predict's."""
    answers = batch.answers
    marks = [answer.mark for answer in answers]
    header = {
        "op": ANSWERS,
        "seq": batch.sequence,
        "i": batch.places,
        "verdict": [answer.verdict for answer in answers],
        "status": [answer.status for answer in answers],
        "content_type": [answer.content_type for answer in answers],
        "rows": [answer.rows for answer in answers],
        "answer_rows": [answer.answer_rows for answer in answers],
        "nan_only": [answer.nan_only for answer in answers],
        "predict_seconds": answers[0].predict_seconds,
        "keep_status": [place for place, answer in enumerate(answers) if answer.keeps_status],
        "marks": None if all(mark is None for mark in marks) else marks,
        # orjson writes a dataclass itself; asdict costs 20 µs
        "scores": next((answer.scores for answer in answers if answer.scores), ()),
    }
    return header, [answer.body for answer in answers]


def batch_of(frame: Frame, counted: Sequence[OutputSpec]) -> Batch:
    """The batch in an `answers` frame. Raises WireRefused.

    `counted`: what is counted of the version's answers, empty when nothing is. Sequence and places
    are integers, no place twice; whether they were asked for is for the caller to say.
    """
    header = frame.header
    try:
        places, statuses, rows = header["i"], header["status"], header["rows"]
        types, answer_rows, nan_only = header["content_type"], header["answer_rows"], header["nan_only"]
        # Comparisons alone would let true pass for 1; they come last, for they want numbers.
        if (
            header["op"] != ANSWERS
            or type(header["seq"]) is not int
            or not places
            or not set(map(type, places)) == set(map(type, statuses)) == set(map(type, rows)) == _INTEGERS
            or not set(map(type, answer_rows)) <= _COUNTS
            or set(map(type, nan_only)) != _BOOLEANS
            or len(set(places)) != len(places)
            or min(statuses) < 200
            or max(statuses) > 599
            or min(rows) < 0
            or min(count or 0 for count in answer_rows) < 0
            or not all(map(_is_media_type, set(types)))
            or not set(map(type, keep := header.get("keep_status") or [])) <= _INTEGERS
            or not set(keep) <= set(range(len(places)))
        ):
            raise ValueError("a field out of its range")
        seconds = amount(header["predict_seconds"])
        scores = counts_of(header["scores"], counted)
        marks = marks_of(header["marks"], counted, len(places))
        fields = zip(
            *(header["verdict"], statuses, frame.bodies, types, rows, answer_rows, nan_only, marks, places),
            strict=True,
        )
        answers: list[Answer] = []
        for verdict, status, body, kind, count, answered, only_nan, mark, _ in fields:
            head = (_VERDICTS[verdict], status, body, kind, count, seconds)
            keeps = bool(keep) and len(answers) in keep
            answers.append(Answer(*head, scores, answered, only_nan, mark, keeps))
            scores = ()
        return Batch(header["seq"], tuple(places), tuple(answers))
    except NOT_OURS as error:
        raise WireRefused("an answer that is none") from error


def _is_media_type(text: Any) -> bool:
    return type(text) is str and len(text) <= NAME_CHARACTERS and text.isprintable()


def _sendable(text: str) -> str:
    # A header's bytes may be no UTF-8; they arrive as lone surrogates, which a frame can not carry. One
    # caller's Content-Type must not cost the worker, and it is no media type anyone could read.
    return text.encode("utf-8", "replace").decode("utf-8")
