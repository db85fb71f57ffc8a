"""The outermost object of a JSON request: which format it has, and nothing else that matters."""

from typing import Any

import orjson
from mlflow.pyfunc.scoring_server import SERVING_PARAMS_KEY, SUPPORTED_FORMATS
from mlflow.pyfunc.utils.serving_data_parser import SUPPORTED_LLM_FORMATS

_MEANT = frozenset((*SUPPORTED_FORMATS, *SUPPORTED_LLM_FORMATS))
SCALARS = frozenset((str, int, float, bool, type(None)))


def opened(body: bytes) -> tuple[str, Any] | None:
    """Format key and what stands under it. None unless there is one format, no params, and plain other keys.

    Raises orjson's ValueError on what is not JSON as RFC 8259 has it; Python's parser takes more.
    """
    document = orjson.loads(body)
    if type(document) is not dict:
        return None
    if len(document) == 1:
        ((key, value),) = document.items()
        return (key, value) if key in SUPPORTED_FORMATS else None
    return _among_others(document)


def _among_others(document: dict[str, Any]) -> tuple[str, Any] | None:
    # Even params that MLflow ignores reach the version: as {} instead of None.
    if document.get(SERVING_PARAMS_KEY) is not None:
        return None
    found = [key for key in document if key in _MEANT]
    if len(found) != 1 or found[0] not in SUPPORTED_FORMATS:
        return None
    # Nested values may be too deep for Python's parser, whose limit depends on where it is called.
    if any(type(value) not in SCALARS for key, value in document.items() if key != found[0]):
        return None
    return found[0], document[found[0]]


def parser_is_known() -> bool:
    """Whether this orjson reads what it accepts as Python does, but integers beyond 64 bits as floats."""
    try:
        orjson.loads(b"[1e999]")
    except ValueError:
        types = [type(number) for number in orjson.loads(b"[-0,-9223372036854775809,18446744073709551616]")]
        items = list(orjson.loads(b'{"a":1,"b":2,"a":3}').items())
        return types == [int, float, float] and items == [("a", 3), ("b", 2)]
    return False
