"""What `render --as ray` prints: applications that answer where the gateway looks, beside those that run.

By Serve's documentation of `ServeDeploySchema`; Ray's own schema reads it in tests/ray_serve.
"""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ray_config import VersionOnRay, add_to, new_file
from router.core.version_address import Engine, address_of
from router.core.version_manifests import NotRendered

BASE = "http://ray-serve.ray:8000"
V2_PATH = "/fraud-v{version}/v2/models/fraud/infer"
PINS = ("mlflow-canary-router==0.1.0", "mlflow==3.17.2", "scikit-learn==1.5.2")


def wanted(
    number: int = 7,
    engine: Engine = "v2",
    path: str | None = V2_PATH,
    *,
    base: str = BASE,
    model: str = "fraud",
    registry: str = "http://mlflow.mlflow:5000",
    source: str | None = None,
) -> VersionOnRay:
    address = address_of(base, engine, path, model, number)
    answers = {"max_rows": 100_000, "nan_is_null": False}
    return VersionOnRay(model, number, address, registry, source, PINS, answers, 30.0)


APPLICATION = {
    "name": "fraud-v7",
    "route_prefix": "/fraud-v7",
    "import_path": "router.ray_serve.application:application",
    "args": {
        "model": "fraud",
        "version": 7,
        "source": "models:/fraud/7",
        "max_rows": 100_000,
        "nan_is_null": False,
        "predict_timeout_seconds": 30.0,
    },
    "runtime_env": {
        "pip": list(PINS),
        "env_vars": {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": "http://mlflow.mlflow:5000",
        },
    },
    "deployments": [
        {
            "name": "Version",
            "num_replicas": 1,
            "max_ongoing_requests": 1000,
            "graceful_shutdown_timeout_s": 30.0,
            "ray_actor_options": {"num_cpus": 1},
        }
    ],
}


def rendered(*versions: VersionOnRay) -> dict[str, Any]:
    file = new_file(BASE)
    add_to(file, versions)
    return file


def test_a_version_is_an_application_of_its_own() -> None:
    file = rendered(wanted())

    assert file == {"http_options": {"host": "0.0.0.0", "port": 8000}, "applications": [APPLICATION]}


def test_its_files_come_from_elsewhere_where_that_is_said() -> None:
    [application] = rendered(wanted(source="s3://models/fraud/7", registry="sqlite:///a.db"))["applications"]

    assert application["args"]["source"] == "s3://models/fraud/7"
    assert "MLFLOW_TRACKING_URI" not in application["runtime_env"]["env_vars"]


@pytest.mark.parametrize(
    "source", ["models:/fraud/7", "runs:/1/model", "mlflow-artifacts:/1/model", "s3://a/7"]
)
def test_a_source_may_be_looked_up_in_the_registry(source: str) -> None:
    [application] = rendered(wanted(source=source))["applications"]

    assert application["runtime_env"]["env_vars"]["MLFLOW_TRACKING_URI"] == "http://mlflow.mlflow:5000"


@pytest.mark.parametrize(
    ("engine", "path", "prefix"),
    [
        ("v2", V2_PATH, "/fraud-v7"),
        ("v2", "/a/v{version}/v2/models/fraud/infer", "/a/v7"),
        ("mlflow", "/fraud-v{version}/invocations", "/fraud-v7"),
    ],
)
def test_it_answers_where_the_gateway_looks(engine: Engine, path: str, prefix: str) -> None:
    """Requests, readiness and metadata are all below the route prefix, by the protocol's own paths."""
    one = wanted(7, engine, path)

    [application] = rendered(one)["applications"]

    address = one.address
    assert application["route_prefix"] == prefix
    asked = {
        url.removeprefix(BASE + prefix) for url in (address.infer, address.ready, address.metadata) if url
    }
    assert asked == (
        {"/v2/models/fraud/infer", "/v2/models/fraud/ready", "/v2/models/fraud"}
        if engine == "v2"
        else {"/invocations", "/ping"}
    )


def test_a_cluster_for_each_version_has_no_prefix() -> None:
    """Then the address of the cluster tells versions apart."""
    [application] = rendered(wanted(path=None, base="http://fraud-v{version}.ray:8000"))["applications"]

    assert (application["name"], application["route_prefix"]) == ("fraud-v7", "/")


