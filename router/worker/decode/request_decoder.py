"""From a request to what the version's predict gets: by a compiled decoder, or by MLflow's own code.

The decoder of plain JSON is compiled once per version, from its signature. The unusual is left to MLflow.

MLflow's `invocations` decodes, enforces the signature, predicts and encodes in one go. A stand-in for the
version's predict captures what it is given and answers a sentinel at once: so MLflow does all that comes
before a predict, and not a line of it is copied. This is the one module that relies on it.
"""

import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
from mlflow.models import Model
from mlflow.models.utils import _enforce_params_schema
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.model import _PythonModelPyfuncWrapper
from mlflow.pyfunc.scoring_server import (
    SERVING_PARAMS_KEY,
    SUPPORTED_FORMATS,
    InvocationsResponse,
    invocations,
)
from mlflow.pyfunc.utils.serving_data_parser import SUPPORTED_LLM_FORMATS, is_unified_llm_input

from router.protocol.messages import Query, ScoringProtocol
from router.worker.decode.arrays import inferred_array_readers, tensor_readers
from router.worker.decode.columns import column_readers, inferred_table_readers
from router.worker.decode.table import SCALARS, DecodedPart, Reader, tables_are_known
from router.worker.encoder import encode_unwrapped, rows_of
from router.worker.v2.request import Contract, decode_v2_request

JSON = "application/json"
_SENTINEL = "captured"
_WRAPPED = "predictions"
_FORMAT_KEYS = frozenset((*SUPPORTED_FORMATS, *SUPPORTED_LLM_FORMATS))
_OWN_FORMATS = ("mlflow.pyfunc.loaders.", "mlflow.pyspark", "mlflow.spark")
_FROM_CODE = "mlflow.pyfunc.loaders.code_model"
"""Loads whatever a script sets as the model: chats and agents, and plain versions as well."""


class NotTaken(Exception):
    """What MLflow decoded can not be handed to the version."""


class TooManyRows(NotTaken):
    """The request has more rows than one request may have."""


class NotEnforced(NotTaken):
    """The version's signature refuses the request; the cause is MLflow's error."""


@dataclass(slots=True, eq=False)
class DecodedRequest:
    """One request, decoded by the version's signature, ready for its predict.

    Nobody changes one. It is not frozen because every request makes one, and freezing costs 2 µs.
    """

    rows: int
    """Items to predict; a request to an LLM is one, however many messages it has."""
    key: Hashable | None
    """Requests with equal keys may share a table, one below the other. None: this one stands alone."""
    part: DecodedPart | None
    """What the compiled decoder made of it; None when MLflow's code decoded it."""
    data: Any = None
    """What MLflow's code made of it."""
    params: dict[str, Any] | None = None
    """Of predict, where the version takes any."""
    encode: Callable[[Any], bytes] | None = None
    """Writes the answer; None: it is written as MLflow's server does, under `predictions`."""
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW
    whole: bool = False
    """It is one question, so its answer has no rows to count: a request in the format of LLMs."""
    shares_data: bool = False
    """`data` is one table of all requests read with it; they are predicted together, in its order, first."""


