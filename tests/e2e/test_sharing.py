"""Thousands of different requests at once through a real gateway: each caller gets the answer to its own."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.processes.processors import processors
from tests.conftest import Figure
from tests.e2e.conftest import Registry
from tests.support.gateway import GatewayProcess, gateways
from tests.support.registry import copied
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}, fallback: none, direct_access: true}\n"
JSON, CSV = "application/json", "text/csv"
INVOCATIONS, INFER = "/invocations", "/v2/models/sentiment/infer"


@dataclass(frozen=True)
class Asked:
    """A request that nobody else sends, and the texts in it."""

    number: int

    @property
    def texts(self) -> list[str]:
        return [f"caller {self.number} row {row} é" for row in range(self.number % 3 + 1)]

    def sent(self) -> tuple[str, str, bytes]:
        """Path, Content-Type and body: one of the ways in which clients ask."""
        texts = self.texts
        match self.number % 5:
            case 0:
                return INVOCATIONS, JSON, _json({"dataframe_records": [{"text": text} for text in texts]})
            case 1:
                return INVOCATIONS, CSV, "\n".join(["text", *texts, ""]).encode()
            case 2:
                tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
                return INFER, JSON, _json({"id": f"id {self.number}", "inputs": [tensor]})
        split = {"columns": ["text"], "data": [[text] for text in texts]}
        return INVOCATIONS, JSON, _json({"dataframe_split": split})

    def wrong(self, status: int, version: str, body: bytes) -> str:
        """What is wrong with the answer; empty when it is this caller's."""
        expected = [f"{version} {text}" for text in self.texts]
        reported = json.loads(body)
        if self.number % 5 == 2:
            own = reported.get("id") == f"id {self.number}" and reported.get("model_version") == version
            answered = reported["outputs"][0]["data"] if own else None
        else:
            answered = reported.get("predictions")
        return "" if status == 200 and answered == expected else f"{self}: {status} {version} {body[:300]!r}"


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


async def ask_all(url: str, asked: list[Asked], connections: int) -> Counter[str]:
    """Ask all of them, each once, over so many connections; answers by alias, and what was wrong."""
    seen: Counter[str] = Counter()
    waiting = iter(asked)

    async def client(session: aiohttp.ClientSession) -> None:
        for one in waiting:
            path, content_type, body = one.sent()
            headers = {"Content-Type": content_type, "X-Request-Key": f"user-{one.number}"}
            async with session.post(path, data=body, headers=headers) as answer:
                reported = await answer.read()
                version = answer.headers.get("X-Model-Version", "")
                assert answer.headers["X-Model-Alias"] == answer.headers["X-Route-Alias"]
                seen[answer.headers["X-Model-Alias"]] += 1
                if wrong := one.wrong(answer.status, version, reported):
                    seen[wrong] += 1

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(connections)))
    return seen


@pytest.fixture(scope="module")
def gateway(
    built_registry: Path, tmp_path_factory: pytest.TempPathFactory, slack: float
) -> Iterator[GatewayProcess]:
    """Production shares predicts from the start, the canary has to earn it under load."""
    directory = tmp_path_factory.mktemp("sharing")
    registry = copied(built_registry, directory)
    registry.move("production", 11)
    registry.move("canary", 12)
    with gateways(directory, registry.uri, 5.0) as start:
        gateway = start(MODELS)
        gateway.wait_bound(12, "canary")

        def all_share() -> bool:
            asyncio.run(ask_all(gateway.url, [Asked(n) for n in range(200)], 20))
            return all(one["batching"]["on"] for one in gateway.model()["versions"].values())

        wait_until(all_share, 60 * slack, gateway.story)
        yield gateway


def test_each_of_many_concurrent_callers_gets_its_own_answer(gateway: GatewayProcess) -> None:
    check(gateway, 600, 100)


@pytest.mark.slow
def test_four_thousand_concurrent_requests_and_each_caller_gets_its_own_answer(
    gateway: GatewayProcess, figure: Figure
) -> None:
    """Over 64 and 200 connections, in four forms and two protocols, to two versions."""
    reported = [check(gateway, 4000, connections) for connections in (64, 200)]
    figure("; ".join(reported))


def test_small_versions_keep_one_thread_though_they_may_use_every_processor(gateway: GatewayProcess) -> None:
    """Neither computes, so none takes of the other's."""
    asyncio.run(ask_all(gateway.url, [Asked(n) for n in range(200)], 20))

    def threads(field: str) -> set[int]:
        return {one["cpu_threads"][field] for one in gateway.model()["versions"].values()}

    wait_until(lambda: threads("most") == {processors()}, 10.0)
    assert threads("threads") == {1}


