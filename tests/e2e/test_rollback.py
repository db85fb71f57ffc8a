"""Production moves to a bad version and back: the version that it left was kept, so nothing is loaded."""

from collections.abc import Callable

from click.testing import CliRunner

from router.cli import root
from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.alias_moves import Moves
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 100}, workers: 2, keep_previous_seconds: 3600}\n"


def test_production_that_goes_back_within_the_time_is_live_at_once_and_nothing_is_loaded(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    gateway = start(MODELS)
    wait_until(lambda: len(gateway.worker_pids(1)) == 2, 30 * slack, gateway.story)
    before, moves = gateway.worker_pids(1), Moves()
    with Load(gateway.url) as load:
        moves.move(registry, "production", 2)
        gateway.wait_bound(2)
        wait_until(lambda: gateway.model()["rollback"]["ready"] == 2, 10 * slack, gateway.story)
        state = gateway.model()
        assert (state["rollback"]["version"], state["rollback"]["reason"]) == (1, "")
        assert state["versions"]["1"]["kept_until"] > state["aliases"]["production"]["bound_timestamp"]
        assert gateway.metric("canary_router_rollback_ready", model="sentiment", version="1") == 2
        status = CliRunner().invoke(root, ["status", "--url", gateway.url])
        assert "sentiment: a rollback to v1 would serve at once, until" in status.output

        moves.move(registry, "production", 1)
        took = wait_until(lambda: gateway.bound() == 1, 30 * slack, gateway.story)
        assert gateway.worker_pids(1) == before
        wait_until(lambda: "2" not in gateway.model()["versions"], 30 * slack, gateway.story)
    assert load.failed == []
    # A look at the state costs some time, too.
    assert took <= POLL_SECONDS + 1.0 * slack
    assert (
        moves.wrong(load.seen, POLL_SECONDS + 1.0 * slack + sum(gateway.loads()[-1]["seconds"].values()))
        == []
    )
    assert [ready["version"] for ready in gateway.loads()] == [1, 2]
    figure(f"{load.summary()}; a rollback was live {took:.2f} s after the write")

    registry.move("production", 2)
    registry.move("previous", 1)
    gateway.wait_bound(2)
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("keep_previous_seconds: 3600", "keep_previous_seconds: 0"))
    wait_until(lambda: gateway.model()["rollback"]["ready"] == 1, 20 * slack, gateway.story)
    wait_until(lambda: "1" not in gateway.model()["versions"], 20 * slack, gateway.story)
    assert gateway.model()["rollback"] == {
        "name": "previous",
        "version": 1,
        "ready": 1,
        "reason": "it has to be loaded from the cache",
        "until": None,
    }
    assert gateway.lines("a rollback takes longer than it did") == []
    registry.move("previous", 2)  # as after a rollback to it: nothing to go back to
    wait_until(lambda: gateway.model()["rollback"]["version"] is None, 10 * slack, gateway.story)
    assert "canary_router_rollback_ready{" not in gateway.get("/metrics").text
