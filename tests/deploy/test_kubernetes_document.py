"""`docs/kubernetes.md` shows commands and values that fit chart and command line; no cluster is asked."""

import re
import shlex
import tomllib
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from router.cli import root as commands
from tests.deploy.chart import NAME, NAMESPACE, RELEASE, Object, complaints, container_of, objects
from tests.deploy.chart_values import SCHEMA
from tests.deploy.test_chart import SIZING
from tests.support.document_blocks import ROOT, blocks, prose
from tests.support.document_session import file_name

DOCUMENT = ROOT / "docs" / "kubernetes.md"
TYPED = [line for block in blocks(DOCUMENT, "sh") for line in block.text.splitlines()]
SHOWN = {file_name(block): block.text for block in blocks(DOCUMENT, "yaml")}


@pytest.fixture(scope="module")
def found() -> list[Object]:
    """What is installed with the values and the configuration of the page."""
    values: dict[str, Any] = YAML(typ="safe").load(SHOWN["values.yaml"])
    return objects({**values, "config": SHOWN["router.yaml"]})


def test_what_is_installed_by_it_is_valid(found: list[Object]) -> None:
    assert list(complaints(found)) == []
    assert container_of(found)["image"] in " ".join(TYPED)


def test_commands_in_a_pod_are_those_of_the_command_line() -> None:
    """With their options and arguments, as the command line reads them."""
    inside = [line.partition(" -- canary-router ")[2] for line in TYPED if " -- canary-router " in line]
    inside += [line.removeprefix("canary-router ") for line in TYPED if line.startswith("canary-router ")]
    names = set()
    for line in inside:
        name, *arguments = shlex.split(line.partition(" > ")[0])
        command = commands.commands[name]
        command.make_context(name, arguments, parent=click.Context(commands))
        names.add(name)

    expected = {"status", "compare", "plan", "split", "promote", "rollback", "abort", "resume", "off"}
    assert names == expected | {"render", "check"}


def labels_of_pods(found: list[Object]) -> dict[str, str]:
    """Labels of the pods."""
    (deployment,) = (one for one in found if one["kind"] == "Deployment")
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return labels


def test_objects_that_are_named_are_made(found: list[Object]) -> None:
    made = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in found}
    typed = [line for line in TYPED if line.startswith("kubectl ")]
    named = {word for line in typed for word in line.split() if re.match(r"(deployment|service)/", word)}

    assert named == {f"deployment/{NAME}", f"service/{NAME}"} <= made
    assert all(f"--namespace {NAMESPACE} " in line for line in typed)
    selected = {word for line in typed for word in line.split() if word.startswith("app.kubernetes.io/")}
    labels = labels_of_pods(found)
    assert selected
    assert all(labels[key] == value for key, value in (word.split("=") for word in selected))
    hosts = set(re.findall(rf"{RELEASE}[a-z-]*(?=\.{NAMESPACE}\.svc)", DOCUMENT.read_text()))
    assert {f"service/{host}" for host in hosts} <= made
    assert len(hosts) == 3


def test_values_that_are_named_exist() -> None:
    def keys(part: Object, before: str = "") -> set[str]:
        inside = {f"{before}{key}": value for key, value in part.get("properties", {}).items()}
        return {*inside}.union(*(keys(value, f"{key}.") for key, value in inside.items()))

    known = keys(SCHEMA)
    text = DOCUMENT.read_text()
    given = re.findall(r"--set(?:-file)? ([\w.]+)=", text)
    assert {"config", "admin.tokenSecret"} == set(given) <= known
    sections = "|".join(name for name, part in SCHEMA["properties"].items() if part.get("properties"))
    dotted = set(re.findall(rf"`((?:{sections})\.[\w.]+)`", prose(DOCUMENT)))
    assert len(dotted) >= 8
    assert dotted - known == set()


def test_the_table_of_changes_names_the_hot_keys_for_which_pods_are_replaced_all_the_same() -> None:
    """And the value by which they are not."""
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| a model more")]
    named = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", row)}

    assert named == {*SIZING, "limitMiB"}


def test_what_holds_by_default_is_said_as_it_is(found: list[Object]) -> None:
    """Of the numbers in the text, those that the chart has."""
    text = DOCUMENT.read_text()
    defaults = YAML(typ="safe").load((ROOT / "deploy/helm/canary-router/values.yaml").read_text())

    assert f"`preStopSeconds` ({defaults['preStopSeconds']})" in text
    assert "terminationGracePeriodSeconds` is pause, drain and 10 s" in text
    assert "up to 24 GiB with the defaults" in text
    sentence = " ".join(text.split())
    assert "adds half of what is there every two minutes" in sentence
    assert defaults["autoscaling"]["scaleDownSeconds"] == 600
    assert "waits ten minutes before it takes a pod away" in sentence


def test_the_bounds_that_a_version_on_ray_has_beside_it_are_those_of_the_package() -> None:
    """Of packages that versions are likely to pin."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = dict(line.split(">=", 1) for line in dependencies if ">=" in line)
    (line,) = [one for one in DOCUMENT.read_text().splitlines() if one.startswith("- **What is installed**")]

    for name in ("numpy", "pandas", "scikit-learn", "scipy", "pyarrow", "pydantic", "aiohttp"):
        assert f"{name} {bounds[name]}" in line
