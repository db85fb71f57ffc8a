"""What a version does not share with the gateway or with other versions, and what it does not reveal."""

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import Worker
from router.protocol.messages import LoadSpec
from tests.processes.conftest import ask, launch_seconds
from tests.support.saved_versions import command_query, json_query, predictions, spec_of, text_query

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize("names", [("helper_a", "helper_b"), ("helper_b", "helper_a")])
async def test_two_versions_with_one_module_name_each_run_their_own_code(
    load: Any, names: tuple[str, str]
) -> None:
    first, second = [await load(name) for name in names]

    for worker, name in ((first, names[0]), (second, names[1]), (first, names[0])):
        [answer] = await ask(worker, text_query("x"))
        assert predictions(answer.body) == [name[-1]]


async def test_a_version_that_ships_a_module_named_router_runs_its_own(load: Any) -> None:
    worker = await load("ships_router")

    [answer] = await ask(worker, text_query("x"))

    assert predictions(answer.body) == ["theirs"]


async def test_workers_do_not_hold_each_others_sockets(load: Any, slack: float) -> None:
    """Else the end of one would not be seen while another lives."""
    workers = [await load("plain") for _ in range(3)]

    for worker in workers:
        sockets = [link for link in _links(worker.pid) if link.startswith("socket:")]
        assert len(sockets) == 1


async def test_workers_draw_different_random_numbers(load: Any) -> None:
    """A fork copies the state of numpy's generator."""
    first, second = await load("commands"), await load("commands")

    [one], [other] = await ask(first, command_query("draw:")), await ask(second, command_query("draw:"))

    assert one.body != other.body


async def test_a_worker_uses_as_many_threads_for_linear_algebra_as_it_is_set(
    template: ForkServerSupervisor, versions: Path, slack: float
) -> None:
    for threads in (1, 2):
        plain = spec_of(versions, "commands")
        spec = LoadSpec(plain.version, plain.directory, None, cpu_threads=threads)
        worker = await Worker.start(template, spec, deadline_seconds=30 * slack)
        [answer] = await ask(worker, command_query("threads:"))
        await worker.close()
        assert set(predictions(answer.body)[0]) == {threads}


async def test_a_version_sees_no_secret_in_its_environment(
    versions: Path, slack: float, monkeypatch: pytest.MonkeyPatch, notes: Any
) -> None:
    names = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "CANARY_ROUTER_REGISTRY__URI", "PGPASSWORD")
    for name in (*names, "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "secret")
    template = ForkServerSupervisor(notes, launch_seconds=launch_seconds())
    await template.start()
    worker = await Worker.start(template, spec_of(versions, "commands"), deadline_seconds=30 * slack)

    [answer] = await ask(worker, command_query("secrets:"))
    await worker.close()
    await template.close()

    assert predictions(answer.body) == [[]]


async def test_a_listed_variable_reaches_the_workers_of_its_model_alone(
    template: ForkServerSupervisor, versions: Path, slack: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    spec = spec_of(versions, "commands")
    listed = replace(spec, environment_variables=("AWS_BEARER_TOKEN_BEDROCK", "AWS_NOT_SET"))
    seen = []
    for each in (listed, spec):
        worker = await Worker.start(template, each, deadline_seconds=30 * slack)
        [answer] = await ask(worker, command_query("secrets:"))
        seen += predictions(answer.body)
        await worker.close()

    assert seen == [["AWS_BEARER_TOKEN_BEDROCK"], []]
    assert "hunter2" not in str(listed)


async def test_a_worker_writes_no_line_per_request(load: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """MLflow warns about unknown columns and params on every request, and names them."""
    worker = await load("signed")
    query = json_query(
        {"dataframe_records": [{"text": "a", "secret": 1}], "params": {"secret": 1}, "more": "secret"}
    )
    capfd.readouterr()

    await ask(worker, query, query)

    assert "secret" not in "".join(capfd.readouterr())


def _links(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
