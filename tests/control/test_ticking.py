"""Loops that go on whatever happens in them."""

import asyncio

from router.control.periodic import PeriodicTask
from router.core.events import LoopRecovered, TickFailed
from tests.support.fakes import Facts
from tests.support.waiting import until


async def test_a_tick_that_raises_does_not_stop_its_loop() -> None:
    facts, ticks = Facts(), []

    async def tick() -> None:
        ticks.append(1)
        raise KeyError("x")

    loop = PeriodicTask("aliases", tick, lambda: 0.001, facts)
    loop.start()
    await until(lambda: len(ticks) >= 3)
    await loop.stop()

    assert facts.of(TickFailed)[0] == TickFailed("aliases", "KeyError: 'x'")


async def test_a_loop_that_works_again_says_so_once_and_reports_its_next_failure() -> None:
    facts, outcomes = Facts(), [False, False, True, True, False]

    async def tick() -> None:
        if outcomes and not outcomes.pop(0):
            raise KeyError("x")

    loop = PeriodicTask("aliases", tick, lambda: 0.001, facts)
    loop.start()
    await until(lambda: len(facts.of(LoopRecovered)) == 2)
    await loop.stop()

    failed, recovered = TickFailed("aliases", "KeyError: 'x'"), LoopRecovered("aliases")
    assert facts.events == [failed, failed, recovered, failed, recovered]


async def test_a_poke_ticks_at_once_and_the_period_is_read_anew_each_time() -> None:
    ticks: list[int] = []

    async def tick() -> None:
        ticks.append(1)

    loop = PeriodicTask("aliases", tick, lambda: 3600.0, Facts())
    loop.start()
    await until(lambda: len(ticks) == 1)
    loop.trigger()
    await until(lambda: len(ticks) == 2)
    await loop.stop()


async def test_who_asks_for_a_tick_waits_for_one_that_began_after_that() -> None:
    """The tick under way may have looked already."""
    begun, may_end = [0], [asyncio.Event(), asyncio.Event()]

    async def tick() -> None:
        begun[0] += 1
        await may_end[begun[0] - 1].wait()

    loop = PeriodicTask("aliases", tick, 3600.0, Facts())
    loop.start()
    await until(lambda: begun[0] == 1)
    asked = [asyncio.create_task(loop.tick_now()) for _ in range(2)]
    given_up = asyncio.create_task(loop.tick_now())
    await asyncio.sleep(0)
    given_up.cancel()
    may_end[0].set()
    await until(lambda: begun[0] == 2)
    assert not any(one.done() for one in asked)
    may_end[1].set()
    await asyncio.wait_for(asyncio.gather(*asked), 5)
    await loop.stop()

    assert begun[0] == 2, "both waited for the same one"


async def test_a_tick_that_was_asked_for_and_failed_has_ended_too() -> None:
    async def tick() -> None:
        raise KeyError("x")

    loop = PeriodicTask("aliases", tick, 3600.0, Facts())
    loop.start()
    await asyncio.wait_for(loop.tick_now(), 5)
    assert loop.error == "KeyError: 'x'"
    await loop.stop()


async def test_a_stopped_loop_cancels_the_tick_under_way() -> None:
    begun = asyncio.Event()

    async def tick() -> None:
        begun.set()
        await asyncio.Event().wait()

    loop = PeriodicTask("aliases", tick, lambda: 1.0, Facts())
    loop.start()
    await begun.wait()
    await asyncio.wait_for(loop.stop(), 2.0)


async def test_the_state_of_a_loop_says_how_long_ago_it_ticked_and_why_it_failed() -> None:
    facts = Facts()

    async def tick() -> None:
        raise OSError("cannot read /srv/models/router.yaml")

    loop = PeriodicTask("config", tick, 3600.0, facts)
    before = loop.describe()
    loop.start()
    await until(lambda: bool(facts.of(TickFailed)))
    await until(lambda: loop.last_tick is not None)
    after = loop.describe()
    await loop.stop()

    assert before == {"seconds_since_tick": None, "error": ""}
    assert 0.0 <= after["seconds_since_tick"] < 3600.0
    assert after["error"].startswith("OSError: cannot read")
    assert "/srv" not in after["error"]
