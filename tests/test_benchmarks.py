"""The benchmark measures what it says, and says when it did not."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.bars import BARS, Bar, judge
from benchmarks.figures import Round, growth, percentile
from benchmarks.modes import PLANS
from benchmarks.open_client import Sample, Schedule
from benchmarks.peers import ECHO, FASTAPI, NGINX, SILENT
from benchmarks.plan import LAUNCHES, SCALE, SWAPS, Agenda, Cell, Load, agenda
from benchmarks.results import CellResult, Results
from benchmarks.servers import GATEWAY, MLFLOW
from benchmarks.throughput import same
from benchmarks.workloads import WORKLOADS, bodies, read_requests, write_keys

ROOT = Path(__file__).parents[1]
[SPEED_OF_64] = [bar for bar in BARS if bar.number == "P1"]
[SPEED_OF_ECHO] = [bar for bar in BARS if bar.number == "P3"]
[ON_OVER_OFF] = [bar for bar in BARS if bar.number == "P13"]
RATE = 100
"""Requests per second."""


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_two_checkouts_are_compared_round_by_round() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.revisions",
        "--rounds",
        "1",
        "--seconds",
        "1",
        ".",
        str(ROOT),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=500)

    _, _, base, other = done.stdout.splitlines()
    assert "1.000×" in base
    assert re.search(r" \d+\.\d{3}× .* gateway \d+\.\d \+ worker \d+\.\d$", other)


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


@pytest.mark.timeout(700)
@pytest.mark.slow
def test_the_gateway_that_counts_nothing_answers_alike_and_counts_nothing(
    tmp_path: Path, slack: float
) -> None:
    """P13 on real servers; the run itself refuses a gateway that counts after all. No speed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--tiny",
        "--only",
        "P13",
        "--client",
        "python",
        "--no-pin",
    ]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "result.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200 * slack,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["skipped"], result["broken"]) == ([], [])
    [bar] = [bar for bar in result["bars"] if bar["number"] == "P13"]
    assert bar["verdict"] in ("met", "missed")
    assert bar["value"] > 0.3


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


def test_a_bar_whose_peer_could_not_be_started_reports_why() -> None:
    results = a_cell([a_round(2000)], [a_round(1000)])
    results.missing[ECHO] = "it is not installed"

    outcome = judge(SPEED_OF_ECHO, results)

    assert (outcome.verdict, outcome.note) == ("not measured", "it is not installed")
    assert judge(SPEED_OF_64, results).verdict == "missed"


def test_what_metrics_cost_is_reported_with_the_spread_of_the_rounds() -> None:
    results = a_cell([a_round(900), a_round(950), a_round(990)], [a_round(100)] * 3)
    results.cells[0].rounds[SILENT] = [a_round(1000)] * 3
    results.cells[0].microseconds = {GATEWAY: {"gateway": 74.0, "worker": 34.0}, SILENT: {"gateway": 100.0}}

    outcome = judge(ON_OVER_OFF, results)

    assert (outcome.verdict, outcome.value) == ("met", 0.95)
    assert outcome.note == "rounds 0.90 to 0.99; gateway 74 + worker 34 µs a request, 100 there"


def test_what_fails_at_a_peer_is_no_failure_of_other_bars() -> None:
    results = a_cell([a_round(2000)], [a_round(1000)])
    results.cells[0].rounds[ECHO] = [a_round(9000, failed=1)]

    assert judge(SPEED_OF_ECHO, results).verdict == "not measured"
    assert judge(SPEED_OF_64, results).verdict == "missed"


def test_a_missed_bar_reports_where_the_time_goes_and_a_met_one_does_not() -> None:
    results = a_cell([a_round(2000)], [a_round(1000)])
    results.cells[0].microseconds = {GATEWAY: {"gateway": 50.0, "worker": 450.0}, MLFLOW: {"server": 1000.0}}

    assert judge(SPEED_OF_64, results).note == "gateway 50 + worker 450 µs a request, 1000 there"
    results.cells[0].rounds[GATEWAY] = [a_round(20_000)]
    assert not judge(SPEED_OF_64, results).note


def asked_for(*numbers: str, plan: str = "quick") -> Agenda:
    return agenda(PLANS[plan], [bar.need for bar in BARS if bar.number in numbers])


def test_only_what_the_named_bars_need_is_measured() -> None:
    speed = asked_for("P1", "P3", "P8")
    assert {cell.load: cell.servers for cell in speed.cells} == {
        Load("text", 1, 64): (MLFLOW, GATEWAY, ECHO),
        Load("csv", 1, 16): (MLFLOW, GATEWAY),
    }
    assert not speed.parts
    assert list(speed.by_model) == ["text"], "the same servers take both"
    assert speed.registered == {"text": ("text", 2)}

    rest = asked_for("P10", "P14", "P15")
    assert rest.parts == {LAUNCHES, SWAPS, SCALE}
    assert rest.peers == {NGINX}
    assert rest.registered["text"] == ("text", 2 + PLANS["quick"].swaps)
    assert len(rest.registered) == 10


def test_the_full_mode_measures_every_bar_that_can_be_with_its_peers_and_long_rounds() -> None:
    everything = agenda(PLANS["full"], [bar.need for bar in BARS])

    assert everything.parts == {LAUNCHES, SWAPS, SCALE}
    assert list(everything.by_model) == ["text", "linear", "forest", "sentiment", "sleep"]
    assert Cell(Load("text", 1, 16), 30, 3) in everything.cells
    [crowded] = [cell for cell in everything.cells if cell.load == Load("text", 1, 64)]
    assert set(crowded.servers) == {MLFLOW, GATEWAY, ECHO, FASTAPI, NGINX, SILENT}


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.number} {bar.what}")
def test_a_stretch_is_no_easier_than_the_bar(bar: Bar) -> None:
    assert (bar.stretch >= bar.limit) if bar.at_least else (bar.stretch <= bar.limit)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_requests_differ_and_are_the_same_in_every_run(workload: str) -> None:
    asked = bodies(workload, 1)

    assert len(set(asked)) == len(asked) == 256
    assert bodies(workload, 1) == asked


def test_every_caller_of_many_has_a_key_of_its_own(tmp_path: Path) -> None:
    write_keys(tmp_path / "some", "text", 0, 300)
    write_keys(tmp_path / "more", "text", 300, 300)
    requests = read_requests(tmp_path / "some") + read_requests(tmp_path / "more")

    keys = {request.partition(b"X-Request-Key: ")[2].partition(b"\r\n")[0] for request in requests}
    assert len(keys) == 600


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
    assert growth([1.0, 2.0, 3.0]) != growth([1.0, 2.0, 3.0])  # too few to judge: NaN
