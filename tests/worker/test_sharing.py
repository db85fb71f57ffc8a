"""Requests share a predict only where that changes no answer, and each still gets its own."""

import io
import json
import math
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.core.scores import ScoreCounts
from router.protocol.channel import Channel
from router.protocol.messages import (
    BATCHING,
    Answer,
    Batching,
    PredictStatus,
    Query,
    batch_of,
    batching_of,
    hung_up_header,
    predict_frame,
)
from router.worker import batching_trial
from router.worker.batching_trial import (
    ENOUGH_TRIALS,
    LARGEST_BODY,
    BatchingTrial,
    Effort,
    TrialSample,
    efforts,
    shown_by_example,
)
from router.worker.decode.request_decoder import DecodedRequest
from router.worker.load import Loaded, load_version
from router.worker.request_loop import RequestLoop
from router.worker.sharing_cost import SAMPLES, SharingCost
from router.worker.tolerance import equal
from tests.support.saved_versions import inference_query, json_query, predictions, spec_of, tensor, text_query
from tests.support.waiting import wait_until

Get = Callable[[str], Loaded]


def together(loaded: Loaded, *queries: Query) -> tuple[list[Answer], int]:
    """Each request's answer, and how many predicts they took."""
    answers: dict[int, Answer] = {}
    batches = 0
    for places, reported in loaded.scorer.together(queries):
        assert not answers.keys() & set(places)
        answers.update(zip(places, reported, strict=True))
        batches += 1
    return [answers[place] for place in range(len(queries))], batches


def earn(loaded: Loaded, most: int = 3 * ENOUGH_TRIALS) -> Any:
    """What is found out from requests that are predicted alone."""
    assert loaded.trial is not None
    for number in range(most):
        query = text_query("x" * (number % 7 + 1), "y" * number)
        prepared = loaded.scorer.decode(query)
        assert not isinstance(prepared, Answer)
        with efforts() as took:
            predicted = loaded.scorer.predict([prepared])
        loaded.trial.add(TrialSample(prepared, query.body, predicted.predictions, took[0]))
        if loaded.trial.decision is not None:
            return loaded.trial.decision
    return None


@pytest.mark.parametrize(
    ("name", "merges", "why"),
    [
        ("signed", True, "input example is predicted alike"),
        ("counts_rows_with_example", False, "predicted differently"),
        ("centres_with_example", False, "predicted differently"),
        ("waits_once_with_example", True, "input example is predicted alike"),
        ("waits_in_service_with_example", True, "input example is predicted alike"),
        ("plain", False, "first requests show whether"),
    ],
)
def test_an_example_shows_whether_rows_are_independent(
    loaded: Get, name: str, *, merges: bool, why: str
) -> None:
    batching = loaded(name).info.batching
    assert batching.merges is merges
    assert why in batching.why


@pytest.mark.parametrize(
    ("name", "merges", "why"),
    [
        ("plain", True, "equalled"),
        ("mutates", True, "equalled"),
        ("waits_once", True, "equalled"),
        ("counts_rows", False, "differently"),
        ("centres", False, "differently"),
        ("answers_once", False, "one item per row"),
        ("refuses_many", False, "fails on requests together"),
        ("waits_per_row", False, "side by side"),
    ],
)
def test_without_an_example_it_is_earned_by_requests_predicted_twice(
    versions: Path, name: str, *, merges: bool, why: str
) -> None:
    verdict = earn(load_version(spec_of(versions, name)))
    assert verdict.merges is merges
    assert why in verdict.why


def test_the_same_request_again_and_again_shows_nothing(versions: Path) -> None:
    """A version that subtracts the mean answers two equal rows like one."""
    loaded = load_version(spec_of(versions, "centres"))
    assert loaded.trial is not None
    query = text_query("one text")
    prepared = loaded.scorer.decode(query)
    assert not isinstance(prepared, Answer)
    predicted = loaded.scorer.predict([prepared])
    for _ in range(3 * ENOUGH_TRIALS):
        loaded.trial.add(
            TrialSample(prepared, query.body, predicted.predictions, Effort(0.001, 0.001, 0.001))
        )
    assert loaded.trial.decision is None


