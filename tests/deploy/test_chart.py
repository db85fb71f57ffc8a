"""The Helm chart as Helm reads it, and the configuration that it writes as the gateway reads it."""

import base64
import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from router import __version__
from router.adapters.config.file import load_settings
from router.cli import root as commands
from router.cli.serve import check_config
from router.settings import Settings
from tests.deploy.chart import (
    CHART,
    CONFIG,
    EVERYTHING,
    NAME,
    NAMESPACE,
    VALUES,
    Object,
    chart,
    container_of,
    helm_python,
    named,
    objects,
    pod_of,
    rendered,
    router_yaml,
)
from tests.deploy.conftest import DEPLOY
from tests.deploy.test_image import only

WITH_TLS = {"config": CONFIG, "tls": {"secret": "public"}, "admin": {"tls": {"secret": "private"}}}


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))


# The chart


def test_helm_has_nothing_against_it() -> None:
    """But that it has no icon."""
    report = helm_python.chart.lint(CHART, EVERYTHING, strict=True)

    assert report["errors"] == []
    said = [message["error"] for message in report["messages"] if message["severity"] > 0]
    assert said in ([], ["icon is recommended"])


def test_it_is_of_this_release() -> None:
    metadata = YAML(typ="safe").load((CHART / "Chart.yaml").read_text())

    assert metadata["version"] == metadata["appVersion"] == __version__
    assert container_of(objects(VALUES))["image"] == f"canary-router:{__version__}"


def test_packaged_it_makes_the_same_objects(tmp_path: Path) -> None:
    """Rules and dashboard are links into deploy/ here, and files there."""
    with helm_python.Chart.load(CHART) as here:
        package = here.save(tmp_path)
    with helm_python.Chart.load(package) as packaged:
        assert without_tokens(objects(EVERYTHING, packaged)) == without_tokens(objects(EVERYTHING))


def without_tokens(found: list[Object]) -> list[Object]:
    """Those are drawn each time, where no cluster has the former ones."""
    return [one for one in found if one["kind"] != "Secret"]


def test_what_it_says_after_an_install_are_commands_that_exist() -> None:
    reported = rendered(VALUES)["NOTES.txt"]
    typed = [line.strip() for line in reported.splitlines() if line.startswith("   ")]

    assert len(typed) == 3
    for line in typed:
        assert line.startswith(f"kubectl --namespace {NAMESPACE} ")
        assert f"deployment/{NAME}" in line
    inside = [line.partition(" -- canary-router ")[2].split() for line in typed[1:]]
    assert inside == [["status"], ["compare", '"fraud"']]
    assert {words[0] for words in inside} <= set(commands.commands)


def test_commands_after_an_install_ask_by_the_name_that_the_certificate_has(tmp_path: Path) -> None:
    """Without it they would ask 127.0.0.1, which need not be in the certificate."""
    (peer,) = settings_of(WITH_TLS, tmp_path).fleet.addresses
    typed = [line for line in rendered(WITH_TLS)["NOTES.txt"].splitlines() if " -- canary-router " in line]

    assert len(typed) == 2
    for line in typed:
        name, *arguments = shlex.split(line.partition(" -- canary-router ")[2])
        context = commands.commands[name].make_context(name, arguments, parent=click.Context(commands))
        assert context.params["url"] == f"https://{peer.host}:{peer.port}"
    assert "--url" not in rendered(VALUES)["NOTES.txt"]


# The configuration


def test_the_gateway_starts_with_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the files of its Secret in their places; comments, lines and order are the operator's."""
    found = objects(VALUES)
    text = router_yaml(found)
    assert text.startswith(CONFIG)
    for name, value in named(found, "Secret", f"{NAME}-tokens")["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    file = tmp_path / "router.yaml"
    file.write_text(text.replace("/run/secrets/admin-tokens", str(tmp_path)))

    assert check_config(file, {}) == 0
    assert "ok; models: sentiment, fraud;" in capsys.readouterr().out


def settings_of(values: dict[str, Any], tmp_path: Path) -> Any:
    file = tmp_path / "router.yaml"
    file.write_text(router_yaml(objects(values)))
    return load_settings(file, {}, {}).settings


def test_each_pod_finds_its_peers_by_the_service_that_has_all_of_them(tmp_path: Path) -> None:
    found = objects(VALUES)
    service = named(found, "Service", f"{NAME}-peers")["spec"]
    (peer,) = settings_of(VALUES, tmp_path).fleet.addresses

    assert (peer.host, peer.port, peer.looked_up) == (f"{NAME}-peers.{NAMESPACE}.svc", 8081, True)
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert service["ports"] == [{"name": "admin", "port": 8081, "targetPort": "admin", "protocol": "TCP"}]


@pytest.mark.parametrize("values", [VALUES, {**VALUES, "bind": "[::]"}, WITH_TLS], ids=["4", "6", "tls"])
def test_ports_and_probes_are_those_of_the_listeners(values: dict[str, Any], tmp_path: Path) -> None:
    server = settings_of(values, tmp_path).server
    container = container_of(objects(values))

    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "traffic": server.listen[1],
        "admin": server.admin[1],
    }
    assert not server.admin_is_local
    for probe, path in (
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ):
        asked = container[probe]["httpGet"]
        assert (asked["path"], asked["port"]) == (path, "traffic")
        assert (asked["scheme"] == "HTTPS") is (server.tls is not None)


