"""Which variables a version gets, who says so, and where their values are not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.registry import Registry, built_registry_of
from tests.support.waiting import wait_until

KEY = {"GOOGLE_API_KEY": "hunter2-of-the-operator"}
LISTED = "  sentiment: {split: {production: 0, canary: 100}, environment_variables: [GOOGLE_API_KEY]}\n"
UNLISTED = "  sentiment: {split: {production: 0, canary: 100}, fallback: none}\n"
REMEDY = (
    "GOOGLE_API_KEY is withheld from versions, unless it is listed under `environment_variables` of their"
    " registered model"
)


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_registry_of(Path(__file__).with_name("build_keys.py"), tmp_path_factory)


@pytest.fixture(scope="module")
def unlisted(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway that tests share, which has the variable and withholds it from each canary."""
    return start_shared(UNLISTED, **KEY)


def test_a_version_gets_a_variable_that_its_model_lists_and_its_value_is_nowhere_else(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path
) -> None:
    registry.move("canary", 2)
    gateway = start(LISTED, **KEY)
    gateway.wait_bound(2, "canary")

    assert gateway.ask("user-1").json() == {"predictions": [float(len(KEY["GOOGLE_API_KEY"]))]}
    shown = [gateway.get(path).text for path in ("/v1/state", "/v1/compare", "/metrics", "/readyz?verbose")]
    secret = KEY["GOOGLE_API_KEY"]
    assert not any(secret in text for text in (*shown, gateway.log.read_text()))
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if secret.encode() in path.read_bytes()]
    checked = gateway.command("check", "sentiment", **KEY)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert secret not in checked.stdout + checked.stderr


def test_a_load_that_misses_a_withheld_variable_says_where_to_list_it(
    unlisted: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    shared_registry.move("canary", 2)
    wait_until(lambda: "2" in unlisted.model()["versions"], 30 * slack, unlisted.story)
    wait_until(lambda: unlisted.model()["versions"]["2"]["error"], 30 * slack, unlisted.story)

    assert REMEDY in unlisted.model()["versions"]["2"]["error"]
    (at_start,) = [line for line in unlisted.log.read_text().splitlines() if "lists them: " in line]
    assert "GOOGLE_API_KEY" in at_start
    assert KEY["GOOGLE_API_KEY"] not in unlisted.log.read_text()


def test_a_version_that_is_ready_without_a_variable_that_its_mlmodel_lists_says_so(
    unlisted: GatewayProcess, shared_registry: Registry
) -> None:
    shared_registry.move("canary", 3)
    unlisted.wait_bound(3, "canary")

    assert REMEDY in unlisted.model()["versions"]["3"]["note"]


def test_a_predict_that_misses_a_withheld_variable_is_logged_with_where_to_list_it(
    unlisted: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    shared_registry.move("canary", 4)
    unlisted.wait_bound(4, "canary")
    logged = len(unlisted.log.read_text())

    assert unlisted.model()["versions"]["4"]["note"] in ("", None)
    assert unlisted.ask("user-1").status_code == 500
    wait_until(lambda: REMEDY in unlisted.log.read_text()[logged:], 10 * slack, unlisted.story)


def test_check_says_where_to_list_a_variable_that_a_load_misses_and_one_that_an_mlmodel_lists(
    unlisted: GatewayProcess, shared_registry: Registry
) -> None:
    shared_registry.move("production", 3)
    shared_registry.move("canary", 2)

    checked = unlisted.command("check", "sentiment", **KEY)

    assert checked.returncode == 1
    production, canary = sorted(checked.stdout.split("sentiment@")[1:], reverse=True)
    assert (production.startswith("production"), REMEDY in production) == (True, True)
    assert (canary.startswith("canary"), REMEDY in canary) == (True, True)
    assert KEY["GOOGLE_API_KEY"] not in checked.stdout + checked.stderr
