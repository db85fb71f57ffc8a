"""From what an engine answered to the answer of a version; bytes are passed, and never changed."""

from collections.abc import Sequence
from typing import Any

import orjson

from router.adapters.http.client import HttpAnswer
from router.core.answer_reading import parse_answer
from router.core.scores import SCORED_LATER
from router.core.version_address import Engine
from router.protocol.messages import Answer, PredictStatus, ScoringProtocol, TensorInfo

JSON = "application/json"
_NUMBERS = ("INT", "UIN", "FP1", "FP3", "FP6", "BOO", "BF1")
"""How the datatypes begin that are no texts."""
_REFUSES_REQUEST = (400, 413, 415, 422)
"""What says that the request is at fault. Any other 4xx is of the address, or of whoever stands before it."""
_REFUSES_GATEWAY = (401, 403, 407)
"""What is no caller's to mend: the credentials are the gateway's own."""
_BINARY = "Inference-Header-Content-Length"
_ENCODED = "in an encoding that was not asked for"
_NOT_BINARY = "answers are JSON here: ask without binary_data and binary_data_output"


def answer_of(engine: Engine, got: HttpAnswer, seconds: float, *, scored_later: bool = False) -> Answer:
    """The version's answer: 200 is a good one, 400, 413, 415 and 422 refuse the request, anything else is the
    version's fault. `scored_later`: whether the scores of a good one are read after it went out.

    How many rows it has is not known. What refuses the gateway, what is neither 200 nor an error, such as a
    redirect, and a 200 that can not be passed on becomes 502 with a sentence; a binary 200 becomes 415: its
    caller asked for one, and where its parts begin is said by a header that does not go along. An error in
    an encoding keeps its status, and has a sentence for its text.
    """
    # Of several parameters of a media type and of its case nothing is asked: it goes to the caller as it is.
    content_type = got.headers.get("Content-Type", JSON)
    if not content_type.isprintable():
        content_type = JSON
    if got.status == 200 and _BINARY in got.headers:
        return _error(engine, PredictStatus.CLIENT_ERROR, 415, _NOT_BINARY, seconds)
    if got.status == 200 and (why := why_unusable(got)):
        return _error(engine, PredictStatus.MODEL_ERROR, 502, f"the version's answer {why}", seconds)
    if got.status == 200:
        index = SCORED_LATER if scored_later else None
        return Answer(PredictStatus.OK, 200, got.body, content_type, 0, seconds, bin_index=index)
    if 400 <= got.status < 600 and got.status not in _REFUSES_GATEWAY:
        refused = got.status in _REFUSES_REQUEST
        status = PredictStatus.CLIENT_ERROR if refused else PredictStatus.MODEL_ERROR
        if _is_encoded(got):
            sentence = f"the version answered {got.phrase}, {_ENCODED}"
            return _error(engine, status, got.status, sentence, seconds)
        return Answer(
            status,
            got.status,
            got.body,
            content_type,
            0,
            seconds,
            keeps_status=True,
            as_is=True,
        )
    sentence = (
        f"the version's address refused the gateway: it answered {got.phrase}"
        if got.status in _REFUSES_GATEWAY
        else f"the version answered {got.phrase}, which is no answer of its protocol"
    )
    return _error(engine, PredictStatus.MODEL_ERROR, 502, sentence, seconds)


def why_unusable(got: HttpAnswer) -> str:
    """Why a 200 can not be passed on: a part of a sentence, empty where it can."""
    if _is_encoded(got):
        return f"is {_ENCODED}"
    if "Content-Length" not in got.headers and "Transfer-Encoding" not in got.headers:
        return "has no length, so that nobody knows whether it is whole"  # it ended with its connection
    return ""


def _is_encoded(got: HttpAnswer) -> bool:
    return got.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")


def refusal(asked: ScoringProtocol, engine: Engine) -> Answer:
    """The answer to a request in the other protocol: nothing is translated."""
    sentence = (
        "this model's versions speak the Open Inference Protocol: ask /v2/models/NAME/infer"
        if engine == "v2"
        else "this model's versions speak MLflow's protocol: ask /models/NAME/invocations"
    )
    other: Engine = "v2" if asked is ScoringProtocol.V2 else "mlflow"
    return _error(other, PredictStatus.CLIENT_ERROR, 415, sentence, 0.0)


def _error(engine: Engine, status: PredictStatus, code: int, sentence: str, seconds: float) -> Answer:
    body = {"error": sentence} if engine == "v2" else {"error_code": "BAD_REQUEST", "message": sentence}
    return Answer(status, code, orjson.dumps(body), JSON, 0, seconds, keeps_status=True, as_is=True)


def unlike_signature(engine: Engine, body: bytes, outputs: Sequence[TensorInfo]) -> str:
    """Why `body` is no answer of a version with these `outputs`; empty when it may be one.

    `outputs` are those of its signature, none where it has no signature. Names are compared where an answer
    has as many as the signature: engines name single outputs each in their own way.
    """
    try:
        document = parse_answer(body)
    except (ValueError, RecursionError):
        return "it is no JSON"
    if not isinstance(document, dict):
        return "it is no JSON object"
    if engine == "v2":
        return _unlike_tensors(document.get("outputs"), outputs)
    if "predictions" not in document:
        return "it has no predictions" if outputs else ""  # an LLM's answer stands alone
    return _unlike_predictions(document["predictions"], outputs)


def _unlike_predictions(predictions: Any, outputs: Sequence[TensorInfo]) -> str:
    first = predictions[0] if isinstance(predictions, list) and predictions else None
    names = {tensor.name for tensor in outputs}
    if isinstance(first, dict) and len(outputs) > 1 and first.keys() != names:
        return "its columns are not those of the signature"
    if len(outputs) == 1 and not isinstance(first, dict | list) and first is not None:
        is_text = isinstance(first, str)
        if is_text is not (outputs[0].datatype == "BYTES"):
            return f"its predictions are {'texts' if is_text else 'numbers'}, unlike those of the signature"
    return ""


def _unlike_tensors(tensors: Any, outputs: Sequence[TensorInfo]) -> str:
    if not isinstance(tensors, list) or not tensors or not all(isinstance(one, dict) for one in tensors):
        return "it has no outputs"
    if len(outputs) > 1 and len(tensors) == len(outputs):
        names = {str(one.get("name")) for one in tensors}
        if names != {tensor.name for tensor in outputs}:
            return "its outputs are not those of the signature"
    if len(outputs) == len(tensors) == 1:
        datatype = str(tensors[0].get("datatype"))
        if (datatype[:3] in _NUMBERS) is (outputs[0].datatype == "BYTES"):
            return f"its output is {datatype[:10]}, and {outputs[0].datatype} in the signature"
    return ""
