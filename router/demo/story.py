"""The demo itself: a registry, a gateway, traffic and a screen; and the steps that an operator takes."""

import asyncio
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from router.demo.dataset import Dataset
from router.demo.gateway_process import GatewayFailed, gateway, read_state, wait_until_ready
from router.demo.operator import Registry, commands_to_try, run_command
from router.demo.probe import EFFECT_SECONDS, Checker, Effect, Timeline, Watch
from router.demo.screen import DemoTotals, Screen, choose_screen, environment_lines
from router.demo.shutdown import Stop, Stopped, beside, stop_on_signals, unless
from router.demo.traffic import KEYS, MOST_PER_SECOND, Answer, Traffic
from router.demo.workspace import (
    ALIASES,
    TWO_MODELS,
    Scenario,
    Workspace,
    free_ports,
    seed,
    seeded,
    workspace,
)
from router.errors import RouterError

INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""
PORTS = (8080, 8081)
"""Of the gateway for traffic and for operators, where they are free and somebody is to type them."""
WIDER_PERCENT = 25.0
REFRESH_SECONDS = 0.5
EFFECT_LOOK_SECONDS = 0.05
LAST_LOOKS_SECONDS = 10.0
"""How long the last answers may wait to be judged after traffic has ended."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What answers must show of a step."""

    timeline: Timeline[Any]
    value: Any
    """What the timeline must show as its latest value."""
    answer: str
    """The one that proves it, in words."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing an operator does."""

    name: str
    at: float
    """When, as a part of the story's length."""
    act: Callable[[], Awaitable[str]]
    """Returns what its command prints."""
    sign: Sign | None = None
    """None for a command that changes nothing: what it prints is shown instead."""


def run(directory: Path, seconds: float | None, scenario: Scenario = TWO_MODELS) -> int:
    """Seed, serve, send and show, in `directory`; returns the exit code.

    With `seconds` every step of the story is taken in about that long, and the code is 0 only if every answer
    was right and every step took effect. Without, traffic flows until Ctrl-C.
    """
    try:
        with workspace(directory, scenario) as place:
            return asyncio.run(_run(place, seconds))
    except (Stopped, KeyboardInterrupt):
        print("stopped before it was through", file=sys.stderr)
        return INTERRUPTED
    except RouterError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1


async def _run(place: Workspace, seconds: float | None) -> int:
    stop = stop_on_signals()
    with choose_screen() as screen:
        datasets = await unless(stop, _datasets(place, screen.say))
        registry = Registry(place.registry_uri)
        place.forget_state()
        await _start_over(registry, datasets, screen.say)
        began = time.monotonic()
        ports = PORTS if seconds is None else (0, 0)
        async with serving(place, ports, stop) as (process, url):
            screen.say(
                f"gateway ready at {url} after {time.monotonic() - began:.1f} s; its log: {place.gateway_log}"
            )
            screen.say(f"the live page of this rollout: {url}/")
            totals = DemoTotals(starting_checker(place, datasets))
            watch = Watch(registry, place.config_file, totals.checker)
            async with _traffic(url, datasets, watch, totals, screen, process, stop):
                screen.say(f"traffic: {len(KEYS)} users, at most {MOST_PER_SECOND:g} requests per second")
                effects: Sequence[Effect] = ()
                if seconds is None:
                    _show_commands(place, url, screen)
                    await stop
                else:
                    story = steps(place, totals.checker)
                    effects = await unless(stop, _take(story, seconds, screen.say))
        screen.say()
        for line in totals.summary(effects):
            screen.say(line)
        for line in environment_lines(totals.environments):
            screen.say(line)
        return 1 if totals.problems(effects) else 0


@asynccontextmanager
async def serving(place: Workspace, ports: Sequence[int], stop: Stop) -> AsyncIterator[tuple[Process, str]]:
    """The gateway, ready while the block runs, and its URL: at `ports` where they are free.

    Another demo may take a port before the gateway does, which takes seconds to start: others are chosen
    then. Raises GatewayFailed.
    """
    while True:
        chosen = free_ports(*ports)
        place.write_config(*chosen)
        url = f"http://127.0.0.1:{chosen[0]}"
        async with gateway(place.config_file, place.gateway_log) as process:
            try:
                ready = wait_until_ready(process, place.gateway_log, url, place.scenario.ready_seconds)
                await unless(stop, ready)
            except GatewayFailed:
                if process.returncode is None or free_ports(*chosen) == chosen:
                    raise
                continue
            yield process, url
            return


async def _datasets(place: Workspace, say: Callable[[str], None]) -> Mapping[str, Dataset]:
    """What the registry holds; it is seeded first where it does not hold it yet."""
    if (found := seeded(place)) is not None:
        say(f"registry found: {place.registry_uri}")
        return found
    say(f"{place.scenario.beginning}: {place.registry_uri}")
    return await seed(place, say)


