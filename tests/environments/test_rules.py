"""What every environment holds for the gateway's own part in it."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement

from router.core.version_environment import GATEWAYS_OWN
from router.environments.rules import BOUNDS, Rules, own_requirements
from tests.support.child_libraries import CHILD_LIBRARIES

ROOT = Path(__file__).resolve().parents[2]


def declared() -> dict[str, Requirement]:
    """The gateway's dependencies, as pyproject.toml has them."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {Requirement(line).name: Requirement(line) for line in lines}


def test_the_gateways_packages_are_those_that_are_installed_here() -> None:
    assert own_requirements() == tuple(f"{name}=={version(name)}" for name in GATEWAYS_OWN)


def test_every_library_that_runs_in_an_environment_is_replaced_or_bounded() -> None:
    """By the contract about what children import, and by what pyproject.toml allows."""
    of_mlflow = {"packaging", "pyarrow", "sqlalchemy", "yaml"}  # it requires these itself
    bounds = [Requirement(line) for line in BOUNDS]

    assert CHILD_LIBRARIES - of_mlflow <= {*GATEWAYS_OWN, *(one.name for one in bounds)}
    assert all(declared()[one.name] == one for one in bounds)


def test_rules_travel_in_an_order() -> None:
    rules = Rules(python=("/opt/python",), only_binary=False, extra=("plugin>=2",), own=("mlflow==3.17.2",))

    assert Rules.from_frame(msgspec.json.decode(msgspec.json.encode(rules))) == rules
    with pytest.raises(msgspec.ValidationError):
        Rules.from_frame({"python_mismatch": "guess"})
