"""The whole way of a request, from its bytes to those of its answer, beside MLflow's own."""

import io
import json
import logging
import math
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations

from router.core.ids import VersionId
from router.protocol.messages import Answer, LoadSpec, Query
from router.worker.load import load_version
from router.worker.scorer import Scorer
from tests.conftest import Figure
from tests.worker.csv_to_read import CSV_SCHEMAS, frame
from tests.worker.requests_to_decode import PARAMS, SCHEMAS, requests, tables
from tests.worker.rowwise import WAYS, save_each

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
EXAMPLES = int(os.environ.get("EXAMPLES", "2700"))
RTOL = 1e-9
"""The default of `batching_rtol`."""
WANTED_DIFFERENCES = {
    "the version raises": "MLflow: 400 BAD_REQUEST. Here: 500 INTERNAL_ERROR",
    "an answer that can not be written": "MLflow: a bare 500. Here: 500 INTERNAL_ERROR, as JSON",
    "what MLflow fails on without a body": "MLflow: a bare 500. Here: 400 BAD_REQUEST, as JSON",
    "no Content-Type": "MLflow: a bare 500. Here: read as JSON",
    "the text of a refusal": "MLflow quotes the request. Here: at most 1 000 characters, without its values",
    "a stack trace": "MLflow sends it. Here: never",
    "more than max_rows": "MLflow: predicted. Here: 413",
}
"""Everything in which an answer may be another one; `docs/migrating.md` says the same."""
Outcome = tuple[int, str, Any]
"""Status, content type and parsed body; of a refusal, its codes instead of the body."""


@contextmanager
def silence() -> Iterator[None]:
    """MLflow warns of what generated requests do, and numpy of what they overflow."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


class Pair:
    """A version, loaded twice: by MLflow, and as a worker does it."""

    def __init__(self, directory: Path) -> None:
        self.theirs: PyFuncModel = mlflow.pyfunc.load_model(str(directory))
        with _loading() as loaded:
            self.scorer: Scorer = load_version(LoadSpec(VersionId("rowwise", 1), str(directory), None)).scorer
        self._versions = [self.theirs._model_impl.python_model, loaded[0]._model_impl.python_model]

    def answer_with(self, way: str) -> None:
        for version in self._versions:
            version.way = way

    def by_mlflow(self, query: Query) -> tuple[Outcome, str]:
        """Its outcome, or the one that is wanted instead; and the difference between them."""
        version = self._versions[0]
        version.failed = False
        internal = (500, JSON, ("INTERNAL_ERROR", "XXM00", "CLIENT_INTERNAL_ERROR"))
        content_type = JSON if query.content_type is None else query.content_type
        reported = "no Content-Type" if query.content_type is None else ""
        reached = _Reached(self.theirs)
        try:
            result = invocations(query.body, content_type, reached, self.theirs.metadata.get_input_schema())
        except MlflowException as error:
            if version.failed:
                return internal, "the version raises"
            return (
                error.get_http_status_code(),
                JSON,
                codes(json.loads(error.serialize_as_json())),
            ), reported
        except Exception:
            if reached.predicted:
                return internal, "an answer that can not be written"
            refused = (400, JSON, ("BAD_REQUEST", "KAM00", "INVALID_PARAMETER_VALUE"))
            return refused, "what MLflow fails on without a body"
        if result.mimetype == JSON:
            return (result.status, JSON, json.loads(result.response)), reported
        return (result.status, result.mimetype, None), reported


class _Reached:
    """A version that remembers whether it predicted."""

    def __init__(self, model: PyFuncModel) -> None:
        self.metadata, self._model, self.predicted = model.metadata, model, False

    def predict(self, data: Any, params: Any = None) -> Any:
        predictions = self._model.predict(data, params=params)
        self.predicted = True
        return predictions


@contextmanager
def _loading() -> Iterator[list[PyFuncModel]]:
    """The models that are loaded meanwhile."""
    loaded: list[PyFuncModel] = []
    original = mlflow.pyfunc.load_model

    def load(*args: Any, **more: Any) -> PyFuncModel:
        loaded.append(original(*args, **more))
        return loaded[-1]

    mlflow.pyfunc.load_model = load
    try:
        yield loaded
    finally:
        mlflow.pyfunc.load_model = original


def codes(body: dict[str, Any]) -> tuple[Any, Any, Any]:
    return body.get("error_code"), body.get("sqlstate"), body.get("error_class")


def ours(answer: Answer) -> Outcome:
    """What a caller gets, as `Pair.by_mlflow` has it."""
    if answer.content_type != JSON:
        return answer.status, answer.content_type.partition(";")[0], None
    body = json.loads(answer.body)
    if answer.status == 200:
        return 200, JSON, body
    assert len(body["message"]) <= 1000
    assert "stack_trace" not in body
    return answer.status, JSON, codes(body)


def difference(mine: Any, theirs: Any, rtol: float) -> str:
    """Where two outcomes differ, with types, order and NaN; empty where they do not."""
    pairs = [(mine, theirs)]  # no recursion: some answers are nested as deeply as JSON is read
    while pairs:
        one, other = pairs.pop()
        if type(one) is not type(other):
            return f"{one!r} is not {other!r}"
        if isinstance(other, (list, tuple)):
            if len(one) != len(other):
                return f"{len(one)} items are not {len(other)}"
            pairs += zip(one, other, strict=True)
        elif isinstance(other, dict):
            if list(one) != list(other):
                return f"{list(one)} are not {list(other)}"
            pairs += zip(one.values(), other.values(), strict=True)
        elif isinstance(other, float):
            if repr(one) != repr(other) and not (rtol > 0 and math.isclose(one, other, rel_tol=rtol)):
                return f"{one!r} is not {other!r}"
        elif one != other:
            return f"{one!r} is not {other!r}"
    return ""


@st.composite
def other_media(draw: Any, name: str) -> Query:
    """A table as CSV or Parquet, or JSON under a name that is read in another way."""
    request = draw(requests(name, plain=True))
    if draw(st.booleans()):
        types = [None, "", "application/json; charset=UTF-8", "application/json;charset=latin-1", "text/html"]
        return Query(
            request.body, draw(st.sampled_from([*types, "application/json; a=b", "Application/JSON"]))
        )
    names, rows = draw(tables(SCHEMAS[name], plain=True))
    table = pd.DataFrame(rows, columns=names)
    if draw(st.booleans()):
        return Query(table.to_csv(index=False).encode(), CSV)
    with io.BytesIO() as file:
        table.to_parquet(file)
        return Query(file.getvalue(), PARQUET)


def generated(name: str, examples: int) -> list[Query]:
    """Requests to the version called `name`: half of them plain, some broken, one in ten of other media."""
    found: list[Query] = []
    json_requests = requests(name, plain=True) | requests(name, plain=False)
    kinds = [json_requests.map(lambda request: Query(request.body, JSON))] * 9

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(st.one_of(*kinds, other_media(name)))
    def gather(query: Query) -> None:
        found.append(query)

    gather()
    return found


def compared(pair: Pair, queries: list[Query], rng: random.Random, most: int) -> Counter[str]:
    """What came out of asking both, one at a time and then together; fails at the first difference.

    Together are 2 to `most` at once.
    """
    seen: Counter[str] = Counter()
    start = turn = 0
    while start < len(queries):
        batch = queries[start : start + rng.randint(2, most)]
        start += len(batch)
        way = WAYS[turn % len(WAYS)]
        turn += 1
        pair.answer_with(way)
        expected = []
        for query in batch:
            outcome, wanted = pair.by_mlflow(query)
            assert not wanted or wanted in WANTED_DIFFERENCES
            found = difference(ours(pair.scorer.answer(query)), outcome, 0.0)
            assert not found, f"{way}: {query!r}: {found}"
            expected.append(outcome)
            seen[wanted or f"{outcome[0]}"] += 1
        answered: set[int] = set()
        for places, answers in pair.scorer.together(batch):
            seen["predicts together"] += len(places) > 1
            seen["requests in them"] += len(places) if len(places) > 1 else 0
            for place, answer in zip(places, answers, strict=True):
                assert place not in answered
                answered.add(place)
                found = difference(ours(answer), expected[place], RTOL)
                assert not found, f"{way}, together: {batch[place]!r}: {found}"
        assert len(answered) == len(batch)
        seen["requests"] += len(batch)
    return seen


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Versions by the name of their signature, saved and loaded when they are first asked for."""
    directory, known = tmp_path_factory.mktemp("rowwise"), {}

    def get(name: str) -> Pair:
        if name not in known:
            with silence():
                params = {name: PARAMS} if name in ("text", "tensor", "dated") else {}
                save_each(directory, {name: SCHEMAS[name]}, params)
                known[name] = Pair(directory / name)
        return known[name]

    return get