def test_the_same_rows_under_other_ids_show_nothing(versions: Path) -> None:
    """A client may write an id into each body."""
    loaded = load_version(spec_of(versions, "centres"))
    assert loaded.trial is not None
    for number in range(3 * ENOUGH_TRIALS):
        query = json_query({"id": number, "dataframe_records": [{"text": "one text"}]})
        prepared = loaded.scorer.decode(query)
        assert not isinstance(prepared, Answer)
        predicted = loaded.scorer.predict([prepared])
        loaded.trial.add(
            TrialSample(prepared, query.body, predicted.predictions, Effort(0.001, 0.001, 0.001))
        )
    assert loaded.trial.decision is None


def test_switched_off_nothing_is_looked_at(versions: Path) -> None:
    loaded = load_version(replace(spec_of(versions, "signed"), batches=False))
    assert loaded.trial is None
    assert (loaded.info.batching.merges, loaded.info.batching.why) == (False, "it is switched off")


def test_requests_of_one_shape_take_one_predict_and_each_gets_its_own_rows(loaded: Get) -> None:
    queries = [text_query(*["x" * (10 * i + j) for j in range(i % 3 + 1)]) for i in range(64)]
    answers, predicts = together(loaded("signed"), *queries)

    assert predicts == 1
    for i, answer in enumerate(answers):
        assert predictions(answer.body) == pytest.approx([0.01 * (10 * i + j) for j in range(i % 3 + 1)])
        assert (answer.rows, answer.answer_rows) == (i % 3 + 1, i % 3 + 1)
        assert answer.predict_status is PredictStatus.OK


def test_a_version_logged_as_code_is_decoded_like_one_that_was_pickled(loaded: Get) -> None:
    """MLflow loads chats and agents in the same way, whose formats are their own."""
    prepared = loaded("from_code").scorer.decode(text_query("good"))
    assert not isinstance(prepared, Answer)
    assert prepared.part is not None


def test_a_poisoned_request_among_64_fails_alone(loaded: Get) -> None:
    queries = [text_query("good" if i != 40 else "poison") for i in range(64)]
    answers, _ = together(loaded("poisoned"), *queries)

    assert [i for i, answer in enumerate(answers) if answer.predict_status is not PredictStatus.OK] == [40]
    assert (answers[40].status, answers[40].predict_status) == (500, PredictStatus.MODEL_ERROR)


def test_a_bad_request_among_others_is_refused_alone(loaded: Get) -> None:
    good, bad, better = text_query("good"), Query(b"{", None), text_query("better")
    answers, predicts = together(loaded("plain"), good, bad, better)

    assert [answer.status for answer in answers] == [200, 400, 200]
    assert predicts == 2


def test_requests_of_other_shapes_stand_in_tables_of_their_own(loaded: Get) -> None:
    """One integer beside one float would become a float."""
    ints, floats = ([{"text": "a", "n": number}] for number in (1, 1.5))
    queries = [json_query({"dataframe_records": rows}) for rows in (ints, floats, ints)]
    answers, predicts = together(loaded("plain"), *queries)

    assert [answer.status for answer in answers] == [200] * 3
    assert predicts == 2


def test_what_mlflow_decodes_shares_a_predict_as_well(loaded: Get) -> None:
    queries = [Query(f"text\n{'x' * n}\n".encode(), "text/csv") for n in (1, 2, 3)]
    answers, predicts = together(loaded("signed"), *queries)

    assert predicts == 1
    assert [predictions(answer.body) for answer in answers] == [[0.01], [0.02], [pytest.approx(0.03)]]


