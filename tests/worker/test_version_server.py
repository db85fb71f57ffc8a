"""A version over HTTP: the paths of both protocols, and the answers of a worker."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from router.core.ids import VersionId
from router.protocol.messages import Query, ScoringProtocol
from router.worker.load import Loaded
from router.worker.version_server import Response, VersionServer
from tests.support.saved_versions import command_query, inference_query, tensor, text_query
from tests.support.waiting import until

Get = Callable[[str], Loaded]
V2 = ScoringProtocol.V2
CSV = "text/csv"


def server_of(loaded: Get, name: str, *, threads: int = 1, max_rows: int | None = None) -> VersionServer:
    return VersionServer(VersionId(name, 7), loaded(name), threads=threads, max_rows=max_rows)


def waiting_for(file: Path) -> Query:
    """A request whose predict returns once there is such a file."""
    lines = f"import pathlib, time\nwhile not pathlib.Path({str(file)!r}).exists(): time.sleep(0.005)"
    return command_query(f"run:{lines}\nanswer = 'seen'")


def making(file: Path) -> Query:
    """A request whose predict makes that file."""
    return command_query(f"run:import pathlib\nanswer = str(pathlib.Path({str(file)!r}).touch())")


async def ask(server: VersionServer, method: str, path: str, query: Query | None = None) -> Response:
    sent = query or Query(b"", None)
    return await server.answer(method, path, sent.content_type, sent.body)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        pytest.param("plain", text_query("good", "bad"), id="a good one"),
        pytest.param("plain", Query(b"text\ngood\n", CSV), id="CSV"),
        pytest.param("plain", Query(b"{", "application/json"), id="no JSON"),
        pytest.param("plain", Query(b"{}", "application/xml"), id="an unknown media type"),
        pytest.param("commands", command_query("fail:secret"), id="it raises"),
        pytest.param("commands", command_query("missing:secret"), id="it raises MLflow's error"),
        pytest.param("commands", command_query("exit:3"), id="it ends its process"),
        pytest.param("churn", inference_query(tensor("FP64", [1], [0.5])), id="inputs are missing"),
        pytest.param("echo", inference_query(tensor("FP64", [2], [0.5, 1.5])), id="tensors"),
        pytest.param("echo", Query(b"[]", None, protocol=V2), id="no request of V2"),
    ],
)
async def test_each_answer_is_that_of_a_worker(loaded: Get, name: str, query: Query) -> None:
    path = f"/v2/models/{name}/infer" if query.protocol is V2 else "/invocations"

    found = await ask(server_of(loaded, name), "POST", path, query)

    expected = loaded(name).scorer.answer(query)
    assert found == (expected.status, expected.body, expected.content_type)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/ping", None),
        ("/health", None),
        ("/v2/models/echo_tensors/ready", {"name": "echo_tensors", "ready": True}),
        ("/v2/models/echo_tensors/versions/7/ready", {"name": "echo_tensors", "ready": True}),
    ],
)
async def test_a_version_that_is_loaded_is_ready(loaded: Get, path: str, document: object) -> None:
    found = await ask(server_of(loaded, "echo_tensors"), "GET", path)

    assert found.status == 200
    assert found.body == b"\n" if document is None else json.loads(found.body) == document


@pytest.mark.parametrize("path", ["/v2/models/echo_tensors", "/v2/models/echo_tensors/versions/7"])
async def test_metadata_names_this_version_and_its_signature(loaded: Get, path: str) -> None:
    found = json.loads((await ask(server_of(loaded, "echo_tensors"), "GET", path)).body)

    info = loaded("echo_tensors").info
    assert (found["name"], found["versions"], found["platform"]) == ("echo_tensors", ["7"], "mlflow")
    assert [one["name"] for one in found["inputs"]] == [one.name for one in info.inputs]
    assert [one["datatype"] for one in found["outputs"]] == [one.datatype for one in info.outputs]
    assert found["inputs"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/plain/versions/8/ready", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/plain/versions/8/infer", 404),
        ("GET", "/", 404),
        ("GET", "/invocations", 405),
        ("GET", "/v2/models/plain/infer", 405),
        ("POST", "/v2/models/plain/ready", 405),
        ("POST", "/ping", 405),
    ],
)
async def test_what_is_not_of_this_version_is_refused(
    loaded: Get, method: str, path: str, status: int
) -> None:
    found = await ask(server_of(loaded, "plain"), method, path, text_query("good"))

    assert found.status == status
    assert {"error", "message"} <= json.loads(found.body).keys()


async def test_a_request_with_too_many_rows_is_answered_413(loaded: Get) -> None:
    server = server_of(loaded, "plain", max_rows=1)

    assert (await ask(server, "POST", "/invocations", text_query("one"))).status == 200
    assert (await ask(server, "POST", "/invocations", text_query("one", "two"))).status == 413


async def test_it_is_ready_while_all_its_threads_predict(loaded: Get, tmp_path: Path) -> None:
    """A gateway that looks for it meanwhile must not find it lost."""
    server, release = server_of(loaded, "commands"), tmp_path / "release"
    predicting = asyncio.create_task(ask(server, "POST", "/invocations", waiting_for(release)))
    await until(lambda: server.longest_seconds > 0.0)

    assert (await ask(server, "GET", "/ping")).status == 200

    release.touch()
    assert (await predicting).status == 200
    assert server.longest_seconds == 0.0


async def test_a_request_that_is_given_up_while_it_waits_is_never_predicted(
    loaded: Get, tmp_path: Path
) -> None:
    server, release, touched = server_of(loaded, "commands"), tmp_path / "release", tmp_path / "touched"
    first = asyncio.create_task(ask(server, "POST", "/invocations", waiting_for(release)))
    await until(lambda: server.longest_seconds > 0.0)
    waiting = asyncio.create_task(ask(server, "POST", "/invocations", making(touched)))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.touch()
    await first

    assert (await ask(server, "POST", "/invocations", command_query("done"))).status == 200
    assert not touched.exists()
