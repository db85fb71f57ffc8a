"""HTTP status codes and bodies of errors: decided here and nowhere else."""

from typing import Any

import orjson
from aiohttp import web

from router.errors import (
    CallerGone,
    ConfigRefused,
    DeadlineExceeded,
    KeyMissing,
    ModelNotConfigured,
    NotReady,
    Overloaded,
    RequestRefused,
    VersionNotServed,
    WorkerDied,
)
from router.protocol.messages import Answer, PredictStatus, ScoringProtocol

SERVER = "canary-router"
"""The Server header of every answer: neither a version nor a library."""
RETRY_AFTER_SECONDS = "1"

# MLflow's error codes with the SQL state and class its own exceptions carry (3.17).
_BAD_REQUEST = ("BAD_REQUEST", "KAM00", "INVALID_PARAMETER_VALUE")
_UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "XXM00", "CLIENT_INTERNAL_ERROR")
_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "KAM00", "RESOURCE_NOT_FOUND")
_DEADLINE = ("DEADLINE_EXCEEDED", "XXM00", "CLIENT_INTERNAL_ERROR")
_INTERNAL = ("INTERNAL_ERROR", "XXM00", "CLIENT_INTERNAL_ERROR")

_BY_ERROR: dict[type[RequestRefused], tuple[int, tuple[str, str, str]]] = {
    KeyMissing: (400, _BAD_REQUEST),
    ModelNotConfigured: (404, _NOT_FOUND),
    VersionNotServed: (404, _NOT_FOUND),
    NotReady: (503, _UNAVAILABLE),
    Overloaded: (503, _UNAVAILABLE),
    WorkerDied: (503, _UNAVAILABLE),
    DeadlineExceeded: (504, _DEADLINE),
    CallerGone: (499, _BAD_REQUEST),  # for metrics and the log: there is nobody to read it
}

MEDIA_TYPE = "application/json"


class TooLarge(RequestRefused):
    """The body is over `body_limit_mib`."""


class BodyTimeout(RequestRefused):
    """The body did not arrive within `body_timeout_seconds`."""


class NoDirectAccess(RequestRefused):
    """Aliases of this model can not be asked for by name."""


class BodyUnreadable(RequestRefused):
    """The body could not be read as HTTP delivers it."""


class BinaryTensors(RequestRefused):
    """Tensors came as bytes after the JSON, which is an extension of the protocol."""


_BY_ERROR |= {
    TooLarge: (413, _BAD_REQUEST),
    BodyTimeout: (408, _BAD_REQUEST),
    NoDirectAccess: (404, _NOT_FOUND),
    BodyUnreadable: (400, _BAD_REQUEST),
    BinaryTensors: (400, _BAD_REQUEST),
}


def error_response(
    error: RequestRefused, request_id: str, protocol: ScoringProtocol = ScoringProtocol.MLFLOW
) -> web.Response:
    """The answer to a request that no version answered, in the shape of its protocol."""
    status, (code, state, class_) = _BY_ERROR.get(type(error), (500, _INTERNAL))
    if protocol is ScoringProtocol.V2:
        return inference_error(status, str(error))
    return mlflow_error(status, code, state, class_, str(error), request_id)


def internal_error(request_id: str, protocol: ScoringProtocol = ScoringProtocol.MLFLOW) -> web.Response:
    """The answer when our own code failed; what happened is in the log."""
    message = "the gateway failed to answer; see its log"
    if protocol is ScoringProtocol.V2:
        return inference_error(500, message)
    return mlflow_error(500, *_INTERNAL, message, request_id)


def inference_error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error in the shape of the Open Inference Protocol."""
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else headers
    body = orjson.dumps({"error": message})
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers=headers)


def mlflow_error(
    status: int, code: str, state: str, class_: str, message: str, request_id: str
) -> web.Response:
    """An error in MLflow's shape, with the request's id."""
    body = {
        "error_code": code,
        "message": message,
        "sqlstate": state,
        "error_class": class_,
        "request_id": request_id,
    }
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else None
    return web.Response(status=status, body=orjson.dumps(body), content_type=MEDIA_TYPE, headers=headers)


def answer_response(
    answer: Answer,
    request_id: str,
    model_error_status: int,
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW,
) -> web.Response:
    """A version's own answer as HTTP. `model_error_status` is of MLflow's protocol; the other has 500."""
    if answer.verdict is PredictStatus.OK:
        return web.Response(body=answer.body, headers={"Content-Type": answer.content_type})
    if protocol is ScoringProtocol.V2:
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )
    status, body = answer.status, answer.body
    if answer.content_type == MEDIA_TYPE:
        told = orjson.loads(body)
        if answer.verdict is PredictStatus.MODEL_ERROR and status == 500 and not answer.keeps_status:
            # MLflow answers 400 when a model raises; a team may need that while it migrates.
            status = model_error_status
            if status == 400:
                told["error_code"], told["sqlstate"], told["error_class"] = _BAD_REQUEST
        body = orjson.dumps({**told, "request_id": request_id})
    return web.Response(status=status, body=body, headers={"Content-Type": answer.content_type})


def plain_error(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """404, 405 and the like for paths, as `mlflow models serve` answers them."""
    body = orjson.dumps({"detail": detail})
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers=headers)


def config_refused(error: ConfigRefused) -> web.Response:
    """422 with every problem."""
    return document({"errors": error.problems}, status=422)


def document(body: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON document for people and programs on call."""
    data = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=data, content_type=MEDIA_TYPE)
