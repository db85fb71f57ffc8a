"""What versions answer to requests of the gate: asked and read as a gateway and a caller do."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from router.core.answer_reading import parse_answer
from router.core.redaction import redact_line
from router.core.scores import cell_of
from router.gate.errors import AnswerRefused, Arm
from router.gate.requests import CONTENT_TYPE
from router.protocol.messages import Answer, PredictStatus, Query

_ERROR_CHARACTERS = 300


class WorkerWithVersion(Protocol):
    """One worker that holds a READY version; `router.serving.ports.WorkerHandle` has more."""

    @property
    def exited(self) -> asyncio.Future[Any]:
        """Done when the worker has ended."""

    def submit(
        self, queries: Sequence[Query], on_answers: Callable[[Sequence[int], Sequence[Answer]], None]
    ) -> int:
        """Hand over one batch; each place of it comes once."""

    def kill(self) -> None:
        """End the worker now."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is handed to a worker at once."""

    requests: int
    size_bytes: int
    """Of all bodies; the first may be larger."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that a version did not answer as it should."""

    why: str


class AskedVersion:
    """One version, which is asked one batch of requests after the other."""

    def __init__(
        self, arm: Arm, worker: WorkerWithVersion, limits: BatchLimits, predict_seconds: float
    ) -> None:
        """`predict_seconds`: how long one predict may take."""
        self.arm = arm
        self._worker = worker
        self._limits = limits
        self._predict_seconds = predict_seconds
        self._news = asyncio.Event()
        worker.exited.add_done_callback(lambda _: self._news.set())

    async def ask(self, bodies: Sequence[bytes]) -> list[Answer]:
        """The answers in the order of the requests. Raises AnswerRefused where the worker ends, or gives none
        in time."""
        answers: list[Answer] = []
        while len(answers) < len(bodies):
            start, size = len(answers), 0
            end = start
            while end < len(bodies) and end - start < self._limits.requests:
                size += len(bodies[end])
                if end > start and size > self._limits.size_bytes:
                    break
                end += 1
            answers += await self._ask(bodies[start:end])
        return answers

    async def _ask(self, bodies: Sequence[bytes]) -> list[Answer]:
        found: dict[int, Answer] = {}

        def take(places: Sequence[int], answers: Sequence[Answer]) -> None:
            found.update(zip(places, answers, strict=True))
            self._news.set()

        self._worker.submit([Query(body, CONTENT_TYPE) for body in bodies], take)
        while len(found) < len(bodies):
            if self._worker.exited.done():
                how = self._worker.exited.result()
                what = f"ended its worker on one of {len(bodies)} requests: {how}"
                raise AnswerRefused(self.arm, what)
            try:
                async with asyncio.timeout(self._predict_seconds):
                    await self._news.wait()
            except TimeoutError:
                self._worker.kill()
                what = f"gave no answer within {self._predict_seconds:g} s"
                raise AnswerRefused(self.arm, what) from None
            self._news.clear()
        return [found[place] for place in range(len(bodies))]


def predictions_in(answer: Answer) -> Any | Fault:
    """What a version answered to one request, one item per row of it."""
    if answer.predict_status is not PredictStatus.OK or answer.status != 200:
        return Fault(_message_in(answer))
    if not answer.one_per_row:
        return Fault(f"it answered {_rows(answer.answer_rows)} to a request of {_rows(answer.rows)}")
    try:
        document = parse_answer(answer.body)
    except ValueError:
        return Fault("its answer is no JSON")
    if not isinstance(document, dict) or "predictions" not in document:
        return Fault("its answer has no `predictions`")
    return document["predictions"]


def column_of(predictions: Sequence[Any], output: int | str, arm: Arm) -> list[Any]:
    """The output of each row; a row that is a plain value is its own. Raises AnswerRefused where one lacks
    it."""
    try:
        return [cell_of(row, output) if isinstance(row, dict | list) else row for row in predictions]
    except (LookupError, TypeError):
        raise AnswerRefused(
            arm, f"does not answer the output {output!r}: its rows are {kind_of(predictions[0])}"
        ) from None


def kind_of(value: Any) -> str:
    """The type and shape of what is answered for one row, as people write it; equal for equal ones.

    1 and 1.0 are two types, as they are to the programs that read them.
    """
    if isinstance(value, dict):
        inner = ", ".join(f"{name}: {kind_of(one)}" for name, one in sorted(value.items()))
        return f"an object of {inner}" if inner else "an empty object"
    if isinstance(value, list):
        kinds = sorted({kind_of(one) for one in value})
        return f"a list of {len(value)}, each {' or '.join(kinds)}" if kinds else "an empty list"
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(value), type(value).__name__)


def _message_in(answer: Answer) -> str:
    try:
        message = orjson.loads(answer.body)["message"]
    except (ValueError, LookupError, TypeError):
        message = f"status {answer.status}"
    return redact_line(str(message), _ERROR_CHARACTERS)


def _rows(count: int | None) -> str:
    return "no rows" if count is None else f"{count} row" + ("s" if count != 1 else "")
