"""Gateways of fakes that judge, by clocks of a test."""

import json
from contextlib import suppress
from typing import Any

from router.analysis.cell_clock import CellClock
from router.analysis.document import document
from router.analysis.evidence_sink import EvidenceSink
from router.analysis.fleet import Fleet
from router.analysis.fleet_exchange import FleetEvidence
from router.analysis.fleet_messages import Have, SealedAt
from router.analysis.recorder import AnalysisRecorder
from router.analysis.statistics.records import Batch
from router.control.caps import CapControl
from router.core.events import Answered
from router.core.ids import CANARY, PRODUCTION, Alias, GatewayId, VersionId
from router.core.routing import Reason
from router.core.shadow_events import ShadowCompared
from router.core.split import Split
from router.serving.caps import CapsInForce
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.serving.version_dependencies import VersionDependencies
from tests.serving.conftest import V1, V2, settings
from tests.support.fakes import Facts, FakeWorld
from tests.support.waiting import until

HALF = {"production": 50, "canary": 50}


class Listening(Facts):
    """A recorder in front of the comparison, as the gateway has one."""

    analysis: AnalysisRecorder

    def record(self, event: Any) -> None:
        super().record(event)
        self.analysis.record(event)


class Gateway:
    """Models of fakes, their comparison, and a clock."""

    def __init__(self, name: str = "gw-1", at: float = 1000.0, sink: EvidenceSink | None = None) -> None:
        self.now = at
        self.started = False
        self.world = FakeWorld(aspired={"sentiment": {PRODUCTION: V1, CANARY: V2}})
        self.facts = Listening()
        in_force = CapsInForce()
        self.models = ModelSet(
            VersionDependencies(
                self.world, self.world, self.world.environments, self.facts, LoadLimits(5.0), in_force
            )
        )
        self.caps = CapControl(in_force, self.models, self.facts, lambda: 5e8 + self.now)
        self.clock = CellClock(lambda: 5e8 + self.now, lambda: self.now)
        process = name[-1] * 16
        self.fleet = Fleet(GatewayId(process, name), self.clock.moment())
        self.analysis = self.facts.analysis = AnalysisRecorder(
            self.models, self.facts, clock=self.clock, fleet=self.fleet, sink=sink
        )
        self.exchange = FleetEvidence(self.fleet, self.analysis.joined, self.clock.moment)

    async def serve(self, aspired: dict[Alias, VersionId], **keys: Any) -> None:
        if not self.started:
            self.started = True
            self.analysis.start()
        self.models.apply({"sentiment": settings(**{"split": HALF, **keys})})
        manager = self.models.managers["sentiment"]
        manager.set_aspired(aspired)
        await until(lambda: manager.bound == aspired)
        self.look(0.0)

    @property
    def split(self) -> Split:
        """By which a request that is answered now was routed."""
        return self.models.table.models["sentiment"].configured_split

    def answer(self, number: int, alias: Alias, version: VersionId, **keys: Any) -> None:
        """`number` requests of different keys of the alias, of half of the buckets each."""
        for i in range(number):
            bucket = i * 37 % 50_000 + (0 if alias == CANARY else 50_000)
            given = {"reason": Reason.HASH, "bucket": bucket, "split": self.split, **keys}
            self.analysis.record(Answered("sentiment", alias, version, "ok", 200, 0.003, 1, **given))

    def answer_faulty_canary(self) -> None:
        """400 requests, every tenth of which, in a bucket of its own, is a fault."""
        for turn in range(40):
            self.answer(9, CANARY, V2)
            self.answer(1, CANARY, V2, fault="error", bucket=turn)

    def compare(self, buckets: range, *, faults: int = 1, **said: Any) -> None:
        """A copy of each bucket, of which the canary fails the first `faults`, and what is `said` of all."""
        for index, bucket in enumerate(buckets):
            facts = {"split": self.split, "bucket": bucket, **said}
            failed = {"production_fault": False, "canary_fault": index < faults}
            self.analysis.record(ShadowCompared(CANARY, V2, V1, **facts, **failed))

    def look(self, seconds: float = 5.0) -> None:
        self.now += seconds
        tick = self.analysis.tick()
        with suppress(StopIteration):
            while True:
                tick.send(None)  # it lets others have their turn, and waits for nothing

    @property
    def entry(self) -> dict[str, Any]:
        shown = document(self.analysis)
        reported: dict[str, Any] = json.loads(json.dumps(shown, allow_nan=False))["models"]["sentiment"][
            "canary"
        ]
        return reported

    def check(self, name: str) -> dict[str, Any]:
        return next(check for check in self.entry["checks"] if check["check"] == name)

    def batches(self) -> list[Batch]:
        """That it hands out, of all cells that it keeps."""
        nothing = Have("f" * 16, SealedAt(-1, b"0" * 16, 0), {}, {})
        return self.fleet.answer(nothing, self.clock.moment()).batches

    def ask(self, other: "Gateway") -> None:
        """One exchange of evidence with another gateway."""
        asked_at = self.now
        answer = other.exchange.answer(self.exchange.question(), 1 << 20)
        self.exchange.take(answer, "gw", asked_at)
