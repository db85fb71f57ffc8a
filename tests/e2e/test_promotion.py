"""From registration to rollback with the command line, a gateway under load, and a real registry."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from router.promotion.records import PROMOTION_TAG, ROLLBACK_TAG
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.slowness import slack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of MLflow, about stages
TOKEN = "operators-only-0123456789"
MODELS = """\
  sentiment: {split: {production: 50, canary: 50}}
  shadowed: {aliases: {production: "stage:Production", canary: "stage:Staging"}}
"""


@pytest.fixture
def gateway(registry: Registry, start: Callable[..., GatewayProcess]) -> GatewayProcess:
    """Serves `sentiment` by aliases and `shadowed` by stages; it takes a token."""
    registry.client.transition_model_version_stage("shadowed", "1", "Production")
    return start(MODELS, CANARY_ROUTER_SERVER__ADMIN_TOKEN=TOKEN)


def run(gateway: GatewayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With the reason that is recorded, and the token."""
    asked = ("--url", gateway.admin, "--reason", "asked for by a test", "--by", "ann")
    return gateway.command(*arguments, *asked, CANARY_ROUTER_SERVER__ADMIN_TOKEN=TOKEN)


def register(registry: Registry, model: str, like: int) -> int:
    """A new version with the files of another one."""
    client = registry.client
    logged = client.get_model_version(model, str(like)).source.removeprefix("models:/")
    source = client.get_logged_model(logged).artifact_location
    return int(client.create_model_version(model, source=source).version)


def test_versions_are_registered_promoted_and_rolled_back_without_a_failed_request(
    gateway: GatewayProcess, registry: Registry, tmp_path: Path
) -> None:
    """By aliases and by stages, with one gateway that answers and, at the rollback, one that does not."""
    client = registry.client
    new = register(registry, "sentiment", like=2)
    staged = register(registry, "shadowed", like=2)
    client.set_registered_model_alias("sentiment", "canary", str(new))
    client.transition_model_version_stage("shadowed", str(staged), "Staging")
    gateway.wait_bound(new, "canary")
    gateway.wait_bound(staged, "canary", name="shadowed")

    undecided = run(gateway, "promote", "sentiment")
    with Load(gateway.url, rate=50) as load:  # what a move does under more is in test_hot_swap.py
        promoted = run(gateway, "promote", "sentiment", "--yes")
        bound = gateway.bound()
        wait_until(lambda: gateway.bound("canary") is None, 10 * slack(), gateway.story)
        again = run(gateway, "promote", "sentiment", "--yes")
        rolled_back = run(gateway, "rollback", "sentiment", "--url", "http://127.0.0.1:9")
        back = gateway.bound()
        already = run(gateway, "rollback", "sentiment")

    assert (undecided.returncode, "not enough data" in undecided.stderr) == (1, True), undecided
    assert promoted.returncode == 0, promoted
    assert f"@production names v{new}" in promoted.stdout
    assert f"{gateway.admin} serves v{new}" in promoted.stdout
    assert "warning" not in promoted.stdout, "it was asked to look at once"
    assert bound == new
    assert (again.returncode, "was promoted at" in again.stderr) == (1, True), again
    assert rolled_back.returncode == 0, rolled_back
    assert "warning: no gateway answers at http://127.0.0.1:9" in rolled_back.stdout
    assert back == 1
    assert (already.returncode, "names v1 already" in already.stderr) == (1, True), already
    assert load.failed == []
    assert {seen.version for seen in load.seen} == {1, new}

    assert run(gateway, "promote", "shadowed", "--yes").returncode == 0
    promoted_stages = stages(registry)
    assert gateway.bound(name="shadowed") == staged
    assert run(gateway, "rollback", "shadowed").returncode == 0
    assert gateway.bound(name="shadowed") == 1
    assert promoted_stages == {1: "Archived", 2: "None", 3: "None", staged: "Production"}
    assert stages(registry) == {1: "Production", 2: "None", 3: "None", staged: "Archived"}

    for model, version in (("sentiment", new), ("shadowed", staged)):
        tags = client.get_model_version(model, str(version)).tags
        assert {PROMOTION_TAG, ROLLBACK_TAG} <= tags.keys()
        assert TOKEN not in str(tags)
    assert not list(tmp_path.glob("mlruns")), "nothing but the registry is written"


@pytest.mark.slow
def test_a_canary_that_was_kept_is_capped_when_its_version_is_rolled_back(
    gateway: GatewayProcess, registry: Registry
) -> None:
    gateway.wait_bound(2, "canary")
    promoted = run(gateway, "promote", "sentiment", "--yes", "--keep-canary")
    bound = (gateway.bound(), gateway.bound("canary"))
    rolled_back = run(gateway, "rollback", "sentiment")

    assert (promoted.returncode, bound) == (0, (2, 2)), promoted
    assert rolled_back.returncode == 0, rolled_back
    (cap,) = gateway.model()["caps"]
    assert (cap["alias"], cap["version"], cap["to_percent"], cap["by"]) == ("canary", 2, 0, "ann")
    assert cap["reason"] == "rolled back: asked for by a test"
    answers = [gateway.ask(f"user-{number}") for number in range(50)]
    assert {answer.headers["X-Model-Version"] for answer in answers} == {"1"}
    assert "capped" in {answer.headers["X-Route-Reason"] for answer in answers}
    refused = run(gateway, "promote", "sentiment", "--yes")
    assert (refused.returncode, "it is capped to 0 % by ann" in refused.stderr) == (1, True), refused


def stages(registry: Registry) -> dict[int, str]:
    found = registry.client.search_model_versions("name='shadowed'")
    return {int(version.version): version.current_stage for version in found}
