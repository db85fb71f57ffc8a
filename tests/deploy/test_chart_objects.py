"""The chart's objects fit each other, and its rules and dashboard are those of deploy/."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.deploy import promtool
from tests.deploy.chart import (
    EVERYTHING,
    NAME,
    NAMESPACE,
    VALUES,
    Object,
    complaints,
    named,
    objects,
    objects_of_an_upgrade,
)
from tests.deploy.cluster import cluster_with
from tests.deploy.conftest import DEPLOY

SELECTOR = {"app.kubernetes.io/name": "canary-router", "app.kubernetes.io/instance": "fraud"}


def test_whatever_selects_pods_selects_these() -> None:
    found = objects({**EVERYTHING, "podLabels": {"team": "risk"}})
    template = named(found, "Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert labels == {**SELECTOR, "team": "risk"}
    selectors = [service["spec"]["selector"] for service in found if service["kind"] == "Service"]
    selectors += [
        named(found, kind)["spec"]["selector"]["matchLabels"]
        for kind in ("Deployment", "PodDisruptionBudget")
    ]
    selectors.append(named(found, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    selectors += [
        each["labelSelector"]["matchLabels"] for each in template["spec"]["topologySpreadConstraints"]
    ]

    assert len(selectors) == 8
    assert all(selector == SELECTOR for selector in selectors)
    target = named(found, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", NAME)


# What an upgrade finds in the cluster


@pytest.mark.parametrize("running", [1, 5, 0])
def test_turning_the_autoscaling_on_leaves_as_many_pods_as_run(running: int) -> None:
    """Without a number the API would make it one; 0 is an operator's, and the HPA leaves it alone, too."""
    deployment = named(objects({**VALUES, "replicas": 3}), "Deployment")
    deployment["spec"]["replicas"] = running
    with cluster_with([deployment]) as cluster:
        on = objects_of_an_upgrade(EVERYTHING, cluster)
        off = objects_of_an_upgrade({**VALUES, "replicas": 3}, cluster)

    assert named(on, "Deployment")["spec"]["replicas"] == running
    assert list(complaints([named(on, "Deployment")])) == []
    assert named(off, "Deployment")["spec"]["replicas"] == 3


def test_the_autoscaling_has_the_number_of_pods_where_no_deployment_is_found() -> None:
    """A tool that renders without the cluster would else undo at each sync what was scaled."""
    with cluster_with([]) as cluster:
        found = objects_of_an_upgrade(EVERYTHING, cluster)

    for each in (found, objects(EVERYTHING)):
        assert "replicas" not in named(each, "Deployment")["spec"]


def test_tokens_that_were_drawn_are_kept() -> None:
    drawn = named(objects(VALUES), "Secret", f"{NAME}-tokens")
    with cluster_with([drawn]) as cluster:
        kept = named(objects_of_an_upgrade(VALUES, cluster), "Secret", f"{NAME}-tokens")

    assert kept["data"] == drawn["data"]


@pytest.mark.parametrize(("observe", "component"), [("traffic", ""), ("admin", "-admin")])
def test_metrics_are_read_where_they_are_once_per_pod(observe: str, component: str) -> None:
    found = objects({**EVERYTHING, "server": {"observe": observe}})
    monitor = named(found, "ServiceMonitor")["spec"]
    services = [one for one in found if one["kind"] == "Service"]
    (service,) = [
        one
        for one in services
        if monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    (endpoint,) = monitor["endpoints"]

    assert service["metadata"]["name"] == f"{NAME}{component}"
    assert service["spec"]["ports"][0]["name"] == endpoint["port"]
    assert service["spec"]["ports"][0]["targetPort"] == observe
    assert endpoint["relabelings"][0]["replacement"] == f"{NAMESPACE}/{NAME}"


def test_the_route_leads_to_one_backend_without_a_weight() -> None:
    found = objects(EVERYTHING)
    (rule,) = named(found, "HTTPRoute")["spec"]["rules"]

    assert rule["backendRefs"] == [
        {"name": NAME, "port": named(found, "Service")["spec"]["ports"][0]["port"]}
    ]


def who_reaches(values: Object, port: str) -> list[Any]:
    """`from` of every rule for this port; `anybody` where there is none."""
    rules = named(objects(values), "NetworkPolicy")["spec"]["ingress"]
    reach: list[Any] = []
    for rule in rules:
        if rule["ports"] == [{"port": port, "protocol": "TCP"}]:
            reach += rule.get("from", ["anybody"])
    return reach


def test_the_admin_port_is_reached_by_peers_by_alertmanager_and_by_whom_the_values_name() -> None:
    alertmanager = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "alerts"}}}
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    bastion = {"podSelector": {"matchLabels": {"app": "bastion"}}}
    policy = {"alertmanagerNamespace": "alerts"}
    values = {**VALUES, "networkPolicy": policy, "admin": {"networkEncrypts": True, "from": [bastion]}}
    peers = {"podSelector": {"matchLabels": SELECTOR}}

    assert who_reaches(values, "admin") == [peers, alertmanager, bastion]
    assert who_reaches({**values, "server": {"observe": "admin"}}, "admin") == [
        monitoring,
        peers,
        alertmanager,
        bastion,
    ]
    assert "anybody" in who_reaches(values, "traffic")
    shop = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
    narrow = {**values, "networkPolicy": {"traffic": {"from": [shop]}}}
    assert who_reaches(narrow, "traffic") == [shop, monitoring]


# Rules and dashboard


def test_rules_and_dashboard_are_those_of_deploy() -> None:
    found = objects(
        {**EVERYTHING, "monitoring": {"enabled": True, "runbooks": "https://git.example/runbooks"}}
    )
    groups = named(found, "PrometheusRule")["spec"]["groups"]
    shown = named(found, "ConfigMap", f"{NAME}-dashboard")["data"]["canary-router.json"]

    assert shown == (DEPLOY / "grafana" / "dashboard.json").read_text()
    assert tuple(group["name"] for group in groups) == promtool.GROUPS
    files = "".join((promtool.RULES / f"{name}.yml").read_text() for name in ("recording", "alerts"))
    linked = files.replace("runbook_url: docs/runbooks/", "runbook_url: https://git.example/runbooks/")
    assert linked != files
    shipped = [group for part in linked.split("\ngroups:")[1:] for group in YAML(typ="safe").load(part)]
    assert groups == shipped


def test_promtool_accepts_the_rules_as_the_operator_hands_them_on(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"  # which is YAML, too
    file.write_text(json.dumps(named(objects(EVERYTHING), "PrometheusRule")["spec"]))
    checked = promtool.run("check", "rules", "--lint=all", "--lint-fatal", str(file))

    assert checked.returncode == 0, checked.stdout + checked.stderr
