"""The configurations that come with the project: complete, valid, and saying what the defaults are."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from router.adapters.config.file import load_settings
from router.settings import ModelSettings, ReceiverSettings, Settings
from router.settings.checks import CheckSettings, FaultLimits, LatencyLimits
from router.settings.mappings import WrittenKey
from router.settings.scores import WrittenScores

CONFIG = Path(__file__).parents[2] / "config"
FILES = sorted(CONFIG.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_committed_configuration_is_valid_for_the_gateway_and_for_editors(path: Path) -> None:
    schema = json.loads((CONFIG / "router.schema.json").read_text())

    assert load_settings(path, {}, {}).settings.models
    jsonschema.Draft202012Validator(schema).validate(YAML(typ="safe", pure=True).load(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_committed_configuration_shows_editors_where_its_schema_is(path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)

    assert named
    assert (path.parent / named[1]).resolve() == CONFIG / "router.schema.json"


CHECKS = (CheckSettings, FaultLimits, LatencyLimits)


def test_router_yaml_says_the_defaults() -> None:
    """Whoever deletes a line from it changes nothing."""
    written = load_settings(CONFIG / "router.yaml", {}, {}).settings
    defaults = Settings.model_validate({"models": {"sentiment": None, "churn_predictor": None}})

    assert written.server == defaults.server
    assert written.registry == defaults.registry
    assert written.log == defaults.log
    assert written.fleet == defaults.fleet
    assert written.notify == defaults.notify
    assert written.models["sentiment"] == defaults.models["sentiment"]


def test_router_yaml_holds_every_key() -> None:
    text = (CONFIG / "router.yaml").read_text()
    sections = {
        name: Settings.model_fields[name].annotation for name in ("server", "registry", "log", "fleet")
    }
    keys = [*sections, "notify", "models"]
    for model in (*sections.values(), ReceiverSettings, ModelSettings, WrittenKey, WrittenScores, *CHECKS):
        keys += [field.alias or name for name, field in model.model_fields.items()]

    assert [key for key in keys if not re.search(rf"\b{key}\b:", text)] == []
