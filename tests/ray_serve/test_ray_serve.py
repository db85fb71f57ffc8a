"""Versions as applications of a real Ray: what Serve makes of rendered files, and of what goes wrong."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from ruamel.yaml import YAML

from router.core.ids import VersionId
from router.protocol.messages import LoadSpec, Query, ScoringProtocol
from router.worker.load import load_version
from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.e2e.test_wherever_versions_run import BUILD
from tests.support.adapters import MODEL, RayServe, application_of
from tests.support.gateway import gateways
from tests.support.load import Load
from tests.support.ray_serve import PROGRAMS
from tests.support.registry import built_registry_of, copied
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TEST_RAY" not in os.environ, reason="there is no Ray; `make ray` installs one"),
]
PRODUCTION, CANARY, SLEEPER, OTHER = 2, 11, 6, 5
"""Answers 0.2; answers a text with `11` before it, and raises on `poison`; sleeps as the text says; 0.5."""
CANARY_TIMEOUT_SECONDS = 2.0
JSON = "application/json"


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServe]:
    """Production and canary on Ray, and a gateway before them."""
    directory = tmp_path_factory.mktemp("ray")
    registry = copied(built_registry_of(BUILD, tmp_path_factory), directory)
    ray = RayServe(registry, directory, "mlflow", predict_timeout_seconds=5)
    try:
        ray.serve(PRODUCTION, CANARY)
        registry.move("production", PRODUCTION)
        registry.move("canary", CANARY)
        with gateways(directory, registry.uri, POLL_SECONDS) as start:
            ray.gateway = start(
                f"  {MODEL}:\n    split: {{production: 50, canary: 50}}\n    where: {ray.where}\n"
                f"    canary_timeout_seconds: {CANARY_TIMEOUT_SECONDS}\n"
            )
            ray.gateway.wait_bound(PRODUCTION, "production")
            ray.gateway.wait_bound(CANARY, "canary")
            yield ray
    finally:
        ray.close()


READ_BY_RAY = """
import sys, yaml
from ray.serve.schema import ServeDeploySchema

for path in sys.argv[1:]:
    file = ServeDeploySchema.model_validate(yaml.safe_load(open(path)))
    print(*(one.name + one.route_prefix for one in file.applications))
