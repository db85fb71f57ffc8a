"""The demo's traffic against a gateway and a registry of somebody's."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from router.demo.gateway_process import clean_environment
from router.demo.traffic_only import NoGateway, require_models
from tests.support import slowness
from tests.support.empty_database import empty_database
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=120 * slowness.slack()
    )


def test_a_registered_model_that_no_demo_made_is_left_alone(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Its name may be `sentiment` by chance, and callers may depend on it."""
    uri = f"sqlite:///{shutil.copy(empty_database(tmp_path_factory), tmp_path)}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("sentiment", tags={"team": "another"})
    client.create_model_version("sentiment", source=(tmp_path / "model").as_uri())
    client.set_registered_model_alias("sentiment", "production", "1")
    before = client.get_registered_model("sentiment")

    done = run("router.demo.train", "--at", uri)

    after = client.get_registered_model("sentiment")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "the registry has a registered model sentiment that no demo made: it is left alone\n"
    )
    assert "Traceback" not in done.stderr
    assert (after.aliases, after.tags, after.last_updated_timestamp) == (
        before.aliases,
        before.tags,
        before.last_updated_timestamp,
    )


def test_without_a_registry_it_is_asked_for() -> None:
    done = run("router", "demo", "--against", "http://127.0.0.1:1")

    assert done.returncode == 2
    assert done.stderr == "which registry? name it with --registry URI, or set MLFLOW_TRACKING_URI\n"


@pytest.mark.slow
def test_where_no_gateway_answers_it_ends_within_seconds_and_writes_nothing(
    tmp_path: Path, slack: float
) -> None:
    """The registry may be one that others depend on."""
    url = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()

    done = run("router", "demo", "--against", url, "--registry", f"sqlite:///{tmp_path / 'new.db'}")

    assert done.returncode == 3
    assert done.stdout == f"waiting 10 s at most for a gateway to answer at {url}\n"
    assert done.stderr.startswith(f"no gateway answers at {url}: ")
    assert done.stderr.endswith("; nothing was registered\n")
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - started < 10 + 10 * slack


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[1]", None]
)
async def test_what_is_no_gateway_or_keeps_silent_is_given_up_in_time(
    answer: bytes | None, slack: float
) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()

    said: list[str] = []
    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    started = time.monotonic()
    try:
        with pytest.raises(NoGateway, match=f"^no gateway answers at {url}: .+; nothing was registered$"):
            await require_models(url, ["sentiment"], said.append, 1.0)
    finally:
        server.close()
        await server.wait_closed()

    assert time.monotonic() - started < 1.5 + slack
    assert said in ([], [f"waiting 1 s at most for a gateway to answer at {url}"])


@pytest.fixture(params=["traffic", "admin"])
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """With an empty registry, and one of the demo's two models; `observe` is the parameter."""
    config = tmp_path / "router.yaml"
    config.write_text(
        f"server: {{listen: 127.0.0.1:0, admin: 127.0.0.1:0, observe: {request.param}}}\n"
        f"registry: {{uri: 'sqlite:///{tmp_path / 'mlflow.db'}', cache_dir: '{tmp_path / 'cache'}'}}\n"
        "models: {sentiment: {}}\n"
    )
    process = GatewayProcess(tmp_path, config)
    yield process
    process.stop()


def test_a_gateway_that_lacks_a_model_of_the_demo_is_reported_and_nothing_is_written(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    done = run("router", "demo", "--against", gateway.url, "--registry", f"sqlite:///{tmp_path / 'new.db'}")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"the demo failed: the gateway at {gateway.url} is not configured for churn_predictor:"
        " add it under `models`; nothing was registered\n"
    )
    assert not (tmp_path / "new.db").exists()


def test_what_is_no_address_is_a_mistake_of_usage() -> None:
    done = run("router", "demo", "--against", "127.0.0.1:8080", "--registry", "sqlite:///x.db")

    assert (done.returncode, done.stderr) == (2, "--against must begin with http:// or https://\n")


def test_a_registry_without_a_gateway_is_refused() -> None:
    done = run("router", "demo", "--registry", "sqlite:///mlflow.db")

    assert done.returncode == 2
    assert "--registry goes with --against" in done.stderr
