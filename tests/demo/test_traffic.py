"""The demo's callers wait for their answers, and a refusal for too many requests is known from a failure."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import router.serving
from router.demo.dataset import Dataset
from router.demo.traffic import (
    CALLERS,
    MOST_THINK_SECONDS,
    REFUSALS,
    THINK_FACTOR,
    THINK_SECONDS,
    Answer,
    Traffic,
)
from router.demo.traffic_only import Counts
from router.errors import NotReady, Overloaded, RequestRefused, WorkerDied
from router.web.responses import error_response
from tests.support.waiting import until

DATASETS = {name: Dataset(name, [{"text": "fine"}], {}) for name in ("sentiment", "churn_predictor")}


@asynccontextmanager
async def traffic_to(
    answer: Callable[[], Awaitable[web.StreamResponse]], seen: list[Answer]
) -> AsyncIterator[Traffic]:
    """Traffic to a server that gives `answer` to each request; what callers see is in `seen`."""

    async def respond(request: web.Request) -> web.StreamResponse:
        await request.read()
        return await answer()

    app = web.Application()
    app.router.add_post("/{path:.*}", respond)
    async with TestServer(app) as server:
        traffic = Traffic(str(server.make_url("")), DATASETS, seen.append)
        flow = asyncio.ensure_future(traffic.flow())
        try:
            yield traffic
        finally:
            traffic.stop()
            await flow


def refusal(error: RequestRefused) -> Callable[[], Awaitable[web.StreamResponse]]:
    """What the gateway answers for `error`."""

    async def answer() -> web.StreamResponse:
        return error_response(error, "r-1")

    return answer


def answered_within(seconds: float) -> Answer:
    return Answer("sentiment", 0, "user-1", sent=5.0, received=5.0 + seconds, status=200)


def test_a_caller_pauses_the_longer_the_longer_its_answer_took() -> None:
    pauses = [answered_within(seconds).pause_seconds for seconds in (0.001, 0.2, 30.0)]

    assert pauses == pytest.approx([THINK_SECONDS, THINK_FACTOR * 0.2, MOST_THINK_SECONDS])


async def test_a_gateway_that_holds_its_answers_gets_no_more_requests_than_there_are_callers(
    slack: float,
) -> None:
    """However long it takes: a closed loop can not build a queue."""
    waiting, release = 0, asyncio.Event()

    async def held() -> web.StreamResponse:
        nonlocal waiting
        waiting += 1
        await release.wait()
        return web.json_response({"predictions": [0.5]})

    seen: list[Answer] = []
    async with traffic_to(held, seen) as traffic:
        await until(lambda: waiting == CALLERS, 5 * slack)
        await asyncio.sleep(5 * THINK_SECONDS)
        assert (waiting, len(seen)) == (CALLERS, 0)
        traffic.stop()
        release.set()

    assert [answer.status for answer in seen] == [200] * CALLERS


@pytest.mark.parametrize("message", sorted(REFUSALS))
async def test_a_caller_that_is_refused_waits_as_long_as_it_is_asked_to(message: str, slack: float) -> None:
    seen: list[Answer] = []
    began = time.monotonic()
    async with traffic_to(refusal(Overloaded(message, retry_after=30.0)), seen):
        await until(lambda: len(seen) >= CALLERS, 5 * slack)
        await asyncio.sleep(5 * THINK_SECONDS)
    took = time.monotonic() - began

    assert {(answer.status, answer.retry_after, answer.is_refused) for answer in seen} == {(503, 30.0, True)}
    assert len(seen) == CALLERS
    assert took < 10 * slack, "who waits to try again does not hold up the end"


@pytest.mark.parametrize(
    "error",
    [
        NotReady("sentiment has no production version yet", retry_after=1.0),
        WorkerDied("the worker ended before it answered"),
    ],
)
async def test_a_503_for_another_reason_is_a_failure(error: RequestRefused, slack: float) -> None:
    """Its status and its headers are those of a refusal."""
    seen: list[Answer] = []
    async with traffic_to(refusal(error), seen):
        await until(lambda: seen, 5 * slack)

    assert not any(answer.is_refused for answer in seen)


async def test_a_503_by_something_before_the_gateway_is_a_failure(slack: float) -> None:
    async def answer() -> web.StreamResponse:
        return web.Response(status=503, text="<html>", headers={"Retry-After": "1"})

    seen: list[Answer] = []
    async with traffic_to(answer, seen):
        await until(lambda: seen, 5 * slack)

    assert not any(answer.is_refused for answer in seen)


def test_the_messages_of_a_refusal_are_those_of_the_gateway() -> None:
    """The demo reads them from outside; when one is worded anew, so must the demo's be."""
    sources = Path(router.serving.__file__).parent.rglob("*.py")
    raised = re.findall(r'raise Overloaded\(\s*"([^"]+)"', "".join(source.read_text() for source in sources))

    assert set(raised) == REFUSALS


def test_traffic_alone_fails_when_an_answer_is_bad_or_none_is_good() -> None:
    good, bad = answered_within(0.1), Answer("sentiment", 0, "user-1", 5.0, 5.1, status=503)
    refused = Answer("sentiment", 0, "user-1", 5.0, 5.1, status=503, retry_after=1.0)

    def are_good(*answers: Answer) -> bool:
        counts = Counts()
        for answer in answers:
            counts.add(answer)
        return counts.are_good

    assert are_good(good, refused)
    assert not are_good(good, bad)
    assert not are_good(refused)


def test_traffic_alone_reports_refusals_apart(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts()
    counts.add(answered_within(0.1))
    counts.add(Answer("sentiment", 0, "user-1", 5.0, 5.1, status=503, retry_after=1.0))
    counts.report()

    assert capsys.readouterr().out.endswith("sentiment@ vNone 1; 1 refused; none failed\n")
