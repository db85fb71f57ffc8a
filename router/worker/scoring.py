"""One request through MLflow's own `invocations`, seen from inside. The one module that relies on it.

MLflow's function decodes, enforces the signature, predicts and encodes in one go and answers every failure
alike. A probe stands in for the model, and the version's predict function is wrapped, so that we learn how
far a request came without copying a line of MLflow's path.
"""

import functools
from collections.abc import Mapping, Sized
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import InvocationsResponse, invocations

from router.core.bins import ScoreSpec
from router.core.work import Answer, Query, ScoringProtocol, Verdict
from router.worker.complaints import Complaints
from router.worker.inference.answering import in_v2, refused
from router.worker.inference.contract import Contract
from router.worker.inference.prepare import prepare
from router.worker.inference.tensors import InferenceRefused
from router.worker.refusals import JSON, MESSAGE_CHARACTERS, refusal
from router.worker.scores import count


class _Stopped(BaseException):
    """Carries a failure past MLflow's handlers, which would quote the request; so it is no `Exception`."""


class _TooManyRows(Exception):
    """The request has more rows than one request may have."""


class Trip:
    """How far one request came."""

    reached = False
    """True once the version's own predict was called."""
    predicted = False
    failure: BaseException | None = None
    """What the signature or the version raised."""
    predictions: Any = None
    rows = 0
    max_rows: int | None = None
    """Rows the request may have."""
    seconds = 0.0
    """Time inside the version's predict."""


class Scorer:
    """Answers requests with one loaded version, one at a time."""

    def __init__(self, model: PyFuncModel, complaints: Complaints, contract: Contract) -> None:
        self.contract = contract
        """What callers of the Open Inference Protocol meet."""
        self.scores: ScoreSpec | None = None
        """Which scores of an answer are counted; None: none are."""
        self._probe = _Probe(model)
        self._schema = model.metadata.get_input_schema()
        named = self._schema is not None and self._schema.has_input_names()
        self._names = frozenset(self._schema.input_names() if named else ())
        self._complaints = complaints

    @property
    def trip(self) -> Trip:
        """How far the last request came."""
        return self._probe.trip

    def begin(self) -> Trip:
        """Take what comes next as a request of its own."""
        self._probe.trip = trip = Trip()
        return trip

    def answer(self, query: Query) -> Answer:
        """The version's answer. Raises nothing, whatever the version does short of ending the process."""
        trip = self.begin()
        trip.max_rows = query.max_rows
        if query.protocol is ScoringProtocol.V2:
            return self._infer(query.body, trip)
        # MLflow's server fails on a request without Content-Type; everything it accepts is JSON by default.
        content_type = JSON if query.content_type is None else query.content_type
        try:
            response = invocations(query.body, content_type, self._probe, self._schema)
        except BaseException as error:  # noqa: BLE001 - SystemExit in predict is the version's fault, not our end
            return self._failed(trip, trip.failure or error)
        return self._succeeded(trip, response)

    def _succeeded(self, trip: Trip, response: InvocationsResponse) -> Answer:
        if not trip.predicted:  # 415, the only answer without a predict that MLflow does not raise
            text = response.response[:MESSAGE_CHARACTERS].encode("utf-8", "replace")
            return Answer(Verdict.CLIENT_ERROR, response.status, text, "text/plain; charset=utf-8", 0, 0.0)
        return self._good(trip, response.response.encode(), response.mimetype)

    def _infer(self, body: bytes, trip: Trip) -> Answer:
        try:
            prepared = prepare(body, self.contract)
            encoded = prepared.encode(self._probe.predict(prepared.data, prepared.params))
        except InferenceRefused as error:
            return refused(error, predict_seconds=trip.seconds)
        except BaseException as error:  # noqa: BLE001 - as in `answer`
            no_rows = trip.reached and not trip.rows and not trip.predicted
            return in_v2(self._failed(trip, trip.failure or error), no_rows=no_rows)
        return self._good(trip, encoded, JSON)

    def _good(self, trip: Trip, body: bytes, content_type: str) -> Answer:
        return Answer(
            verdict=Verdict.OK,
            status=200,
            body=body,
            content_type=content_type,
            rows=trip.rows,
            predict_seconds=trip.seconds,
            scores=count(trip.predictions, self.scores) if self.scores else None,
            answer_rows=_answer_rows(trip.predictions),
        )

    def _failed(self, trip: Trip, error: BaseException) -> Answer:
        if isinstance(error, _TooManyRows):
            return replace(refusal(MlflowException("", BAD_REQUEST), f"Invalid input: {error}"), status=413)
        if trip.predicted:
            self._complaints.note("its answer cannot be written as JSON", error)
            return _model_error(trip, "The version's answer cannot be written as JSON")
        if trip.reached and not isinstance(error, MlflowException):
            self._complaints.note("its predict raised", error)
            return _model_error(trip, f"The version raised {type(error).__name__} on this request")
        if not isinstance(error, MlflowException):
            # MLflow answers these with a bare 500: deep nesting, endless integers, columns without a hash.
            return refusal(MlflowException("", BAD_REQUEST), "Invalid input: it cannot be decoded")
        if not trip.reached:
            lead = "Failed to enforce schema" if trip.failure else "Invalid input"
            return refusal(error, lead, self._names)
        if error.get_http_status_code() >= 500:
            self._complaints.note("its predict raised", error)
        return refusal(error, "The version refused this request", predict_seconds=trip.seconds)


def _model_error(trip: Trip, message: str) -> Answer:
    return refusal(MlflowException("", INTERNAL_ERROR), message, predict_seconds=trip.seconds)


class _Probe:
    """What MLflow's `invocations` takes for the model."""

    def __init__(self, model: PyFuncModel) -> None:
        self.metadata = model.metadata
        self.trip = Trip()
        self._model = model
        inner = model._predict_fn  # noqa: SLF001 - the seam between the signature and the version's own code

        @functools.wraps(inner)  # MLflow looks at its parameters in every predict
        def reached(data: Any, *args: Any, **kwargs: Any) -> Any:
            trip = self.trip
            trip.reached, trip.rows = True, _rows(data)
            started = perf_counter()
            try:
                return inner(data, *args, **kwargs)
            finally:
                trip.seconds = perf_counter() - started

        model._predict_fn = reached  # noqa: SLF001 - as above

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """The version's predictions; MLflow calls this with what it decoded."""
        trip = self.trip
        if trip.max_rows is not None and (rows := _rows(data)) > trip.max_rows:
            trip.failure = _TooManyRows(f"{rows} rows are more than one request may have, {trip.max_rows}")
            raise _Stopped
        try:
            trip.predictions = self._model.predict(data, params=params)
        except BaseException as error:
            trip.failure = error
            raise _Stopped from error
        trip.predicted = True
        return trip.predictions


def _rows(data: Any) -> int:
    """Rows of a decoded request: of a table, a list, an array, or of the first column of a mapping."""
    if isinstance(data, Mapping):
        data = next(iter(data.values()), ())
    if isinstance(data, np.ndarray) and not data.ndim:
        return 1
    return len(data) if isinstance(data, Sized) and not isinstance(data, (str, bytes)) else 1


def _answer_rows(predictions: Any) -> int | None:
    """Rows of an answer; None for what has none, such as a text, a mapping or a single value."""
    if isinstance(predictions, np.ndarray):
        return len(predictions) if predictions.ndim else None
    return len(predictions) if isinstance(predictions, (list, tuple, pd.DataFrame, pd.Series)) else None
