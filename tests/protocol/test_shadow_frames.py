"""What travels for a shadow, there and back."""

from typing import Any

import pytest
from msgspec.structs import asdict

from router.protocol.frames import Frame
from router.protocol.messages import PredictStatus, Query, ScoringProtocol, WireRefused
from router.protocol.shadow_frames import (
    MOST_ROWS,
    Compared,
    ShadowQuery,
    compared_of,
    shadow_frame,
    shadow_of,
)

COMPARED = Compared("compared", 7, PredictStatus.OK, 2, 2, False, 0.1, 0.05, 0.06, False, 1, 2, -0.25)


@pytest.mark.parametrize("production", [b'{"predictions": [1]}', b"", None])
def test_a_copy_arrives_as_it_was_asked(production: bytes | None) -> None:
    query = Query(b"\x00body", "application/json", 100, ScoringProtocol.V2)
    asked = ShadowQuery(query, production, 0.25)

    header, bodies = shadow_frame(7, asked)

    assert header["seq"] == 7
    assert shadow_of(Frame(header, bodies)) == asked


def test_a_content_type_that_is_no_utf8_can_be_sent() -> None:
    header, _ = shadow_frame(1, ShadowQuery(Query(b"", "text/\udcff"), None, 0.5))
    assert header["content_type"] == "text/?"


def test_what_came_of_it_arrives_as_it_was_said() -> None:
    assert compared_of(Frame(asdict(COMPARED), [])) == COMPARED


@pytest.mark.parametrize(
    "odd",
    [
        {"flips": 3},
        {"flips": -1},
        {"flips": 2**64 - 1, "compared_rows": 2**64 - 1},
        {"compared_rows": MOST_ROWS + 1},
        {"rows": MOST_ROWS + 1},
        {"answer_rows": MOST_ROWS + 1},
        {"compared_rows": "2"},
        {"difference": "much"},
        {"status": "fine"},
        {"predict_seconds": -1.0},
        {"processor_seconds": 1e300},
        {"all_nan": 0},
        {"seq": None},
    ],
)
def test_what_no_worker_of_ours_says_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(WireRefused):
        compared_of(Frame({**asdict(COMPARED), **odd}, []))


def test_an_answer_beside_it_is_refused() -> None:
    with pytest.raises(WireRefused):
        compared_of(Frame(asdict(COMPARED), [b"{}"]))
