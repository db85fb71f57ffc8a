"""`python -m benchmarks.exchange`: what a gateway's exchange with 3, 10 and 49 peers costs.

All gateways are in this process, and ask each other over HTTP on this machine, signed and packed as the
product does it. Time is given: in each cell every gateway observes so many requests of each run, and asks at
every other second.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import mean
from time import process_time
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from router.adapters.http.client import HttpClient
from router.adapters.http.peers import PeerClient
from router.analysis.cell_clock import CellClock
from router.analysis.criteria import Criteria
from router.analysis.fleet import Fleet
from router.analysis.fleet_exchange import FleetEvidence
from router.analysis.fleet_runs import FleetRuns
from router.analysis.joined_runs import JoinedRun
from router.analysis.run_key import RunSubject, subject_of
from router.analysis.statistics.cell_recorder import CellRecorder, Observation
from router.analysis.statistics.records import CELL_SECONDS, MINUTE_CELLS, Batch, RunCell, RunId
from router.control.exchange import FleetExchange, Peer
from router.control.exchange_messages import ExchangeMessages
from router.core.caps import CapRecord, Caps, CapTarget
from router.core.events import Event
from router.core.ids import CANARY, GatewayId, VersionId
from router.core.scores import ScoreSpec
from router.core.signature import exchange_key
from router.core.split import BUCKETS, Split
from router.settings import FleetSettings, Settings, SettingsInForce
from router.web.admin import EXCHANGE
from router.web.context import GATEWAY, InFlightRequests
from router.web.exchange import ExchangeHandler

PEERS = (3, 10, 49)
RUNS = 2
REQUESTS_PER_SECOND = 200
"""Of each gateway, in each run; by 20 000 keys, whose buckets they have at random."""
KEYS = 20_000
SPLIT = Split(canary=5_000)
CAPS = 5
SECONDS = 180
"""Of the given time; of them the last minute, which has the counts by group in it once, is measured."""
MEASURED_SECONDS = 60
EXCHANGE_SECONDS = 2
_STARTED_AT = 1.7e9


class _Key:
    """Of all gateways here."""

    _KEY = exchange_key(b"a-token-of-some-length")

    async def read(self) -> bytes:
        return self._KEY


class _Counting(PeerClient):
    """Counts what is sent and answered."""

    def __init__(self, client: HttpClient, key: _Key) -> None:
        super().__init__(client, key)
        self.sizes: list[tuple[int, int]] = []

    async def exchange(self, peer: Peer, question: bytes) -> bytes:
        answer = await super().exchange(peer, question)
        self.sizes.append((len(question), len(answer)))
        return answer


class _Nobody:
    """Compares nothing, knows nobody's caps but these, and reports nothing."""

    known = Caps({CapTarget(f"m{n}", CANARY, 7): CapRecord(1, 0, "alice", "slow", 1e9) for n in range(CAPS)})

    def merge(self, records: Any, *, only_lower: bool = False) -> None: ...

    def record(self, event: Event) -> None: ...

    def compared(self) -> Sequence[RunId]:
        return ()

    def unsealed(self, run: RunId) -> Sequence[tuple[int, RunCell]]:
        return ()

    def folded(self, run: JoinedRun) -> None: ...

    def replaced(self, before: JoinedRun) -> None: ...