async def _start_over(
    registry: Registry, datasets: Mapping[str, Dataset], say: Callable[[str], None]
) -> None:
    """Point the aliases where every demo starts, wherever the last one left them."""
    for model in datasets:
        for alias, number in ALIASES.items():
            await registry.move(model, alias, number)
    starting = ", ".join(f"@{alias} → v{number}" for alias, number in ALIASES.items())
    say(f"{' and '.join(datasets)}: {starting}")


def starting_checker(place: Workspace, datasets: Mapping[str, Dataset]) -> Checker:
    """One that expects the split and the aliases with which every demo starts."""
    return Checker(
        datasets,
        splits={model: Timeline(float(place.scenario.starting_split[model])) for model in datasets},
        named={
            (model, alias): Timeline[int | None](number)
            for model in datasets
            for alias, number in ALIASES.items()
        },
    )


@asynccontextmanager
async def _traffic(
    url: str,
    datasets: Mapping[str, Dataset],
    watch: Watch,
    totals: DemoTotals,
    screen: Screen,
    process: Process,
    stop: Stop,
) -> AsyncIterator[None]:
    """Traffic flows while the block runs; when it is left, all that was sent is answered and judged."""

    def receive(answer: Answer) -> None:
        totals.count(answer)
        watch.receive(answer)

    traffic = Traffic(url, datasets, receive)
    flow, looking = beside(stop, traffic.flow()), beside(stop, watch.keep_looking())
    others = [beside(stop, _refresh(url, totals, screen)), beside(stop, _guard(process))]
    try:
        yield
        traffic.stop()
        await flow
        watch.finish()
        await asyncio.wait({looking}, timeout=LAST_LOOKS_SECONDS)
    finally:
        for task in (flow, looking, *others):
            task.cancel()
        await asyncio.gather(flow, looking, *others, return_exceptions=True)


async def _refresh(url: str, totals: DemoTotals, screen: Screen) -> None:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while True:
            totals.read(await read_state(session))
            screen.refresh(totals.view())
            await asyncio.sleep(REFRESH_SECONDS)


async def _guard(process: Process) -> None:
    """Without its gateway the demo has nothing to show."""
    raise GatewayFailed(f"the gateway ended with code {await process.wait()}")


def _show_commands(place: Workspace, url: str, screen: Screen) -> None:
    screen.say("\nTry, in another terminal, here:\n")
    for purpose, command in commands_to_try(place, url):
        screen.say(f"# {purpose}\n{command}\n")
    screen.say(f"Prometheus: deploy/prometheus.yml scrapes 127.0.0.1:8080; this gateway is at {url}.")
    screen.say("Ctrl-C ends everything.\n")


def steps(place: Workspace, checker: Checker) -> Sequence[Step]:
    """A rollout of the scenario's model: plan, share up, promotion, an incident and its rollback, and the
    record. Another model goes on beside it.
    """
    command, model = partial(run_command, place), place.scenario.model
    split, production = checker.splits[model], checker.named[model, "production"]
    narrow, wide = f"{place.scenario.starting_split[model]:g}", f"{WIDER_PERCENT:g}"
    return (
        Step(f"plan {wide} %", 0.1, partial(command, "plan", model, wide)),
        Step(
            f"split {narrow} → {wide}",
            0.2,
            partial(command, "split", model, wide),
            Sign(split, WIDER_PERCENT, "first new user at the canary"),
        ),
        Step(
            "promote, @production → v2",
            0.42,
            # A few seconds of traffic are not enough to judge a canary, and nobody is here to be asked.
            partial(command, "promote", model, "--reason", "the demo promotes it", "--by", "demo", "--yes"),
            Sign(production, 2, "first answer by v2"),
        ),
        Step(
            "rollback after an incident, @production → v1",
            0.65,
            partial(command, "rollback", model, "--reason", "an incident, in the demo", "--by", "demo"),
            Sign(production, 1, "first answer by v1"),
        ),
        Step("history", 0.85, partial(command, "history", model)),
        Step("journal verify", 0.9, partial(command, "journal", "verify")),
    )


async def _take(story: Sequence[Step], seconds: float, say: Callable[[str], None]) -> Sequence[Effect]:
    """Take every step at its time, wait for its effect, and go on to the end of the time."""
    began = time.monotonic()
    effects = []
    for step in story:
        await asyncio.sleep(began + step.at * seconds - time.monotonic())
        say(f"{time.monotonic() - began:5.1f} s  {step.name}")
        printed = await step.act()
        if step.sign is None:
            say(printed)
            continue
        effects.append(await _effect(step.name, step.sign, time.monotonic()))
        say(f"{time.monotonic() - began:5.1f} s    {effects[-1]}")
    await asyncio.sleep(began + seconds - time.monotonic())
    return effects


async def _effect(step: str, sign: Sign, done: float) -> Effect:
    while time.monotonic() < done + EFFECT_SECONDS:
        latest = sign.timeline.latest
        if latest.value == sign.value and latest.shown_at is not None:
            # The gateway may be quicker than the command's own exit.
            return Effect(step, sign.answer, max(0.0, latest.shown_at - done))
        await asyncio.sleep(EFFECT_LOOK_SECONDS)
    return Effect(step, sign.answer, None)
