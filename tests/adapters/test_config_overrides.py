"""The environment and the command line over the file: flag, then environment, then file, then default."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from router.adapters.config.file import LoadedConfig, load_settings
from router.errors import ConfigRefused

FILE = "server:\n  listen: 10.0.0.1:1\n  drain_seconds: 10\nmodels:\n  sentiment: {}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "router.yaml"
    file.write_text(FILE)
    return file


def loaded(path: Path, environ: Mapping[str, str], **flags: str | None) -> LoadedConfig:
    return load_settings(path, environ, {name.replace("__", "."): text for name, text in flags.items()})


def problems(path: Path, environ: Mapping[str, str], **flags: str | None) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        loaded(path, environ, **flags)
    return refused.value.problems


def test_a_flag_stands_over_the_environment_over_the_file_over_the_default(path: Path) -> None:
    environ = {"CANARY_ROUTER_SERVER__LISTEN": "10.0.0.2:2", "CANARY_ROUTER_SERVER__ADMIN": "127.0.0.2:2"}
    server = loaded(path, environ, server__listen="10.0.0.3:3", server__observe=None).settings.server

    assert server.listen == ("10.0.0.3", 3)
    assert server.admin == ("127.0.0.2", 2)
    assert server.drain_seconds == 10
    assert server.observe == "traffic"


def test_a_value_of_the_file_that_is_hidden_is_named(path: Path) -> None:
    environ = {"CANARY_ROUTER_SERVER__LISTEN": "10.0.0.2:2", "CANARY_ROUTER_LOG__LEVEL": "debug"}

    assert loaded(path, environ).notices == (
        "router.yaml:2 server.listen: is hidden by CANARY_ROUTER_SERVER__LISTEN",
    )
    assert loaded(path, environ, server__listen="10.0.0.3:3").notices == (
        "CANARY_ROUTER_SERVER__LISTEN is hidden by the command line",
        "router.yaml:2 server.listen: is hidden by the command line",
    )
    assert loaded(path, {}).notices == ()


def test_a_variable_is_true_or_false_where_the_key_wants_that(path: Path) -> None:
    assert loaded(path, {"CANARY_ROUTER_SERVER__CORE_DUMPS": "true"}).settings.server.core_dumps
    assert not loaded(path, {"CANARY_ROUTER_SERVER__CORE_DUMPS": "false"}).settings.server.core_dumps
    with pytest.raises(ConfigRefused, match="must be true or false"):
        loaded(path, {"CANARY_ROUTER_SERVER__CORE_DUMPS": "yes, please"})


def test_a_variable_is_a_number_where_the_key_wants_one(path: Path) -> None:
    environ = {
        "CANARY_ROUTER_SERVER__BODY_LIMIT_MIB": "8",
        "CANARY_ROUTER_REGISTRY__POLL_SECONDS": "0.5",
        "CANARY_ROUTER_REGISTRY__CACHE_DIR": "2024",
        "CANARY_ROUTER_REGISTRY__URI": "null",
    }
    everything = loaded(path, environ).settings

    assert everything.server.body_limit_mib == 8
    assert everything.registry.poll_seconds == 0.5
    assert everything.registry.cache_dir == "2024"
    assert everything.registry.uri is None


def test_a_wrong_value_is_reported_by_the_variable_s_name_beside_the_file_s_problems(path: Path) -> None:
    path.write_text(FILE.replace("sentiment: {}", "sentiment: {wrkers: 1}"))
    environ = {
        "CANARY_ROUTER_REGISTRY__POLL_SECONDS": "often",
        "CANARY_ROUTER_REGISTRY__URI": "",
        "CANARY_ROUTER_SERVER__ADMIN": "8081",
    }
    assert problems(path, environ, server__listen="nowhere") == [
        'CANARY_ROUTER_REGISTRY__POLL_SECONDS registry.poll_seconds: must be a number, not the text "often"',
        "CANARY_ROUTER_REGISTRY__URI registry.uri: must not be empty",
        "CANARY_ROUTER_SERVER__ADMIN server.admin: must be host:port, such as 127.0.0.1:8081 or [::1]:8081",
        "the command line server.listen: must be host:port, such as 127.0.0.1:8081 or [::1]:8081",
        "router.yaml:5 models.sentiment.wrkers: unknown key, did you mean `workers`?",
    ]


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("CANARY_ROUTER_SERVER__LISEN", ": unknown variable, did you mean `CANARY_ROUTER_SERVER__LISTEN`?"),
        ("CANARY_ROUTER_SERVER_LISTEN", ": unknown variable, did you mean `CANARY_ROUTER_SERVER__LISTEN`?"),
        ("CANARY_ROUTER_SERVER__PORT", ": unknown variable"),
        ("CANARY_ROUTER_CONFIGG", ": unknown variable"),
        ("CANARY_ROUTER_MODELS__SENTIMENT__WORKERS", ": models are configured in the file only"),
    ],
)
def test_an_unknown_variable_is_an_error(path: Path, name: str, reported: str) -> None:
    (problem,) = problems(path, {name: "secret"})

    assert problem.startswith(name + reported)
    assert "secret" not in problem


def test_variables_of_others_are_left_alone(path: Path) -> None:
    """Kubernetes sets the second kind beside a Service of our name; refusing them would refuse to start."""
    environ = dict.fromkeys(
        (
            "CANARY_ROUTER_CONFIG",
            "CANARY_ROUTER_SERVICE_HOST",
            "CANARY_ROUTER_SERVICE_PORT",
            "CANARY_ROUTER_SERVICE_PORT_HTTP",
            "CANARY_ROUTER_PORT",
            "CANARY_ROUTER_PORT_8080_TCP",
            "CANARY_ROUTER_PORT_8080_TCP_ADDR",
            "CANARY_ROUTER_ADMIN_SERVICE_HOST",
            "CANARY_ROUTER_ADMIN_PORT_8081_TCP_PROTO",
            "MLFLOW_TRACKING_URI",
            "canary_router_server__listen",
        ),
        "tcp://10.0.0.1:8080",
    )
    assert loaded(path, environ).notices == ()


def test_a_section_that_is_no_mapping_is_reported_once(path: Path) -> None:
    path.write_text("server: 5\nmodels: {sentiment: {}}\n")

    assert problems(path, {"CANARY_ROUTER_SERVER__LISTEN": "0.0.0.0:1"}) == [
        "router.yaml:1 server: must be a mapping of keys, not 5"
    ]
