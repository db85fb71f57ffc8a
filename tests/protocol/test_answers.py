"""Requests travel to a worker, and its answers back, as they were meant, whatever anyone put into them."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.scores import ClassCounts, ClassSpec, OutputSpec, ScoreCounts, ScoreSpec
from router.core.traits import MOST_TRAITS, TraitsWanted
from router.protocol import messages
from router.protocol.frames import Frame, FrameDecoder, encode_frame
from router.protocol.messages import Answer, Batch, PredictStatus, Query, ScoringProtocol, WireRefused

text = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters().filter(str.isprintable), max_size=256)
counts = st.integers(0, 2**40)


def sent(header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> Frame:
    """The frame as the other side sees it."""
    (frame,) = FrameDecoder().feed(b"".join(encode_frame(header, bodies)))
    return frame


COUNTED = (ScoreSpec(bins=5), ClassSpec("label", ("ham", "spam")))
score_counts = st.builds(
    ScoreCounts,
    st.lists(counts, min_size=5, max_size=5).map(tuple),
    st.floats(0, allow_infinity=False),
    st.floats(0, allow_infinity=False),
    *[counts] * 4,
)
class_counts = st.lists(counts, min_size=3, max_size=3).map(
    lambda drawn: ClassCounts(tuple(drawn), drawn[2] // 2)
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    places = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True))
    seconds, worked, whole = (draw(st.floats(0, 1e6)) for _ in range(3))
    scores = draw(st.just(()) | st.tuples(score_counts, class_counts))
    predict_rows = draw(st.none() | counts)
    answers = [
        Answer(
            predict_status=draw(st.sampled_from(PredictStatus)),
            status=draw(st.integers(200, 599)),
            body=draw(st.binary()),
            content_type=draw(names),
            rows=draw(counts),
            predict_seconds=seconds,
            scores=scores if first else (),
            answer_rows=draw(st.none() | counts),
            nan_only=draw(st.booleans()),
            bin_index=draw(st.none() | st.integers(0, 4)),
            traits=draw(st.none() | st.lists(st.integers(0, MOST_TRAITS - 1), max_size=4).map(tuple)),
            processor_seconds=worked,
            predict_rows=predict_rows,
        )
        for first in (True, *[False] * (len(places) - 1))
    ]
    return Batch(draw(st.integers(0, 2**40)), tuple(places), tuple(answers), whole)


@given(batches())
def test_answers_arrive_as_they_were_sent(batch: Batch) -> None:
    assert messages.batch_of(sent(*messages.answers_frame(batch)), COUNTED) == batch


@given(
    st.lists(
        st.builds(
            Query,
            *(st.binary(), st.none() | text, st.none() | counts),
            *(st.sampled_from(ScoringProtocol), st.sampled_from(TraitsWanted)),
        ),
        max_size=5,
    )
)
def test_requests_arrive_as_they_were_sent(queries: list[Query]) -> None:
    assert messages.queries_of(sent(*messages.predict_frame(1, queries))) == queries


@given(st.lists(st.builds(Query, st.binary(), st.none() | st.text()), min_size=1, max_size=3))
def test_no_content_type_keeps_a_frame_from_being_sent(queries: list[Query]) -> None:
    """One caller's header must not cost the worker, nor the requests beside it."""
    received = messages.queries_of(sent(*messages.predict_frame(1, queries)))

    assert [query.body for query in received] == [query.body for query in queries]


def test_header_bytes_that_are_not_utf_8_become_question_marks() -> None:
    """The media type before them still counts."""
    raw = b"application/json; charset=\xff".decode("utf-8", "surrogateescape")

    (query,) = messages.queries_of(sent(*messages.predict_frame(1, [Query(b"{}", raw)])))

    assert query.content_type == "application/json; charset=?"


@pytest.mark.parametrize("sum_", [math.inf, math.nan])
def test_why_a_sum_of_scores_must_be_finite(sum_: float) -> None:
    """It would arrive as None, and the worker would be ended for it: bins keeps it finite."""
    scores = (ScoreCounts((1,), positive_sum=sum_),)
    answer = Answer(PredictStatus.OK, 200, b"", "application/json", 1, 0.0, scores)
    frame = sent(*messages.answers_frame(Batch(1, (0,), (answer,))))

    with pytest.raises(WireRefused):
        messages.batch_of(frame, (ScoreSpec(bins=1),))


