"""Errors of versions that run elsewhere: another server worded them, and they go out as they came."""

import pytest

from router.protocol.messages import Answer, PredictStatus, ScoringProtocol
from router.web.responses import answer_response


@pytest.mark.parametrize("protocol", list(ScoringProtocol))
@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (400, b'{"error_code": "BAD_REQUEST", "message": "no"}', "application/json"),
        (500, b"<html>not JSON at all", "application/json"),
        (503, b"busy", "text/plain"),
    ],
)
def test_status_type_and_body_of_an_error_are_those_of_the_engine(
    protocol: ScoringProtocol, status: int, body: bytes, content_type: str
) -> None:
    """Also where `model_error_status` would make 400 of a local version's 500."""
    judged = PredictStatus.CLIENT_ERROR if status < 500 else PredictStatus.MODEL_ERROR
    answer = Answer(judged, status, body, content_type, 0, 0.1, keeps_status=True, as_is=True)

    response = answer_response(answer, "request-1", 400, protocol)

    assert (response.status, response.body) == (status, body)
    assert response.headers["Content-Type"] == content_type
