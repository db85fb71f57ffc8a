"""The Helm chart in the hands of Helm's own engine, and its objects in those of Kubernetes' schemas.

Nothing here needs a cluster, or the program `helm`.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate import utils as kubernetes_schemas
from ruamel.yaml import YAML

from tests.deploy.conftest import DEPLOY

helm_python = pytest.importorskip("helm_python", reason="there is no Helm for this platform on PyPI")
CHART = DEPLOY / "helm" / "canary-router"
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
"""Of Kubernetes."""
RELEASE, NAMESPACE = "fraud", "ml"
NAME = "fraud-canary-router"
CONFIG = """\
# Two models; the first one is not the first of the alphabet.
registry: {uri: "http://mlflow:5000"}
models:
  sentiment: # also at /invocations
    split: {production: 95, canary: 5}
  fraud: {}
"""
VALUES: dict[str, Any] = {"config": CONFIG, "admin": {"networkEncrypts": True}}
"""The fewest with which it is installed."""
EVERYTHING: dict[str, Any] = {
    **VALUES,
    "autoscaling": {"enabled": True},
    "cache": {"persistent": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "monitoring": {"enabled": True},
    "dashboard": {"enabled": True},
}
"""Every object that there is."""
CUSTOM = ("HTTPRoute", "PrometheusRule", "ServiceMonitor")
"""Kinds that Kubernetes itself does not know; `schemas/` has what their makers published."""
PUBLISHED = Path(__file__).parent / "schemas"
Object = dict[str, Any]
Refused = (helm_python.HelmRenderError, helm_python.HelmValuesError)


@cache
def chart() -> Any:
    """As it lies there. It is read once."""
    return helm_python.Chart.load(CHART)


def rendered(values: dict[str, Any], of: Any = None) -> dict[str, str]:
    """What Helm makes of each template of a chart, by its path without the chart's name."""
    files = (of or chart()).render(values, name=RELEASE, namespace=NAMESPACE, is_install=True)
    return {path.removeprefix("canary-router/templates/"): text for path, text in files.items()}


def objects(values: dict[str, Any], of: Any = None) -> list[Object]:
    """The objects that Helm would send to a cluster."""
    return _parsed(rendered(values, of))


def objects_of_an_upgrade(values: dict[str, Any], cluster: Any) -> list[Object]:
    """The same where the release is there, and Helm finds in `cluster` (`cluster_with`) what it looks up."""
    return _parsed(cluster.render(chart(), values, name=RELEASE, namespace=NAMESPACE, is_upgrade=True))


def _parsed(files: dict[str, str]) -> list[Object]:
    yaml = YAML(typ="safe", pure=False)
    texts = (text for path, text in files.items() if path.endswith(".yaml"))
    return [found for text in texts for found in yaml.load_all(text) if found]


def named(found: list[Object], kind: str, name: str = NAME) -> Object:
    """The one of this kind and name."""
    (one,) = (each for each in found if each["kind"] == kind and each["metadata"]["name"] == name)
    return one


def pod_of(found: list[Object]) -> Object:
    """`spec` of the Deployment's pods."""
    (deployment,) = (each for each in found if each["kind"] == "Deployment")
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def container_of(found: list[Object]) -> Object:
    (container,) = pod_of(found)["containers"]
    return container


def router_yaml(found: list[Object]) -> str:
    """The gateway's configuration."""
    maps = (each["data"] for each in found if each["kind"] == "ConfigMap")
    (text,) = (data["router.yaml"] for data in maps if "router.yaml" in data)
    return str(text)


@cache
def _published(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((PUBLISHED / f"{kind.lower()}.json").read_text()))


# Each look at an object would read the schemas of all of Kubernetes again.
kubernetes_schemas.schema_contents = cache(kubernetes_schemas.schema_contents)


def complaints(found: list[Object]) -> Iterator[str]:
    """What each version of Kubernetes, and the custom resources' own schemas, have against these objects."""
    for one in found:
        if one["kind"] in CUSTOM:
            errors = _published(one["kind"]).iter_errors(one)
            yield from (f"{one['kind']}: {error.json_path}: {error.message}" for error in errors)
            continue
        for version in VERSIONS:
            try:
                assert kubernetes_validate.validate(one, version, strict=True) == version
            except kubernetes_validate.ValidationError as error:
                yield f"{version} {one['kind']}: {list(error.path)}: {error.message}"
