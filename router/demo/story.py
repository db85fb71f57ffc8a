"""The story the demo tells: share up, promotion, rollback, share down, each seen in real answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from router.demo.operator import Registry, set_split
from router.demo.probe import Checker
from router.demo.timeline import Timeline
from router.demo.workspace import STARTING_SPLIT, Workspace

MODEL = "sentiment"
WIDER_PERCENT = 25.0
EFFECT_SECONDS = 15.0
"""A step that no answer shows within this has failed. Expected are about two seconds."""
LOOK_SECONDS = 0.05

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing an operator does, and what answers must show of it."""

    told: str
    at: float
    """When, as a part of the story's length."""
    act: Callable[[], Awaitable[None]]
    timeline: Timeline[Any]
    value: Any
    """What the timeline must show as its latest value."""
    sign: str
    """The answer that proves it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What came of a step."""

    told: str
    sign: str
    seconds: float | None
    """From the end of the command to the first answer that shows it; None when none did."""

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.told}: NOT SEEN in any answer within {EFFECT_SECONDS:g} s"
        return f"{self.told}: {self.sign} {self.seconds:.1f} s after the command"


def steps(place: Workspace, registry: Registry, checker: Checker) -> Sequence[Step]:
    """The story about `sentiment`; `churn_predictor` goes on beside it, untouched."""
    split, production = checker.splits[MODEL], checker.named[MODEL, "production"]
    narrow = float(STARTING_SPLIT[MODEL])

    def share(percent: float) -> Callable[[], Awaitable[None]]:
        return lambda: set_split(place, MODEL, percent)

    def alias(version: int) -> Callable[[], Awaitable[None]]:
        return lambda: registry.move(MODEL, "production", version)

    up, down = f"split {narrow:g} → {WIDER_PERCENT:g}", f"split {WIDER_PERCENT:g} → {narrow:g}"
    return (
        Step(up, 0.12, share(WIDER_PERCENT), split, WIDER_PERCENT, "first new user at the canary"),
        Step("promotion, @production → v2", 0.38, alias(2), production, 2, "first answer by v2"),
        Step("rollback, @production → v1", 0.58, alias(1), production, 1, "first answer by v1"),
        Step(down, 0.74, share(narrow), split, narrow, "first user back at production"),
    )


async def tell(story: Sequence[Step], seconds: float, say: Say) -> list[Effect]:
    """Take every step at its time, wait for its effect, and go on to the end of the time."""
    began = time.monotonic()
    effects = []
    for step in story:
        await asyncio.sleep(began + step.at * seconds - time.monotonic())
        say(f"{time.monotonic() - began:5.1f} s  {step.told}")
        await step.act()
        effects.append(await _effect(step, time.monotonic()))
        say(f"{time.monotonic() - began:5.1f} s    {effects[-1]}")
    await asyncio.sleep(began + seconds - time.monotonic())
    return effects


async def _effect(step: Step, done: float) -> Effect:
    while time.monotonic() < done + EFFECT_SECONDS:
        latest = step.timeline.latest
        if latest.value == step.value and latest.shown_at is not None:
            # The gateway may be quicker than the command's own exit.
            return Effect(step.told, step.sign, max(0.0, latest.shown_at - done))
        await asyncio.sleep(LOOK_SECONDS)
    return Effect(step.told, step.sign, None)