@given(st.lists(st.integers(1, 2**63 - 1), unique=True, max_size=5), st.sampled_from(["v2", "mlflow"]))
def test_versions_of_any_number_have_names_and_prefixes_of_their_own(
    numbers: list[int], engine: Engine
) -> None:
    path = V2_PATH if engine == "v2" else "/fraud-v{version}/invocations"

    found = rendered(*(wanted(number, engine, path) for number in numbers))["applications"]

    assert {(one["name"], one["route_prefix"]) for one in found} == {
        (f"fraud-v{number}", f"/fraud-v{number}") for number in numbers
    }


def test_what_the_file_has_stays_as_it_is() -> None:
    """Serve replaces the processes of an application whose entry changes, and ends one that has none."""
    deployed = rendered(wanted(6), wanted(7))
    deployed["applications"][0]["deployments"][0]["num_replicas"] = 3
    deployed["applications"].append({"name": "chat", "route_prefix": "/chat", "import_path": "chat:app"})
    deployed["http_options"]["port"] = 9000
    before = deepcopy(deployed)

    added = add_to(deployed, [wanted(7), wanted(8)])

    assert added.present == ["fraud-v7"]
    assert [one["name"] for one in added.new] == ["fraud-v8"]
    assert deployed["applications"][:-1] == before["applications"]
    assert deployed["applications"][-1]["name"] == "fraud-v8"
    assert deployed["http_options"] == before["http_options"]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (
            wanted(path="/v2/models/fraud-v{version}/infer"),
            "say where.path: /NAME-v{version}/v2/models/fraud/infer",
        ),
        (wanted(engine="mlflow", path="/fraud-v{version}"), "say where.path: /NAME-v{version}/invocations"),
        (wanted(path="/fraud%20v{version}/v2/models/fraud/infer"), "letters, digits, dots and dashes"),
        (wanted(path="/-/v{version}/v2/models/fraud/infer"), "letters, digits, dots and dashes"),
        (wanted(registry="sqlite:///mlflow.db"), "by --source"),
    ],
)
def test_what_would_answer_elsewhere_is_not_rendered(one: VersionOnRay, said: str) -> None:
    file = new_file(BASE)

    with pytest.raises(NotRendered) as why:
        add_to(file, [wanted(6), one])

    assert said in str(why.value)
    assert file["applications"] == []


def test_two_applications_never_have_one_prefix() -> None:
    """As with one address for all versions, or where somebody else's application is there."""
    with pytest.raises(NotRendered, match=r"another application \(fraud 6\) has the name"):
        rendered(wanted(6, path="/x/v2/models/fraud/infer"), wanted(7, path="/x/v2/models/fraud/infer"))


def test_a_version_is_there_only_where_model_and_number_are_its_own() -> None:
    """Else callers of one model would get answers of another."""
    deployed = rendered(wanted(7, "mlflow", "/v{version}/invocations", model="a"))

    with pytest.raises(NotRendered, match=r"another application \(a 7\) has the name v7"):
        add_to(deployed, [wanted(7, "mlflow", "/v{version}/invocations", model="b")])

    assert [one["args"]["model"] for one in deployed["applications"]] == ["a"]


def test_versions_with_a_cluster_each_do_not_share_a_file() -> None:
    base = "http://r-{version}.ray:8000"
    with pytest.raises(NotRendered, match=r"another application \(fraud 7\)"):
        rendered(*(wanted(one, "mlflow", "/x/invocations", base=base) for one in (7, 8)))


@pytest.mark.parametrize("file", [{}, None, "a", {"applications": None}, {"applications": ["fraud"]}])
def test_what_is_no_file_of_serve_is_refused(file: object) -> None:
    with pytest.raises(NotRendered, match="no configuration file of Ray Serve"):
        add_to(file, [wanted()])


@pytest.mark.parametrize(
    ("base", "port"), [("http://ray.example.com", 8000), ("http://ray:80", 8000), ("http://ray:9000", 9000)]
)
def test_serve_listens_where_the_address_says_unless_that_takes_root(base: str, port: int) -> None:
    assert new_file(base)["http_options"]["port"] == port
