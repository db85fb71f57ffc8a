"""What travels to a worker and back is what was meant, whatever a caller or a version put into it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import wire
from router.core.bins import ScoreCounts, ScoreSpec
from router.core.frames import Frame, FrameDecoder, encode_frame
from router.core.ids import VersionId
from router.core.work import Answer, LoadSpec, Query, Verdict, VersionInfo

text = st.text(st.characters(exclude_categories=["Cs"]))
seconds = st.floats(0, 1e6)
counts = st.integers(0, 2**40)
specs = st.builds(ScoreSpec, st.integers(0, 9) | text, bins=st.integers(1, 40))


def sent(header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> Frame:
    """The frame as the other side sees it."""
    (frame,) = FrameDecoder().feed(b"".join(encode_frame(header, bodies)))
    return frame


@given(
    st.builds(
        LoadSpec,
        st.builds(VersionId, text, st.integers(1, 2**40)),
        text,
        st.none() | specs,
        st.integers(1, 64),
    )
)
def test_a_load_arrives_as_it_was_sent(spec: LoadSpec) -> None:
    assert wire.load_spec(sent(wire.load_header(spec)).header) == spec


@given(
    st.builds(
        VersionInfo,
        run_id=text,
        flavor=text,
        has_signature=st.booleans(),
        has_example=st.booleans(),
        phase_seconds=st.dictionaries(st.sampled_from(["load", "warmup"]), seconds),
        scores=st.none() | specs,
        note=text,
    )
)
def test_what_a_version_tells_about_itself_arrives_as_it_was_sent(info: VersionInfo) -> None:
    assert wire.version_info(sent(wire.ready_header(info)).header) == info


@given(
    st.integers(0, 1000),
    st.builds(
        Answer,
        verdict=st.sampled_from(Verdict),
        status=st.integers(200, 599),
        body=st.binary(),
        content_type=text,
        rows=counts,
        predict_seconds=seconds,
        scores=st.none()
        | st.builds(
            ScoreCounts,
            st.lists(counts, min_size=1, max_size=5).map(tuple),
            st.floats(0, allow_infinity=False),
            st.floats(0, allow_infinity=False),
            *[counts] * 4,
        ),
        answer_rows=st.none() | counts,
    ),
)
def test_an_answer_arrives_as_it_was_sent(index: int, answer: Answer) -> None:
    assert wire.answer_of(sent(*wire.answer_frame(index, answer))) == (index, answer)


@given(st.lists(st.builds(Query, st.binary(), st.none() | text, st.none() | counts), max_size=5))
def test_requests_arrive_as_they_were_sent(queries: list[Query]) -> None:
    assert wire.queries_of(sent(*wire.predict_frame(queries))) == queries


@given(st.lists(st.builds(Query, st.binary(), st.none() | st.text()), min_size=1, max_size=3))
def test_no_content_type_keeps_a_frame_from_being_sent(queries: list[Query]) -> None:
    """One caller's header must not cost the worker, nor the requests beside it."""
    received = wire.queries_of(sent(*wire.predict_frame(queries)))

    assert [query.body for query in received] == [query.body for query in queries]


def test_header_bytes_that_are_not_utf_8_become_question_marks() -> None:
    """The media type before them still counts."""
    raw = b"application/json; charset=\xff".decode("utf-8", "surrogateescape")

    (query,) = wire.queries_of(sent(*wire.predict_frame([Query(b"{}", raw)])))

    assert query.content_type == "application/json; charset=?"


@pytest.mark.parametrize("sum_", [math.inf, math.nan])
def test_why_a_sum_of_scores_must_be_finite(sum_: float) -> None:
    """It would arrive as None, and adding it would raise in the gateway: bins keeps it finite."""
    scores = ScoreCounts((1,), positive_sum=sum_)
    _, answer = wire.answer_of(
        sent(*wire.answer_frame(0, Answer(Verdict.OK, 200, b"", "application/json", 1, 0.0, scores)))
    )

    assert answer.scores is not None
    assert answer.scores.positive_sum is None
