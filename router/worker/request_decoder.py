"""From a request to what the version's predict gets: the compiled decoder, or MLflow's own code.

MLflow's `invocations` decodes, enforces the signature, predicts and encodes in one go. A stand-in for the
version's predict answers a mark at once, so MLflow does all that comes before and we keep what it would have
handed over, without copying a line of it. This is the one module that relies on it.
"""

import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import InvocationsResponse, invocations

from router.core.work import Query, ScoringProtocol
from router.worker.decode import Part, compile_decoder
from router.worker.encoder import encode_unwrapped
from router.worker.refusals import JSON
from router.worker.v2.contract import Contract
from router.worker.v2.prepare import prepare as prepare_inference

_MARK = "handed over"
_WRAPPED = "predictions"


class NotTaken(Exception):
    """What MLflow decoded can not be handed to the version."""


class TooManyRows(NotTaken):
    """The request has more rows than one request may have."""


class NotEnforced(NotTaken):
    """The version's signature refuses the request; the cause is MLflow's error."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One request, decoded by the version's signature, ready for its predict."""

    rows: int
    key: Hashable | None
    """Requests with equal keys may stand in one table, one below the other. None: this one stands alone."""
    part: Part | None
    """What the compiled decoder made of it; None when MLflow's code decoded it."""
    data: Any = None
    """What MLflow's code made of it."""
    params: dict[str, Any] | None = None
    """Of predict, where the version takes any."""
    encode: Callable[[Any], bytes] | None = None
    """Writes the answer; None: it is written as MLflow's server does, under `predictions`."""
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW
    stacked: bool = False
    """`data` is one table of all that were read with it; they are predicted together, in its order, first."""


class Preparer:
    """Decodes requests for one loaded version."""

    def __init__(self, model: PyFuncModel, *, nan_is_null: bool = False) -> None:
        """`nan_is_null`: in answers of requests whose answers are not wrapped in `predictions`."""
        self.metadata = model.metadata
        self._model = model
        self._schema = model.metadata.get_input_schema()
        self._handed = threading.local()
        self._unwrapped = functools.partial(encode_unwrapped, nan_is_null=nan_is_null)
        self._decoder, self.note = compile_decoder(model)
        inner = model._predict_fn  # noqa: SLF001 - the seam between the signature and the version's own code

        @functools.wraps(inner)  # MLflow looks at its parameters in every predict
        def keep(data: Any, params: Any = None) -> str:
            self._handed.over = (data, params)
            return _MARK

        model._predict_fn = keep  # noqa: SLF001 - as above

    def prepare(self, query: Query) -> Prepared | InvocationsResponse:
        """What predict gets; or MLflow's answer, which is 415, to a media type that is none of its own.

        Raises TooManyRows; NotEnforced; and whatever MLflow raises on what cannot be decoded.
        """
        content_type = JSON if query.content_type is None else query.content_type
        if self._decoder is not None and content_type == JSON:
            part = self._decoder.part(query.body)
            if part is not None:
                _bound(part.rows, query.max_rows)
                return Prepared(part.rows, (part.key,), part, params=self._decoder.params)
        return self._by_mlflow(query, content_type)

    def example(self, example: Any) -> Prepared:
        """What predict gets for an input example; none is refused as well. Raises NotEnforced."""
        self._handed.max_rows = None
        if example is None:
            raise NotEnforced
        with self._forgetting():
            self.predict(example)
            return self._take()

    def infer(self, body: bytes, contract: Contract, max_rows: int | None) -> Prepared:
        """What predict gets for a request of the Open Inference Protocol. Raises InferenceRefused, too."""
        asked = prepare_inference(body, contract)
        self._handed.max_rows = max_rows
        with self._forgetting():
            self.predict(asked.data, asked.params)
            return replace(self._take(), encode=asked.encode, protocol=ScoringProtocol.V2)

    def table(self, prepared: list[Prepared]) -> Any:
        """The data of requests with equal keys, one below the other, as one request would have brought it."""
        first = prepared[0]
        if first.part is not None and self._decoder is not None:
            return self._decoder.table([one.part for one in prepared if one.part is not None])
        stacks = {id(one.data): one.data for one in prepared if one.stacked}
        tables = [*stacks.values(), *(one.data for one in prepared if not one.stacked)]
        return joined(tables) if len(tables) > 1 else tables[0]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """MLflow calls this with what it decoded; it takes this object for the model."""
        try:
            _bound(rows_of(data), self._handed.max_rows)
            return self._model.predict(data, params=params)
        except TooManyRows as refused:
            self._handed.refused = refused
            raise
        except Exception as error:
            self._handed.refused = NotEnforced()
            raise self._handed.refused from error

    def _by_mlflow(self, query: Query, content_type: str) -> Prepared | InvocationsResponse:
        handed = self._handed
        handed.max_rows = query.max_rows
        with self._forgetting():
            try:
                response = invocations(query.body, content_type, self, self._schema)
            except Exception as error:
                if handed.refused is None:
                    raise
                # What MLflow wraps around it quotes the request.
                raise handed.refused from (handed.refused.__cause__ or error)
            if handed.over is None:
                return response
            prepared = self._take()
        if response.response.startswith(f'{{"{_WRAPPED}"'):
            return prepared
        return replace(prepared, key=None, encode=self._unwrapped)  # an LLM's request, answered as it is

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        # A refused request would stay in memory, by its error's traceback, until this thread has another one.
        self._handed.over, self._handed.refused = None, None
        try:
            yield
        finally:
            self._handed.over, self._handed.refused = None, None

    def _take(self) -> Prepared:
        (data, params), self._handed.over = self._handed.over, None
        return Prepared(rows_of(data), _key(data, params), None, data, params)


def joined(parts: list[Any]) -> Any:
    """Tables of the same columns, or arrays, one below the other."""
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    return np.concatenate(parts)


def rows_of(data: Any) -> int:
    """Rows of a decoded request: of a table, a list, an array, or of the first column of a mapping."""
    if isinstance(data, Mapping):
        data = next(iter(data.values()), ())
    if isinstance(data, np.ndarray) and not data.ndim:
        return 1
    return len(data) if isinstance(data, Sized) and not isinstance(data, (str, bytes)) else 1


def _bound(rows: int, most: int | None) -> None:
    if most is not None and rows > most:
        raise TooManyRows(f"{rows} rows are more than one request may have, {most}")


def _key(data: Any, params: Any) -> Hashable | None:
    """What requests must have in common to stand in one table: columns, dtypes, parameters."""
    said = repr(params)
    if not rows_of(data):
        return None  # a version may refuse it, and would not notice it among others
    if isinstance(data, pd.DataFrame):
        try:
            table = _table_key(data)
        except TypeError:  # a name that has no hash: MLflow hands such tables over, too
            return None
        return None if table is None else (*table, said)
    if isinstance(data, np.ndarray) and data.ndim and data.dtype.kind in "biuf":
        return (data.dtype.str, data.shape[1:], said)
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
