"""What every loader promises, whether its workers are processes or not."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from router.core.scores import ScoreCounts, ScoreSpec
from router.errors import ChildTimeout, LoadFailed
from router.processes.child import SpawnLauncher
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import WorkerLoader
from router.protocol.messages import PredictStatus, Query, TensorInfo
from tests.processes.conftest import Notes, ask, launch_seconds
from tests.support.fakes import FakeWorld
from tests.support.in_process import InProcessLoader
from tests.support.saved_versions import (
    command_query,
    inference_query,
    json_query,
    predictions,
    spec_of,
    tensor,
    text_query,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
READY_SECONDS = 30.0

loads_its_own = pytest.mark.parametrize(
    "loader",
    ["template", pytest.param("spawn", marks=pytest.mark.slow), "in process"],
    indirect=True,
    scope="module",
)
"""For what needs a process that no other test does: one that is spawned imports MLflow for two seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["template", "spawn", "in process"])
async def loader(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "in process":
        yield InProcessLoader()
        return
    if request.param == "spawn":
        launcher: Any = SpawnLauncher()
    else:
        launcher = ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())
        await launcher.start()
    yield WorkerLoader(launcher)
    await launcher.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(loader: Any, versions: Path, slack: float) -> AsyncIterator[Any]:
    """Loads versions by name: the same worker for the same name, unless a `fresh` one is asked for."""
    known: dict[str, Any] = {}
    opened = []

    async def load(name: str, root: Path = versions, *, fresh: bool = False, **more: Any) -> Any:
        if name in known and not (fresh or more):
            return known[name]
        worker = await loader.load(spec_of(root, name, **more), deadline_seconds=READY_SECONDS * slack)
        opened.append(worker)
        if not (fresh or more):
            known[name] = worker
        return worker

    yield load
    for worker in opened:
        await worker.close()


async def test_it_answers_each_request_of_a_frame_by_itself_and_in_order(workers: Any) -> None:
    """One bad request among them spoils no other."""
    worker = await workers("plain")

    good, bad, better = await ask(worker, text_query("a" * 10), json_query([]), text_query("b" * 20, "c"))

    assert predictions(good.body) == pytest.approx([0.1])
    assert (bad.status, bad.predict_status) == (400, PredictStatus.CLIENT_ERROR)
    assert predictions(better.body) == pytest.approx([0.2, 0.01])
    assert [answer.rows for answer in (good, bad, better)] == [1, 0, 2]


async def test_one_frame_follows_another(workers: Any) -> None:
    worker = await workers("commands")

    for text in ("first", "second"):
        [answer] = await ask(worker, command_query(text))
        assert predictions(answer.body) == [text]


@loads_its_own
async def test_large_requests_and_answers_arrive_whole(workers: Any) -> None:
    worker = await workers("columns")
    row = {"d": 1.0, "l": 2, "s": "x" * 3_000_000}

    answers = await ask(worker, *[json_query({"dataframe_records": [row]})] * 3)

    assert all("x" * 3_000_000 in answer.body.decode() for answer in answers)


async def test_a_media_type_that_is_no_text_is_refused_like_any_other(workers: Any) -> None:
    """Bytes of a header that are not UTF-8 arrive as surrogates."""
    worker = await workers("plain")

    odd, good = await ask(worker, Query(b"{}", "text/\udcff"), text_query("good"))

    assert (odd.status, good.status) == (415, 200)


async def test_an_answer_that_exists_is_not_held_back_by_the_next_request(workers: Any) -> None:
    worker = await workers("commands")
    loop = asyncio.get_running_loop()
    first: asyncio.Future[float] = loop.create_future()
    last: asyncio.Future[float] = loop.create_future()

    worker.submit(
        [command_query("quick:"), command_query("sleep:0.5")],
        lambda places, _answers: (last if 1 in places else first).set_result(loop.time()),
    )

    assert await last - await first > 0.4


@loads_its_own
async def test_what_it_reports_about_itself_arrives(workers: Any) -> None:
    info = (await workers("churn")).info

    assert info.flavor == "sklearn"
    assert (info.has_signature, info.has_example) == (True, True)
    assert set(info.phase_seconds) == {"load", "warmup"}
    assert all(seconds >= 0 for seconds in info.phase_seconds.values())
    assert info.scores == (ScoreSpec(1),)


@loads_its_own
async def test_it_speaks_both_protocols_in_one_frame(workers: Any) -> None:
    worker = await workers("signed")
    tensors = inference_query(tensor("BYTES", [2], ["good", "b"], "text"), id="7")

    by_mlflow, by_inference, bad = await ask(worker, text_query("good"), tensors, inference_query())

    assert predictions(by_mlflow.body) == [0.04]
    assert json.loads(by_inference.body) == {
        "model_name": "signed",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "predict", "shape": [2], "datatype": "FP64", "data": [0.04, 0.01]}],
    }
    assert (bad.status, list(json.loads(bad.body))) == (400, ["error"])
    assert worker.info.inputs == (TensorInfo("text", "BYTES", (-1,)),)
    assert worker.info.outputs == (TensorInfo("predict", "FP64", (-1,)),)


