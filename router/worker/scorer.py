"""One request, or many that share a predict, from bytes to answers, whatever the version does."""

import inspect
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import perf_counter, process_time
from typing import Any, Protocol

from mlflow.models.dependencies_schemas import _get_dependencies_schema_from_model
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.context import Context, get_prediction_context, set_prediction_context
from mlflow.pyfunc.model import _is_context_in_predict_function_signature, _PythonModelPyfuncWrapper
from mlflow.pyfunc.scoring_server import InvocationsResponse

from router.core.scores import OutputSpec
from router.protocol.messages import MAX_ANSWER_BYTES, Answer, PredictStatus, Query, ScoringProtocol
from router.worker.answers import MESSAGE_CHARACTERS, ErrorAnswers, ErrorReporter
from router.worker.decode.csv import CsvBatchDecoder
from router.worker.decode.request_decoder import JSON, DecodedRequest, RequestDecoder
from router.worker.encoder import encode, encode_each, rows_of, split
from router.worker.scores import ScoreTally, count_scores
from router.worker.traits import TraitReader
from router.worker.v2.request import Contract

Placed = tuple[Sequence[int], Sequence[Answer]]
"""Places of requests among those asked together, and the answers that came out of one predict."""
Predict = Callable[[Any, dict[str, Any] | None], Any]
_Written = tuple[bytes, int | None]
"""Body of a good answer, and how many rows it has."""


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What a predict returned or raised."""

    seconds: float
    processor_seconds: float = 0.0
    predictions: Any = None
    failure: BaseException | None = None


class SharedPredicts(Protocol):
    """An observer of shared predicts."""

    def shared(self, queries: Sequence[Query], rows: Sequence[int], predictions: Any) -> None:
        """Requests of so many rows each shared a predict, and are answered with `predictions`."""


class PredictWatch(Protocol):
    """Whoever measures predicts."""

    def begin(self) -> None:
        """A predict begins."""

    def end(self, seconds: float, requests: Sequence[DecodedRequest]) -> None:
        """It returned after so many `seconds`; not called where it raised."""


class Scorer:
    """Answers requests with one loaded version; in several threads, as far as the version can."""

    def __init__(
        self, model: PyFuncModel, reporter: ErrorReporter, contract: Contract, *, nan_is_null: bool = False
    ) -> None:
        """`nan_is_null`: NaN and infinities are null in answers, which MLflow's server spells out."""
        self.contract = contract
        """What callers of the Open Inference Protocol meet."""
        self.scores: tuple[OutputSpec, ...] = ()
        """Which outputs of an answer are counted; empty: none are."""
        self.traits = TraitReader(None)
        """What reads the traits of requests, where they are wanted."""
        self.watch: PredictWatch | None = None
        self.processor_clock: Callable[[], float] = process_time
        """Of what takes part in a predict: the whole process with all its threads; or where predicts run side
        by side, the thread that predicts."""
        self.worked = process_time()
        """What the clock said after the last predict."""
        self.predict_data = predict_function(model)
        """The version's own predict, of data and params."""
        self.decoder = RequestDecoder(model, nan_is_null=nan_is_null)
        self._csv = CsvBatchDecoder(self.decoder)
        self._encode = partial(encode, nan_is_null=nan_is_null)
        self._encode_each = partial(encode_each, nan_is_null=nan_is_null)
        schema = model.metadata.get_input_schema()
        named = schema is not None and schema.has_input_names()
        self._errors = ErrorAnswers(reporter, frozenset(schema.input_names() if named else ()))

    def decode(self, query: Query) -> DecodedRequest | Answer:
        """The request, decoded; or the answer that refuses it."""
        try:
            if query.protocol is ScoringProtocol.V2:
                return self.decoder.decode_v2(query.body, self.contract, query.max_rows)
            decoded = self.decoder.decode(query)
        except Exception as error:  # noqa: BLE001 - anything may go wrong in decoding what anyone may send
            return self._errors.undecodable(query, error)
        if isinstance(decoded, InvocationsResponse):
            text = decoded.response[:MESSAGE_CHARACTERS].encode("utf-8", "replace")
            return Answer(
                PredictStatus.CLIENT_ERROR, decoded.status, text, "text/plain; charset=utf-8", 0, 0.0
            )
        return decoded

    def predict(self, requests: list[DecodedRequest]) -> Predicted:
        """One predict for requests with equal keys, their rows one below the other."""
        if (watch := self.watch) is not None:
            watch.begin()
        clock, started = self.processor_clock, perf_counter()
        try:
            data = self.decoder.table(requests)
            worked, started = clock(), perf_counter()
            predictions = self.predict_data(data, requests[0].params)
        except BaseException as error:  # noqa: BLE001 - SystemExit in predict is the version's fault, not our end
            return Predicted(perf_counter() - started, failure=error)
        seconds = perf_counter() - started
        self.worked = ended = clock()
        if watch is not None:
            watch.end(seconds, requests)
        return Predicted(seconds, ended - worked, predictions)

    def predictions(self, requests: list[DecodedRequest]) -> Any:
        """As `predict`, but raises what the version raises."""
        predicted = self.predict(requests)
        if predicted.failure is not None:
            raise predicted.failure
        return predicted.predictions

    def answer(self, query: Query) -> Answer:
        """The version's answer to one request, by a predict of its own."""
        decoded = self.decode(query)
        return decoded if isinstance(decoded, Answer) else self.answer_alone(decoded)

    def answer_alone(self, request: DecodedRequest) -> Answer:
        """As `answer`, for a decoded request."""
        return self.answer_to(request, self.predict([request]))

    def answer_to(self, request: DecodedRequest, predicted: Predicted) -> Answer:
        """The answer to a request that had a predict of its own."""
        if predicted.failure is not None:
            return self._errors.raised(request, predicted.failure, predicted.seconds)
        written = self._write(request, predicted.predictions, predicted.seconds)
        if isinstance(written, Answer):
            return written
        tally = count_scores(predicted.predictions, self.scores)
        return _good_answer(written, request.rows, predicted, tally)

    def together(self, queries: Sequence[Query], observer: SharedPredicts | None = None) -> Iterator[Placed]:
        """Answers to all of them, in as few predicts as their shapes allow, each as soon as it is there.

        `observer` is given each predict that some of them shared, before their answers are handed out.
        """
        groups: dict[Hashable, list[tuple[int, DecodedRequest]]] = {}
        of_csv = self._csv.decode(queries)
        others = ((place, self.decode(query)) for place, query in enumerate(queries) if place not in of_csv)
        for place, decoded in chain(of_csv.items(), others):
            if isinstance(decoded, Answer):
                yield (place,), (decoded,)
            else:
                key = (decoded.key, decoded.key is None and place)
                groups.setdefault(key, []).append((place, decoded))
        for group in groups.values():
            if len(group) > 1 and (shared := self._by_one_predict([request for _, request in group])):
                answers, predictions = shared
                places = [place for place, _ in group]
                if observer is not None:
                    rows = [request.rows for _, request in group]
                    observer.shared([queries[place] for place in places], rows, predictions)
                yield places, answers
            elif len(group) == 1:
                [(place, request)] = group
                yield (place,), (self.answer_alone(request),)
            else:  # one of them spoiled it for all, and the version may have changed what it was given
                for place, _ in group:
                    yield (place,), (self.answer(queries[place]),)

    def _by_one_predict(self, requests: list[DecodedRequest]) -> tuple[list[Answer], Any] | None:
        """Their answers, and what was predicted.

        None when they have to be asked one by one, to see which of them is at fault.
        """
        predicted = self.predict(requests)
        if predicted.failure is not None:
            return None
        predictions, seconds = predicted.predictions, predicted.seconds
        rows = [request.rows for request in requests]
        written: Sequence[_Written | Answer]
        if any(request.encode for request in requests):
            if (pieces := split(predictions, rows)) is None:
                return None
            pairs = zip(requests, pieces, strict=True)
            written = [self._write(request, piece, seconds) for request, piece in pairs]
        else:
            try:
                bodies = self._encode_each(predictions, rows)
            except BaseException:  # noqa: BLE001 - it runs code of what the version answered
                return None
            if bodies is None or max(map(len, bodies)) > MAX_ANSWER_BYTES:
                return None
            written = list(zip(bodies, rows, strict=True))
        tally, counts, answers = count_scores(predictions, self.scores, rows), True, []
        for place, one in enumerate(written):
            if isinstance(one, Answer):
                answers.append(one)
            else:
                answers.append(_good_answer(one, rows[place], predicted, tally, place, counts=counts))
                counts = False
        return answers, predictions

    def _write(self, request: DecodedRequest, predictions: Any, seconds: float) -> _Written | Answer:
        """A good answer's body and length, or the answer where there is none."""
        try:
            body = (request.encode or self._encode)(predictions)
            length = None if request.whole else rows_of(predictions)
        except BaseException as error:  # noqa: BLE001 - it runs code of what the version answered
            return self._errors.unwritable(request, error, seconds)
        return (body, length) if len(body) <= MAX_ANSWER_BYTES else self._errors.too_long(request, seconds)