def test_scores_of_a_shared_predict_are_counted_once_and_nan_where_it_is(loaded: Get) -> None:
    queries = [text_query("good"), text_query("nan"), text_query("nan", "good")]
    answers, predicts = together(loaded("not_a_number"), *queries)

    assert predicts == 1
    [[counts]] = [answer.scores for answer in answers if answer.scores]
    assert isinstance(counts, ScoreCounts)
    assert (sum(counts.bins), counts.nan) == (2, 2)
    assert [answer.all_nan for answer in answers] == [False, True, False]
    assert [answer.bin_index is None for answer in answers] == [False, True, True]


numbers = st.floats() | st.integers(-(2**60), 2**60) | st.text(max_size=3) | st.booleans() | st.none()


@given(st.lists(numbers, max_size=5))
def test_predictions_equal_themselves(values: list[Any]) -> None:
    assert equal(values, json.loads(json.dumps(values)), 0.0)
    series = pd.Series(values, dtype=object)
    assert equal(series, series.copy(), 0.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], [1.0]),
        ([1], [True]),
        (["a"], ["b"]),
        ([1.0, 2.0], [1.0]),
        (np.array([1.0]), [1.0]),
        (np.array([1.0]), np.array([1.0], dtype=np.float32)),
        (np.array([1]), np.array([2])),
        (np.array([math.nan]), np.array([1.0])),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        ({"a": 1}, {"a": 2}),
        ([1.0], [1.0 + 1e-8]),
    ],
)
def test_predictions_that_differ_are_seen(one: Any, other: Any) -> None:
    assert not equal(one, other, 1e-9)


def test_floats_may_differ_by_the_tolerance_and_by_none_without() -> None:
    one, other = np.array([1.0, 1e-300, math.inf]), np.array([1.0 + 1e-12, 1e-300, math.inf])
    assert equal(one, other, 1e-9)
    assert not equal(one, other, 0.0)


def centred_in_place(table: Any) -> Any:
    """Says something else of rows that stand among others, and leaves them as they would be alone."""
    if isinstance(table, pd.DataFrame):
        table["x"] = table["x"] - table["x"].mean()
        return table["x"].to_numpy()
    table -= table.mean(axis=0)
    return table[:, 0].copy()


class Counting:
    """Counts rows, and answers each time in the same array."""

    def __init__(self) -> None:
        self.answers = np.zeros(100)

    def __call__(self, table: Any) -> Any:
        self.answers[: len(table)] = len(table)
        return self.answers[: len(table)]


def popped(table: Any) -> Any:
    """Takes out of each cell what it answers."""
    return [cell.pop("x") for cell in table["o"]]


