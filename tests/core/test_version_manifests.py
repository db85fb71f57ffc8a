"""What `render` prints: objects that Kubernetes takes, which serve where the gateway looks."""

import os
import subprocess
from dataclasses import replace

import kubernetes_validate
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.version_address import Engine, address_of
from router.core.version_manifests import (
    Manifest,
    NotRendered,
    VersionToRun,
    manifests,
    without_credentials,
)

KUBERNETES = ("1.33", "1.37")


def wanted(
    base: str = "http://fraud-v{version}.models:8080",
    engine: Engine = "v2",
    path: str | None = None,
    *,
    number: int = 7,
    source: str | None = None,
    registry: str = "http://mlflow.mlflow:5000",
) -> VersionToRun:
    address = address_of(base, engine, path, "fraud", number)
    return VersionToRun("fraud", number, address, base, registry, "3.17.2", source)


def complaints(found: list[Manifest]) -> list[str]:
    said = []
    for one in found:
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                said.append(f"{version} {one['kind']}: {list(error.path)}: {error.message}")
    return said


@pytest.mark.parametrize("engine", ["v2", "mlflow"])
@pytest.mark.parametrize("source", [None, "s3://bucket/fraud/7"])
def test_a_deployment_and_its_service_are_taken_by_kubernetes(engine: Engine, source: str | None) -> None:
    found = manifests("deployment", wanted(engine=engine, source=source))

    assert [one["kind"] for one in found] == ["Deployment", "Service"]
    assert complaints(found) == []


@pytest.mark.parametrize(("engine", "ready"), [("v2", "/v2/models/fraud/ready"), ("mlflow", "/ping")])
def test_it_answers_where_the_gateway_looks(engine: Engine, ready: str) -> None:
    deployment, service = manifests("deployment", wanted(engine=engine))
    [container] = deployment["spec"]["template"]["spec"]["containers"]

    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("fraud-v7", "models")
    assert service["spec"]["ports"][0]["port"] == 8080
    assert container["readinessProbe"]["httpGet"]["path"] == ready
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


@given(st.integers(1, 2**63 - 1), st.integers(1, 65535), st.sampled_from(["v2", "mlflow"]))
def test_versions_of_any_number_have_objects_of_their_own(number: int, port: int, engine: Engine) -> None:
    base = f"http://fraud-v{{version}}.models:{port}"

    found = manifests("deployment", wanted(base, engine, number=number))

    assert {one["metadata"]["name"] for one in found} == {f"fraud-v{number}"}
    assert found[1]["spec"]["ports"][0]["port"] == port


INFERENCE_SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": "fraud-v7",
        "namespace": "models",
        "labels": {
            "app.kubernetes.io/name": "fraud-v7",
            "app.kubernetes.io/version": "7",
            "app.kubernetes.io/component": "model",
        },
        "annotations": {"canary-router/registered-model": "fraud"},
    },
    "spec": {
        "predictor": {
            "minReplicas": 1,
            "model": {
                "modelFormat": {"name": "mlflow"},
                "protocolVersion": "v2",
                "storageUri": "s3://bucket/fraud/7",
                "env": [{"name": "MLSERVER_MODEL_VERSIONS", "value": '["7"]'}],
            },
        }
    },
}
OF_KSERVE = """
import json, re, sys
from kserve import models
from kubernetes import client as kubernetes

PLAIN = {"str": str, "int": int, "bool": bool, "float": float}

def check(place, value, kind):
    if made_of := re.fullmatch(r"[Ll]ist\\[(.*)\\]|[Dd]ict[\\[(]str, (.*)[\\])]", kind):
        each = enumerate(value) if made_of[1] else value.items()
        for key, one in each:
            check(f"{place}.{key}", one, made_of[1] or made_of[2])
    elif kind in PLAIN:
        assert type(value) is PLAIN[kind], f"{place}: no {kind}"
    else:
        model = getattr(models, kind, None) or getattr(kubernetes, kind)
        names = {key: name for name, key in model.attribute_map.items()}
        for key, one in value.items():
            assert key in names, f"{place}: no {key}"
            check(f"{place}.{key}", one, model.openapi_types[names[key]])
        model(**{names[key]: one for key, one in value.items()})  # it refuses what lacks a required field

check("", json.load(sys.stdin), "V1beta1InferenceService")
"""
"""Fails where an object is none of KServe's schema, by the models that KServe generates from it."""
PREDICTOR, PATH = "http://fraud-v{version}-predictor.models", "/v2/models/fraud-v{version}/infer"


def test_an_inference_service_is_named_so_that_kserve_answers_there() -> None:
    """By KServe's documentation of v1beta1; `make kserve` holds it against its schema."""
    one = wanted(PREDICTOR, path=PATH, source="s3://bucket/fraud/7")

    assert manifests("inferenceservice", one) == [INFERENCE_SERVICE]


@pytest.mark.slow
@pytest.mark.skipif("TEST_KSERVE" not in os.environ, reason="`make kserve` installs KServe, and names it")
@pytest.mark.parametrize("image", [None, "registry.example.com/mlserver:1"])
def test_kserves_own_schema_has_every_field_of_an_inference_service(image: str | None) -> None:
    """By the models that KServe generates from its schema, required fields and names included."""
    one = replace(wanted(PREDICTOR, path=PATH, source="s3://bucket/fraud/7"), image=image)
    [found] = manifests("inferenceservice", one)

    def complaint(written: Manifest) -> str:
        command = [os.environ["TEST_KSERVE"], "-c", OF_KSERVE]
        done = subprocess.run(command, input=orjson.dumps(written), capture_output=True, timeout=120)
        return done.stderr.decode().strip().rpartition("\n")[2]

    model = found["spec"]["predictor"]["model"]
    assert complaint(found) == ""

    model["storageURI"] = model.pop("storageUri")
    assert complaint(found) == "AssertionError: .spec.predictor.model: no storageURI"
    model["storageUri"] = ["s3://bucket"] if model.pop("storageURI") else None
    assert complaint(found) == "AssertionError: .spec.predictor.model.storageUri: no str"
    del model["storageUri"], model["modelFormat"]
    assert "`model_format`" in complaint(found)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (wanted(source="s3://b/f"), "have where.http name NAME-v{version}-predictor.NAMESPACE"),
        (wanted(PREDICTOR, path=PATH), "by --source"),
        (wanted(PREDICTOR, "mlflow", source="s3://b/f"), "say where.protocol: v2"),
        (wanted(PREDICTOR, source="s3://b/f"), "say where.path: /v2/models/fraud-v{version}/infer"),
    ],
)
def test_what_kserve_would_answer_elsewhere_is_not_rendered(one: VersionToRun, said: str) -> None:
    with pytest.raises(NotRendered) as why:
        manifests("inferenceservice", one)

    assert said in str(why.value)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (wanted("http://10.0.0.{version}:80"), "first part of where.http"),
        (wanted("http://Fraud_v{version}.models"), "name a Service of the cluster"),
        (wanted("http://fraud-v{version}.example.com"), "name a Service of the cluster"),
        (wanted(registry="sqlite:///mlflow.db"), "no pod reaches this registry"),
    ],
)
def test_what_no_service_can_be_is_not_rendered(one: VersionToRun, said: str) -> None:
    with pytest.raises(NotRendered, match=said):
        manifests("deployment", one)


def test_credentials_of_the_registry_stay_out_of_git() -> None:
    assert without_credentials("https://me:pw@mlflow:5000/a") == "https://mlflow:5000/a"
    assert without_credentials("http://mlflow:5000") == "http://mlflow:5000"
