"""Continuous load from keep-alive clients in a thread of its own, every answer written down."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp

from tests.support.slowness import slack

BODY = b'{"dataframe_split": {"columns": ["text"], "data": [["good"]]}}'
SLOW_SECONDS = 2.0
"""Widened by `slack`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer; `status` 0 is a lost connection."""

    sent_at: float
    seconds: float
    status: int
    key: str
    route_alias: str = ""
    alias: str = ""
    version: int = 0
    reason: str = ""
    body: bytes = b""


@dataclass
class Load:
    """`with Load(url) as load:` — 32 clients, about `rate` requests per second in all, to the block's end."""

    url: str
    clients: int = 32
    rate: float = 300.0
    keys: int = 1000
    body: bytes = BODY
    path: str = "/invocations"
    seen: list[Seen] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(60)

    @property
    def failed(self) -> list[Seen]:
        """Answers that are no 200, or took longer than two seconds."""
        slow = SLOW_SECONDS * slack()
        return [one for one in self.seen if one.status != 200 or one.seconds > slow]

    def answered_by(self, version: int) -> int:
        """Good answers by `version` so far."""
        return sum(one.status == 200 and one.version == version for one in self.seen)

    def summary(self) -> str:
        """The load in a line: requests, failures, latency in milliseconds."""
        times = sorted(one.seconds for one in self.seen)
        p50, p99 = (times[int(len(times) * part)] * 1e3 for part in (0.5, 0.99))
        failed = f"{len(self.failed)} failed of {len(times)} requests"
        return f"{failed}, p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {times[-1] * 1e3:.0f} ms"

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=self.clients, force_close=False)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            await asyncio.gather(*(self._client(session, n) for n in range(self.clients)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        period = self.clients / self.rate
        due = time.monotonic() + period * number / self.clients
        turn = 0
        while not self._stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + period, time.monotonic() - 1.0)
            key = f"user-{(number + turn * self.clients) % self.keys}"
            turn += 1
            self.seen.append(await self._ask(session, key))

    async def _ask(self, session: aiohttp.ClientSession, key: str) -> Seen:
        sent_at = time.monotonic()
        headers = {"X-Request-Key": key, "Content-Type": "application/json"}
        try:
            async with session.post(self.path, data=self.body, headers=headers) as answer:
                body = await answer.read()
                reported = answer.headers
                return Seen(
                    sent_at,
                    time.monotonic() - sent_at,
                    answer.status,
                    key,
                    reported.get("X-Route-Alias", ""),
                    reported.get("X-Model-Alias", ""),
                    int(reported.get("X-Model-Version", 0)),
                    reported.get("X-Route-Reason", ""),
                    body,
                )
        except (aiohttp.ClientError, OSError) as error:
            return Seen(
                sent_at, time.monotonic() - sent_at, 0, key, reason=f"{type(error).__name__}: {error}"
            )
