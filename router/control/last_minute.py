"""Requests of the last minute, and those that were refused because there was no room for them.

`requests_total` counts the same for as long as the gateway runs; this says what is wrong now.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from router.core.events import Answered, AnsweredTogether, Event, Rejected
from router.core.ids import Alias
from router.core.outcomes import Outcome, RefusalReason
from router.core.scores import OTHER

SECONDS = 60
"""Slices of a second each, the one under way among them: what is counted came in the last 59 to 60 s."""
WORTH_A_WARNING = 0.01
"""The part of the requests, in (0, 1), above which refusing them is worth a warning."""

Clock = Callable[[], float]
"""Gives seconds of a monotonic clock, such as `time.monotonic`."""

# Under names of their own: an enumeration looks its members up, and these are asked for by every request.
_OK, _FALLBACK, _OVERLOADED = Outcome.OK, Outcome.FALLBACK, Outcome.OVERLOADED
_NO_ROOM = RefusalReason.OVERLOADED


def _is_much(part: int, requests: int) -> bool:
    return part > WORTH_A_WARNING * requests


def _share(part: int, requests: int) -> str:
    return f"{100 * part / requests:.3g} % of its requests in the last minute ({part} of {requests})"


@dataclass(frozen=True, slots=True)
class AliasMinute:
    """What became of the requests that were given to an alias; `refused` and `passed_on` share none."""

    requests: int = 0
    refused: int = 0
    """Their callers got 503, because there was no room: outcome `overloaded`."""
    passed_on: int = 0
    """Production answered, because the version of this alias was not asked: its queue was full, or it had no
    worker. Always 0 of production."""

    @property
    def refusing(self) -> bool:
        """Whether more than 1 % were refused."""
        return _is_much(self.refused, self.requests)

    def warnings(self, alias: Alias) -> list[str]:
        """What an operator should know of `alias`, a sentence each."""
        lines = []
        if self.refusing:
            share = _share(self.refused, self.requests)
            lines.append(f"{alias} refused {share}: more came than are answered in time, and callers got 503")
        if _is_much(self.passed_on, self.requests):
            share = _share(self.passed_on, self.requests)
            lines.append(
                f"{alias} did not take {share}: its queue was full, or it had no worker; production answered"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """As `/v1/state` shows it."""
        return {
            "requests": self.requests,
            "refused": self.refused,
            "passed_on": self.passed_on,
            "refusing": self.refusing,
        }


@dataclass(frozen=True, slots=True)
class ModelMinute:
    """The requests of one registered model."""

    aliases: Mapping[Alias, AliasMinute]
    refused_early: int = 0
    """Refused before an alias was chosen; no alias counts those."""

    @property
    def requests(self) -> int:
        """All of them."""
        return self.refused_early + sum(one.requests for one in self.aliases.values())

    @property
    def refused(self) -> int:
        """Those that were refused, early or by an alias."""
        return self.refused_early + sum(one.refused for one in self.aliases.values())

    @property
    def refusing(self) -> bool:
        """Whether an alias refuses more than 1 % of its requests, or more than 1 % reach no alias."""
        return self._refuses_early or any(one.refusing for one in self.aliases.values())

    @property
    def _refuses_early(self) -> bool:
        return _is_much(self.refused_early, self.requests)

    def warnings(self) -> list[str]:
        """What an operator should know, a sentence each."""
        lines = [line for alias, one in self.aliases.items() for line in one.warnings(alias)]
        if self._refuses_early:
            share = _share(self.refused_early, self.requests)
            lines.append(
                f"too many long bodies waited to be searched for their key: {share} reached no alias, "
                "and callers got 503"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """As `/v1/state` shows it."""
        return {
            "requests": self.requests,
            "refused": self.refused,
            "refusing": self.refusing,
            "aliases": {alias: one.to_json() for alias, one in self.aliases.items()},
        }


@dataclass(frozen=True, slots=True)
class GatewayMinute:
    """The requests of a whole gateway."""

    models: Collection[ModelMinute]
    connections_refused: int = 0
    """Connections of which no request was read, because as many as may be were open and busy."""

    @property
    def refusing(self) -> bool:
        """Whether a model refuses requests, or more than 1 % of what came were connections with no room."""
        return self._refuses_connections or any(model.refusing for model in self.models)

    @property
    def _refuses_connections(self) -> bool:
        return _is_much(self.connections_refused, self.connections_refused + self._requests)

    @property
    def _requests(self) -> int:
        return sum(model.requests for model in self.models)

    def warnings(self) -> list[str]:
        """What no model says of itself, a sentence each."""
        if not self._refuses_connections:
            return []
        refused = f"{self.connections_refused} connections were refused in the last minute"
        return [f"{refused}: as many as may be were open and busy"]

    def to_json(self) -> dict[str, Any]:
        """As `/v1/state` shows it."""
        return {
            "requests": self._requests,
            "refused": sum(model.refused for model in self.models),
            "connections_refused": self.connections_refused,
            "refusing": self.refusing,
        }


@dataclass(slots=True)
class _Slice:
    """One second, counted since the clock began."""

    second: int
    requests: int = 0
    refused: int = 0
    passed_on: int = 0


class LastMinute:
    """Implements `Recorder`: counts the answered and the refused requests of each alias of each model.

    It holds a minute of seconds for each alias that was asked; what was asked nothing for longer goes when
    another one comes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = 0
        self._next_second = -inf
        """On the clock, when `_second` is over."""
        self._slices: dict[tuple[str, Alias | None], deque[_Slice]] = {}
        """Oldest first, only seconds in which something came; None: refused before an alias was chosen."""

    def record(self, event: Event) -> None:
        """Count requests."""
        if isinstance(event, AnsweredTogether):
            now = self._now(event.model, event.alias)
            now.requests += len(event.each)
            for one in event.each:
                if (outcome := one.outcome) is not _OK:
                    now.refused += outcome == _OVERLOADED
                    # What was asked and did not answer has a fault; without one it never saw the request.
                    now.passed_on += outcome == _FALLBACK and not one.fault
        elif isinstance(event, Answered):
            self.record(AnsweredTogether.of(event))
        elif isinstance(event, Rejected) and event.reason is _NO_ROOM:
            self._now(event.model, None).refused += 1

    def of(self, model: str, aliases: Collection[Alias]) -> ModelMinute:
        """The last minute of `model` and its `aliases`."""
        counts = {alias: self._count(model, alias) for alias in aliases}
        return ModelMinute(counts, self._count(model, None).refused)

    def of_gateway(self, models: Collection[ModelMinute]) -> GatewayMinute:
        """The last minute of all `models`, and of connections."""
        return GatewayMinute(models, self._count(OTHER, None).refused)

    def _now(self, model: str, alias: Alias | None) -> _Slice:
        """Where to count what comes now."""
        if (now := self._clock()) >= self._next_second:
            self._second = int(now)
            self._next_second = self._second + 1.0
        slices = self._slices.get((model, alias))
        if slices is not None and (newest := slices[-1]).second == self._second:
            return newest
        if slices is None:
            self._forget(self._second)
            slices = self._slices[model, alias] = deque(maxlen=SECONDS)
        slices.append(_Slice(self._second))
        return slices[-1]

    def _forget(self, second: int) -> None:
        """Drop aliases that were asked nothing for a minute, such as those of a model that was removed."""
        for key in [key for key, slices in self._slices.items() if slices[-1].second <= second - SECONDS]:
            del self._slices[key]

    def _count(self, model: str, alias: Alias | None) -> AliasMinute:
        oldest = int(self._clock()) - SECONDS
        slices = [one for one in self._slices.get((model, alias), ()) if one.second > oldest]
        return AliasMinute(
            sum(one.requests for one in slices),
            sum(one.refused for one in slices),
            sum(one.passed_on for one in slices),
        )
