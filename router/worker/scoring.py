"""One request, or many that share a predict, from bytes to answers, whatever the version does."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import InvocationsResponse, unwrapped_predictions_to_json

from router.core.bins import ScoreSpec
from router.core.work import Answer, Query, Verdict
from router.worker.complaints import Complaints
from router.worker.encoding import encode, encode_each, split
from router.worker.predicting import predict_function
from router.worker.preparing import NotEnforced, Prepared, Preparer, TooManyRows
from router.worker.refusals import JSON, MESSAGE_CHARACTERS, refusal
from router.worker.scores import count

Placed = tuple[Sequence[int], Sequence[Answer]]
"""Places of requests among those asked together, and the answers that came out of one predict."""


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a predict returned or raised."""

    seconds: float
    predictions: Any = None
    failure: BaseException | None = None


class Scorer:
    """Answers requests with one loaded version; in several threads, as far as the version can."""

    def __init__(self, model: PyFuncModel, complaints: Complaints) -> None:
        self.scores: ScoreSpec | None = None
        """Which scores of an answer are counted; None: none are."""
        self._predict = predict_function(model)
        self.preparer = Preparer(model)
        schema = model.metadata.get_input_schema()
        named = schema is not None and schema.has_input_names()
        self._names = frozenset(schema.input_names() if named else ())
        self._complaints = complaints

    def prepare(self, query: Query) -> Prepared | Answer:
        """The request, decoded; or the answer that refuses it."""
        # MLflow's server fails on a request without Content-Type; everything it accepts is JSON by default.
        try:
            prepared = self.preparer.prepare(query)
        except TooManyRows as error:
            return replace(refusal(MlflowException("", BAD_REQUEST), f"Invalid input: {error}"), status=413)
        except NotEnforced as error:
            return self._refused(error.__cause__, "Failed to enforce schema")
        except Exception as error:  # noqa: BLE001 - anything may go wrong in decoding what anyone may send
            return self._refused(error, "Invalid input")
        if isinstance(prepared, InvocationsResponse):
            text = prepared.response[:MESSAGE_CHARACTERS].encode("utf-8", "replace")
            return Answer(Verdict.CLIENT_ERROR, prepared.status, text, "text/plain; charset=utf-8", 0, 0.0)
        return prepared

    def predict(self, prepared: list[Prepared]) -> Predicted:
        """One predict for requests with equal keys, their rows one below the other."""
        started = perf_counter()
        try:
            data = self.preparer.table(prepared)
            started = perf_counter()
            predictions = self._predict(data, prepared[0].params)
        except BaseException as error:  # noqa: BLE001 - SystemExit in predict is the version's fault, not our end
            return Predicted(perf_counter() - started, failure=error)
        return Predicted(perf_counter() - started, predictions)

    def together_alike(self, prepared: list[Prepared]) -> Any:
        """Predictions of requests with equal keys, by one predict. Raises what the version raises."""
        predicted = self.predict(prepared)
        if predicted.failure is not None:
            raise predicted.failure
        return predicted.predictions

    def bare(self, data: Any, params: Any) -> Any:
        """The version's predict, as it is."""
        return self._predict(data, params)

    def answer(self, query: Query) -> Answer:
        """The version's answer to one request, by a predict of its own."""
        prepared = self.prepare(query)
        return prepared if isinstance(prepared, Answer) else self.alone(prepared)

    def alone(self, prepared: Prepared) -> Answer:
        """As `answer`, for what was decoded before."""
        return self.told(prepared, self.predict([prepared]))

    def told(self, prepared: Prepared, predicted: Predicted) -> Answer:
        """The answer to a request that had a predict of its own."""
        if predicted.failure is not None:
            return self._raised(predicted.failure, predicted.seconds)
        answer = self._encoded(prepared, predicted.predictions, predicted.seconds)
        if self.scores is None or answer.verdict is not Verdict.OK:
            return answer
        return replace(answer, scores=count(predicted.predictions, self.scores))

    def together(self, queries: Sequence[Query]) -> Iterator[Placed]:
        """Answers to all of them, in as few predicts as their shapes allow, each as soon as it is there."""
        groups: dict[Hashable, list[tuple[int, Prepared]]] = {}
        for place, query in enumerate(queries):
            prepared = self.prepare(query)
            if isinstance(prepared, Answer):
                yield (place,), (prepared,)
            else:
                groups.setdefault((prepared.key, prepared.key is None and place), []).append(
                    (place, prepared)
                )
        for group in groups.values():
            yield from self._shared(group)

    def _shared(self, group: list[tuple[int, Prepared]]) -> Iterator[Placed]:
        if len(group) > 1 and (answers := self._by_one_predict([one for _, one in group])):
            yield [place for place, _ in group], answers
            return
        for place, one in group:  # one of them spoiled it for all, or there is but one
            yield (place,), (self.alone(one),)

    def _by_one_predict(self, prepared: list[Prepared]) -> list[Answer] | None:
        """Their answers; None when they have to be asked one by one, to see which of them is at fault."""
        predicted = self.predict(prepared)
        if predicted.failure is not None:
            return None
        predictions, rows = predicted.predictions, [one.rows for one in prepared]
        try:
            bodies = encode_each(predictions, rows)
        except BaseException:  # noqa: BLE001 - it runs code of what the version answered
            return None
        if bodies is None:
            return None
        counts = count(predictions, self.scores) if self.scores else None
        nan_only = [False] * len(rows)
        if counts is not None and counts.nan and self.scores:
            pieces = split(predictions, rows) or []
            nan_only = [count(piece, self.scores).all_nan for piece in pieces]
        answers = [
            Answer(Verdict.OK, 200, body, JSON, asked, predicted.seconds, None, asked, only)
            for body, asked, only in zip(bodies, rows, nan_only, strict=True)
        ]
        answers[0] = replace(answers[0], scores=counts)
        return answers

    def _encoded(self, prepared: Prepared, predictions: Any, seconds: float) -> Answer:
        try:
            body = encode(predictions) if prepared.wrapped else _unwrapped(predictions)
        except BaseException as error:  # noqa: BLE001 - it runs code of what the version answered
            self._complaints.note("its answer cannot be written as JSON", error)
            return _model_error("The version's answer cannot be written as JSON", seconds)
        return Answer(
            Verdict.OK, 200, body, JSON, prepared.rows, seconds, answer_rows=_answer_rows(predictions)
        )

    def _refused(self, error: BaseException | None, lead: str) -> Answer:
        if not isinstance(error, MlflowException):
            # MLflow answers these with a bare 500: deep nesting, endless integers, columns without a hash.
            return refusal(MlflowException("", BAD_REQUEST), "Invalid input: it cannot be decoded")
        return refusal(error, lead, self._names)

    def _raised(self, error: BaseException, seconds: float) -> Answer:
        if not isinstance(error, MlflowException):
            self._complaints.note("its predict raised", error)
            return _model_error(f"The version raised {type(error).__name__} on this request", seconds)
        if error.get_http_status_code() >= 500:
            self._complaints.note("its predict raised", error)
        return refusal(error, "The version refused this request", predict_seconds=seconds)


def _unwrapped(predictions: Any) -> bytes:
    written = StringIO()
    unwrapped_predictions_to_json(predictions, written)
    return written.getvalue().encode()


def _model_error(message: str, seconds: float) -> Answer:
    return refusal(MlflowException("", INTERNAL_ERROR), message, predict_seconds=seconds)


def _answer_rows(predictions: Any) -> int | None:
    """Rows of an answer; None for what has none, such as a text, a mapping or a single value."""
    if isinstance(predictions, np.ndarray):
        return len(predictions) if predictions.ndim else None
    return len(predictions) if isinstance(predictions, (list, tuple, pd.DataFrame, pd.Series)) else None