def _good_answer(
    written: _Written,
    rows: int,
    predicted: Predicted,
    tally: ScoreTally,
    place: int = 0,
    *,
    counts: bool = True,
) -> Answer:
    """The answer at `place` of a shared predict; `counts`: it carries what all of them count for."""
    body, length = written
    # By position, in the order of the fields: with names, or by replace(), it costs more than counting does.
    return Answer(
        PredictStatus.OK,
        200,
        body,
        JSON,
        rows,
        predicted.seconds,
        tally.counts if counts else (),
        length,
        tally.nan_only[place],
        tally.bin_indexes[place],
        False,  # noqa: FBT003 - as all of them
        None,
        predicted.processor_seconds,
    )


def predict_function(model: PyFuncModel) -> Predict:
    """A function of data and params, both as the signature has them, that gives what `model.predict` gives.

    MLflow asks `inspect.signature` in every predict, twice for a PythonModel. Only for versions that have a
    decoder: type hints are checked elsewhere.
    """
    metadata = model.metadata
    # As attributes, because `predict` leaves them there for whoever looks.
    model.input_schema, model.params_schema = metadata.get_input_schema(), metadata.get_params_schema()
    known: dict[str, Any] = _get_dependencies_schema_from_model(metadata) or {}
    if model.model_id:
        known["model_id"] = model.model_id
    inner = _inner(model)

    def predict(data: Any, params: dict[str, Any] | None) -> Any:
        context = get_prediction_context() or Context()
        with set_prediction_context(context):
            context.update(**known)
            return inner(data, params)

    return predict


def _inner(model: PyFuncModel) -> Predict:
    wrapper = model._model_impl  # noqa: SLF001 - MLflow's stable developer API
    inner = model._predict_fn  # noqa: SLF001 - the seam between the signature and the version's own code
    if (
        type(wrapper) is _PythonModelPyfuncWrapper
        and inspect.unwrap(inner, stop=inspect.ismethod) == wrapper.predict
    ):
        return _python_model(wrapper)
    takes = inspect.signature(inner).parameters.get("params")
    if takes and takes.kind != inspect.Parameter.VAR_KEYWORD:
        return lambda data, params: inner(data, params=params)
    return lambda data, _: inner(data)


def _python_model(wrapper: Any) -> Predict:
    version, context, convert = wrapper.python_model, wrapper.context, wrapper._convert_input  # noqa: SLF001 - as its own predict
    parameters = inspect.signature(version.predict).parameters
    takes_context = _is_context_in_predict_function_signature(parameters=parameters)
    if "params" in parameters:
        if takes_context:
            return lambda data, params: version.predict(context, convert(data), params=params)
        return lambda data, params: version.predict(convert(data), params=params)
    if takes_context:
        return lambda data, _: version.predict(context, convert(data))
    return lambda data, _: version.predict(convert(data))
