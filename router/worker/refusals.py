"""Error answers: MLflow's codes and shape, without its stack trace and without the caller's values."""

import re
from collections.abc import Container, Iterator
from json import JSONDecodeError

import orjson
from mlflow.exceptions import MlflowException

from router.protocol.messages import Answer, PredictStatus
from router.worker.tracking import NO_TRACKING

MESSAGE_CHARACTERS = 1000
JSON = "application/json"
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


def refusal(
    error: MlflowException, lead: str, names: Container[str] = (), *, predict_seconds: float = 0.0
) -> Answer:
    """The answer to a request that MLflow, or the version through an `MlflowException`, refused.

    `lead` opens the message and what is safe of the error's own follows. Columns are named only when they are
    among `names`, the signature's; others are the caller's own invention.
    """
    status = error.get_http_status_code()
    return Answer(
        verdict=PredictStatus.CLIENT_ERROR if status < 500 else PredictStatus.MODEL_ERROR,
        status=status,
        body=_body(error, ": ".join((lead, *_details(error, names))) + "."),
        content_type=JSON,
        rows=0,
        predict_seconds=predict_seconds,
    )


def _details(error: MlflowException, names: Container[str]) -> list[str]:
    found: dict[str, None] = {}  # as a set that keeps its order
    for link in _chain(error):
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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    # MLflow wraps the reason into messages that grow with the request; what it wrapped is short.
    for _ in range(_CHAIN):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _body(error: MlflowException, message: str) -> bytes:
    # As `serialize_as_json` writes it, without `stack_trace` and whatever else was given by keyword.
    fields = {
        "error_code": error.error_code,
        "message": message[:MESSAGE_CHARACTERS].encode("utf-8", "replace").decode(),
        "sqlstate": error.sqlstate,
        "error_class": error.error_class,
    }
    return orjson.dumps({key: value for key, value in fields.items() if value is not None})
