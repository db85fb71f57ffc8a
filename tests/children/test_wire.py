"""What is written into a frame on one side is read from it on the other."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import wire
from router.core.bins import ScoreCounts, ScoreSpec
from router.core.frames import Frame, FrameDecoder, encode_frame
from router.core.ids import VersionId
from router.core.work import Answer, LoadSpec, Query, Verdict, VersionInfo

counts = st.builds(
    ScoreCounts,
    bins=st.lists(st.integers(0, 2**53), min_size=3, max_size=3).map(tuple),
    positive_sum=st.floats(0, 1e300),
    negative_sum=st.floats(0, 1e300),
    nan=st.integers(0, 2**53),
    inf=st.integers(0, 2**53),
    non_numeric=st.integers(0, 2**53),
    out_of_range=st.integers(0, 2**53),
)
answers = st.builds(
    Answer,
    verdict=st.sampled_from(Verdict),
    status=st.integers(200, 599),
    body=st.binary(),
    content_type=st.sampled_from(["application/json", "text/plain; charset=utf-8", ""]),
    rows=st.integers(0, 2**53),
    predict_seconds=st.floats(0, 1e9),
    scores=st.none() | counts,
)
media_types = st.none() | st.text(st.characters(codec="utf-8"))


def through(header: dict[str, Any], bodies: Sequence[bytes] = ()) -> Frame:
    [frame] = FrameDecoder().feed(b"".join(encode_frame(header, bodies)))
    return frame


@given(index=st.integers(0, 1000), answer=answers)
def test_an_answer_arrives_as_it_was(index: int, answer: Answer) -> None:
    assert wire.answer_of(through(*wire.answer_frame(7, index, answer)), bins=3) == (7, index, answer)


@given(st.lists(st.builds(Query, body=st.binary(), content_type=media_types)))
def test_requests_arrive_as_they_were(queries: list[Query]) -> None:
    assert wire.queries_of(through(*wire.predict_frame(1, queries))) == queries


@pytest.mark.parametrize("scores", [None, ScoreSpec(output="score", low=-1.5, high=2.0, bins=3)])
def test_a_load_and_its_outcome_arrive_as_they_were(scores: ScoreSpec | None) -> None:
    spec = LoadSpec(VersionId("churn", 3), "/cache/churn/3", scores, blas_threads=4)
    info = VersionInfo("r1", "sklearn", True, False, {"load": 0.5}, scores, "a note")

    assert wire.load_spec(through(wire.load_header(spec)).header) == spec
    assert wire.version_info(through(wire.ready_header(info)).header) == info
