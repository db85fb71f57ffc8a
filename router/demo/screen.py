"""What is printed: a live table on a terminal, plain lines anywhere else, and the totals at the end."""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, quantiles
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from router.demo.probe import PROBLEMS_KEPT, STAND_INS, Checker, Effect
from router.demo.traffic import Answer

EVENTS_SHOWN = 6
EVENT_FACTS = (
    *("model", "alias", "aliases", "version", "old", "new", "in_force"),
    *("changes", "problems", "kind", "reason", "child", "phase", "error"),
)
"""Which fields of an event are shown, in this order."""
PLAIN_LINES_EVERY_SECONDS = 5.0
COLOURS = {"production": "blue", "canary": "dark_orange"}
LATELY_SECONDS = 10.0
SCORE_OUTPUT = {"sentiment": 0, "churn_predictor": 1}
"""Which number of a prediction is the score, as the demo's router.yaml has it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One alias of one registered model with one version that answered lately."""

    model: str
    alias: str
    version: int
    requests: int
    """In all."""
    share: float
    """Percent of this model's requests that were given to this alias lately, at the split now in force."""
    configured: float
    """Percent that the configuration gives to this alias."""
    p50_ms: float
    p95_ms: float
    mean_score: float


@dataclass(frozen=True, slots=True)
class View:
    """What there is to show at one moment."""

    headline: str
    """How long, how many requests, how many of them answered wrongly, and how many refused."""
    lines: Sequence[Line]
    """Who answers."""
    events: Sequence[Mapping[str, Any]]
    """What the gateway reported, oldest first."""


class DemoTotals:
    """Totals since the start, the answers of the last ten seconds, and what the checker found in them."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.requests = 0
        self.by_version: Counter[tuple[str, str, int]] = Counter()
        """Good answers by registered model, alias that answered and version."""
        self.state: Mapping[str, Any] = {}
        """The gateway's `/v1/state`, as last read."""
        self.environments: dict[tuple[str, str], Mapping[str, Any]] = {}
        """Python environments of versions that had their own, by registered model and number."""
        self._lately: deque[Answer] = deque()
        self._began = time.monotonic()

    def read(self, state: Mapping[str, Any]) -> None:
        """Take `/v1/state` as it is now."""
        self.state = state
        for model, about in state.get("models", {}).items():
            for number, version in about["versions"].items():
                if (own := version.get("environment")) is not None:
                    self.environments[model, number] = own

    def count(self, answer: Answer) -> None:
        """Count one answer."""
        self.requests += 1
        if answer.status == 200 and answer.version is not None:
            self.by_version[answer.model, answer.alias, answer.version] += 1
            self._lately.append(answer)

    def view(self) -> View:
        """How things are now."""
        now = time.monotonic()
        headline = f"{now - self._began:.0f} s, {self.requests} requests, {_wrong_and_refused(self.checker)}"
        return View(headline, list(self.lines(now)), self.state.get("events", ()))

    def lines(self, now: float) -> Iterator[Line]:
        """What answered lately: sentiment before churn, production before canary, newer versions first."""
        while self._lately and self._lately[0].received < now - LATELY_SECONDS:
            self._lately.popleft()
        splits = self.checker.splits
        settled = [one for one in self._lately if one.sent >= splits[one.model].in_force_since]
        given = Counter((one.model, one.route_alias) for one in settled)
        asked = Counter(one.model for one in settled)
        for model, alias, version in sorted(self.by_version, reverse=True):
            own = [a for a in self._lately if (a.model, a.alias, a.version) == (model, alias, version)]
            if not own:
                continue
            canary = splits[model].latest.value
            milliseconds = [(one.received - one.sent) * 1000 for one in own]
            yield Line(
                model,
                alias,
                version,
                self.by_version[model, alias, version],
                share=100 * given[model, alias] / max(1, asked[model]),
                configured=canary if alias == "canary" else 100 - canary,
                p50_ms=_quantile(milliseconds, 50),
                p95_ms=_quantile(milliseconds, 95),
                mean_score=fmean(_score(one) for one in own),
            )

    def problems(self, effects: Sequence[Effect]) -> list[str]:
        """Everything that was not as promised; empty means exit code 0."""
        checker, found = self.checker, list(self.checker.problems)
        if checker.wrong > PROBLEMS_KEPT:
            found.append(f"… and {checker.wrong - PROBLEMS_KEPT} more wrong answers")
        if checker.judged + checker.refused < self.requests:
            found.append(f"{checker.judged} of {self.requests - checker.refused} answers were judged")
        elif not checker.judged:
            found.append("no request was answered")
        found += [f"{key} lost the canary although its share was wider" for key in checker.keys_that_left()]
        found += [str(effect) for effect in effects if effect.seconds is None]
        return found

    def summary(self, effects: Sequence[Effect]) -> Iterator[str]:
        """Plain lines: how much, by whom, how soon, and what was wrong."""
        checker = self.checker
        judged = f"{checker.judged} answers judged, each prediction by the offline one"
        yield f"{judged}: {_wrong_and_refused(checker)}"
        for (model, alias, version), count in sorted(self.by_version.items(), reverse=True):
            yield f"  {model} @{alias} v{version}: {count} answers"
        for effect in effects:
            yield f"  {effect}"
        for model, percent in checker.splits_seen():
            aliases = checker.keys_seen(model, percent)
            canary = sum(alias == "canary" for alias in aliases.values())
            yield f"  {model} at {percent:g} %: {canary} of {len(aliases)} users at the canary, each always"
        for reason, count in sorted(checker.reasons.items()):
            if reason in {*STAND_INS, "fallback"}:
                yield f"  production answered {count} times for the canary: {reason}"
        if checker.refused:
            refused = f"{checker.refused} of {self.requests} requests"
            yield f"  refused, as more than can be answered in time: {refused}"
        found = self.problems(effects)
        for problem in found:
            yield f"  WRONG: {problem}"
        yield "everything was right" if not found else f"{len(found)} things were not right"