SCORES = {
    "bins": [1, 0],
    "positive_sum": 0.5,
    "negative_sum": 0,
    "nan": 0,
    "inf": 0,
    "non_numeric": 0,
    "out_of_range": 0,
}
CLASSES = {"counts": [1, 0, 3], "nan": 2}
TWO = (ScoreSpec(bins=2), ClassSpec("label", ("ham", "spam")))
ANSWERS = {
    "op": "answers",
    "seq": 1,
    "i": [0, 3],
    "verdict": ["ok", "client_error"],
    "status": [200, 400],
    "content_type": ["application/json", "text/plain"],
    "rows": [1, 0],
    "answer_rows": [1, None],
    "nan_only": [False, False],
    "predict_seconds": 0.5,
    "processor_seconds": 0.4,
    "worker_seconds": 0.6,
    "bin_indexes": [0, None],
    "scores": [SCORES, CLASSES],
}
BODIES = [b"{}", b"no"]
ODD = [None, True, "x", "", -1, 1.5, [], {}, [1], {"a": 1}, 2**64 - 1, 1e300, "x" * 3000, "a\r\nb"]
"""What hostile code may put where something else belongs."""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("op", "ready"),
        *[("seq", value) for value in ("0", None, 1.0, True)],
        *[("i", value) for value in (0, None, [], [0], [0, 0], [0, 1, 2], ["0", 1], [0.0, 1], [True, 2])],
        *[("verdict", value) for value in ("ok", ["ok"], ["fine", "ok"], [[], "ok"], ["ok"] * 3)],
        *[("status", [value, 200]) for value in ("200", 99, 101, 600, 99999, 200.0, True, None)],
        *[
            ("content_type", [value, "text/plain"])
            for value in (7, None, "text/html\r\nX-Evil: 1", "a\0", "a" * 257, [])
        ],
        *[("rows", [0, value]) for value in (-1, "x", 1.0, True, None)],
        *[("answer_rows", [value, None]) for value in (-1, "x", 1.0, True)],
        *[("predict_rows", value) for value in (-1, "x", 1.0, True, [1])],
        *[("nan_only", [value, False]) for value in (0, None, "x")],
        *[("keep_status", value) for value in (1, "0", [True], [2], [-1], ["0"], [[0]], {"x": 0})],
        *[("traits", [value, None]) for value in (7, "0", [-1], [256], ["0"], [1.0], [True], [0] * 257, {})],
        *[("traits", value) for value in ("ab", [], [[0]], [None] * 3, {"0": 1})],
        *[("bin_indexes", [value, None]) for value in (-1, 4, "0", 0.0, True, [], 2**64 - 1, -(2**63))],
        *[("bin_indexes", value) for value in ([], [0], [0, 1, 0], [None], "01", {"0": 1, "1": 0}, 0)],
        *[
            (name, value)
            for name in ("predict_seconds", "processor_seconds", "worker_seconds")
            for value in (-1, -1e300, "x", None, True, [])
        ],
        *[(name, 1e300) for name in ("processor_seconds", "worker_seconds")],
        *[(name, [value]) for name in ("rows", "status", "answer_rows", "nan_only") for value in (0, 200)],
        *[
            ("scores", value)
            for value in (
                {},
                None,
                SCORES,
                [SCORES],
                [CLASSES, SCORES],
                [SCORES, CLASSES, SCORES],
                [{}, {}],
                "ab",
                7,
            )
        ],
    ],
)
def test_answers_with_an_odd_field_are_refused(field: str, value: Any) -> None:
    messages.batch_of(sent(ANSWERS, BODIES), TWO)

    with pytest.raises(WireRefused):
        messages.batch_of(sent({**ANSWERS, field: value}, BODIES), TWO)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("bins", value) for value in ([1], [1, 2, 3], [-1, 2], [1.0, 2], ["1", "2"], "12", None)],
        *[(name, value) for name in ("positive_sum", "negative_sum") for value in (-0.5, None, "1", True)],
        *[
            (name, value)
            for name in ("nan", "inf", "non_numeric", "out_of_range")
            for value in (-1, None, 0.5, True, "1")
        ],
    ],
)
def test_answers_with_odd_counts_of_scores_are_refused(field: str, value: Any) -> None:
    with pytest.raises(WireRefused):
        messages.batch_of(sent({**ANSWERS, "scores": [{**SCORES, field: value}, CLASSES]}, BODIES), TWO)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("counts", value) for value in ([1, 2], [0, 1, 2, 3], [-1, 0, 3], [0.5, 0, 3], "123", None, {})],
        *[("nan", value) for value in (-1, 4, None, 0.5, True, "1")],
    ],
)
def test_answers_with_odd_counts_of_labels_are_refused(field: str, value: Any) -> None:
    """More labels that are NaN than labels that are on no list there can not be."""
    with pytest.raises(WireRefused):
        messages.batch_of(sent({**ANSWERS, "scores": [SCORES, {**CLASSES, field: value}]}, BODIES), TWO)


def test_answers_without_scores_may_have_been_counted_or_not() -> None:
    """A refused request counts for nothing; of several answers one carries the counts of all."""
    plain = {**ANSWERS, "scores": [], "bin_indexes": None}

    assert [one.scores for one in messages.batch_of(sent(plain, BODIES), TWO).answers] == [(), ()]
    assert [one.bin_index for one in messages.batch_of(sent(plain, BODIES), ()).answers] == [None, None]


def test_marks_are_places_among_the_classes_where_those_come_first() -> None:
    reported = {**ANSWERS, "scores": [], "bin_indexes": [2, 0]}

    assert [one.bin_index for one in messages.batch_of(sent(reported, BODIES), TWO[::-1]).answers] == [2, 0]
    with pytest.raises(WireRefused):
        messages.batch_of(sent({**reported, "bin_indexes": [3, 0]}, BODIES), TWO[::-1])


def test_scores_that_nobody_counts_are_refused() -> None:
    with pytest.raises(WireRefused):
        messages.batch_of(sent({**ANSWERS, "bin_indexes": None}, BODIES), ())
    with pytest.raises(WireRefused):
        messages.batch_of(sent({**ANSWERS, "scores": []}, BODIES), ())


@pytest.mark.parametrize("bodies", [[], [b"{}"], [b"{}"] * 3])
def test_each_answer_has_one_body(bodies: list[bytes]) -> None:
    with pytest.raises(WireRefused):
        messages.batch_of(sent(ANSWERS, bodies), TWO)


json_values = st.recursive(
    st.sampled_from(ODD) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(sorted(ANSWERS)), json_values, st.sampled_from([(), TWO]))
def test_answers_are_read_or_refused_and_nothing_else(
    field: str, value: Any, counted: tuple[OutputSpec, ...]
) -> None:
    with suppress(WireRefused):
        batch = messages.batch_of(Frame({**ANSWERS, field: value}, (b"{}", b"no")), counted)
        assert all(answer.rows >= 0 and answer.predict_seconds >= 0 for answer in batch.answers)
