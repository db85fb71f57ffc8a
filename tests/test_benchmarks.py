"""The benchmark measures what it says, and says when it did not."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.bars import BARS, judge
from benchmarks.figures import Round, growth, percentile
from benchmarks.open_client import Sample, Schedule
from benchmarks.plan import Cell, Load
from benchmarks.results import CellResult, Results
from benchmarks.servers import GATEWAY, MLFLOW
from benchmarks.throughput import same

ROOT = Path(__file__).parents[1]
SPEED_OF_64 = BARS[0]
RATE = 100
"""Requests per second."""


@pytest.mark.timeout(1300)
@pytest.mark.slow
def test_a_run_measures_everything_it_names_and_leaves_no_process_behind(
    tmp_path: Path, slack: float
) -> None:
    """The smallest plan, end to end: real servers, equal answers, every part of the report; no speed."""
    # wrk is optional, so the client that is always there is the one that is tested.
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--client", "python", "--no-pin"]
    marked = {**os.environ, "BENCHMARK_OF_A_TEST": str(tmp_path)}
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "result.json")],
        cwd=ROOT,
        env=marked,
        capture_output=True,
        text=True,
        timeout=400 * slack,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["skipped"], result["broken"]) == ([], [])
    assert result["answers_compared"] == {"text": 100}
    [cell] = result["cells"]
    for server in (MLFLOW, GATEWAY):
        [measured] = cell["rounds"][server]
        assert measured["requests"] > 0
        assert measured["failed"] == 0
        [launch] = result["launches"][server]
        assert launch["level"]["pss_mib"] > 0
        assert 0 < launch["ready_seconds"] <= launch["complete_seconds"]
    assert {"gateway", "worker"} <= cell["processor_microseconds_per_request"][GATEWAY].keys()
    assert result["swaps"]["milliseconds"]["window"]["requests"] > 0
    assert result["swaps"]["failed"] == 0
    assert {bar["number"] for bar in result["bars"]} >= {"P1", "P4", "P10", "P11", "P12"}
    for bar in result["bars"]:
        assert f"{bar['number']:<5}{bar['what']}" in done.stdout
    assert left_behind(str(tmp_path)) == []


def left_behind(mark: str) -> list[str]:
    """Processes that inherited our environment variable."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BENCHMARK_OF_A_TEST") == mark:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


def a_cell(ours: list[Round], theirs: list[Round]) -> Results:
    cell = Cell(Load("text", 1, 64), seconds=1, rounds=len(ours))
    return Results(cells=[CellResult(cell, {GATEWAY: ours, MLFLOW: theirs})])


def a_round(requests: int, failed: int = 0) -> Round:
    return Round(seconds=1.0, requests=requests, failed=failed, p50_ms=1.0, p99_ms=2.0, worst_ms=3.0)


def test_a_ratio_compares_rounds_that_ran_next_to_each_other() -> None:
    """A machine that slows down for a while slows both; the ratios of neighbours do not see it."""
    results = a_cell(
        [a_round(2000), a_round(200), a_round(2000)], [a_round(1000), a_round(100), a_round(1000)]
    )

    assert results.cells[0].ratio("per_second") == 2.0


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        pytest.param(a_round(20_000), "met", id="as fast as promised"),
        pytest.param(a_round(19_000), "missed", id="slower"),
        pytest.param(a_round(90_000, failed=1), "not measured", id="fast, because it fails"),
    ],
)
def test_a_bar_is_met_only_by_answers_that_are_good(ours: Round, verdict: str) -> None:
    assert judge(SPEED_OF_64, a_cell([ours], [a_round(1000)])).verdict == verdict


def test_a_bar_without_a_measurement_is_neither_met_nor_missed() -> None:
    assert {judge(bar, Results()).verdict for bar in BARS} == {"not measured"}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"predictions": [0.1, float("nan")]}, {"predictions": [0.1 + 1e-12, float("nan")]}, True),
        ({"predictions": [1]}, {"predictions": [1.0]}, False),
        ({"predictions": [True]}, {"predictions": [1]}, False),
        ({"predictions": [0.1, 0.2]}, {"predictions": [0.2, 0.1]}, False),
        ({"predictions": [0.1]}, {"predictions": [0.1, 0.2]}, False),
    ],
)
def test_answers_are_compared_by_type_order_and_value(one: object, other: object, equal: bool) -> None:
    assert same(one, other) is equal


class Answering:
    """Answers everything at once, except that it can stop for a while, or hang up on the next request."""

    def __init__(self) -> None:
        self.hang_up = False
        self.going = asyncio.Event()
        self.going.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await self.going.wait()
                if self.hang_up:
                    self.hang_up = False
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[Answering, int]]:
    server = Answering()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        yield server, listening.sockets[0].getsockname()[1]


async def asked_on_schedule(
    port: int, seconds: float, meanwhile: Callable[[], Awaitable[None]]
) -> list[Sample]:
    schedule = Schedule("127.0.0.1", port, [b"GET / HTTP/1.1\r\n\r\n"])
    async with asyncio.TaskGroup() as together:
        together.create_task(schedule.keep(RATE, seconds, asyncio.Event()))
        together.create_task(meanwhile())
    return schedule.samples


async def test_a_server_that_stops_is_charged_with_all_that_was_due_meanwhile() -> None:
    """A client that waits for its answer would have sent one request, and called the rest fast."""
    async with answering() as (server, port):

        async def stop_for_a_while() -> None:
            await asyncio.sleep(0.3)
            server.going.clear()
            await asyncio.sleep(0.5)
            server.going.set()

        samples = await asked_on_schedule(port, 1.2, stop_for_a_while)

    late = [milliseconds for _, milliseconds, _ in samples if milliseconds > 100]
    assert {status for _, _, status in samples} == {200}
    assert len(samples) == pytest.approx(1.2 * RATE, abs=2)
    assert len(late) >= 0.3 * RATE
    assert max(late) >= 450


async def test_a_connection_that_is_lost_is_a_failed_request_and_no_more() -> None:
    async with answering() as (server, port):

        async def hang_up_once() -> None:
            await asyncio.sleep(0.2)
            server.hang_up = True

        samples = await asked_on_schedule(port, 0.6, hang_up_once)

    assert sorted(status for _, _, status in samples)[:2] == [0, 200]
    assert len(samples) == pytest.approx(0.6 * RATE, abs=2)


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert [percentile(range(1, 101), share) for share in (50, 99, 100)] == [50, 99, 100]
    assert percentile([7.0], 99) == 7.0


def test_growth_forgets_the_first_quarter_and_compares_late_with_early() -> None:
    warm_up, level = [10.0] * 5, [100.0] * 10

    assert growth([*warm_up, *level, *[110.0] * 5]) == pytest.approx(1.1)
    assert growth([1.0, 2.0, 3.0]) != growth([1.0, 2.0, 3.0])  # too few to tell: NaN