class Screen:
    """Where the demo prints, in plain lines for pipes and logs; `refresh` is called twice a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

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
        self.say(view.headline)
        for line in view.lines:
            self.say(
                f"  {line.model} @{line.alias} v{line.version}: {line.requests} requests, "
                f"share {line.share:.1f} % (configured {line.configured:g} %), "
                f"p50 {line.p50_ms:.1f} ms, p95 {line.p95_ms:.1f} ms, mean score {line.mean_score:.3f}"
            )


class LiveScreen(Screen):
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
    """A live one on a terminal that can draw."""
    return LiveScreen() if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" else Screen()


def picture(view: View) -> RenderableType:
    """The live table, and the last events below it."""
    table = Table(title=view.headline, title_justify="left", title_style="bold", expand=False)
    for heading in ("model", "alias", "version"):
        table.add_column(heading)
    for heading in ("requests", "share, 10 s", "configured", "p50", "p95", "mean score"):
        table.add_column(heading, justify="right")
    for line in view.lines:
        who = (line.model, f"@{line.alias}", f"v{line.version}", f"{line.requests}")
        shares = (f"{line.share:.1f} %", f"{line.configured:g} %")
        times = (f"{line.p50_ms:.1f} ms", f"{line.p95_ms:.1f} ms")
        table.add_row(*who, *shares, *times, f"{line.mean_score:.3f}", style=COLOURS.get(line.alias, ""))
    events = map(_event, view.events[-EVENTS_SHOWN:])
    return Group(table, *(Text(one, overflow="ellipsis", no_wrap=True, style="dim") for one in events))


def environment_lines(environments: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[str]:
    """In what each version ran: how large it is, how long it took to build, and what differs from the
    gateway's own environment. By registered model and number, as `/v1/state` has them.
    """
    for (model, number), own in sorted(environments.items()):
        yield (
            f"{model} v{number} has Python {own['python']} and libraries of its own: "
            f"{own['size_bytes'] / 2**20:.0f} MiB, built in {own['build_seconds']:.1f} s"
        )
        yield from (f"  {line}" for line in own["differs"] or ["the same releases as the gateway's"])


def _wrong_and_refused(checker: Checker) -> str:
    return f"{checker.wrong} wrong, {checker.refused} refused"


def _event(event: Mapping[str, Any]) -> str:
    """One event of `/v1/state` as a line: when, what, and the facts an operator looks for."""
    at = datetime.fromtimestamp(event["timestamp"]).strftime("%H:%M:%S") if "timestamp" in event else ""
    facts = [f"{name}={_fact(event[name])}" for name in EVENT_FACTS if event.get(name)]
    return " ".join([at, str(event.get("event", "")), *facts])


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{part:g}" for name, part in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _quantile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def _score(answer: Answer) -> float:
    if not answer.predictions:
        return float("nan")
    prediction = answer.predictions[0]
    return float(
        prediction if isinstance(prediction, (int, float)) else prediction[SCORE_OUTPUT[answer.model]]
    )
