"""An alias moves, and nobody notices but the dashboards."""

import os
import random
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.alias_moves import Moves
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
GOOD_VERSIONS = (1, 2, 5)
MODELS_SERVED = 2
"""By the gateway that tests share; each is polled by itself."""

MOVES = 20 if os.environ.get("FAULTS") else 8


@pytest.fixture(scope="module")
def gateway(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One of two models, which tests share that each move the aliases of one."""
    return start_shared(f"{MODELS}  shadowed: {{split: {{production: 50, canary: 50}}}}\n")


def memory(gateway: GatewayProcess) -> int:
    """Proportional bytes of the gateway and its children, downloads apart: shared pages count once."""
    total = 0
    for process in [psutil.Process(gateway.pid), *gateway.descendants()]:
        with suppress(psutil.NoSuchProcess):  # a download that ended meanwhile
            if process.name() != "router-fetch":
                total += process.memory_full_info().pss
    return total


def test_alias_moves_under_load_lose_no_request_and_answer_with_no_other_version(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """Each move is live within poll + load + 1 s; memory is flat afterwards."""
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    moves, dice, late, levels = Moves(), random.Random(5), [], []
    with Load(gateway.url) as load:
        for turn in range(MOVES):
            alias = ("production", "canary")[turn % 2]
            version = dice.choice([v for v in GOOD_VERSIONS if v != gateway.bound(alias)])
            moves.move(registry, alias, version)
            took = wait_until(lambda a=alias, v=version: gateway.bound(a) == v, 30 * slack, gateway.story)
            newest = gateway.loads()[-1]  # when the version was loaded for the other alias, it took no time
            load_seconds = sum(newest["seconds"].values()) if newest["version"] == version else 0.0
            late.append(took - POLL_SECONDS - load_seconds)
            wait_until(lambda: len(gateway.model()["versions"]) <= 2, 10 * slack, gateway.story)
            levels.append(memory(gateway))
    assert len(load.seen) > 50 * MOVES
    assert load.failed == []
    longest_load = max(sum(ready["seconds"].values()) for ready in gateway.loads())
    assert moves.wrong(load.seen, POLL_SECONDS + longest_load + 1.0 * slack) == []
    assert max(late) <= 1.0 * slack
    settled, last = sorted(levels[4:8])[2], sorted(levels[-4:])[1]
    figure(f"{load.summary()}; live at most {max(late):.2f} s after poll and load")
    figure(f"memory of everything {settled >> 20} MiB, after all moves {last >> 20} MiB")
    assert last <= settled * 1.05, f"memory grew from {settled >> 20} to {last >> 20} MiB"


def test_an_alias_that_moves_there_and_back_within_one_poll_reloads_nothing(
    gateway: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    gateway.wait_bound(2, "canary")

    def moves_seen() -> int:
        return sum(
            line["alias"] == "production" for line in gateway.lines("the registry names another version")
        )

    for _ in range(5):
        gateway.wait_bound(1)
        before, seen, counted = gateway.worker_pids(1), moves_seen(), gateway.from_now()
        shared_registry.move("production", 2)
        shared_registry.move("production", 1)
        wait_until(
            lambda c=counted: (
                c.metric("canary_router_registry_polls_total", result="success") >= 3 * MODELS_SERVED
            ),
            10 * slack,
        )
        if moves_seen() == seen:
            break  # else a poll came between the two moves, and was followed
    else:
        raise AssertionError("a poll came between two moves five times")

    assert gateway.worker_pids(1) == before


def test_two_versions_that_ship_one_module_name_each_answer_with_their_own(
    gateway: GatewayProcess, shared_registry: Registry, slack: float
) -> None:
    """In either order, and after swapping; and so does one that ships a module named `router`."""
    gateway.get("/v1/state")
    wait_until(lambda: gateway.bound("canary", "shadowed") == 2, 30 * slack)
    for production, canary in ((1, 2), (2, 1), (3, 1)):
        shared_registry.move("production", production, "shadowed")
        shared_registry.move("canary", canary, "shadowed")
        wait_until(
            lambda p=production, c=canary: (
                gateway.bound("production", "shadowed") == p and gateway.bound("canary", "shadowed") == c
            ),
            30 * slack,
            gateway.story,
        )
        answers = [gateway.ask(f"user-{n}", model="shadowed") for n in range(20)]
        reported = {(a.headers["X-Model-Alias"], a.json()["predictions"][0]) for a in answers}
        assert reported == {("production", production / 10), ("canary", canary / 10)}


def test_production_of_several_workers_moves_to_as_many(
    start: Callable[..., GatewayProcess], registry: Registry, slack: float, figure: Figure
) -> None:
    """To a version that served nobody before: at no look has production one worker."""
    gateway = start("  sentiment: {workers: 3, split: {production: 100}}\n")
    workers = []

    def of_production() -> int:
        model = gateway.model()
        bound = model["aliases"]["production"]["bound"]
        workers.append(len(model["versions"][str(bound)]["workers"]))
        return int(bound)

    wait_until(lambda: of_production() == 1 and workers[-1] == 3, 30 * slack, gateway.story)
    workers.clear()
    with Load(gateway.url) as load:
        registry.move("production", 5)
        took = wait_until(lambda: of_production() == 5, 60 * slack, gateway.story)
        wait_until(lambda: "1" not in gateway.model()["versions"], 30 * slack, gateway.story)
    figure(f"{load.summary()}; moved after {took:.2f} s, with three workers throughout {len(workers)} looks")
    assert load.failed == []
    assert set(workers) == {3}