def test_files_that_the_configuration_names_are_mounted(tmp_path: Path) -> None:
    server = settings_of(WITH_TLS, tmp_path).server
    pod = pod_of(objects(WITH_TLS))
    secrets = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    places = {
        mount["mountPath"]: secrets[mount["name"]]["secretName"]
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] in secrets
    }
    for file, secret in (
        (server.admin_token_file, f"{NAME}-tokens"),
        (server.lower_token_file, f"{NAME}-tokens"),
        (server.tls.certificate_file, "public"),
        (server.tls.key_file, "public"),
        (server.admin_tls.certificate_file, "private"),
        (server.admin_tls.key_file, "private"),
    ):
        assert places[str(Path(file).parent)] == secret
    for secret in secrets.values():
        assert secret["defaultMode"] == 0o440, "readable for the group that the gateway runs in"


def test_tokens_are_drawn_unless_a_secret_of_the_operators_has_them() -> None:
    drawn = named(objects(VALUES), "Secret", f"{NAME}-tokens")["data"]
    tokens = {base64.b64decode(value) for value in drawn.values()}
    assert len(tokens) == 2
    assert {len(token) for token in tokens} == {48}

    theirs = objects({**VALUES, "admin": {"networkEncrypts": True, "tokenSecret": "theirs"}})
    assert not [one for one in theirs if one["kind"] == "Secret"]
    (volume,) = [volume for volume in pod_of(theirs)["volumes"] if volume["name"] == "admin-tokens"]
    assert volume["secret"]["secretName"] == "theirs"


FIXED = {**VALUES, "memory": {"limitMiB": 4096}}
"""Values with which the memory of a pod does not follow from the configuration."""
SIZING = {"workers", "load_memory_mib", "worker_memory_mib", "keep_previous_seconds", "unsent_answers_mib"}
"""Hot keys from which the memory of a pod is computed."""


def pods(values: Object) -> str:
    """What Kubernetes compares: with another text the pods are replaced."""
    template = rendered(values)["deployment.yaml"].partition("\n  template:\n")[2]
    assert "canary-router/cold-configuration" in template
    return template


def test_what_takes_a_restart_and_nothing_else_in_the_configuration_replaces_the_pods() -> None:
    """For every key that there is, as its mark in the schema says, where the values have the memory.

    Where it is computed, the keys that it is computed from replace them, too. Seconds of a drain do always.
    """
    schema = json.loads((DEPLOY.parent / "config" / "router.schema.json").read_text())["$defs"]
    replacing: set[str] = set()
    sizing: set[str] = set()

    def as_text(config: Object) -> str:
        return "".join(f"{name}: {json.dumps(value)}\n" for name, value in config.items())

    def look(name: str, config: Object, server: Object | None = None) -> None:
        before = {"config": as_text({"models": {"m": {}}})}
        after = {"config": as_text({"models": {"m": {}}, **config}), "server": server or {}}
        if pods({**FIXED, **after}) != pods({**FIXED, **before}):
            replacing.add(name)
        elif pods({**VALUES, **after}) != pods({**VALUES, **before}):
            sizing.add(name)

    numbers = {*SIZING, "cache_max_gib", "max_gib"}
    others = {"split": {"production": 100}, "environment": "own", "observe": "admin", "core_dumps": True}
    cold = set()
    for kind, section in (
        ("RegistrySettings", "registry"),
        ("LogSettings", "log"),
        ("EnvironmentsSettings", "environments"),
        ("ModelSettings", "models"),
    ):
        for key, part in schema[kind]["properties"].items():
            written = {key: others.get(key, 7 if key in numbers else "another")}
            look(f"{section}.{key}", {section: {"m": written} if section == "models" else written})
            if part["x-reload"] == "cold":
                cold.add(f"{section}.{key}")
    for key in chart().schema["properties"]["server"]["properties"]:
        look(f"server.{key}", {}, {key: others.get(key, 9)})
        if schema["ServerSettings"]["properties"][key]["x-reload"] == "cold":
            cold.add(f"server.{key}")
    look("notify", {"notify": [{"url": "https://example.com"}]})
    look("a model more", {"models": {"m": {}, "n": {}}})

    assert replacing == {*cold, "notify", "server.drain_seconds"}
    assert sizing == {
        *(f"models.{key}" for key in SIZING - {"unsent_answers_mib"}),
        "server.unsent_answers_mib",
        "a model more",
    }


@pytest.mark.parametrize(
    "split",
    [
        {"production": 90, "canary": 10},
        {"production": 100, "third": 0},
        {"third": 5, "production": 95},
        {"production": 100, "fourth": 0},
        {"production": 100, "previous": 0},
    ],
    ids=str,
)
def test_a_split_replaces_the_pods_where_it_has_a_further_role(split: Object) -> None:
    """That is a further alias, which a running gateway refuses; shares alone it follows."""

    def settled(written: Object) -> tuple[Any, str]:
        model = {"split": written, "load_memory_mib": 7}
        aliases = Settings.model_validate({"models": {"m": model}}).models["m"].aliases
        return aliases, pods({**FIXED, "config": f"models: {json.dumps({'m': model}, indent=1)}\n"})

    for before in ({"production": 95, "canary": 5}, {"production": 90, "third": 10}):
        (former, old), (later, new) = settled(before), settled(split)
        assert (new != old) is (later != former), before