class RequestDecoder:
    """Decodes requests for one loaded version; in several threads."""

    def __init__(self, model: PyFuncModel, *, nan_is_null: bool = False) -> None:
        """`nan_is_null`: in answers of requests whose answers are not wrapped in `predictions`."""
        self.metadata = model.metadata
        self.schema = model.metadata.get_input_schema()
        self.has_type_hints = _has_type_hints(model.metadata)
        self._model = model
        self._captured = threading.local()
        self._unwrapped = functools.partial(encode_unwrapped, nan_is_null=nan_is_null)
        self._compiled, why_not = compile_decoder(model)
        self.note = f"decoder: MLflow's own, because {why_not}." if why_not else ""
        """A sentence for the operator; empty where plain requests have a compiled decoder."""
        self._has_own_format = _has_own_format(model)
        inner = model._predict_fn  # noqa: SLF001 - the seam between the signature and the version's own code

        @functools.wraps(inner)  # MLflow looks at its parameters in every predict
        def capture(data: Any, params: Any = None) -> str:
            self._captured.call = (data, params)
            return _SENTINEL

        model._predict_fn = capture  # noqa: SLF001 - as above

    def decode(self, query: Query) -> DecodedRequest | InvocationsResponse:
        """What predict gets; or MLflow's answer to a media type that it does not know, which is 415.

        Raises TooManyRows; NotEnforced; and whatever MLflow raises on what cannot be decoded.
        """
        content_type = JSON if query.content_type is None else query.content_type
        if self._compiled is not None and content_type == JSON:
            part = self._compiled.part(query.body)
            if part is not None:
                _check_rows(part.rows, query.max_rows)
                return DecodedRequest(part.rows, (part.key,), part, params=self._compiled.params)
        return self._decode_by_mlflow(query, content_type)

    def decode_example(self, example: Any) -> DecodedRequest:
        """What predict gets for an input example. Raises NotEnforced, for None as well."""
        if example is None:
            raise NotEnforced
        with self._capturing(None):
            self.predict(example)
            return self._take()

    def decode_v2(self, body: bytes, contract: Contract, max_rows: int | None) -> DecodedRequest:
        """What predict gets for a request of the Open Inference Protocol. Raises InferenceRefused, too."""
        request = decode_v2_request(body, contract)
        with self._capturing(max_rows):
            self.predict(request.data, request.params)
            decoded = self._take()
            _check_rows(decoded.rows, max_rows)  # a tensor may have the name of an LLM's format
            return replace(decoded, encode=request.encode, protocol=ScoringProtocol.V2)

    def table(self, requests: list[DecodedRequest]) -> Any:
        """The data of requests with equal keys, one below the other, as one request would have brought it."""
        first = requests[0]
        if first.part is not None and self._compiled is not None:
            return self._compiled.table([one.part for one in requests if one.part is not None])
        shared = {id(one.data): one.data for one in requests if one.shares_data}
        tables = [*shared.values(), *(one.data for one in requests if not one.shares_data)]
        return joined(tables) if len(tables) > 1 else tables[0]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """MLflow calls this with what it decoded; it takes this object for the model."""
        try:
            if not (isinstance(data, Mapping) and is_unified_llm_input(data)):
                _check_rows(1 if self._is_whole(data) else request_rows(data), self._captured.max_rows)
            return self._model.predict(data, params=params)
        except TooManyRows as refused:
            self._captured.refused = refused
            raise
        except Exception as error:
            self._captured.refused = NotEnforced()
            raise self._captured.refused from error

    def _decode_by_mlflow(self, query: Query, content_type: str) -> DecodedRequest | InvocationsResponse:
        captured = self._captured
        with self._capturing(query.max_rows):
            try:
                response = invocations(query.body, content_type, self, self.schema)
            except Exception as error:
                if captured.refused is None:
                    raise
                # What MLflow wraps around it quotes the request.
                raise captured.refused from (captured.refused.__cause__ or error)
            if captured.call is None:
                return response
            decoded = self._take()
        if response.response.startswith(f'{{"{_WRAPPED}"'):
            # A column may have the name of an LLM's format: only now it is known to be one.
            _check_rows(decoded.rows, query.max_rows)
            return decoded
        # An LLM's request, answered as it is: its messages, prompts or inputs are no rows.
        return replace(decoded, rows=1, key=None, encode=self._unwrapped, whole=True)

    @contextmanager
    def _capturing(self, max_rows: int | None) -> Iterator[None]:
        captured = self._captured
        captured.call, captured.refused, captured.max_rows = None, None, max_rows
        try:
            yield
        finally:
            # Else a refused request would stay in memory, by its error's traceback, until this thread's next.
            captured.call, captured.refused = None, None

    def _take(self) -> DecodedRequest:
        (data, params), self._captured.call = self._captured.call, None
        whole = self._is_whole(data)
        rows = 1 if whole else request_rows(data)
        return DecodedRequest(rows, _key(data, params), None, data, params, whole=whole)

    def _is_whole(self, data: Any) -> bool:
        # A chat or an agent takes its one request as a mapping under `inputs`, too.
        return self._has_own_format and isinstance(data, Mapping)


class CompiledDecoder:
    """Makes of a request's body what MLflow would hand to the version, or leaves it to MLflow."""

    def __init__(self, readers: dict[str, Reader], params: dict[str, Any] | None) -> None:
        self._readers = readers
        self._params = params

    @property
    def params(self) -> dict[str, Any] | None:
        """What MLflow passes as params for a request without any; new each time, lists in it too."""
        return deepcopy(self._params)

    def part(self, body: bytes) -> DecodedPart | None:
        """The decoded JSON body; None for the unusual and for what MLflow would refuse. Never raises."""
        try:
            if (found := _format_of(body)) is None or (reader := self._readers.get(found[0])) is None:
                return None
            return reader(found[1])
        except Exception:  # noqa: BLE001 - whatever it is, MLflow's own code says what is wrong with it
            return None

    def table(self, parts: Sequence[DecodedPart]) -> Any:
        """What MLflow would hand to predict for one part; for several of one key, the rows of all."""
        return parts[0].merged(parts)