@loads_its_own
async def test_scores_are_counted_as_the_configuration_says(workers: Any) -> None:
    worker = await workers("churn", scores=(ScoreSpec(output=1, bins=2),))

    [answer] = await ask(worker, json_query({"dataframe_records": [{"age": 20, "usage": 1}] * 3}))

    [counts] = answer.scores
    assert isinstance(counts, ScoreCounts)
    assert (sum(counts.bins), len(counts.bins)) == (3, 2)
    assert answer.bin_index is not None
    assert counts.bins[answer.bin_index] == 3


@loads_its_own
async def test_a_note_for_the_operator_arrives(workers: Any) -> None:
    info = (await workers("far")).info

    assert info.scores == ()
    assert "models.far.scores" in info.note


@loads_its_own
@pytest.mark.parametrize(
    ("name", "phase", "said"),
    [
        ("raises_on_load", "load", "RuntimeError: no such lexicon"),
        ("exits_on_load", "load", "SystemExit: 4"),
        ("raises_on_example", "warmup", "KeyError"),
        ("never_saved", "load", "No such artifact"),
    ],
)
async def test_a_version_that_cannot_be_ready_names_phase_and_error(
    loader: Any, versions: Path, slack: float, name: str, phase: str, said: str
) -> None:
    spec = replace(spec_of(versions, name), warm_up_required=True)
    with pytest.raises(LoadFailed, match=said) as failure:
        await loader.load(spec, deadline_seconds=READY_SECONDS * slack)

    assert failure.value.phase == phase


@loads_its_own
async def test_a_load_that_takes_too_long_is_given_up(loader: Any, versions: Path) -> None:
    with pytest.raises(ChildTimeout):
        await loader.load(spec_of(versions, "slow_to_load"), deadline_seconds=0.5)


@pytest.mark.parametrize("command", ["exit:", "interrupt:", "fail:x", "unwritable:"])
async def test_a_predict_that_ends_itself_ends_nothing_else(workers: Any, command: str) -> None:
    worker = await workers("commands")

    failed, good = await ask(worker, command_query(command), command_query("fine"))

    assert (failed.status, failed.predict_status) == (500, PredictStatus.MODEL_ERROR)
    assert good.predict_status is PredictStatus.OK
    assert not worker.exited.done()


async def test_what_a_version_prints_never_reaches_its_answers(workers: Any) -> None:
    worker = await workers("commands")

    noisy, quiet = await ask(worker, command_query("write:"), command_query("fine"))

    assert predictions(noisy.body) == ["wrote"]
    assert quiet.predict_status is PredictStatus.OK


@loads_its_own
async def test_a_directory_is_read_and_never_written(workers: Any, versions: Path, tmp_path: Path) -> None:
    shutil.copytree(versions / "signed", tmp_path / "signed")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    await ask(await workers("signed", tmp_path, fresh=True), text_query("good"))

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.fixture(params=["as loaded", "fake"])
def any_loader(loader: Any, request: pytest.FixtureRequest) -> Any:
    """Each loader, and the fake of the tests of serving: what these rely on must hold for all of them."""
    return loader if request.param == "as loaded" else FakeWorld()


@loads_its_own
async def test_each_request_is_answered_once_and_frames_follow_each_other(
    any_loader: Any, versions: Path, slack: float
) -> None:
    worker = await any_loader.load(spec_of(versions, "plain"), deadline_seconds=READY_SECONDS * slack)
    for number in (1, 3, 2):
        answers = await ask(worker, *[text_query("good")] * number)
        assert [(one.predict_status, one.rows) for one in answers] == [(PredictStatus.OK, 1)] * number
    assert not worker.exited.done()
    assert worker.parallel >= 1
    await worker.close()


@loads_its_own
async def test_a_closed_worker_has_exited_and_answers_no_more(
    any_loader: Any, versions: Path, slack: float
) -> None:
    worker = await any_loader.load(spec_of(versions, "plain"), deadline_seconds=READY_SECONDS * slack)
    await worker.close()
    answers: list[Any] = []

    worker.submit([text_query("good")], lambda *batch: answers.append(batch))
    await asyncio.sleep(0.05)

    assert str(worker.exited.result()) == "exit code 0"
    assert answers == []


@loads_its_own
async def test_a_killed_worker_answers_no_more(any_loader: Any, versions: Path, slack: float) -> None:
    worker = await any_loader.load(spec_of(versions, "commands"), deadline_seconds=READY_SECONDS * slack)
    answers: list[Any] = []
    worker.submit([command_query("sleep:0.3")], lambda *batch: answers.append(batch))

    worker.kill()
    worker.kill()

    async with asyncio.timeout(5 * slack):
        assert str(await asyncio.shield(worker.exited)) == "signal 9 (SIGKILL)"
    await asyncio.sleep(0.4)
    assert answers == []


@loads_its_own
async def test_answers_equal_those_of_mlflow(workers: Any, versions: Path) -> None:
    """The differential test has hundreds; here a few, through the frames."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    query = json_query({"dataframe_split": {"columns": ["usage", "age"], "data": [[3.5, 20], [1, 50.5]]}})
    model = mlflow.pyfunc.load_model(str(versions / "churn"))
    schema = model.metadata.get_input_schema()
    expected = invocations(query.body, "application/json", model, schema)

    [answer] = await ask(await workers("churn"), query)

    assert (answer.status, answer.content_type) == (expected.status, expected.mimetype)
    assert json.loads(answer.body) == json.loads(expected.response)
