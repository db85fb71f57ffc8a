"""What versions answer, whatever they do: batches, faults, ends and silence."""

from typing import Any

import pytest

from router.gate.answers import AskedVersion, BatchLimits, Fault, column_of, kind_of, predictions_in
from router.gate.errors import AnswerRefused, Arm
from router.protocol.messages import Answer, PredictStatus
from tests.gate.fakes import BATCH, JSON, FakeWorker, asked


def body(*rows: float) -> bytes:
    data = ",".join(f"[{row}]" for row in rows)
    return f'{{"dataframe_split":{{"columns":["a"],"data":[{data}]}}}}'.encode()


async def test_answers_come_in_the_order_of_the_requests_whatever_the_batches() -> None:
    worker = FakeWorker(lambda rows: [2 * row["a"] for row in rows])

    answers = await AskedVersion(Arm.CANDIDATE, worker, BatchLimits(3, 1000), 30.0).ask(
        [body(n) for n in range(7)]
    )

    assert [predictions_in(answer) for answer in answers] == [[2 * n] for n in range(7)]
    assert worker.batches == [3, 3, 1]


async def test_a_batch_has_no_more_bytes_than_a_gateways_and_one_request_at_least() -> None:
    worker = FakeWorker(lambda rows: [row["a"] for row in rows])
    size = len(body(1))

    await AskedVersion(Arm.CANDIDATE, worker, BatchLimits(64, 2 * size), 30.0).ask(
        [body(n) for n in range(5)]
    )
    await AskedVersion(Arm.CANDIDATE, worker, BatchLimits(64, size - 1), 30.0).ask([body(1), body(2)])

    assert worker.batches == [2, 2, 1, 1, 1]


async def test_a_version_that_ends_its_worker_is_named_with_how_it_ended() -> None:
    def end(rows: Any) -> Any:
        raise ProcessLookupError

    with pytest.raises(
        AnswerRefused, match=r"the production ended its worker on one of 2 requests: .*SEGV"
    ) as caught:
        await asked(Arm.PRODUCTION, end).ask([body(1), body(2)])
    assert caught.value.arm is Arm.PRODUCTION


async def test_a_version_that_is_silent_is_ended() -> None:
    def stay_silent(rows: Any) -> Any:
        raise TimeoutError

    worker = FakeWorker(stay_silent)
    with pytest.raises(AnswerRefused, match=r"gave no answer within 0\.05 s"):
        await AskedVersion(Arm.CANDIDATE, worker, BATCH, 0.05).ask([body(1)])
    assert worker.killed


async def test_what_is_no_answer_is_a_fault_with_its_reason() -> None:
    def refuse(rows: Any) -> Any:
        raise ValueError("Model is missing inputs ['b']")

    for predict, why in (
        (refuse, "Model is missing inputs ['b']"),
        (lambda rows: [0.5] * 3, "it answered 3 rows to a request of 2 rows"),
        (lambda rows: b"not JSON", "its answer is no JSON"),
        (lambda rows: b'{"outputs": []}', "its answer has no `predictions`"),
    ):
        [answer] = await asked(Arm.CANDIDATE, predict).ask([body(1, 2)])
        assert predictions_in(answer) == Fault(why)


def test_nan_is_read_as_mlflow_writes_it() -> None:
    answer = Answer(PredictStatus.OK, 200, b'{"predictions": [NaN]}', JSON, 1, 0.0, answer_rows=1)

    [found] = predictions_in(answer)
    assert found != found


@pytest.mark.parametrize(
    ("predictions", "output", "column"),
    [
        ([0.1, 0.2], 0, [0.1, 0.2]),
        ([[0.9, 0.1], [0.8, 0.2]], 1, [0.1, 0.2]),
        ([{"label": "a", "score": 0.1}, {"score": 0.2, "label": "b"}], "score", [0.1, 0.2]),
        ([{"label": "a", "score": 0.1}], 1, [0.1]),
    ],
)
def test_an_output_is_taken_by_its_place_or_name(predictions: Any, output: Any, column: Any) -> None:
    assert column_of(predictions, output, Arm.CANDIDATE) == column


@pytest.mark.parametrize(
    ("predictions", "output"), [([[0.9]], 1), ([{"a": 1}], "score"), ([[0.9, 0.1]], "score")]
)
def test_an_output_that_is_missing_is_refused_with_what_there_is(predictions: Any, output: Any) -> None:
    with pytest.raises(AnswerRefused, match=r"does not answer the output .*: its rows are a"):
        column_of(predictions, output, Arm.CANDIDATE)


def test_types_are_told_apart_as_programs_that_read_them_do() -> None:
    kinds = [
        kind_of(value) for value in (1, 1.0, True, "1", None, [], [1.0], [1.0, 2.0], {}, {"a": 1}, {"b": 1})
    ]

    assert len(set(kinds)) == len(kinds)
    assert kind_of([0.5, 0.5]) == kind_of([1.0, 0.0])
    assert kind_of({"a": 1, "b": "x"}) == kind_of({"b": "y", "a": 2})
