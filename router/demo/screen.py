"""What the demo shows: a live table on a terminal, plain lines without control codes anywhere else."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from router.demo.tally import Line

EVENTS_SHOWN = 6
EVENT_FACTS = (
    *("model", "alias", "aliases", "version", "old", "new", "in_force"),
    *("changes", "problems", "kind", "reason", "child", "phase", "error"),
)
"""Which fields of an event are shown, in this order."""
PLAIN_LINES_EVERY_SECONDS = 5.0
COLOURS = {"production": "blue", "canary": "dark_orange"}


class View(Protocol):
    """What there is to show at this moment."""

    def headline(self) -> str:
        """How long, how many requests, how many of them wrong."""

    def lines(self) -> Sequence[Line]:
        """Who answers."""

    def asked_share(self, line: Line) -> float:
        """Percent that the configuration gives to a line's alias."""

    def events(self) -> Iterable[Mapping[str, Any]]:
        """What the gateway reported, oldest first."""


class Screen(Protocol):
    """A place to say things; `refresh` is called twice a second."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def say(self, line: str = "") -> None:
        """One line that stays."""

    def refresh(self, view: View) -> None:
        """Show how things are now."""


class PlainScreen:
    """For pipes and logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was changed that must be put back."""

    def say(self, line: str = "") -> None:
        """One line that stays."""
        print(line, flush=True)

    def refresh(self, view: View) -> None:
        """A few lines every five seconds."""
        now = self._clock()
        if self._next is None:
            self._next = now + PLAIN_LINES_EVERY_SECONDS  # at the first look nothing was answered yet
        if now < self._next:
            return
        self._next = now + PLAIN_LINES_EVERY_SECONDS
        self.say(view.headline())
        for line in view.lines():
            self.say("  " + _told(line, view.asked_share(line)))


class LiveScreen:
    """For terminals: the table stays at the bottom, what is said scrolls above it."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back as it was."""
        self._live.stop()

    def say(self, line: str = "") -> None:
        """One line that stays; long ones are not broken, so that commands can be copied."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def refresh(self, view: View) -> None:
        """Draw the table anew."""
        self._live.update(picture(view), refresh=True)


def choose_screen() -> Screen:
    """A live one where somebody looks at a terminal that can draw."""
    return LiveScreen() if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" else PlainScreen()


def picture(view: View) -> RenderableType:
    """The live table, and under it the last events."""
    table = Table(title=view.headline(), title_justify="left", title_style="bold", expand=False)
    for heading in ("model", "alias", "version"):
        table.add_column(heading)
    for heading in ("requests", "share, 10 s", "configured", "p50", "p95", "mean score"):
        table.add_column(heading, justify="right")
    for line in view.lines():
        table.add_row(*_cells(line, view.asked_share(line)), style=COLOURS.get(line.alias, ""))
    events = list(view.events())[-EVENTS_SHOWN:]
    told = [Text(_event(event), overflow="ellipsis", no_wrap=True, style="dim") for event in events]
    return Group(table, *told)


def _told(line: Line, asked_share: float) -> str:
    return (
        f"{line.model} @{line.alias} v{line.version}: {line.requests} requests, "
        f"share {line.share:.1f} % (configured {asked_share:g} %), "
        f"p50 {line.p50_ms:.1f} ms, p95 {line.p95_ms:.1f} ms, mean score {line.mean_score:.3f}"
    )


def _cells(line: Line, asked_share: float) -> tuple[str, ...]:
    return (
        line.model,
        f"@{line.alias}",
        f"v{line.version}",
        f"{line.requests}",
        f"{line.share:.1f} %",
        f"{asked_share:g} %",
        f"{line.p50_ms:.1f} ms",
        f"{line.p95_ms:.1f} ms",
        f"{line.mean_score:.3f}",
    )


def _event(event: Mapping[str, Any]) -> str:
    """One event of `/v1/state` as a line: when, what, and the facts an operator looks for."""
    at = datetime.fromtimestamp(event["timestamp"]).strftime("%H:%M:%S") if "timestamp" in event else ""
    facts = [f"{name}={_fact(event[name])}" for name in EVENT_FACTS if event.get(name)]
    return " ".join([at, str(event.get("event", "")), *facts])


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{part:g}" for name, part in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