class _Gateway:
    """One of the fleet, as far as it exchanges."""

    def __init__(self, number: int, seconds: "_Time") -> None:
        self.clock = CellClock(lambda: _STARTED_AT + seconds.now, lambda: seconds.now)
        identity = GatewayId(f"{number + 1:016x}", f"gw-{number}")
        self.fleet = Fleet(identity, self.clock.moment())
        self.runs = FleetRuns(self.fleet, self.clock, None, _Nobody())
        evidence = FleetEvidence(self.fleet, self.runs, self.clock.moment)
        self.messages = ExchangeMessages(identity, _Nobody(), evidence, lambda: seconds.now)
        self._cell = self.clock.cell()
        self._dice = random.Random(number)  # noqa: S311 - not a secret
        self._subjects = [_subject(number) for number in range(RUNS)]
        self._recorders = [CellRecorder(CANARY, SPLIT, 0.5, ScoreSpec()) for _ in range(RUNS)]
        self.exchange: FleetExchange
        self.peers: _Counting

    async def listen(self, stack: AsyncExitStack) -> str:
        """Returns the address at which it is asked."""
        app = web.Application()
        app.router.add_post(EXCHANGE, ExchangeHandler(_Key()).answer)  # type: ignore[arg-type]
        app[GATEWAY] = SimpleNamespace(  # type: ignore[assignment]
            exchange=self.messages,
            requests=InFlightRequests(),
            settings=SettingsInForce(Settings.model_validate({"models": {"m": {}}})),
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return "127.0.0.1:{1}".format(*runner.addresses[0])

    def ask(self, addresses: Sequence[str], stack: AsyncExitStack) -> None:
        """Have it ask these from now on."""
        client = HttpClient()
        stack.push_async_callback(client.close)
        self.peers = _Counting(client, _Key())
        self.exchange = FleetExchange(
            FleetSettings(peers=list(addresses)), self.peers, self.messages, _Nobody(), encrypted=False
        )

    async def observe(self) -> None:
        """All that it observes in the cells that are over by now."""
        while self._cell < self.clock.cell():
            last = self._cell % MINUTE_CELLS == MINUTE_CELLS - 1
            batch = Batch("", self._cell)
            for subject, recorder in zip(self._subjects, self._recorders, strict=True):
                for _ in range(REQUESTS_PER_SECOND * CELL_SECONDS):
                    recorder.observe(self._request())
                records = recorder.drain(groups=last)
                batch.runs[subject.key] = (
                    1,
                    RunCell(
                        compares=True, began_with=recorder.ranges, records=records, subject=subject.pack()
                    ),
                )
                recorder.begin_cell(self._cell + 1)
            self.runs.own(batch)
            self._cell += 1

    async def fold(self) -> None:
        """Fold what is sealed by now."""
        await self.runs.fold()

    def _request(self) -> Observation:
        bucket = hash((self._dice.randrange(KEYS), "bucket")) % BUCKETS
        seconds = self._dice.lognormvariate(-4, 0.5)
        fault = self._dice.random() < 0.002
        return Observation(
            bucket, bucket < SPLIT.canary, SPLIT, fault, None if fault else seconds, 7, None, excused=False
        )


@dataclass
class _Time:
    now: float = 0.0


def _subject(number: int) -> RunSubject:
    versions = VersionId(f"model-{number}", 7), VersionId(f"model-{number}", 8)
    return subject_of(CANARY, *versions, f"model-{number}", [ScoreSpec()], Criteria())


async def _measure(peers: int) -> str:
    async with AsyncExitStack() as stack:
        time = _Time()
        fleet = [_Gateway(number, time) for number in range(peers + 1)]
        addresses = [await gateway.listen(stack) for gateway in fleet]
        for gateway, own in zip(fleet, addresses, strict=True):
            gateway.ask([one for one in addresses if one != own], stack)
        spent: list[float] = []
        folding: list[float] = []
        for number, gateway in enumerate(fleet):
            await gateway.exchange.tick()
            gateway.runs.start()
            time.now = number / 10
        while time.now < SECONDS:
            time.now = float(int(time.now) + 1)
            for gateway in fleet:
                await gateway.observe()
                began = process_time()
                await gateway.fold()
                if time.now > SECONDS - MEASURED_SECONDS:
                    folding.append(process_time() - began)
            if time.now % EXCHANGE_SECONDS == 0:
                for gateway in fleet:
                    began = process_time()
                    await gateway.exchange.tick()
                    if time.now > SECONDS - MEASURED_SECONDS:
                        spent.append(process_time() - began)
            if time.now == SECONDS - MEASURED_SECONDS:
                for gateway in fleet:
                    gateway.peers.sizes.clear()
        for gateway in fleet:
            view = gateway.runs.describe()
            assert len(view.counted) == peers + 1, view
            # Of many peers a few are asked at a time: one that chance has passed over so far is not known.
            assert gateway.exchange.reachable()["reachable"] > 0.9 * peers
        sizes = [size for gateway in fleet for size in gateway.peers.sizes]
    asked = len(sizes) / len(spent)
    sent, answered = (mean(size[n] for size in sizes) / 1024 for n in (0, 1))
    largest = max(answer for _, answer in sizes) / 1024
    milliseconds, folded = mean(spent) * 1e3, mean(folding) * CELL_SECONDS * 1e3
    share = milliseconds / EXCHANGE_SECONDS / 10 + folded / CELL_SECONDS / 10
    return (
        f"{peers:>5}{milliseconds:>12.1f}{folded:>12.1f}{share:>10.2f} %{asked:>10.0f}"
        f"{sent:>10.1f}{answered:>10.1f}{largest:>10.1f}"
    )


def main() -> None:
    """Print one line per number of peers."""
    print(
        f"{RUNS} runs, {REQUESTS_PER_SECOND} requests a second of each at each gateway;"
        f" an exchange every {EXCHANGE_SECONDS} s: asking, and being asked as often; a cell folded every"
        f" {CELL_SECONDS} s\n"
        f"{'peers':>5}{'exchange ms':>12}{'folding ms':>12}{'of a CPU':>12}"
        f"{'requests':>10}{'sent':>10}{'answer':>10}{'largest':>10}  KiB"
    )
    for peers in PEERS:
        print(asyncio.run(_measure(peers)))


if __name__ == "__main__":
    main()
