"""Whom the kernel ends first: production's workers after all others, the gateway after them."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.processes.forkserver import ForkServerSupervisor
from router.processes.memory import Rank, score, set_rank
from tests.support.waiting import until

on_one_loop = pytest.mark.asyncio(loop_scope="package")
"""That of the template which these tests share."""


def score_of(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@given(own=st.integers(-1000, 1000))
def test_whatever_the_gateways_own_score_production_goes_after_helpers_and_canaries_first(own: int) -> None:
    production, helper, first = (score(own, rank) for rank in (Rank.PRODUCTION, Rank.HELPER, Rank.FIRST))
    assert own <= production <= helper <= first <= 1000
    if own <= 990:  # a container of the lowest class has 1000 itself: nothing is above that
        assert own < production < helper < first


@given(own=st.integers(-1000, 0), limit=st.integers(64, 1 << 20), part=st.floats(0.0, 0.89))
def test_a_canary_of_no_size_goes_before_production_that_holds_most_of_the_memory(
    own: int, limit: int, part: float
) -> None:
    """As the kernel reckons: pages held, and thousandths of the limit."""
    production = part * limit + score(own, Rank.PRODUCTION) * limit / 1000
    assert score(own, Rank.FIRST) * limit / 1000 > production


@on_one_loop
async def test_a_worker_goes_first_until_production_answers_with_it_and_again_afterwards(load: Any) -> None:
    own = score_of("self")
    worker = await load("echo")

    assert score_of(worker.pid) == score(own, Rank.FIRST)
    worker.rank(last=True)
    assert score_of(worker.pid) == score(own, Rank.PRODUCTION)
    worker.rank(last=False)
    assert score_of(worker.pid) == score(own, Rank.FIRST)
    assert score_of("self") == own


@on_one_loop
async def test_the_fork_server_and_the_agent_are_helpers(template: ForkServerSupervisor) -> None:
    child = await template.launch("agent")
    try:
        assert template.pid is not None
        assert score_of(template.pid) == score_of(child.pid) == score(score_of("self"), Rank.HELPER)
    finally:
        child.kill()
        await child.stop(0.0)


@on_one_loop
async def test_what_a_version_started_is_ranked_with_it(slack: float) -> None:
    """A pool of processes that inherited the rank of a canary is production's afterwards."""
    read_end, write_end = os.pipe()
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", "sleep 60 & echo $!; wait"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)],
    )
    os.close(write_end)
    with os.fdopen(read_end) as printed:
        sleeper = int(printed.readline())
        try:
            await until(lambda: score_of(sleeper) == score_of(pid), 5 * slack)
            set_rank(pid, Rank.FIRST)
            set_rank(pid, Rank.PRODUCTION)
            assert score_of(sleeper) == score_of(pid) == score(score_of("self"), Rank.PRODUCTION)
        finally:
            os.kill(sleeper, 9)
            os.waitpid(pid, 0)


def test_a_process_that_is_gone_is_no_error() -> None:
    set_rank(2**22 - 1, Rank.FIRST)
