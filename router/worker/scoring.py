"""One request, or many that share a predict, from bytes to answers, whatever the version does."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import InvocationsResponse

from router.core.scores import OutputSpec
from router.protocol.messages import Answer, PredictStatus, Query, ScoringProtocol
from router.protocol.wire import MAX_ANSWER_BYTES
from router.worker.complaints import Complaints
from router.worker.encoding import encode, encode_each, split
from router.worker.failures import Failures
from router.worker.inference.contract import Contract
from router.worker.predicting import predict_function
from router.worker.preparing import Prepared, Preparer
from router.worker.refusals import JSON, MESSAGE_CHARACTERS
from router.worker.scores import Tally, tally
from router.worker.stacking import Stacking

Placed = tuple[Sequence[int], Sequence[Answer]]
"""Places of requests among those asked together, and the answers that came out of one predict."""
_Written = tuple[bytes, int | None]
"""Body of a good answer, and how many rows it has."""


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a predict returned or raised."""

    seconds: float
    predictions: Any = None
    failure: BaseException | None = None


class Scorer:
    """Answers requests with one loaded version; in several threads, as far as the version can."""

    def __init__(
        self, model: PyFuncModel, complaints: Complaints, contract: Contract, *, nan_is_null: bool = False
    ) -> None:
        """`nan_is_null`: NaN and infinities are null in answers, which MLflow's server spells out."""
        self.contract = contract
        """What callers of the Open Inference Protocol meet."""
        self.scores: tuple[OutputSpec, ...] = ()
        """Which outputs of an answer are counted; empty: none are."""
        self.bare = predict_function(model)
        """The version's predict, as it is."""
        self.preparer = Preparer(model, nan_is_null=nan_is_null)
        self._stacking = Stacking(self.preparer)
        self._encode = partial(encode, nan_is_null=nan_is_null)
        self._encode_each = partial(encode_each, nan_is_null=nan_is_null)
        schema = model.metadata.get_input_schema()
        named = schema is not None and schema.has_input_names()
        self._failures = Failures(complaints, frozenset(schema.input_names() if named else ()))

    def prepare(self, query: Query) -> Prepared | Answer:
        """The request, decoded; or the answer that refuses it."""
        try:
            if query.protocol is ScoringProtocol.V2:
                return self.preparer.infer(query.body, self.contract, query.max_rows)
            prepared = self.preparer.prepare(query)
        except Exception as error:  # noqa: BLE001 - anything may go wrong in decoding what anyone may send
            return self._failures.undecodable(query, error)
        if isinstance(prepared, InvocationsResponse):
            text = prepared.response[:MESSAGE_CHARACTERS].encode("utf-8", "replace")
            return Answer(
                PredictStatus.CLIENT_ERROR, prepared.status, text, "text/plain; charset=utf-8", 0, 0.0
            )
        return prepared

    def predict(self, prepared: list[Prepared]) -> Predicted:
        """One predict for requests with equal keys, their rows one below the other."""
        started = perf_counter()
        try:
            data = self.preparer.table(prepared)
            started = perf_counter()
            predictions = self.bare(data, prepared[0].params)
        except BaseException as error:  # noqa: BLE001 - SystemExit in predict is the version's fault, not our end
            return Predicted(perf_counter() - started, failure=error)
        return Predicted(perf_counter() - started, predictions)

    def predictions(self, prepared: list[Prepared]) -> Any:
        """As `predict`, but raises what the version raises."""
        predicted = self.predict(prepared)
        if predicted.failure is not None:
            raise predicted.failure
        return predicted.predictions

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
            return self._failures.raised(prepared, predicted.failure, predicted.seconds)
        written = self._written(prepared, predicted.predictions, predicted.seconds)
        if isinstance(written, Answer):
            return written
        counted = tally(predicted.predictions, self.scores)
        return _good(written, prepared.rows, predicted.seconds, counted)

    def together(self, queries: Sequence[Query]) -> Iterator[Placed]:
        """Answers to all of them, in as few predicts as their shapes allow, each as soon as it is there."""
        groups: dict[Hashable, list[tuple[int, Prepared]]] = {}
        stacked = self._stacking.prepare(queries)
        alone = ((place, self.prepare(query)) for place, query in enumerate(queries) if place not in stacked)
        for place, prepared in chain(stacked.items(), alone):
            if isinstance(prepared, Answer):
                yield (place,), (prepared,)
            else:
                key = (prepared.key, prepared.key is None and place)
                groups.setdefault(key, []).append((place, prepared))
        for group in groups.values():
            if len(group) > 1 and (answers := self._by_one_predict([one for _, one in group])):
                yield [place for place, _ in group], answers
            elif len(group) == 1:
                [(place, one)] = group
                yield (place,), (self.alone(one),)
            else:  # one of them spoiled it for all, and the version may have changed what it was given
                for place, _ in group:
                    yield (place,), (self.answer(queries[place]),)

    def _by_one_predict(self, prepared: list[Prepared]) -> list[Answer] | None:
        """Their answers; None when they have to be asked one by one, to see which of them is at fault."""
        predicted = self.predict(prepared)
        if predicted.failure is not None:
            return None
        predictions, rows = predicted.predictions, [one.rows for one in prepared]
        written: Sequence[_Written | Answer]
        if any(one.encode for one in prepared):
            if (pieces := split(predictions, rows)) is None:
                return None
            pairs = zip(prepared, pieces, strict=True)
            written = [self._written(one, piece, predicted.seconds) for one, piece in pairs]
        else:
            try:
                bodies = self._encode_each(predictions, rows)
            except BaseException:  # noqa: BLE001 - it runs code of what the version answered
                return None
            if bodies is None or max(map(len, bodies)) > MAX_ANSWER_BYTES:
                return None
            written = list(zip(bodies, rows, strict=True))
        counted, counts, answers = tally(predictions, self.scores, rows), True, []
        for place, one in enumerate(written):
            if isinstance(one, Answer):
                answers.append(one)
            else:
                answers.append(_good(one, rows[place], predicted.seconds, counted, place, counts=counts))
                counts = False
        return answers

    def _written(self, prepared: Prepared, predictions: Any, seconds: float) -> _Written | Answer:
        """A good answer's body and length, or the answer where there is none."""
        try:
            body = (prepared.encode or self._encode)(predictions)
            length = _answer_rows(predictions)
        except BaseException as error:  # noqa: BLE001 - it runs code of what the version answered
            return self._failures.unwritable(prepared, error, seconds)
        return (body, length) if len(body) <= MAX_ANSWER_BYTES else self._failures.too_long(prepared, seconds)


def _good(
    written: _Written, rows: int, seconds: float, counted: Tally, place: int = 0, *, counts: bool = True
) -> Answer:
    """The answer at `place` of a shared predict; `counts`: it carries what all of them count for."""
    body, length = written
    head = (PredictStatus.OK, 200, body, JSON, rows, seconds)  # replace() costs more than counting does
    return Answer(
        *head, counted.counts if counts else (), length, counted.nan_only[place], counted.marks[place]
    )


def _answer_rows(predictions: Any) -> int | None:
    """Rows of an answer; None for what has none, such as a text, a mapping or a single value."""
    if isinstance(predictions, np.ndarray):
        return len(predictions) if predictions.ndim else None
    return len(predictions) if isinstance(predictions, (list, tuple, pd.DataFrame, pd.Series)) else None
