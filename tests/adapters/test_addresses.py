"""A version behind an address: what READY means there, what goes along, what comes back, and when it ends."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from router.adapters.addresses import connections, loader, readiness, worker
from router.adapters.addresses.answers import answer_of
from router.adapters.addresses.description import Description
from router.adapters.addresses.loader import VersionAddresses
from router.adapters.http.client import HttpAnswer, in_outbound_thread
from router.core.ids import VersionId
from router.core.scores import SCORED_LATER, ScoreSpec
from router.errors import CallerGone, ChildLost, LoadFailed, RequestRefused, WarmUpLost, WorkerDied
from router.processes.disk import MOST_THREADS
from router.protocol.messages import (
    Answer,
    Batching,
    LoadSpec,
    PredictStatus,
    Query,
    ScoringProtocol,
    TensorInfo,
    VersionInfo,
)
from router.settings import Settings
from router.settings.where import AddressSettings
from tests.support.engine import Engine
from tests.support.fakes import Facts
from tests.support.slowness import slack
from tests.support.waiting import until

V2 = ScoringProtocol.V2
SPEC = LoadSpec(VersionId("m", 1), "/nowhere", None)
INFO = VersionInfo(
    "run",
    "sklearn",
    True,
    True,
    {},
    (),
    batching=Batching(merges=False, why="elsewhere"),
    outputs=(TensorInfo("p", "FP64", (-1,)),),
)
EXAMPLE = b'{"inputs": []}'
NESTED: list[Any] = []
for _ in range(900):
    NESTED = [NESTED]


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine().running() as engine:
        yield engine


class Loads:
    """Loads from an engine, without the children that read an MLmodel and scores; closes what it loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.example: bytes | None = EXAMPLE
        """As a request; empty where it can not be made one, None where there is no example."""
        self.hangs = False
        """Whether a child's start never ends; else it fails."""
        self.settings = Settings.model_validate({"models": {"m": {}}})
        self.addresses = VersionAddresses(self, self.settings, Facts())  # type: ignore[arg-type]
        self.opened: list[worker.AddressWorker] = []
        self.left: list[Callable[[], Awaitable[None]]] = []
        """What a test kept from being closed."""

        async def read(*_: Any) -> Description:
            return Description(replace(INFO, has_example=self.example is not None), self.example or b"")

        monkeypatch.setattr(loader, "read_description", read)
        monkeypatch.setattr(loader, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(worker, "PROBE_PAUSE_SECONDS", 0.02)

    async def launch(self, role: str, **_: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        raise ChildLost(f"no {role} can be started here")

    async def __call__(
        self, engine: Engine, spec: LoadSpec = SPEC, *, seconds: float = 5.0, **settings: Any
    ) -> worker.AddressWorker:
        where = AddressSettings.model_validate(
            {"http": engine.address, "path": "/v{version}/v2/models/m/infer", **settings}
        )
        loaded = await self.addresses.loader(where).load(spec, deadline_seconds=seconds)
        self.opened.append(loaded)
        return loaded


@pytest_asyncio.fixture
async def load(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loads]:
    loads = Loads(monkeypatch)
    yield loads
    for opened in loads.opened:
        await opened.close()
    for close in loads.left:
        await close()


async def ask(at: worker.AddressWorker, query: Query) -> Answer | RequestRefused:
    """The answer, or why there is none."""
    heard: asyncio.Future[Answer | RequestRefused] = asyncio.get_running_loop().create_future()
    at.on_failed = lambda _number, _place, error: heard.set_result(error)
    at.submit([query], lambda _places, answers: heard.set_result(answers[0]))
    return await asyncio.wait_for(heard, 10)


def query(body: bytes = b"{}", **more: Any) -> Query:
    return Query(body, None, protocol=V2, **more)


# READY


async def test_a_version_is_ready_once_its_engine_says_so_and_its_example_is_answered(
    engine: Engine, load: Loads
) -> None:
    engine.ready = False
    loading = asyncio.ensure_future(load(engine))
    await until(lambda: engine.probes > 2)
    assert not loading.done()
    assert engine.asked == []

    engine.ready = True
    at = await loading

    assert [(path, body) for path, _, body in engine.asked] == [("/v1/v2/models/m/infer", EXAMPLE)]
    assert set(at.info.phase_seconds) == {"load", "warmup"}
    assert at.at_address.verified


async def test_an_answer_to_a_probe_is_bounded_whatever_those_to_requests_are(
    engine: Engine, load: Loads
) -> None:
    load.addresses.most_bytes = 1 << 26
    engine.tells = {"name": "m", "versions": ["1"], "inputs": "x" * readiness.PROBE_BYTES}

    with pytest.raises(LoadFailed, match="not ready in time: its answer is larger than 1024 KiB"):
        await load(engine, seconds=0.05)


async def test_a_long_answer_to_an_example_is_not_read_in_the_event_loop(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in: list[bool] = []

    def compared(*_: Any) -> str:
        read_in.append(threading.current_thread() is threading.main_thread())
        return ""

    monkeypatch.setattr(loader, "unlike_signature", compared)
    await load(engine)
    engine.body["parameters"] = {"x": "x" * loader.LONG_BYTES}
    await load(engine)

    assert read_in == [True, False]


async def test_a_version_that_is_not_ready_in_time_is_a_load_that_failed(engine: Engine, load: Loads) -> None:
    engine.ready = False

    with pytest.raises(LoadFailed, match=r"not ready in time.*503 Service Unavailable"):
        await load(engine, seconds=0.05)


async def test_why_a_version_is_waited_for_is_logged_once(
    engine: Engine, load: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine.ready = False
    loading = asyncio.ensure_future(load(engine))
    await until(lambda: engine.probes > 3)
    engine.ready = True
    await loading

    [said] = [record.getMessage() for record in caplog.records if record.name == loader.__name__]
    assert "is waited for at its address: asked whether it is ready, it answers 503" in said
    assert str(engine.port) not in said


async def test_an_address_where_nobody_is_says_so(engine: Engine, load: Loads) -> None:
    engine.port = 1

    with pytest.raises(LoadFailed, match="can not be reached: Connection refused"):
        await load(engine, seconds=0.05)


@pytest.mark.parametrize(
    ("tells", "said"),
    [
        ({"name": "m", "versions": ["2"]}, "the engine has version 2, not 1"),
        ({"name": "other", "versions": ["1"]}, "the engine calls its model other, not m"),
    ],
)
async def test_an_engine_that_says_it_is_another_version_is_refused_at_once(
    engine: Engine, load: Loads, tells: dict[str, Any], said: str
) -> None:
    engine.tells = tells

    with pytest.raises(LoadFailed, match=said):
        await load(engine)

    assert engine.asked == []


@pytest.mark.parametrize(
    "tells",
    [
        *(None, {"name": "m"}, {"name": "m", "versions": []}, {"versions": None}, {}),
        *({"versions": [["1"], {"1": 1}, 1.0]}, {"versions": ["2"] * 100 + ["1"]}, {"versions": NESTED}),
    ],
    ids=["no metadata", "no versions", "empty", "null", "nothing", "no names", "too many", "nested"],
)
async def test_an_engine_that_does_not_say_is_unverified(
    engine: Engine, load: Loads, tells: dict[str, Any] | None
) -> None:
    engine.tells = tells

    at = await load(engine)

    assert not at.at_address.verified
    assert loader.UNVERIFIED in at.info.note


async def test_an_engine_with_several_versions_is_verified_where_the_path_names_one(
    engine: Engine, load: Loads
) -> None:
    """Without it the engine chooses, and mostly the newest one."""
    engine.tells = {"name": "m", "versions": ["1", "2"]}

    chosen_there = await load(engine)
    chosen_here = await load(engine, path="/v2/models/m/versions/{version}/infer")

    assert not chosen_there.at_address.verified
    assert chosen_here.at_address.verified


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        *(
            ("400", "answers 400 Bad Request"),
            ("redirect", "answers 307"),
            ("reset", "did not answer as HTTP"),
        ),
        *(("packed", "its answer is in an encoding"), ("no length", "nobody knows whether it is whole")),
    ],
)
async def test_a_version_that_does_not_answer_its_example_is_not_ready(
    engine: Engine, load: Loads, manner: str, said: str
) -> None:
    engine.manner = manner

    with pytest.raises(LoadFailed, match=said) as failed:
        await load(engine)

    assert failed.value.phase == "warmup"
    assert len(engine.asked) == 1


async def test_an_answer_unlike_its_signature_is_not_that_of_the_version(engine: Engine, load: Loads) -> None:
    engine.body = {"outputs": [{"name": "p", "shape": [1], "datatype": "BYTES", "data": ["spam"]}]}

    with pytest.raises(LoadFailed, match="its output is BYTES, and FP64 in the signature"):
        await load(engine)


async def test_what_has_served_before_is_not_kept_away_by_its_example(engine: Engine, load: Loads) -> None:
    """Its supply then loads it without a warm-up, as one whose example hangs."""
    engine.manner = "500"

    with pytest.raises(WarmUpLost):
        await load(engine, replace(SPEC, warm_up_seconds=5.0))
    await load(engine, replace(SPEC, warm_up_seconds=0.0))

    assert len(engine.asked) == 1


async def test_without_an_example_nothing_is_asked_before_it_serves(engine: Engine, load: Loads) -> None:
    load.example = b""

    at = await load(engine)

    assert engine.asked == []
    assert set(at.info.phase_seconds) == {"load"}


async def test_where_a_warm_up_is_required_an_example_that_can_not_be_asked_is_refused(
    engine: Engine, load: Loads
) -> None:
    """As it is of a version that runs here."""
    required = replace(SPEC, warm_up_required=True)
    load.example = b""
    with pytest.raises(LoadFailed, match="its warm-up was left out") as failed:
        await load(engine, required)
    assert failed.value.phase == "warmup"
    assert engine.probes == 0

    for load.example in (EXAMPLE, None):
        await load(engine, required)


async def test_ready_waits_for_what_reads_scores_for_a_moment_only_and_not_once_that_is_settled(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it loads again, its users may have nobody."""
    load.hangs = True
    settled = replace(SPEC, scores=(ScoreSpec(),), warm_up_seconds=5.0)
    at = await asyncio.wait_for(load(engine, settled), loader.CHOICE_SECONDS / 2)
    assert at.info.scores == (ScoreSpec(),)

    monkeypatch.setattr(loader, "CHOICE_SECONDS", 0.05)
    for spec in (SPEC, replace(SPEC, warm_up_seconds=5.0)):
        at = await asyncio.wait_for(load(engine, spec), 5)

        assert at.info.scores == ()
        assert "it took more than" in at.info.note
        answer = await ask(at, query())
        assert isinstance(answer, Answer)
        assert answer.bin_index == SCORED_LATER, "it may have a score yet"


async def test_what_goes_wrong_at_last_leaves_no_connection_and_no_process(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []

    class Closing(loader.ChildScoreReader):
        async def close(self) -> None:
            closed.append(self)
            await super().close()

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(loader, "ChildScoreReader", Closing)
    monkeypatch.setattr(loader, "AddressWorker", broken)

    with pytest.raises(RuntimeError, match="on purpose"):
        await load(engine)

    assert len(closed) == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("scores of")]


async def test_connections_that_fail_to_close_keep_nothing_else_from_it(engine: Engine, load: Loads) -> None:
    at = await load(engine)
    closed = []

    async def fail() -> None:
        raise OSError("on purpose")

    async def close() -> None:
        closed.append(True)

    for one, how in ((at._connections, fail), (at._probes, close), (at._scores, close)):
        really = one.close
        one.close = how  # type: ignore[method-assign]
        load.left.append(really)

    await at.close()

    assert closed == [True, True]


# Requests and answers


async def test_bytes_type_and_id_go_along_and_nothing_else_of_the_caller(engine: Engine, load: Loads) -> None:
    at = await load(engine)

    answer = await ask(at, query(b'{"inputs": [1]}', request_id="r-1"))

    assert isinstance(answer, Answer)
    assert (answer.predict_status, answer.body) == (PredictStatus.OK, json.dumps(engine.body).encode())
    _, headers, body = engine.asked[-1]
    assert body == b'{"inputs": [1]}'
    assert {name.lower() for name in headers} == {
        *("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length", "x-request-id")
    }
    assert (headers["X-Request-Id"], headers["Content-Type"]) == ("r-1", "application/json")


@pytest.mark.parametrize(
    ("code", "status"),
    [(400, PredictStatus.CLIENT_ERROR), (500, PredictStatus.MODEL_ERROR)],
)
def test_what_an_errors_headers_say_changes_nothing_of_whose_fault_it_is(
    code: int, status: PredictStatus
) -> None:
    """Its header of a binary part goes nowhere, and neither does a body that only a header would explain."""
    binary = answer_of("v2", HttpAnswer(code, {"Inference-Header-Content-Length": "2"}, b"{}"), 0.1)
    packed = answer_of("v2", HttpAnswer(code, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), 0.1)

    assert (binary.predict_status, binary.status, binary.body) == (status, code, b"{}")
    assert (packed.predict_status, packed.status) == (status, code)
    assert "in an encoding that was not asked for" in json.loads(packed.body)["error"]


@pytest.mark.parametrize(
    ("manner", "status", "code"),
    [
        *((str(code), PredictStatus.CLIENT_ERROR, code) for code in (400, 413, 415, 422)),
        *((str(code), PredictStatus.MODEL_ERROR, 502) for code in (401, 403, 407)),
        *((str(code), PredictStatus.MODEL_ERROR, code) for code in (404, 408, 418, 429)),
        ("500", PredictStatus.MODEL_ERROR, 500),
        ("503", PredictStatus.MODEL_ERROR, 503),
        ("redirect", PredictStatus.MODEL_ERROR, 502),
        ("204", PredictStatus.MODEL_ERROR, 502),
        ("packed", PredictStatus.MODEL_ERROR, 502),
        ("no length", PredictStatus.MODEL_ERROR, 502),
        ("binary", PredictStatus.CLIENT_ERROR, 415),
    ],
)
async def test_an_error_comes_back_as_it_is_and_a_redirect_is_none(
    engine: Engine, load: Loads, manner: str, status: PredictStatus, code: int
) -> None:
    at = await load(engine)
    engine.manner, engine.asked = manner, []

    answer = await ask(at, query())

    assert isinstance(answer, Answer)
    assert (answer.predict_status, answer.status, answer.as_is) == (status, code, True)
    if manner == "binary":
        assert b"ask without binary_data" in answer.body
    elif code != 502:
        assert answer.body == b'{"error": "no"}'
    elif manner.startswith("4"):
        assert b"refused the gateway: it answered 40" in answer.body
    assert len(engine.asked) == 1


@pytest.mark.parametrize("manner", ["reset", "half", "endless"])
async def test_what_gives_no_whole_answer_is_asked_once_and_no_more(
    engine: Engine, load: Loads, manner: str
) -> None:
    load.addresses.most_bytes = 1 << 20
    at = await load(engine)
    engine.manner, engine.asked = manner, []

    error = await ask(at, query())

    assert isinstance(error, WorkerDied)
    assert engine.address not in str(error)
    assert len(engine.asked) == 1
    assert not at.exited.done()


@pytest.mark.parametrize(
    ("protocol", "code"), [("v2", ScoringProtocol.MLFLOW), ("mlflow", ScoringProtocol.V2)]
)
async def test_a_request_in_the_other_protocol_is_refused_with_a_sentence(
    engine: Engine, load: Loads, protocol: str, code: ScoringProtocol
) -> None:
    load.example = b""
    at = await load(engine, protocol=protocol, path="/v{version}/v2/models/m/infer")

    answer = await ask(at, Query(b"{}", None, protocol=code))

    assert isinstance(answer, Answer)
    assert (answer.status, answer.predict_status) == (415, PredictStatus.CLIENT_ERROR)
    assert b"this model's versions speak" in answer.body
    assert engine.asked == []


async def test_requests_run_side_by_side_over_so_many_connections(engine: Engine, load: Loads) -> None:
    at = await load(engine, connections=3)
    engine.answers, engine.connections = False, set()
    answers: list[Answer] = []

    for _ in range(at.parallel):
        at.submit([query()], lambda _places, heard: answers.extend(heard))
    await until(lambda: len(engine.asked) == 4)  # and the example
    engine.release()
    await until(lambda: len(answers) == 3)

    assert at.parallel == 3
    assert len(engine.connections) == 3


async def test_connections_are_renewed_so_that_new_pods_are_found(engine: Engine, load: Loads) -> None:
    at = await load(engine, connection_seconds=60)
    engine.connections = set()

    await ask(at, query())
    await ask(at, query())
    same = len(engine.connections)
    at._connections._renewed_at -= 60.0
    await ask(at, query())

    assert (same, len(engine.connections)) == (1, 2)


async def test_a_request_that_is_given_up_has_its_connection_closed(engine: Engine, load: Loads) -> None:
    at = await load(engine)
    engine.answers = False
    at.on_failed = lambda *_: pytest.fail("nobody waits for it")
    number = at.submit([query()], lambda *_: pytest.fail("nobody waits for it"))
    await until(lambda: len(engine.asked) == 2)

    at.give_up(number)

    await until(lambda: engine.closed_early == 1)
    assert not at.exited.done()


async def test_a_caller_who_hangs_up_has_its_connection_closed(engine: Engine, load: Loads) -> None:
    at = await load(engine)
    engine.answers = False
    failed: list[Any] = []
    at.on_failed = lambda *what: failed.append(what)
    number = at.submit([query()], lambda *_: pytest.fail("nobody waits for it"))
    await until(lambda: len(engine.asked) == 2)

    at.hung_up(number, 0)

    await until(lambda: engine.closed_early == 1 and bool(failed))
    [(of, place, error)] = failed
    assert (of, place, type(error)) == (number, 0, CallerGone)
    assert at._under_way == {}


# Headers


async def test_headers_of_the_file_are_read_at_each_use(engine: Engine, load: Loads, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer one\n\nX-Tenant:  a b \n")
    at = await load(engine, headers_file=str(file))
    file.write_text("Authorization: Bearer two\n")

    await ask(at, query())

    before, after = (headers for _, headers, _ in engine.asked)
    assert (before["Authorization"], before["X-Tenant"]) == ("Bearer one", "a b")
    assert after["Authorization"] == "Bearer two"
    assert "X-Tenant" not in after


async def test_look_ups_of_names_that_hang_keep_no_request_from_its_headers(
    engine: Engine, load: Loads, tmp_path: Path
) -> None:
    file = tmp_path / "headers"
    file.write_text("X-Tenant: a\n")
    released = threading.Event()
    hanging = [asyncio.ensure_future(in_outbound_thread(released.wait, 60)) for _ in range(MOST_THREADS)]
    try:
        async with asyncio.timeout(5 * slack()):
            at = await load(engine, headers_file=str(file))
            answer = await ask(at, query())
    finally:
        released.set()
        await asyncio.gather(*hanging)

    assert isinstance(answer, Answer)
    assert engine.asked[-1][1]["X-Tenant"] == "a"


async def test_a_file_of_headers_that_hangs_keeps_no_look_for_longer_than_its_time(
    engine: Engine, load: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(connections, "read_headers", lambda _: released.wait(60))
    try:
        with pytest.raises(LoadFailed, match=r"headers_file was not read within 0\.05 s"):
            await load(engine, headers_file=str(tmp_path / "headers"), seconds=0.1)
    finally:
        released.set()


async def test_a_proxy_of_the_environment_is_used_where_it_is_asked_for_alone(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    await load(engine)

    with pytest.raises(LoadFailed, match="can not be reached"):
        await load(engine, proxy=True, seconds=0.05)


# Its end


async def test_readiness_that_is_lost_for_three_looks_is_its_end(engine: Engine, load: Loads) -> None:
    at = await load(engine)
    looks, engine.ready = engine.probes, False

    how = await asyncio.wait_for(asyncio.shield(at.exited), 5)

    assert engine.probes - looks >= worker.PROBES
    assert str(how) == "its readiness was lost: asked whether it is ready, it answers 503 Service Unavailable"


async def test_readiness_that_comes_back_in_time_ends_nothing(engine: Engine, load: Loads) -> None:
    at = await load(engine)

    for _ in range(3):
        looks, engine.ready = engine.probes, False
        await until(lambda looks=looks: engine.probes > looks)
        engine.ready = True
        looks = engine.probes
        await until(lambda looks=looks: engine.probes > looks + 3)

    assert not at.exited.done()


async def test_a_look_that_goes_wrong_here_counts_as_not_ready(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await load(engine)
    where = AddressSettings.model_validate({"http": engine.address, "path": "/v{version}/v2/models/m/infer"})
    assert await load.addresses.is_ready(where, SPEC.version)

    async def broken(_: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(readiness.ReadinessProbe, "look", broken)

    assert not await load.addresses.is_ready(where, SPEC.version)
    how = await asyncio.wait_for(asyncio.shield(at.exited), 5)
    assert str(how) == "its readiness was lost: it could not be asked: RecursionError"


async def test_an_address_that_gets_another_version_ends_at_once(engine: Engine, load: Loads) -> None:
    """Two more looks would be ten seconds of answers by a version that nobody chose."""
    at = await load(engine)
    engine.tells = {"name": "m", "versions": ["2"]}

    how = await asyncio.wait_for(asyncio.shield(at.exited), 5)

    assert str(how) == "its readiness was lost: the engine has version 2, not 1"


async def test_what_is_under_way_has_no_answer_once_it_has_ended(engine: Engine, load: Loads) -> None:
    at = await load(engine)
    engine.answers = False
    at.on_failed = lambda *_: pytest.fail("the pool fails it")
    at.submit([query()], lambda *_: pytest.fail("it has ended"))
    await until(lambda: len(engine.asked) == 2)

    at.kill()

    await until(lambda: engine.closed_early == 1)
    assert str(at.exited.result()) == "signal 9 (SIGKILL)"
    at.submit([query()], lambda *_: pytest.fail("it has ended"))
    await at.close()
    assert len(engine.asked) == 2


async def test_looks_without_an_answer_end_nothing_while_requests_are_answered(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine with one thread answers no probe while it predicts."""
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.05)
    at = await load(engine)
    looks, engine.probes_answered = engine.probes, False

    while engine.probes < looks + 3 * worker.PROBES:
        assert isinstance(await ask(at, query()), Answer)
    assert not at.exited.done()

    engine.manner = "500"
    at.on_failed = lambda *_: None
    while not at.exited.done():
        at.submit([query()], lambda *_: None)
        await asyncio.sleep(0.01)
    assert str(at.exited.result()) == "its readiness was lost: no answer within 0.05 s"


async def test_an_engine_that_hangs_is_no_reason_to_wait_for_its_readiness(
    engine: Engine, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.05)
    at = await load(engine)
    engine.manner = "late"
    at.submit([query()], lambda *_: None)
    looks = engine.probes

    await until(lambda: engine.probes > looks + 2 * worker.PROBES)

    assert not at.exited.done()  # requests may take long; it is ready all the same
