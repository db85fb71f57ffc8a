"""Traffic: 500 users ask about the holdout rows, at a modest and steady rate."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import aiohttp

from router.demo.dataset import Dataset, Prediction

KEYS = tuple(f"user-{number}" for number in range(1, 501))
REQUESTS_PER_SECOND = 120.0
CALLERS = 12
"""Connections; a slow answer holds up one of them."""
TIMEOUT_SECONDS = 30.0
PATHS = {"sentiment": "/invocations", "churn_predictor": "/models/churn_predictor/invocations"}
CHURN_EVERY = 3
"""Every third request is about churn."""


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


class Traffic:
    """Callers that go on until `stop`; `receive` gets every answer, and every failure to answer."""

    def __init__(self, url: str, datasets: Mapping[str, Dataset], receive: Callable[[Answer], None]) -> None:
        self._url = url
        self._datasets = datasets
        self._receive = receive
        self._draw = random.Random(20261120)  # noqa: S311 - the same traffic every time; nothing secret
        self._numbers = count()
        self._going = True

    def stop(self) -> None:
        """Send nothing new; `flow` returns when what was sent is answered."""
        self._going = False

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
        turn = time.monotonic() + caller / REQUESTS_PER_SECOND
        while self._going:
            # A caller that is late goes on from now: catching up would be a burst nobody asked for.
            await asyncio.sleep(max(0.0, turn - time.monotonic()))
            turn = max(turn, time.monotonic() - 1.0) + CALLERS / REQUESTS_PER_SECOND
            model = "churn_predictor" if next(self._numbers) % CHURN_EVERY == 0 else "sentiment"
            row = self._draw.randrange(len(self._datasets[model].rows))
            self._receive(await self._ask(session, model, row, self._draw.choice(KEYS)))

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
            return answer
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


def _predictions(text: str) -> Sequence[Prediction]:
    """The answer's predictions; empty when the body is not a version's answer."""
    try:
        document: Any = json.loads(text)
        predictions: Sequence[Prediction] = document["predictions"]
    except (ValueError, KeyError, TypeError):
        return ()
    return predictions if isinstance(predictions, list) else ()
