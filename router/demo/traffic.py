"""Traffic: 500 users asking about the holdout rows, at a modest and steady rate."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import aiohttp

from router.demo.answer import Answer
from router.demo.material import Material, Prediction

KEYS = tuple(f"user-{number}" for number in range(1, 501))
REQUESTS_PER_SECOND = 120.0
CALLERS = 12
"""Connections; a slow answer holds up one of them."""
TIMEOUT_SECONDS = 30.0
PATHS = {"sentiment": "/invocations", "churn_predictor": "/models/churn_predictor/invocations"}
CHURN_EVERY = 3
"""Every third request is about churn."""


class Traffic:
    """Callers that go on until told to stop; every answer, and every failure to answer, is told."""

    def __init__(self, url: str, materials: Mapping[str, Material], tell: Callable[[Answer], None]) -> None:
        self._url = url
        self._materials = materials
        self._tell = tell
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
            row = self._draw.randrange(len(self._materials[model].rows))
            self._tell(await self._ask(session, model, row, self._draw.choice(KEYS)))

    async def _ask(self, session: aiohttp.ClientSession, model: str, row: int, key: str) -> Answer:
        body = {"dataframe_records": [self._materials[model].rows[row]]}
        sent = time.monotonic()
        try:
            async with session.post(PATHS[model], json=body, headers={"X-Request-Key": key}) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = f"no answer: {error or type(error).__name__}"
            return Answer(model, row, key, sent, time.monotonic(), status=0, problem=problem)
        received = time.monotonic()
        if response.status != 200:
            return Answer(model, row, key, sent, received, response.status, problem=text[:200])
        told = response.headers
        return Answer(
            model,
            row,
            key,
            sent,
            received,
            response.status,
            alias=told.get("X-Model-Alias", ""),
            version=_number(told.get("X-Model-Version", "")),
            route_alias=told.get("X-Route-Alias", ""),
            reason=told.get("X-Route-Reason", ""),
            bucket=_number(told.get("X-Route-Bucket", "")),
            predictions=_predictions(text),
        )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _predictions(text: str) -> Sequence[Prediction]:
    """The answer's predictions; nothing when it is no answer of a version."""
    try:
        document: Any = json.loads(text)
        predictions: Sequence[Prediction] = document["predictions"]
    except (ValueError, KeyError, TypeError):
        return ()
    return predictions if isinstance(predictions, list) else ()
