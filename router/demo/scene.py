"""What the screen shows, gathered from the checker, the tally and the gateway's own state."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from router.demo.material import Material
from router.demo.probe import Checker
from router.demo.registry_seed import ALIASES
from router.demo.tally import Line, Tally
from router.demo.timeline import Timeline
from router.demo.workspace import STARTING_SPLIT


class Scene:
    """One demo's numbers; implements `screen.View`."""

    def __init__(self, materials: Mapping[str, Material]) -> None:
        self.materials = materials
        self.checker = Checker(
            materials,
            splits={model: Timeline(float(STARTING_SPLIT[model])) for model in materials},
            named={
                (model, alias): Timeline[int | None](n) for model in materials for alias, n in ALIASES.items()
            },
        )
        self.tally = Tally()
        self.state: Mapping[str, Any] = {}
        """The gateway's `/v1/state`, as last read."""
        self._began = time.monotonic()

    def headline(self) -> str:
        """How long, how many requests, how many of them wrong."""
        seconds = time.monotonic() - self._began
        return f"{seconds:.0f} s, {self.tally.requests} requests, {self.checker.wrong} wrong answers"

    def lines(self) -> Sequence[Line]:
        """Who answers."""
        since = {model: timeline.in_force_since for model, timeline in self.checker.splits.items()}
        return list(self.tally.lines(time.monotonic(), since))

    def asked_share(self, line: Line) -> float:
        """Percent that the configuration gives to a line's alias."""
        canary = self.checker.splits[line.model].latest.value
        return canary if line.alias == "canary" else 100 - canary

    def events(self) -> Iterable[Mapping[str, Any]]:
        """What the gateway reported, oldest first."""
        events: Iterable[Mapping[str, Any]] = self.state.get("events", ())
        return events
