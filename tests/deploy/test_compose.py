"""What compose.yaml promises: read by docker-compose, and its services' commands run against each other."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from router.adapters.config.file import load_settings
from tests.deploy.conftest import DEPLOY, Prometheus
from tests.support.gateway import NO_BALANCER
from tests.support.ports import free_port
from tests.support.postgres import programs_of_postgres, running_postgres
from tests.support.waiting import wait_until

FILE = DEPLOY / "compose.yaml"
ROOT = DEPLOY.parent
SERVICES = ("postgres", "mlflow", "gateway", "traffic", "prometheus", "grafana")
DOCKERFILES = (DEPLOY / "Dockerfile", DEPLOY / "compose" / "mlflow" / "Dockerfile")


def resolved(**environment: str) -> dict[str, Any]:
    """The file as docker-compose understands it."""
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is missing; install the Debian package `docker-compose`")
    done = subprocess.run(
        ["docker-compose", "-f", str(FILE), "config"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
    )
    assert done.returncode == 0, done.stderr
    assert "WARN" not in done.stderr, done.stderr
    read: dict[str, Any] = YAML(typ="safe").load(done.stdout)
    return read


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = resolved()["services"]
    return found


def test_docker_compose_accepts_it_as_it_lies_there(services: dict[str, Any]) -> None:
    assert set(services) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(services: dict[str, Any], name: str) -> None:
    service = services[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert not {"pid", "ipc", "network_mode", "devices", "cap_add"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_only_this_machine_reaches_its_ports(services: dict[str, Any], name: str) -> None:
    for port in services[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+/tcp", port)


def test_the_database_has_no_port_and_only_mlflow_beside_it(services: dict[str, Any]) -> None:
    whole = resolved()
    assert "ports" not in services["postgres"]
    assert whole["networks"]["store"]["internal"] is True
    assert [name for name in SERVICES if "store" in services[name].get("networks", {})] == [
        "postgres",
        "mlflow",
    ]
    assert list(services["postgres"]["networks"]) == ["store"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_full_version_or_is_built_from_here(services: dict[str, Any], name: str) -> None:
    service = services[name]
    if "build" in service:
        context = Path(service["build"]["context"])
        assert (context / service["build"].get("dockerfile", "Dockerfile")) in DOCKERFILES
    else:
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?(-\w+)?", service["image"])


def test_what_one_needs_is_healthy_before_it_starts(services: dict[str, Any]) -> None:
    needs = {
        name: {other: how["condition"] for other, how in services[name].get("depends_on", {}).items()}
        for name in SERVICES
    }

    assert {how for others in needs.values() for how in others.values()} == {"service_healthy"}
    assert {name: set(others) for name, others in needs.items()} == {
        "postgres": set(),
        "mlflow": {"postgres"},
        "gateway": {"mlflow"},
        "traffic": {"mlflow", "gateway"},
        "prometheus": {"gateway"},
        "grafana": {"prometheus"},
    }
    for name in {other for others in needs.values() for other in others}:
        has_one = "healthcheck" in services[name] or services[name]["image"] == "canary-router"
        assert has_one, name  # the gateway's is the image's


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_and_read_only(services: dict[str, Any], name: str) -> None:
    for volume in services[name].get("volumes", []):
        source, _, mode = volume.split(":")
        if source.startswith("/"):
            assert Path(source).exists(), source
            assert mode == "ro"
        else:
            assert mode == "rw"


def test_the_password_of_the_database_can_be_set_and_is_in_no_address() -> None:
    services = resolved(POSTGRES_PASSWORD="another one")["services"]

    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "another one"
    assert services["mlflow"]["environment"]["PGPASSWORD"] == "another one"
    assert "another one" not in services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]


def test_its_gateway_follows_the_models_that_its_traffic_registers() -> None:
    config = DEPLOY / "compose" / "gateway" / "router.yaml"
    settings = load_settings(config, {}, {}).settings

    assert list(settings.models) == ["sentiment", "churn_predictor"]
    assert settings.server.listen == ("0.0.0.0", 8080)
    assert settings.server.admin_is_local


def test_its_prometheus_has_the_job_and_the_pace_of_the_other_one() -> None:
    """Rules and dashboard go by the job's name, and the rate's window by the interval."""
    yaml = YAML(typ="safe")
    ours, other = (
        yaml.load(path) for path in (DEPLOY / "compose" / "prometheus.yml", DEPLOY / "prometheus.yml")
    )

    assert ours["scrape_configs"][0]["job_name"] == other["scrape_configs"][0]["job_name"]
    assert ours["global"]["scrape_interval"] == other["global"]["scrape_interval"]
    source = yaml.load(DEPLOY / "compose" / "grafana" / "prometheus.yml")["datasources"][0]
    assert source["jsonData"]["timeInterval"] == ours["global"]["scrape_interval"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_hadolint_has_no_remark(path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([program, path], capture_output=True, text=True, timeout=60)

    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


def test_the_image_of_mlflow_has_the_version_that_is_tested() -> None:
    import importlib.metadata

    pinned = dict(re.findall(r"([a-z0-9-]+)==([\w.]+)", DOCKERFILES[1].read_text()))
    assert set(pinned) == {"mlflow", "psycopg2-binary"}
    wanted, here = pinned["mlflow"].split("."), importlib.metadata.version("mlflow").split(".")
    assert wanted[0] == here[0]


class Stack:
    """The services as processes of this machine: commands and environments are those of the file."""

    def __init__(self, directory: Path, services: dict[str, Any], slack: float) -> None:
        self.directory, self.services, self.slack = directory, services, slack
        self.ports = {f"{name}:{port}": free_port() for name, port in PORTS.items()}
        self.started = ExitStack()

    def url(self, place: str) -> str:
        return f"http://127.0.0.1:{self.ports[place]}"

    def here(self, text: str) -> str:
        """`text` with names, ports and directories of containers made those of this machine."""
        for place, port in self.ports.items():
            text = re.sub(rf"(//|@|\"){place}\b", rf"\g<1>127.0.0.1:{port}", text)
        text = text.replace("--host=0.0.0.0", "--host=127.0.0.1")
        text = text.replace("--port=5000", f"--port={self.ports['mlflow:5000']}")
        for theirs in ("/var/lib/mlflow", "/etc/prometheus", "/prometheus"):
            text = re.sub(rf"(?<![\w/.]){theirs}", str(self.directory) + theirs, text)
        return text

    def environment(self, name: str, **more: str) -> dict[str, str]:
        ours = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW_", "PG", "CANARY_ROUTER_"))}
        theirs = self.services[name].get("environment", {})
        return {**ours, **{n: self.here(v) for n, v in theirs.items()}, **more}

    def command(self, name: str) -> list[str]:
        return [self.here(word) for word in self.services[name].get("command", [])]

    @contextmanager
    def running(self, name: str, program: list[str], healthy: str, **more: str) -> Iterator[None]:
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*program, *self.command(name)],
                stdout=output,
                stderr=output,
                env=self.environment(name, **more),
                cwd=self.directory,
                start_new_session=True,
            )
        try:
            give_up = time.monotonic() + 90 * self.slack
            while not answers(healthy):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < give_up, log.read_text()[-3000:]
                time.sleep(0.2)
            yield
        finally:
            with suppress(ProcessLookupError):  # it ended, and the assertion above shows how
                os.killpg(process.pid, signal.SIGTERM if name == "gateway" else signal.SIGKILL)
            process.wait(30)


PORTS = {"postgres": 5432, "mlflow": 5000, "gateway": 8080, "prometheus": 9090}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def stack(
    services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, slack: float
) -> Iterator[Stack]:
    """PostgreSQL, MLflow, the gateway and Prometheus, up and connected as the file says."""
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is missing; install the Debian package `postgresql`")
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing; install the Debian package `prometheus`")
    directory = tmp_path_factory.mktemp("stack")
    stack = Stack(directory, services, slack)
    asked = services["postgres"]["environment"]
    with ExitStack() as running:
        postgres = running.enter_context(
            running_postgres(
                programs,
                slack,
                user=asked["POSTGRES_USER"],
                password=asked["POSTGRES_PASSWORD"],
                port=stack.ports["postgres:5432"],
            )
        )
        postgres.run(f"create database {asked['POSTGRES_DB']}")
        (directory / "var/lib/mlflow").mkdir(parents=True)
        mlflow = [sys.executable, "-m", "mlflow", "server"]
        running.enter_context(stack.running("mlflow", mlflow, stack.url("mlflow:5000") + "/health"))
        config = next(v.split(":")[0] for v in services["gateway"]["volumes"] if ":/etc/canary-router:" in v)
        running.enter_context(
            stack.running(
                "gateway",
                [sys.executable, "-m", "router", "serve"],
                stack.url("gateway:8080") + "/livez",
                CANARY_ROUTER_CONFIG=f"{config}/router.yaml",
                CANARY_ROUTER_SERVER__LISTEN=f"127.0.0.1:{stack.ports['gateway:8080']}",
                CANARY_ROUTER_SERVER__ADMIN="127.0.0.1:0",
                **NO_BALANCER,
                XDG_CACHE_HOME=str(directory / "cache"),
            )
        )
        etc = directory / "etc/prometheus"
        etc.mkdir(parents=True)
        shipped = (DEPLOY / "compose" / "prometheus.yml").read_text()
        (etc / "prometheus.yml").write_text(stack.here(shipped))
        (etc / "rules").symlink_to(DEPLOY / "prometheus" / "rules")
        listen = f"--web.listen-address=127.0.0.1:{stack.ports['prometheus:9090']}"
        healthy = stack.url("prometheus:9090") + "/-/healthy"
        running.enter_context(stack.running("prometheus", ["prometheus", listen], healthy))
        yield stack


def traffic(stack: Stack, seconds: float) -> str:
    """What the traffic service says in so many seconds. On a busy machine versions may be overloaded."""
    done = subprocess.run(
        [sys.executable, "-m", "router", *stack.command("traffic"), "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        env=stack.environment("traffic"),
        cwd=stack.directory,
        timeout=240 * stack.slack,
    )
    story = done.stdout + done.stderr + (stack.directory / "gateway.log").read_text()
    overloaded = "requests come faster than this version answers" in done.stdout
    assert done.returncode == (1 if overloaded else 0), story
    answered = sum(int(count) for count in re.findall(r"@\w+ v\d+ (\d+)", done.stdout))
    assert answered > 5 * seconds, story
    return done.stdout


@pytest.mark.slow
def test_its_services_find_each_other_and_do_their_work(stack: Stack) -> None:
    reported = traffic(stack, 12)

    assert "trained and registered sentiment: v1" in reported
    for who in ("sentiment@production v1", "sentiment@canary v2", "churn_predictor@canary v2"):
        assert who in reported
    assert list((stack.directory / "var/lib/mlflow/artifacts").rglob("MLmodel"))
    prometheus = Prometheus(f"127.0.0.1:{stack.ports['prometheus:9090']}")
    wait_until(
        lambda: (
            {
                (one["metric"]["model"], one["metric"]["alias"])
                for one in prometheus.query("sum by (model, alias) (canary_router_requests_total) > 0")[
                    "data"
                ]["result"]
            }
            == {
                (model, alias)
                for model in ("sentiment", "churn_predictor")
                for alias in ("production", "canary")
            }
        ),
        20 * stack.slack,
        pause_seconds=0.2,
    )


@pytest.mark.slow
def test_its_traffic_registers_once(stack: Stack) -> None:
    """A restart of the service leaves versions and aliases as they are by then."""
    traffic(stack, 5)
    reported = traffic(stack, 5)

    assert "sentiment is registered" in reported
    assert "trained" not in reported
    answer = f"{stack.url('mlflow:5000')}/api/2.0/mlflow/registered-models/get?name=sentiment"
    with urllib.request.urlopen(answer, timeout=10) as response:
        model = json.load(response)["registered_model"]
    assert model["latest_versions"][0]["version"] == "2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "status"), [("mlflow:5000", 200), ("localhost:5001", 200), ("evil.example", 403)]
)
def test_its_mlflow_answers_to_the_names_it_has_here(stack: Stack, host: str, status: int) -> None:
    """A page in a browser of this machine must not read the registry through a name of its own."""
    url = f"{stack.url('mlflow:5000')}/api/2.0/mlflow/registered-models/search"
    request = urllib.request.Request(url, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = answer.status
    except urllib.error.HTTPError as refused:
        found = refused.code
    assert found == status


def test_promtool_accepts_its_prometheus(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    shutil.copy(DEPLOY / "compose" / "prometheus.yml", tmp_path)
    (tmp_path / "rules").symlink_to(DEPLOY / "prometheus" / "rules")
    checked = subprocess.run(
        ["promtool", "check", "config", "--lint-fatal", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