EXAMPLES: dict[str, tuple[Any, Any, bool | None]] = {
    "centres a table in place": (centred_in_place, pd.DataFrame({"x": [1.0, 2.0, 5.0, 9.0]}), False),
    "centres an array in place": (centred_in_place, np.array([[1.0], [2.0], [5.0], [9.0]]), False),
    "counts in one array": (Counting(), pd.DataFrame({"x": [1.0, 2.0, 3.0]}), False),
    "changes cells": (popped, pd.DataFrame({"o": [{"x": 1}, {"x": 2}]}), True),
    "sorts": (lambda table: table.sort_values("x"), pd.DataFrame({"x": [1.0, 2.0, 0.0, 3.0]}), False),
    "sorts an example in order": (
        lambda table: table.sort_values("x"),
        pd.DataFrame({"x": [1.0, 2.0, 3.0]}),
        False,
    ),
    "centres halves of one mean": (centred_in_place, pd.DataFrame({"x": [1.0, 4.0, 2.0, 3.0]}), False),
    "centres halves that are equal": (centred_in_place, np.array([[1.0], [2.0], [1.0], [2.0]]), False),
    "exits": (lambda _: sys.exit(3), pd.DataFrame({"x": [1.0, 2.0]}), None),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_version_does_to_its_example_does_not_hide_what_it_is(name: str) -> None:
    """It may change what it is given, and what it answered before."""
    predict, example, shown = EXAMPLES[name]
    batching = shown_by_example(example, predict, 1e-9)
    assert (None if batching is None else batching.merges) is shown


class Clocks:
    """In the place of `time`, where the trial measures: on a busy machine nothing takes what it takes."""

    def __init__(self) -> None:
        self.passed = self.worked = 0.0

    def spend(self, seconds: float, *, working: bool) -> None:
        self.passed += seconds
        self.worked += seconds if working else 0.0

    def perf_counter(self) -> float:
        return self.passed

    def thread_time(self) -> float:
        return self.worked

    def process_time(self) -> float:
        return self.worked


@pytest.mark.parametrize(
    ("working", "seconds_of", "why"),
    [
        (False, lambda rows: 0.02 * rows, "it waits for each row, and threads wait side by side"),
        (True, lambda rows: 0.004 * rows**2, "it takes longer on requests together than alone"),
    ],
    ids=["waits for each row", "works more on rows together"],
)
def test_an_example_shows_that_sharing_costs_more_than_it_saves(
    monkeypatch: pytest.MonkeyPatch, working: bool, seconds_of: Callable[[int], float], why: str
) -> None:
    clocks = Clocks()
    monkeypatch.setattr(batching_trial, "time", clocks)

    def predict(table: Any) -> Any:
        clocks.spend(seconds_of(len(table)), working=working)
        return table["x"].to_numpy()

    batching = shown_by_example(pd.DataFrame({"x": [1.0, 2.0]}), predict, 1e-9)
    assert batching is not None
    assert (batching.merges, batching.why) == (False, why)


def test_an_example_that_was_kept_waiting_once_shows_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process had the processor meanwhile: what looks dear is measured again."""
    clocks = Clocks()
    monkeypatch.setattr(batching_trial, "time", clocks)
    waits = iter([0.0, 0.0, 0.1])

    def predict(table: Any) -> Any:
        clocks.spend(0.001, working=True)
        clocks.spend(next(waits, 0.0), working=False)
        return table["x"].to_numpy()

    batching = shown_by_example(pd.DataFrame({"x": [1.0, 2.0]}), predict, 1e-9)
    assert batching is not None
    assert batching.merges


def judged(requests: int, shared: float, busy: float, threads: int = 8) -> Batching | None:
    """After enough frames of one lone request, which takes a second, and others that share `shared` ones."""
    cost = SharingCost(threads)
    good = Answer(PredictStatus.OK, 200, b"", "application/json", 1, 1.0)
    judged_so_far = [
        cost.add([good], [replace(good, predict_seconds=shared)] * requests, busy) for _ in range(SAMPLES)
    ]
    assert judged_so_far[:-1] == [None] * (SAMPLES - 1)
    return judged_so_far[-1]


@pytest.mark.parametrize(
    ("requests", "shared", "busy", "slower"),
    [
        (7, 7.0, 0.0, True),  # a wait per row: seven threads would wait side by side
        (7, 1.1, 0.0, False),  # one wait for all
        (16, 2.5, 0.0, False),  # eight threads would have to wait twice
        (16, 16.0, 0.0, True),
        (7, 7.0, 1.0, False),  # work is not done side by side
        (7, 12.0, 1.0, True),  # more work than alone
    ],
)
def test_sharing_is_taken_back_when_it_is_slower_than_predicts_alone(
    requests: int, shared: float, busy: float, *, slower: bool
) -> None:
    decision = judged(requests, shared, busy)
    assert (decision is not None) is slower
    assert decision is None or not decision.merges


def test_only_frames_of_like_requests_are_compared_and_in_the_long_run_few() -> None:
    """One request says little of others that are a hundred times as large."""
    cost = SharingCost(8)
    like, unlike = [text_query("x")] * 4, [text_query("x"), text_query("x" * 1000), text_query("x")]
    assert not any(cost.compares(queries) for _ in range(100) for queries in (unlike, like[:2]))
    assert sum(cost.compares(like) for _ in range(4 * SAMPLES)) == SAMPLES
    good = Answer(PredictStatus.OK, 200, b"", "application/json", 1, 1.0)
    for _ in range(SAMPLES):
        cost.add([good], [good], 1.0)
    assert sum(cost.compares(like) for _ in range(64 * 5)) == 5


def test_a_version_that_waits_per_row_only_in_service_shares_no_more(versions: Path) -> None:
    """Its example says nothing of it. The gateway hears of it, and every request keeps its own answer."""
    loaded = load_version(spec_of(versions, "waits_in_service_with_example"))
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours)
    loop = RequestLoop(Channel(its), loaded.scorer, loaded.info.batching, None, threads=8)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    texts_of = ["x" * (n + 1) for n in range(4)]
    taken_back = None
    for number in range(4 * SAMPLES + 1):
        header, bodies = predict_frame(number, [text_query(text) for text in texts_of])
        channel.send(header, bodies)
        answers: dict[int, Any] = {}
        while len(answers) < len(texts_of):
            frame = channel.receive()
            assert frame is not None
            if frame.header["op"] == BATCHING:
                taken_back = batching_of(frame.header)
                continue
            batch = batch_of(frame, loaded.scorer.scores)
            answers.update(zip(batch.places, batch.answers, strict=True))
        assert [predictions(answers[n].body) for n in range(4)] == [[1.0], [2.0], [3.0], [4.0]]
    assert taken_back is not None
    assert (taken_back.merges, taken_back.why) == (
        False,
        "requests that shared predicts took longer than each by its own",
    )
    ours.close()
    thread.join()
    its.close()


def trial_of(predict: Any, data: list[Any]) -> BatchingTrial:
    """After requests with this data, one after the other, as a worker predicts them."""
    trial = BatchingTrial(lambda prepared: predict(_below(prepared)), 1e-9, _below)
    for number, one in enumerate(data):
        prepared = DecodedRequest(len(one), ("key",), None, one)
        with efforts() as took:
            predictions = predict(one.copy())
        trial.add(TrialSample(prepared, b"%d" % number, predictions, took[0]))
    return trial


def _below(prepared: list[DecodedRequest]) -> Any:
    parts = [one.data for one in prepared]
    return (
        pd.concat(parts, ignore_index=True) if isinstance(parts[0], pd.DataFrame) else np.concatenate(parts)
    )


class Odd:
    """Equal to nothing, and says so by an error."""

    def __eq__(self, other: object) -> bool:
        raise TypeError

    __hash__ = object.__hash__


class Locked(Odd):
    """Can not be copied."""

    def __reduce__(self) -> Any:
        raise TypeError


@pytest.mark.parametrize(
    ("predict", "merges", "why"),
    [
        (Counting(), False, "differently"),
        (lambda data: [pd.NA] * len(data), True, "equalled"),
        (lambda data: [Odd()] * len(data), False, "not be compared"),
        (lambda data: [Locked()] * len(data), False, "not be compared"),
    ],
    ids=["counts in one array", "NA", "compares with an error", "can not be copied"],
)
def test_earning_survives_whatever_a_version_answers(predict: Any, *, merges: bool, why: str) -> None:
    """Its thread has the next request to answer."""
    trial = trial_of(predict, [np.array([[float(i)]]) for i in range(3 * ENOUGH_TRIALS)])
    assert trial.decision is not None
    assert trial.decision.merges is merges
    assert why in trial.decision.why


def test_a_large_request_is_not_kept_to_be_looked_at() -> None:
    """An idle worker would hold it for as long as it is idle."""
    prepared = DecodedRequest(1, ("key",), None, np.zeros((1, 1)))
    assert BatchingTrial.accepts(prepared, b" " * LARGEST_BODY)
    assert not BatchingTrial.accepts(prepared, b" " * (LARGEST_BODY + 1))


def test_a_version_that_centres_tensors_in_place_does_not_earn_it(versions: Path) -> None:
    loaded = load_version(spec_of(versions, "centres_in_place"))
    assert loaded.trial is not None
    for number in range(3 * ENOUGH_TRIALS):
        query = json_query({"inputs": [[float(number), 1.0]]})
        prepared = loaded.scorer.decode(query)
        assert not isinstance(prepared, Answer)
        with efforts() as took:
            predicted = loaded.scorer.predict([prepared])
        loaded.trial.add(TrialSample(prepared, query.body, predicted.predictions, took[0]))
    assert loaded.trial.decision is not None
    assert not loaded.trial.decision.merges


def test_a_healthy_request_is_answered_as_it_came_after_a_shared_predict_failed(loaded: Get) -> None:
    """The version takes its cells apart, and its params, before it meets the poison."""
    cells: list[Any] = [{"cell": {"x": 1}}, {"cell": {"x": 2}}, {"cell": {}}, {"cell": {"x": 4}}]
    answers, _ = together(
        loaded("pops_cells"), *[json_query({"dataframe_records": [cell]}) for cell in cells]
    )

    assert [answer.status for answer in answers] == [200, 200, 500, 200]
    assert [predictions(answers[i].body) for i in (0, 1, 3)] == [[2], [3], [5]]


def parquet(table: pd.DataFrame) -> Query:
    """The table as a client sends it."""
    with io.BytesIO() as file:
        table.to_parquet(file)
        return Query(file.getvalue(), "application/vnd.apache.parquet")


def labelled(rows: range, name: str | None = None, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.RangeIndex(rows.start, rows.stop, name=name))


PAIRS: dict[str, tuple[Query, Query]] = {
    "categories": (
        parquet(pd.DataFrame({"c": pd.Categorical(["a"], ["a", "b"])})),
        parquet(pd.DataFrame({"c": pd.Categorical(["b"], ["b", "a"])})),
    ),
    "row labels": (parquet(labelled(range(5, 6), c=[1.0])), parquet(labelled(range(7, 8), c=[1.0]))),
    "a name of rows": (parquet(labelled(range(1), "n", c=[1.0])), parquet(labelled(range(1), "n", c=[2.0]))),
    "nullable integers": (
        parquet(pd.DataFrame({"c": pd.array([1], "Int64")})),
        parquet(pd.DataFrame({"c": pd.array([None], "Int64")})),
    ),
    "names that are equal": (
        json_query({"dataframe_split": {"columns": [1], "data": [[0.5]]}}),
        json_query({"dataframe_split": {"columns": [True], "data": [[0.5]]}}),
    ),
    "no rows": (Query(b"c\n1.5\n", "text/csv"), Query(b"c\n", "text/csv")),
}


@pytest.mark.parametrize("name", PAIRS)
def test_tables_that_would_not_be_the_same_below_each_other_stand_alone(loaded: Get, name: str) -> None:
    """The version shows all it sees of its table."""
    one, other = PAIRS[name]
    version = loaded("tells_tables")
    answers, predicts = together(version, one, other)

    assert predicts == 2
    assert [answer.body for answer in answers] == [
        version.scorer.answer(query).body for query in (one, other)
    ]


def texts(*texts: str) -> dict[str, Any]:
    return tensor("BYTES", [len(texts)], list(texts), "text")


def test_inference_requests_share_a_predict_and_neither_ids_nor_outputs_mix(loaded: Get) -> None:
    """Who asks for an output that is not there is refused alone."""
    asked = [["x"], ["x" * 20, "x" * 30], ["x" * 4], ["x" * 5]]
    queries = [inference_query(texts(*reported), id=f"id-{n}") for n, reported in enumerate(asked)]
    queries[2] = inference_query(texts("x" * 4), id="id-2", outputs=[{"name": "nothing"}])
    queries[3] = inference_query(texts("x" * 5), outputs=[{"name": "predict"}])
    answers, predicts = together(loaded("signed"), *queries)

    assert predicts == 1
    assert [answer.status for answer in answers] == [200, 200, 400, 200]
    reported = [json.loads(answers[i].body) for i in (0, 1, 3)]
    assert [one.get("id") for one in reported] == ["id-0", "id-1", None]
    assert [one["outputs"][0]["data"] for one in reported] == [
        pytest.approx([0.01]),
        pytest.approx([0.2, 0.3]),
        pytest.approx([0.05]),
    ]
    assert [one["outputs"][0]["shape"] for one in reported] == [[1], [2], [1]]
    assert list(json.loads(answers[2].body)) == ["error"]


def test_in_one_frame_each_protocol_is_answered_in_its_own(loaded: Get) -> None:
    csv = Query(b"text\nxx\n", "text/csv")
    answers, _ = together(loaded("signed"), csv, inference_query(texts("xxx"), id="a"), text_query("x"))

    assert predictions(answers[0].body) == [0.02]
    reported = json.loads(answers[1].body)
    assert (reported["id"], reported["outputs"][0]["data"]) == ("a", pytest.approx([0.03]))
    assert predictions(answers[2].body) == [0.01]


def test_a_poisoned_inference_request_fails_alone(loaded: Get) -> None:
    queries = [inference_query(texts("good" if n != 3 else "poison"), id=str(n)) for n in range(8)]
    answers, _ = together(loaded("poisoned"), *queries)

    assert [n for n, answer in enumerate(answers) if answer.status != 200] == [3]
    ids = [json.loads(answer.body).get("id") for answer in answers]
    assert ids == ["0", "1", "2", None, "4", "5", "6", "7"]


def test_an_idle_thread_keeps_nothing_of_the_request_it_refused(loaded: Get) -> None:
    """The error that was kept held all of MLflow's frames, with the body in them."""
    scorer = loaded("columns").scorer
    assert isinstance(scorer.decode(json_query({"dataframe_records": [{"l": 1, "s": "a"}]})), Answer)
    assert vars(scorer.decoder._captured) == {"call": None, "refused": None, "max_rows": None}


def test_params_that_a_version_changes_are_its_own(loaded: Get) -> None:
    """Also the lists in them, which are the signature's defaults."""
    version = loaded("adds_to_params")
    bodies = [version.scorer.answer(text_query("a")).body for _ in range(3)]
    assert [predictions(body) for body in bodies] == [[3]] * 3


class Noted:
    """In the place of a trial: what it was given to look at."""

    decision = None

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def accepts(self, _request: object, _body: bytes) -> bool:
        return True

    def add(self, sample: TrialSample) -> None:
        self.bodies.append(sample.body)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_request_whose_caller_hung_up_while_it_ran_is_not_predicted_once_more(
    versions: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial predicts what it looks at a second time, which would be for nobody."""
    loaded = load_version(spec_of(versions, "plain"))
    trial, began, go_on = Noted(), threading.Semaphore(0), threading.Semaphore(0)
    predict = loaded.scorer.predict

    def slow(requests: list[DecodedRequest]) -> Any:
        began.release()
        go_on.acquire()
        return predict(requests)

    monkeypatch.setattr(loaded.scorer, "predict", slow)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours)
    loop = RequestLoop(Channel(its), loaded.scorer, loaded.info.batching, trial, threads)  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    queries = [text_query("x" * (number + 1)) for number in range(4)]
    for number, query in enumerate(queries):
        header, bodies = predict_frame(number, [query])
        channel.send(header, bodies)
        began.acquire()
        if number % 2:
            wait_until(lambda: len(loop._here) == 1, 5.0)
            channel.send(hung_up_header(number - 1, 0))  # it is over: of no consequence
            channel.send(hung_up_header(number, 0))
        if number % 2 and threads > 1:
            wait_until(lambda: loop._hung_up, 5.0)
        go_on.release()
        frame = channel.receive()
        assert frame is not None
        assert batch_of(frame, loaded.scorer.scores).answers[0].status == 200
    ours.close()
    thread.join()
    its.close()

    wait_until(lambda: not loop._here, 5.0)
    assert trial.bodies == [queries[0].body, queries[2].body]
    assert not loop._hung_up
