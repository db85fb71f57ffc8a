"""The demo's directory is its own: it neither takes another's nor shares it."""

import socket
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from router.demo.probe import read_splits
from router.demo.workspace import DirectoryRefused, Workspace, free_ports, workspace


def test_a_directory_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("somebody's registry")

    with pytest.raises(DirectoryRefused, match="not empty"), workspace(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        workspace(tmp_path / "demo"),
        pytest.raises(DirectoryRefused, match="another demo"),
        workspace(tmp_path / "demo"),
    ):
        pass
    with workspace(tmp_path / "demo"):
        pass


def test_a_wanted_port_is_given_when_it_is_free_and_another_when_it_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        wanted = taken.getsockname()[1]
        (given,) = free_ports(wanted)
    assert given != wanted

    one, other = free_ports(0, 0)
    assert one != other
    assert free_ports(one) == [one]


def test_the_configuration_says_what_the_demo_counts_on(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "it's here: # 1")
    place.root.mkdir()
    place.write_config(8080, 8081)

    document = YAML(typ="safe").load(place.config_file)
    assert document["registry"]["uri"] == place.registry_uri
    assert document["server"] == {
        "listen": "127.0.0.1:8080",
        "admin": "127.0.0.1:8081",
        "state_dir": str(place.root / "state"),
    }
    assert document["models"]["churn_predictor"]["scores"]["output"] == 1
    assert read_splits(place.config_file) == {"sentiment": 5.0, "churn_predictor": 10.0}
    assert list(document["models"]) == ["sentiment", "churn_predictor"], (
        "the first one answers at /invocations"
    )
