"""Answers in place of those that a version could not give, and what the operator reads about it.

They have MLflow's codes and shape, or those of the Open Inference Protocol; neither a stack trace nor the
caller's values.
"""

import re
import threading
import traceback
from collections.abc import Container
from json import JSONDecodeError
from pathlib import Path

import orjson
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from msgspec.structs import replace

from router.processes.child_logging import log_event
from router.protocol.messages import MAX_ANSWER_BYTES, Answer, LoadSpec, PredictStatus, Query, ScoringProtocol
from router.worker import withheld_variables
from router.worker.decode.request_decoder import JSON, DecodedRequest, NotEnforced, TooManyRows
from router.worker.error_chain import chain
from router.worker.own_files import WRITES, was_refused
from router.worker.tracking import NO_TRACKING, lacks_tracking
from router.worker.v2.tensors import InferenceRefused

MESSAGE_CHARACTERS = 1000
_TOO_LARGE = 413
_PLACES = 50  # a version that fails in more places than this has been reported enough
_OUR_CODE = str(Path(__file__).parent)
_LIBRARIES = ("site-packages", "dist-packages", "/lib/python3")
_CHAIN = 4
_READ_CHARACTERS = 2000

# MLflow's messages quote the request: bodies, cells, keys. Kept is an allow-list of its sentences, whose
# variable parts are names of types, shapes, counts, or names of the version's own signature.
_TYPE = r"[\w\[\], ]{1,80}"
_SENTENCES = (
    r"The input must be a JSON dictionary with exactly one of the input fields \{[^{}]{0,80}\}",
    r"One of \"instances\" and \"inputs\" must be specified \(not both or any other keys\)",
    r"\"signature_name\" parameter is currently not supported",
    r"Ensure that (?:the )?input is a valid (?:JSON[- ]formatted|UTF-8 encoded) string",
    r"Dataframe records format must be a list of records",
    r"Dataframe split format must (?:be a dictionary|have 'data' field)",
    r"Provided dataframe_\w+ field is not a valid dataframe representation in '\w+' format",
    r"Failed to parse input as a Pandas DataFrame",
    r"Ensure that the input is a valid [\w-]+ Pandas DataFrame",
    r"The length of values for each input/column name are not the same",
    r"expects a single n-dimensional array or a single value as input",
    r"Request payload must be a dictionary with 'inputs' key",
    r"Model is missing inputs \[[^\]]{0,600}\]",
    r"Missing required properties: \{[^{}]{0,600}\}",
    r"The model signature declares \d+ inputs +but the provided value only has \d+ inputs",
    r"Shape of input \([\d, ]*\) does not match expected shape \([-\d, ]*\)",
    r"dtype of input [\w<>]{1,40} does not match expected dtype [\w<>]{1,40}",
    r"This model contains a (?:tensor|column)-based (?:model )?signature",
    r"Input DataFrame is empty",
    r"Expected (?:input|data) to be [\w ]{1,40}(?:, got|\. Found:) \w{1,40}",
    r"Parameters must be a dictionary",
    r"Invalid parameters found",
    r"Failed to validate data against type hint `[^`]{0,200}`",
    rf"Incompatible input types for column (?P<typed>.{{0,200}}?)\. Can not safely convert {_TYPE} to \w+",
    rf"Failed to convert column (?P<cast>.{{0,200}}?) (?:from type {_TYPE} )?to (?:type '[^']{{0,80}}'|\w+)",
)
_SAFE = re.compile("|".join((*_SENTENCES, re.escape(NO_TRACKING))), re.DOTALL)


class ErrorReporter:
    """Writes a line to standard error the first time a version fails at a place in its code."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._reported: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def report(self, what: str, error: BaseException) -> None:
        """Log `what` happened, the error's type and where; not its message, which may hold the request."""
        kind, place = failure = (type(error).__name__, _place(error))
        with self._lock:
            if failure in self._reported or len(self._reported) >= _PLACES:
                return
            self._reported.add(failure)
        remedies = [
            NO_TRACKING if lacks_tracking(error) else "",
            WRITES if not self._spec.writable and was_refused(error, self._spec.directory) else "",
            withheld_variables.remedy(
                withheld_variables.asked_of_environment(error), self._spec.environment_variables
            ),
        ]
        remedy = "".join(f". {remedy}" for remedy in remedies if remedy)
        log_event(f"{self._spec.version}: {what}: {kind} {place} (said once){remedy}")


