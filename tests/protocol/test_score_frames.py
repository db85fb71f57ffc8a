"""What a child that reads scores says is taken as it says it, or not at all."""

from typing import Any

import orjson
import pytest

from router.core.ids import VersionId
from router.core.scores import ClassSpec, ScoreCounts, ScoreSpec
from router.protocol.frames import FrameDecoder, encode_frame
from router.protocol.messages import LoadSpec, WireRefused
from router.protocol.score_frames import (
    Chosen,
    CountedAnswers,
    chosen_header,
    chosen_of,
    counts_header,
    counts_of_answers,
    start_frame,
    start_of,
)

OUTPUTS = (ScoreSpec(bins=2), ClassSpec("label", ("ham",)))
SPEC = LoadSpec(VersionId("m", 7), "/somewhere", OUTPUTS, production_scores=())


def sent(header: dict[str, Any], *bodies: bytes) -> Any:
    """As it arrives on the other side."""
    [frame] = FrameDecoder().feed(b"".join(encode_frame(header, bodies)))
    return frame


@pytest.mark.parametrize("example", [None, b"", b"{}"])
def test_what_is_to_be_counted_arrives(example: bytes | None) -> None:
    header, bodies = start_frame(SPEC, "v2", example)

    assert start_of(sent(header, *bodies)) == (SPEC, "v2", example)


def test_a_choice_arrives_and_what_was_not_asked_for_is_refused() -> None:
    header = sent(chosen_header(Chosen(OUTPUTS, (ScoreSpec(),), "a\x1b[2J note"))).header

    assert chosen_of(header, OUTPUTS) == Chosen(OUTPUTS, (ScoreSpec(),), "a [2J note")
    assert chosen_of(header, None).scores == OUTPUTS
    for wrong in ({**header, "scores": 3}, {**header, "note": "x" * 2001}, {"op": "chosen"}):
        with pytest.raises(WireRefused):
            chosen_of(wrong, None)
    with pytest.raises(WireRefused):
        chosen_of(header, OUTPUTS[:1])


SOUND = {"counts": [[{"bins": [1, 1]}]], "bin_indexes": [0, None]}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"counts": []}, {"counts": [[]]}, {"counts": [[{"bins": [1]}]]}, {"counts": SOUND["counts"] * 2}),
        *({"counts": [[{"bins": [1, -1]}]]}, {"counts": [[{"bins": [1, 1]}, {"bins": [1, 1]}]]}),
        *({"bin_indexes": [0]}, {"bin_indexes": [0, 4]}, {"bin_indexes": [0, -1]}, {"bin_indexes": [0, "1"]}),
        *({"counts": None}, {"counts": [[{"bins": [1, 1], "positive_sum": -1.0}]]}),
    ],
    ids=lambda wrong: orjson.dumps(wrong).decode(),
)
def test_counts_of_other_answers_or_outputs_are_refused(wrong: dict[str, Any]) -> None:
    outputs, groups = OUTPUTS[:1], (2,)

    assert counts_of_answers(SOUND, outputs, groups) == CountedAnswers(((ScoreCounts((1, 1)),),), (0, None))
    with pytest.raises(WireRefused):
        counts_of_answers({**SOUND, **wrong}, outputs, groups)


def test_counts_arrive() -> None:
    counted = CountedAnswers(((ScoreCounts((1, 0), 0.25),), (ScoreCounts((0, 0), nan=1),)), (0, None))

    assert counts_of_answers(sent(counts_header(counted)).header, OUTPUTS[:1], (1, 1)) == counted
