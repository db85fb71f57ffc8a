"""Traffic: 500 users ask about the holdout rows, as fast as the gateway answers and no faster.

A closed loop: a caller waits for its answer, pauses, and sends the next request. Where answers take long, as
on a busy machine, it sends fewer.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import aiohttp

from router.demo.dataset import Dataset, Prediction

KEYS = tuple(f"user-{number}" for number in range(1, 501))
CALLERS = 12
"""Connections; a slow answer holds up one of them."""
THINK_SECONDS = 0.1
"""The shortest pause of a caller after an answer."""
THINK_FACTOR = 3.0
"""A caller pauses this many times as long as its answer took: on average a quarter of them wait at most, so
that the machine is not kept busy by them alone."""
MOST_THINK_SECONDS = 2.0
MOST_PER_SECOND = CALLERS / THINK_SECONDS
TIMEOUT_SECONDS = 30.0
REFUSALS = frozenset({"requests come faster than this version answers", "the queue of this version is full"})
"""Messages of a 503 for too many requests; with no worker, or one that died, the status is the same."""
PATHS = {"sentiment": "/invocations", "churn_predictor": "/models/churn_predictor/invocations"}
CHURN_EVERY = 3
"""Every third request is about churn, where there are two models."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a caller saw it. Times are seconds of one monotonic clock."""

    model: str
    row: int
    key: str
    sent: float
    received: float
    status: int
    """0 when no answer came; then `problem` says why."""
    problem: str = ""
    alias: str = ""
    """Who answered."""
    version: int | None = None
    route_alias: str = ""
    """To whom the key was given."""
    reason: str = ""
    bucket: int | None = None
    predictions: Sequence[Prediction] = ()
    retry_after: float | None = None
    """Seconds that a refusal for too many requests asks its caller to wait; None for any other answer."""

    @property
    def is_refused(self) -> bool:
        """Whether the gateway said that requests come faster than it answers, which is no wrong answer."""
        return self.retry_after is not None

    @property
    def pause_seconds(self) -> float:
        """How long its caller waits before the next request."""
        if self.retry_after is not None:
            return self.retry_after
        think = THINK_FACTOR * (self.received - self.sent)
        return min(max(THINK_SECONDS, think), MOST_THINK_SECONDS)


class Traffic:
    """Callers that go on until `stop`; `receive` gets every answer, and every failure to answer."""

    def __init__(self, url: str, datasets: Mapping[str, Dataset], receive: Callable[[Answer], None]) -> None:
        self._url = url
        self._datasets = datasets
        self._receive = receive
        self._draw = random.Random(20261120)  # noqa: S311 - the same traffic every time; nothing secret
        self._numbers = count()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Send nothing new; `flow` returns when what was sent is answered."""
        self._stopped.set()

    async def flow(self) -> None:
        """Send until stopped."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(self._url, timeout=timeout) as session,
            asyncio.TaskGroup() as callers,
        ):
            for caller in range(CALLERS):
                callers.create_task(self._call(session, caller))

    async def _call(self, session: aiohttp.ClientSession, caller: int) -> None:
        pause = caller / MOST_PER_SECOND  # so that they do not begin all at once
        while not await self._stopped_within(pause):
            model = self._next_model()
            row = self._draw.randrange(len(self._datasets[model].rows))
            answer = await self._ask(session, model, row, self._draw.choice(KEYS))
            self._receive(answer)
            pause = answer.pause_seconds

    def _next_model(self) -> str:
        turn = next(self._numbers)
        if "sentiment" not in self._datasets:
            return "churn_predictor"
        return "churn_predictor" if turn % CHURN_EVERY == 0 else "sentiment"

    async def _stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._stopped.is_set()

    async def _ask(self, session: aiohttp.ClientSession, model: str, row: int, key: str) -> Answer:
        body = {"dataframe_records": [self._datasets[model].rows[row]]}
        sent = time.monotonic()
        try:
            async with session.post(PATHS[model], json=body, headers={"X-Request-Key": key}) as response:
                text, headers = await response.text(), response.headers
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = f"no answer: {error or type(error).__name__}"
            return Answer(model, row, key, sent, time.monotonic(), status=0, problem=problem)
        answer = Answer(model, row, key, sent, time.monotonic(), response.status, problem=text[:200])
        if answer.status != 200:
            return replace(answer, retry_after=_retry_after(answer.status, headers, text))
        return replace(
            answer,
            problem="",
            alias=headers.get("X-Model-Alias", ""),
            version=_number(headers.get("X-Model-Version", "")),
            route_alias=headers.get("X-Route-Alias", ""),
            reason=headers.get("X-Route-Reason", ""),
            bucket=_number(headers.get("X-Route-Bucket", "")),
            predictions=_predictions(text),
        )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _retry_after(status: int, headers: Mapping[str, str], text: str) -> float | None:
    """Seconds that a refusal for too many requests names; None when it is anything else."""
    seconds = _number(headers.get("Retry-After", ""))
    if status != 503 or seconds is None:
        return None
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(seconds) if isinstance(message, str) and message in REFUSALS else None


def _predictions(text: str) -> Sequence[Prediction]:
    """The answer's predictions; empty when the body is not a version's answer."""
    try:
        document: Any = json.loads(text)
        predictions: Sequence[Prediction] = document["predictions"]
    except (ValueError, KeyError, TypeError):
        return ()
    return predictions if isinstance(predictions, list) else ()
