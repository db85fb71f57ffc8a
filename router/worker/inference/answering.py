"""The version's answers to requests of the Open Inference Protocol, good and bad."""

import orjson
from msgspec.structs import replace

from router.protocol.messages import Answer, PredictStatus
from router.worker.inference.tensors import InferenceRefused
from router.worker.refusals import JSON, MESSAGE_CHARACTERS

_TOO_LARGE = 413


def refused(error: InferenceRefused, *, predict_seconds: float = 0.0) -> Answer:
    """The answer to a caller's mistake."""
    return Answer(PredictStatus.CLIENT_ERROR, 400, _body(str(error)), JSON, 0, predict_seconds)


def in_v2(answer: Answer, *, no_rows: bool = False) -> Answer:
    """A refusal of MLflow's shape in the protocol's, whose codes are 400, 413 and 500.

    `no_rows`: the request had none. What a version then raises is no fault of its own: there was nothing to
    predict, and few libraries take that.
    """
    if answer.verdict is PredictStatus.MODEL_ERROR and no_rows:
        return refused(InferenceRefused("the version does not take a request without rows"))
    status = answer.status
    if status != _TOO_LARGE:
        status = 400 if answer.verdict is PredictStatus.CLIENT_ERROR else 500
    return replace(answer, status=status, body=_body(orjson.loads(answer.body)["message"]), content_type=JSON)


def _body(message: str) -> bytes:
    return orjson.dumps({"error": message[:MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()})
