"""A real gateway whose canary alias is moved from one situation to the next under traffic."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import aiohttp

from router.core.split import bucket_of
from tests.support.gateway import GatewayProcess
from tests.support.load import Load, Seen
from tests.support.registry import Registry
from tests.support.waiting import wait_until

PRODUCTION, HEALTHY, SLOW, SHIFTED = 1, 2, 3, 4
"""Versions that `build_stories.py` logs."""
CANARY_PERCENT = 40
"""Not a half, so that sources which mix up the two sides contradict each other."""
READERS = 20_000
HARD_EVERY = 33
"""One of so many texts is hard, of either side's readers: exactly, so that 3 % are no matter of luck."""
MODELS = f"""\
  sentiment:
    split: {{production: {100 - CANARY_PERCENT}, canary: {CANARY_PERCENT}}}
    key: {{header: X-Request-Key}}
    scores: {{output: 0, range: [0, 1], bins: 20}}
    canary_timeout_seconds: 5  # slow is no fault, on a busy machine either
    threads: 16  # a version that sleeps is asked by so many at once
"""


class Readers(Load):
    """Each of 20 000 readers sends a text of their own, so a key says all there is to know of a request."""

    _numbers = count()
    _asked: ClassVar[Counter[bool]] = Counter()

    async def _ask(self, session: aiohttp.ClientSession, key: str) -> Seen:
        number = next(self._numbers) % READERS
        headers = {"X-Request-Key": f"reader-{number}"}
        of_canary = bucket_of("sentiment", headers["X-Request-Key"]) < CANARY_PERCENT * 1000
        self._asked[of_canary] += 1
        kind = "easy" if self._asked[of_canary] % HARD_EVERY else "hard"
        body = {"dataframe_split": {"columns": ["text"], "data": [[f"{kind} text {number}"]]}}
        sent_at = time.monotonic()
        try:
            async with session.post("/invocations", json=body, headers=headers) as answer:
                await answer.read()
                reported = answer.headers
                return Seen(
                    sent_at,
                    time.monotonic() - sent_at,
                    answer.status,
                    headers["X-Request-Key"],
                    reported.get("X-Route-Alias", ""),
                    reported.get("X-Model-Alias", ""),
                    int(reported.get("X-Model-Version", 0)),
                    reported.get("X-Route-Reason", ""),
                )
        except (aiohttp.ClientError, OSError) as error:
            return Seen(sent_at, time.monotonic() - sent_at, 0, key, reason=type(error).__name__)


@dataclass
class Stage:
    """Where the situations are played."""

    gateway: GatewayProcess
    registry: Registry
    slack: float
    version: int = 0
    """The canary of the situation."""
    seen: list[Seen] = field(default_factory=list)
    """What its readers got."""
    seconds: float = 0.0
    """How long they asked while both versions were bound, until the comparison was as wanted."""
    began: float = 0.0
    """When both versions were bound, by the monotonic clock."""

    def compared(self) -> dict[str, Any]:
        """What `/v1/compare` says of the canary."""
        reported: dict[str, Any] = json.loads(self.gateway.get("/v1/compare").text, parse_constant=_no_json)
        entry: dict[str, Any] = reported["models"]["sentiment"]["canary"]
        return entry

    def play(
        self, version: int, rate: float, until: Callable[[dict[str, Any]], object], seconds: float
    ) -> None:
        """Move the canary alias under `rate` requests per second, until the comparison of it is as wanted.

        Played on with the version that is there already, it is the same situation.
        When it returns nobody asks any more, and the comparison has seen all there was.
        """
        with Readers(self.gateway.url, rate=rate) as load:
            self.registry.move("canary", version)
            self.gateway.wait_bound(version, "canary", 30 * self.slack)
            if version != self.version:
                self.version, self.began, self.seconds, self.seen = version, time.monotonic(), 0.0, []
            self.seconds += wait_until(lambda: until(self.compared()), seconds * self.slack, self.story)
        self.seen += load.seen
        self.settle()

    def settle(self) -> None:
        """Wait for a look of the gateway that knows of every answer."""
        ended = time.time()
        wait_until(lambda: looked_at(self.compared()) > ended, 10 * self.slack, self.story)

    def story(self) -> str:
        """For a failure: what the gateway says, and what it logged."""
        return f"{json.dumps(self.compared(), indent=1)[:3000]}\n{self.gateway.story()}"


def looked_at(entry: dict[str, Any]) -> float:
    """When the gateway last judged it, in seconds since 1970."""
    return float(entry["since_timestamp"] + entry["seconds"])


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