def predicts(gateway: GatewayProcess) -> tuple[float, float]:
    """Requests that were predicted so far, and predicts."""
    name = "canary_router_batch_requests"
    return gateway.metric(f"{name}_sum"), gateway.metric(f"{name}_count")


def check(gateway: GatewayProcess, number: int, connections: int) -> str:
    before, started = predicts(gateway), time.monotonic()
    seen = asyncio.run(ask_all(gateway.url, [Asked(n) for n in range(number)], connections))
    seconds = time.monotonic() - started
    assert seen.total() == number, seen
    assert min(seen["production"], seen["canary"]) > number / 4
    versions = gateway.model()["versions"]
    assert {name: one["batching"]["on"] for name, one in versions.items()} == {"11": True, "12": True}
    requests, alone_or_shared = (now - then for now, then in zip(predicts(gateway), before, strict=True))
    shared = requests / alone_or_shared
    assert shared > 1.5
    reported = f"0 wrong of {number} over {connections} connections in {seconds:.1f} s"
    return f"{reported}, {shared:.1f} requests a predict"


def test_a_poisoned_request_among_64_fails_alone(gateway: GatewayProcess) -> None:
    """Whether the version shares predicts by its example, or is still asked one by one."""

    async def ask(alias: str) -> list[tuple[int, Any]]:
        path = f"/models/sentiment/aliases/{alias}/invocations"
        async with aiohttp.ClientSession(gateway.url, connector=aiohttp.TCPConnector(limit=64)) as session:

            async def one(text: str) -> tuple[int, Any]:
                split = {"dataframe_split": {"columns": ["text"], "data": [[text]]}}
                async with session.post(path, json=split) as answer:
                    return answer.status, await answer.json()

            return await asyncio.gather(*(one("poison" if n == 41 else f"text {n}") for n in range(64)))

    for alias, version in (("production", 11), ("canary", 12)):
        for _ in range(3):
            answers = asyncio.run(ask(alias))
            assert [n for n, (status, _) in enumerate(answers) if status != 200] == [41]
            assert answers[41][0] == 500
            assert [body["predictions"] for _, body in answers if "predictions" in body] == [
                [f"{version} text {n}"] for n in range(64) if n != 41
            ]


def test_a_version_that_depends_on_other_callers_shares_no_more_once_a_repeat_shows_it(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    """Its example does not: both of its texts are as long. State and log say so."""
    registry.move("production", 14)
    gateway = start("  sentiment: {split: {production: 100, canary: 0}}\n")
    texts = ["x" * (3 + 7 * n) for n in range(12)]

    async def ask() -> list[Any]:
        async with aiohttp.ClientSession(gateway.url) as session:

            async def one(text: str) -> Any:
                split = {"dataframe_split": {"columns": ["text"], "data": [[text]]}}
                async with session.post(INVOCATIONS, json=split) as answer:
                    assert answer.status == 200
                    return (await answer.json())["predictions"]

            return await asyncio.gather(*map(one, texts))

    def batching() -> Any:
        return gateway.model()["versions"]["14"]["batching"]

    assert batching()["on"]

    def found() -> bool:
        asyncio.run(ask())
        return not batching()["on"]

    wait_until(found, 30 * slack, gateway.story)
    assert batching()["why"] == "in service it answered requests together differently than alone"
    assert asyncio.run(ask()) == [[1.0]] * len(texts)
    [line] = gateway.lines(f"its requests share predicts no more: {batching()['why']}")
    assert (line["level"], line["version"]) == ("warning", 14)


@pytest.mark.slow
def test_nan_is_spelled_as_the_settings_say_from_one_answer_to_the_next(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float
) -> None:
    """No request fails while the workers are renewed."""
    registry.move("production", 13)
    models = "  sentiment: {split: {production: 100, canary: 0}, nan: literal}\n"
    gateway = start(models)
    assert gateway.ask("user-1").text == '{"predictions": [NaN]}'
    gateway.config.write_text(gateway.config.read_text().replace("nan: literal", 'nan: "null"'))

    def is_null() -> bool:
        answer = gateway.ask("user-1")
        assert answer.status_code == 200
        return answer.text == '{"predictions":[null]}'

    wait_until(is_null, 15 * slack, gateway.story)