class ErrorAnswers:
    """Answers to requests that one version did not answer."""

    def __init__(self, reporter: ErrorReporter, names: Container[str]) -> None:
        """`names`: the signature's columns, which a caller may read; other names are the caller's own."""
        self._reporter = reporter
        self._names = names

    def undecodable(self, query: Query, error: Exception) -> Answer:
        """The request could not be decoded, or is not what the signature asks for."""
        if isinstance(error, InferenceRefused):
            return v2_error_answer(str(error))
        if isinstance(error, TooManyRows):
            lead = f"Invalid input: {error}"
            answer = mlflow_error_answer(MlflowException("", BAD_REQUEST), lead)
            return _in(query.protocol, replace(answer, status=_TOO_LARGE))
        enforced = isinstance(error, NotEnforced)
        cause = error.__cause__ if enforced else error
        if not isinstance(cause, MlflowException):
            # MLflow answers these with a bare 500: deep nesting, endless integers, columns without a hash.
            cause, lead = MlflowException("", BAD_REQUEST), "Invalid input: it cannot be decoded"
        else:
            lead = "Failed to enforce schema" if enforced else "Invalid input"
        return _in(query.protocol, mlflow_error_answer(cause, lead, self._names))

    def raised(self, request: DecodedRequest, error: BaseException, seconds: float) -> Answer:
        """The version's predict raised `error`, after `seconds`."""
        if not isinstance(error, MlflowException):
            self._reporter.report("its predict raised", error)
            lead = f"The version raised {type(error).__name__} on this request"
            answer = mlflow_error_answer(MlflowException("", INTERNAL_ERROR), lead, predict_seconds=seconds)
            answer = replace(answer, keeps_status=False)  # MLflow's server answers 400
        else:
            if error.get_http_status_code() >= 500:
                self._reporter.report("its predict raised", error)
            answer = mlflow_error_answer(error, "The version refused this request", predict_seconds=seconds)
        if (
            request.protocol is ScoringProtocol.V2
            and not request.rows
            and answer.predict_status is PredictStatus.MODEL_ERROR
        ):
            # Not the version's fault: there was nothing to predict, and few libraries take that.
            return v2_error_answer("the version does not take a request without rows")
        return _in(request.protocol, answer)

    def unwritable(self, request: DecodedRequest, error: BaseException, seconds: float) -> Answer:
        """What the version answered can not be written."""
        if isinstance(error, InferenceRefused):
            return v2_error_answer(str(error), predict_seconds=seconds)
        lead = "The version's answer cannot be written as JSON"
        self._reporter.report("its answer cannot be written as JSON", error)
        answer = mlflow_error_answer(MlflowException("", INTERNAL_ERROR), lead, predict_seconds=seconds)
        return _in(request.protocol, answer)

    def too_long(self, request: DecodedRequest, seconds: float) -> Answer:
        """The gateway ends a worker that sends more; this version has only answered at length."""
        lead = f"The answer is longer than {MAX_ANSWER_BYTES >> 20} MiB"
        return _in(
            request.protocol, mlflow_error_answer(MlflowException(lead), lead, predict_seconds=seconds)
        )


def mlflow_error_answer(
    error: MlflowException, lead: str, names: Container[str] = (), *, predict_seconds: float = 0.0
) -> Answer:
    """The answer to a request that MLflow, or the version through an `MlflowException`, refused.

    `lead` opens the message and what is safe of the error's own follows. Columns are named only when they are
    among `names`, the signature's; others are the caller's own invention.
    """
    status = error.get_http_status_code()
    # As `serialize_as_json` writes it, without `stack_trace` and whatever else was given by keyword.
    fields = {
        "error_code": error.error_code,
        "message": _bounded(": ".join((lead, *_details(error, names))) + "."),
        "sqlstate": error.sqlstate,
        "error_class": error.error_class,
    }
    return Answer(
        predict_status=PredictStatus.CLIENT_ERROR if status < 500 else PredictStatus.MODEL_ERROR,
        status=status,
        body=orjson.dumps({key: value for key, value in fields.items() if value is not None}),
        content_type=JSON,
        rows=0,
        predict_seconds=predict_seconds,
        keeps_status=True,
    )


def v2_error_answer(message: str, *, predict_seconds: float = 0.0) -> Answer:
    """The answer of the Open Inference Protocol to a caller's mistake."""
    return Answer(PredictStatus.CLIENT_ERROR, 400, _v2_body(message), JSON, 0, predict_seconds)


def _in(protocol: ScoringProtocol, answer: Answer) -> Answer:
    """An answer of MLflow's shape in that of `protocol`; V2's codes are 400, 413 and 500."""
    if protocol is not ScoringProtocol.V2:
        return answer
    status = answer.status
    if status != _TOO_LARGE:
        status = 400 if answer.predict_status is PredictStatus.CLIENT_ERROR else 500
    return replace(answer, status=status, body=_v2_body(orjson.loads(answer.body)["message"]))


def _v2_body(message: str) -> bytes:
    return orjson.dumps({"error": _bounded(message)})


def _bounded(message: str) -> str:
    return message[:MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()


def _place(error: BaseException) -> str:
    steps = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_OUR_CODE)
    ]
    # The last line of the version's own code says more than the library's line where it ended.
    own = [step for step in steps if not any(part in step[0] for part in _LIBRARIES)]
    if not (known := own or steps):
        return "at an unknown place"
    file, line, name = known[-1]
    return f"at {file}:{line} in {name}"


def _details(error: MlflowException, names: Container[str]) -> list[str]:
    found: dict[str, None] = {}  # as a set that keeps its order
    # MLflow wraps the reason into messages that grow with the request; what it wrapped is short.
    for link in chain(error, _CHAIN):
        if isinstance(link, JSONDecodeError):
            found[f"line {link.lineno} column {link.colno} (character {link.pos})"] = None
        elif isinstance(link, UnicodeDecodeError):
            found[f"{link.reason} at byte {link.start}"] = None
        elif isinstance(link, MlflowException):
            for match in _SAFE.finditer(link.message[:_READ_CHARACTERS]):
                column = match["typed"] or match["cast"]
                safe = column is None or column in names
                found[match.group() if safe else match.group().replace(column, "…", 1)] = None
    return list(found)