def compile_decoder(model: PyFuncModel) -> tuple[CompiledDecoder | None, str]:
    """The decoder of a version, and if there is none why not, as the end of a sentence."""
    metadata = model.metadata
    if _has_type_hints(metadata):
        return None, "its input is checked against type hints"
    if _has_own_format(model):
        return None, "its flavor has an input format of its own"
    if not _parser_is_known() or not tables_are_known():
        return None, "pandas or orjson here do not build tables in the one way that is known"
    schema = metadata.get_input_schema()
    if schema is None:
        readers: dict[str, Reader] | str = {**inferred_table_readers(), **inferred_array_readers()}
    elif not schema.inputs:
        readers = "its signature has no inputs"
    elif schema.is_tensor_spec():
        readers = tensor_readers(schema)
    else:
        readers = column_readers(schema)
    if isinstance(readers, str):
        return None, readers
    return CompiledDecoder(readers, _enforce_params_schema(None, metadata.get_params_schema())), ""


def _has_type_hints(metadata: Model) -> bool:
    return bool(metadata._is_signature_from_type_hint() or metadata._is_type_hint_from_example())  # noqa: SLF001 - MLflow asks so itself


def _has_own_format(model: PyFuncModel) -> bool:
    if model.loader_module == _FROM_CODE:
        return type(model._model_impl) is not _PythonModelPyfuncWrapper  # noqa: SLF001 - MLflow's stable developer API
    return (model.loader_module or "").startswith(_OWN_FORMATS)


def _format_of(body: bytes) -> tuple[str, Any] | None:
    """Format key of a request and its value. None unless there is one, no params, and plain other keys.

    Raises orjson's ValueError on what is not JSON as RFC 8259 has it; Python's parser takes more.
    """
    document = orjson.loads(body)
    if type(document) is not dict:
        return None
    if len(document) == 1:
        ((key, value),) = document.items()
        return (key, value) if key in SUPPORTED_FORMATS else None
    # Even params that MLflow ignores reach the version: as {} instead of None.
    if document.get(SERVING_PARAMS_KEY) is not None:
        return None
    found = [key for key in document if key in _FORMAT_KEYS]
    if len(found) != 1 or found[0] not in SUPPORTED_FORMATS:
        return None
    # Nested values may be too deep for Python's parser, whose limit depends on where it is called.
    if any(type(value) not in SCALARS for key, value in document.items() if key != found[0]):
        return None
    return found[0], document[found[0]]


def _parser_is_known() -> bool:
    """Whether this orjson reads what it accepts as Python does, but integers beyond 64 bits as floats."""
    try:
        orjson.loads(b"[1e999]")
    except ValueError:
        types = [type(number) for number in orjson.loads(b"[-0,-9223372036854775809,18446744073709551616]")]
        items = list(orjson.loads(b'{"a":1,"b":2,"a":3}').items())
        return types == [int, float, float] and items == [("a", 3), ("b", 2)]
    return False


def joined(parts: list[Any]) -> Any:
    """Tables of the same columns, or arrays, one below the other."""
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    return np.concatenate(parts)


def request_rows(data: Any) -> int:
    """Rows of a decoded request; of a mapping, those of its columns where all have as many.

    What has no rows counts as one, such as a mapping of a text and a list; an empty mapping has none.
    """
    if isinstance(data, Mapping):
        lengths = {rows_of(column) for column in data.values()} or {0}
        rows = lengths.pop() if len(lengths) == 1 else None
    else:
        rows = rows_of(data)
    return 1 if rows is None else rows


def _check_rows(rows: int, most: int | None) -> None:
    if most is not None and rows > most:
        raise TooManyRows(f"{rows} rows are more than one request may have, {most}")


def _key(data: Any, params: Any) -> Hashable | None:
    """What requests must have in common to stand in one table: columns, dtypes, parameters."""
    params = repr(params)
    if not request_rows(data):
        return None  # a version may refuse it, and would not notice it among others
    if isinstance(data, pd.DataFrame):
        try:
            table = _table_key(data)
        except TypeError:  # a name that has no hash: MLflow hands such tables over, too
            return None
        return None if table is None else (*table, params)
    if isinstance(data, np.ndarray) and data.ndim and data.dtype.kind in "biuf":
        return (data.dtype.str, data.shape[1:], params)
    return None


def _table_key(table: pd.DataFrame) -> tuple[Hashable, ...] | None:
    """Names and dtypes; None unless nothing of the table is lost below another one.

    Its rows are counted, its cells of plain dtypes: categories of several tables would be counted anew.
    """
    index, columns = table.index, table.columns
    counted = type(index) is pd.RangeIndex and index.start == 0 and index.step == 1 and index.name is None
    if not counted or columns.names != [None] or table.attrs:
        return None
    # 1, 1.0 and True are equal, and are not the same name.
    labels = tuple((type(label), label) for label in columns)
    names = set(labels)
    # To ask the index takes long, and says the same of texts.
    unique = len(names) == len(labels) if {kind for kind, _ in names} == {str} else columns.is_unique
    dtypes = tuple(table.dtypes)
    plain = all(isinstance(dtype, (np.dtype, pd.StringDtype)) for dtype in dtypes)
    return (columns.dtype, labels, dtypes) if unique and plain else None