"""


def read_by_ray(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / "python", "-c", READ_BY_RAY, *files], capture_output=True, text=True, check=False
    )


def test_rays_own_schema_takes_what_is_rendered(ray: RayServe, tmp_path: Path) -> None:
    rendered, twice = tmp_path / "rendered.yaml", tmp_path / "twice.yaml"
    rendered.write_text(ray.render(SLEEPER))
    content = YAML(typ="safe").load(rendered)
    YAML(typ="safe").dump({**content, "applications": content["applications"][:1] * 2}, twice)

    taken, refused = read_by_ray(rendered), read_by_ray(twice)

    assert taken.returncode == 0, taken.stderr
    names = map(application_of, (PRODUCTION, CANARY, SLEEPER))
    assert taken.stdout.split() == [f"{name}/{name}" for name in names]
    assert "Please remove all duplicates" in refused.stderr  # so that it is seen to look


@pytest.mark.parametrize("protocol", ["mlflow", "v2"])
def test_each_answer_is_that_of_a_worker(ray: RayServe, protocol: str) -> None:
    """Good ones and errors, by both protocols: status, body and media type."""
    spec = LoadSpec(VersionId(MODEL, CANARY), str(ray.files(CANARY)), None)
    scorer = load_version(spec).scorer
    if protocol == "mlflow":
        path, own = "/invocations", ScoringProtocol.MLFLOW
        bodies = [
            (ray.body("good"), JSON),
            (ray.body("poison"), JSON),
            (b"text\ngood\nbad\n", "text/csv"),
            (b'{"inputs": {"text": ["good"]}}', JSON),
            (b"{", JSON),
            (b'{"dataframe_split": {"columns": ["other"], "data": [["good"]]}}', JSON),
            (b"<a/>", "application/xml"),
        ]
    else:
        path, own = f"/v2/models/{MODEL}/infer", ScoringProtocol.V2
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["good", "bad"]}
        documents = [
            {"id": "1", "inputs": [tensor]},
            {"inputs": [{**tensor, "data": ["good", "poison"]}]},
            {"inputs": [{**tensor, "shape": [3]}]},
            {"inputs": [{**tensor, "name": "other"}]},
            {"inputs": [tensor], "outputs": [{"name": "nothing"}]},
            [],
        ]
        bodies = [(json.dumps(document).encode(), JSON) for document in documents]

    for body, content_type in bodies:
        found = requests.post(
            f"http://127.0.0.1:{ray.port}/{application_of(CANARY)}{path}",
            data=body,
            headers={"Content-Type": content_type},
            timeout=30,
        )
        expected = scorer.answer(Query(body, content_type, protocol=own))
        assert (found.status_code, found.content, found.headers["Content-Type"]) == (
            *(expected.status, expected.body, expected.content_type),
        )


def load_on(ray: RayServe) -> Load:
    return Load(ray.gateway.url, clients=8, rate=60, body=ray.body("good"), path=ray.path)


def test_a_version_more_or_less_in_the_file_touches_no_other(
    ray: RayServe, slack: float, figure: Figure
) -> None:
    before = {number: ray.cluster.replica_pids(application_of(number)) for number in (PRODUCTION, CANARY)}
    with load_on(ray) as load:
        wait_until(lambda: load.answered_by(CANARY) > 20, 20 * slack)
        ray.serve(OTHER)
        ray.kill(OTHER)
        answered = load.answered_by(CANARY)
        wait_until(lambda: load.answered_by(CANARY) > answered + 20, 20 * slack)

    figure(load.summary())
    assert load.failed == [], load.summary()
    assert before == {
        number: ray.cluster.replica_pids(application_of(number)) for number in (PRODUCTION, CANARY)
    }
    assert all(before.values())


def test_a_replica_that_is_killed_costs_no_answer(ray: RayServe, slack: float, figure: Figure) -> None:
    """Serve has requests wait for the next replica: a canary's for as long as canary_timeout_seconds."""
    [pid] = ray.cluster.replica_pids(application_of(CANARY))
    with load_on(ray) as load:
        wait_until(lambda: load.answered_by(CANARY) > 20, 20 * slack)
        os.kill(pid, 9)
        seconds = wait_until(
            lambda: ray.cluster.replica_pids(application_of(CANARY)) not in ([], [pid]), 120 * slack
        )

    assert ray.cluster.answers(f"/{application_of(CANARY)}/ping")
    waited = sorted(one.seconds for one in load.seen if one.seconds > 1.0)
    worst = max(one.seconds for one in load.seen)
    figure(
        f"{len(load.seen)} answers, all 200; {len(waited)} of them took more than 1 s, {worst:.1f} s at most,"
        f" with canary_timeout_seconds: {CANARY_TIMEOUT_SECONDS:g}; another replica after {seconds:.1f} s"
    )
    assert {one.status for one in load.seen} == {200}, load.summary()
    assert worst < CANARY_TIMEOUT_SECONDS + 2 * slack


def test_a_replica_whose_predict_hangs_is_replaced(ray: RayServe, slack: float, figure: Figure) -> None:
    """A thread can not be ended; so Serve is asked to end the process, as a gateway ends a worker."""
    ray.serve(SLEEPER)
    [pid] = ray.cluster.replica_pids(application_of(SLEEPER))
    address = f"http://127.0.0.1:{ray.port}/{application_of(SLEEPER)}"
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{address}/invocations", data=ray.body("1000"), headers={"Content-Type": JSON}, timeout=2
        )
    assert requests.get(f"{address}/ping", timeout=10).status_code == 200

    seconds = wait_until(
        lambda: ray.cluster.replica_pids(application_of(SLEEPER)) not in ([], [pid]),
        180 * slack,
        ray.cluster.story,
    )

    figure(f"another replica after {seconds:.0f} s, with predict_timeout_seconds: 5")
    ray.kill(SLEEPER)


def test_an_application_that_can_not_start_ends_no_other(ray: RayServe, slack: float) -> None:
    """And the same file does not have Serve try it again, as docs/kubernetes.md says."""
    content = YAML(typ="safe").load(ray.file)
    before = {number: ray.cluster.replica_pids(application_of(number)) for number in (PRODUCTION, CANARY)}
    name = application_of(OTHER)
    broken = YAML(typ="safe").load(ray.render(OTHER))
    broken["applications"][-1]["args"]["source"] = "file:///nowhere"
    ray.write(broken)

    def status() -> str:
        return str(ray.cluster.applications().get(name, {}).get("status"))

    ray.cluster.deploy(ray.file)
    wait_until(lambda: status() == "DEPLOY_FAILED", 180 * slack, ray.cluster.story)
    ray.cluster.deploy(ray.file)
    assert status() == "DEPLOY_FAILED"

    assert before == {
        number: ray.cluster.replica_pids(application_of(number)) for number in (PRODUCTION, CANARY)
    }
    ray.write(content)
    ray.cluster.deploy(ray.file)
    wait_until(lambda: status() == "None", 60 * slack, ray.cluster.story)
    ray.serve(OTHER)