@pytest.mark.parametrize("name", ["none", "text", "mixed", "tensor"])
def test_whatever_is_asked_the_answer_is_the_one_of_mlflow(pair: Callable[[str], Pair], name: str) -> None:
    """Status, content type, parsed body, codes: the same alone; together, floats to `batching_rtol`."""
    version, rng = pair(name), random.Random(name)
    with silence():
        compared(version, generated(name, 80), rng, 8)


@pytest.mark.parametrize("name", ["text", "mixed", "narrow"])
def test_csv_that_is_read_at_once_is_answered_as_by_mlflow(pair: Callable[[str], Pair], name: str) -> None:
    """Also where others of the frame are broken, or the version fails on one of them."""
    version, dice = pair(name), random.Random(name)
    queries = [Query(body, CSV) for _ in range(30) for body in frame(dice, CSV_SCHEMAS[name], most=8)]
    with silence():
        seen = compared(version, queries, dice, 12)
    assert seen["requests in them"] >= seen["requests"] / 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_thousand_requests_are_answered_as_by_mlflow(
    pair: Callable[[str], Pair], figure: Figure
) -> None:
    """Of every signature: alone to the bit, in batches of 2 to 64 with floats to `batching_rtol`."""
    total: Counter[str] = Counter()
    for name in SCHEMAS:
        version, rng = pair(name), random.Random(name)
        with silence():
            total += compared(version, generated(name, EXAMPLES), rng, 64)
    figure(f"0 differences in {total['requests']} requests, alone and together: {dict(total)}")
    assert total["requests"] >= 18 * EXAMPLES
    assert total["requests in them"] >= total["requests"] / 4
