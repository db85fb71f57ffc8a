"""Versions that answer what a test says, asked as workers are."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from router.gate.answers import AskedVersion, BatchLimits
from router.gate.errors import Arm
from router.processes.process import Exit
from router.protocol.messages import Answer, PredictStatus, Query

JSON = "application/json"
BATCH = BatchLimits(64, 1 << 20)
Predict = Callable[[list[Mapping[str, Any]]], Any]
"""Of the rows of a request, each by its columns; what it raises is the version's failure."""


class FakeWorker:
    """Answers a batch in the next turn of the loop, the last request first."""

    def __init__(self, predict: Predict) -> None:
        self.predict = predict
        self.batches: list[int] = []
        """How many requests each had."""
        self.exited: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.killed = False

    def submit(
        self, queries: Sequence[Query], on_answers: Callable[[Sequence[int], Sequence[Answer]], None]
    ) -> int:
        self.batches.append(len(queries))
        places = range(len(queries))
        loop = asyncio.get_running_loop()
        for place in reversed(places):
            loop.call_soon(self._answer, queries[place], place, on_answers)
        return 0

    def kill(self) -> None:
        self.killed = True

    def _answer(self, query: Query, place: int, on_answers: Any) -> None:
        try:
            answer = answer_of(self.predict, query)
        except ProcessLookupError:
            if not self.exited.done():
                self.exited.set_result(Exit(signal=signal.SIGSEGV))
        except TimeoutError:
            pass
        else:
            on_answers((place,), (answer,))


def answer_of(predict: Predict, query: Query) -> Answer:
    """What the version answers; ProcessLookupError ends its worker, and on TimeoutError it is silent."""
    assert query.content_type == JSON
    table = orjson.loads(query.body)["dataframe_split"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    try:
        predictions = predict(rows)
    except ValueError as error:
        body = orjson.dumps({"error_code": "BAD_REQUEST", "message": str(error)})
        return Answer(PredictStatus.MODEL_ERROR, 500, body, JSON, len(rows), 0.0)
    answered = len(predictions) if isinstance(predictions, list) else len(rows)
    body = predictions if isinstance(predictions, bytes) else orjson.dumps({"predictions": predictions})
    return Answer(PredictStatus.OK, 200, body, JSON, len(rows), 0.0, answer_rows=answered)


def asked(arm: Arm, predict: Predict, *, seconds: float = 30.0) -> AskedVersion:
    return AskedVersion(arm, FakeWorker(predict), BATCH, seconds)


def both(candidate: Predict, production: Predict) -> dict[Arm, AskedVersion]:
    return {Arm.CANDIDATE: asked(Arm.CANDIDATE, candidate), Arm.PRODUCTION: asked(Arm.PRODUCTION, production)}
