"""Whatever values the chart's schema accepts, what comes out is valid, and what it refuses is named."""

import copy
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from router.adapters.config.file import load_settings
from tests.deploy.chart import (
    CHART,
    CONFIG,
    EVERYTHING,
    VALUES,
    Refused,
    chart,
    complaints,
    container_of,
    named,
    objects,
    pod_of,
    rendered,
    router_yaml,
)
from tests.deploy.chart_values import SCHEMA, values
from tests.support.examples import examples

CONFIG_SCHEMA = json.loads((CHART.parents[2] / "config" / "router.schema.json").read_text())["$defs"]
OF_THE_CHART = {
    "listen",
    "admin",
    "admin_token_file",
    "lower_token_file",
    "state_dir",
    "tls",
    "admin_tls",
}
"""Keys of `server` that follow from other values."""


# Shrinking would render for minutes; what failed is some keys, which are shown.
@settings(max_examples=examples(60), phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(values())
def test_whatever_values_are_given_every_object_is_valid_and_the_gateway_starts_with_its_configuration(
    given_values: dict[str, Any],
) -> None:
    """In each version of Kubernetes, down to unknown fields; volumes are there, names occur once."""
    found = objects(given_values)

    assert list(complaints(found)) == []
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))
    volumes = [volume["name"] for volume in pod_of(found)["volumes"]]
    mounted = [mount["name"] for mount in container_of(found)["volumeMounts"]]
    assert sorted(volumes) == sorted(mounted)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "router.yaml"
        file.write_text(router_yaml(found), encoding="utf-8")
        loaded = load_settings(file, {}, {})
    assert router_yaml(found).startswith(given_values["config"])
    grace = pod_of(found)["terminationGracePeriodSeconds"]
    assert grace >= given_values.get("preStopSeconds", 5) + loaded.settings.server.drain_seconds + 5


def test_the_default_values_are_those_that_the_schema_has_and_no_others() -> None:
    """A value without a default in values.yaml could not be found there."""
    assert set(chart().values) == set(SCHEMA["properties"])
    for name, part in SCHEMA["properties"].items():
        written = chart().values[name]
        if "properties" in part and name != "server":
            assert set(written) == set(part["properties"]), name


def test_keys_of_the_section_server_have_the_ranges_that_the_gateway_has() -> None:
    def ranges(part: dict[str, Any]) -> dict[str, Any]:
        words = ("type", "minimum", "maximum", "exclusiveMinimum", "enum")
        return {word: part[word] for word in words if word in part}

    of_the_gateway = CONFIG_SCHEMA["ServerSettings"]["properties"]
    assert set(of_the_gateway) - OF_THE_CHART == set(SCHEMA["properties"]["server"]["properties"])
    for key, part in SCHEMA["properties"]["server"]["properties"].items():
        assert part == ranges(of_the_gateway[key]), key
    exchange = CONFIG_SCHEMA["FleetSettings"]["properties"]["exchange_seconds"]
    assert SCHEMA["properties"]["exchangeSeconds"] == ranges(exchange)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"config": ""}, "config: is empty; it is the text of your router.yaml"),
        ({"config": "models: ["}, "config: is no YAML that Helm can read"),
        ({"config": "models: {}\n"}, "config: names no model"),
        ({"config": "models: {a: 3}\n"}, "config: what stands under `a` is no mapping of keys"),
        (
            {"config": CONFIG.replace("{uri:", "[").replace("}", "]", 1)},
            "config: what stands under `registry`",
        ),
        ({"config": CONFIG + "server: {drain_seconds: 5}\n"}, "config: has the section `server`"),
        ({"config": CONFIG + "fleet:\n"}, "config: has the section `fleet`"),
        ({"config": "{models: {a: {}}}"}, "config: nothing can be written below it"),
        ({"config": CONFIG + "...\n"}, "config: nothing can be written below it"),
        ({"admin": {"networkEncrypts": False}}, "admin: its listener is reached by other pods in plain HTTP"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 9}},
            "autoscaling: minReplicas is above maxReplicas",
        ),
        (
            {"tls": {"secret": "public"}, "httpRoute": EVERYTHING["httpRoute"]},
            "httpRoute: a Gateway asks the Service in plain HTTP, and tls.secret makes it expect TLS",
        ),
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"server": {"listen": "0.0.0.0:80"}}, "additional properties 'listen' not allowed"),
        ({"httpRoute": {"enabled": True}}, "minItems: got 0, want 1"),
        ({"podLabels": {"app.kubernetes.io/name": "mine"}}, "propertyName 'app.kubernetes.io/name'"),
        ({"secrets": {"admin-tokens": "mine"}}, "propertyName 'admin-tokens'"),
        ({"monitoring": {"runbooks": "docs\nevil: true"}}, "does not match pattern"),
    ],
    ids=lambda part: str(part)[:60],
)
def test_what_can_not_be_installed_is_refused_by_name(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=re.escape(sentence)):
        rendered({**VALUES, **wrong})


def test_a_field_that_kubernetes_does_not_know_would_be_noticed() -> None:
    """Else that no complaint comes would prove nothing."""
    found = objects(EVERYTHING)
    assert list(complaints(found)) == []
    for kind in sorted({one["kind"] for one in found}):
        broken = copy.deepcopy(next(one for one in found if one["kind"] == kind))
        broken["unheardOf"] = True
        said = list(complaints([broken]))
        assert said, kind
        assert all("unheardOf" in text for text in said), said
    policy = copy.deepcopy(named(found, "NetworkPolicy"))
    policy["spec"]["ingress"][0]["ports"][0]["prot"] = "TCP"
    assert len(list(complaints([policy]))) == 5
