"""Facts of an imaginary gateway, for tests of what records them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from router.adapters.prometheus.live import Live, LiveVerdict, LiveVersion
from router.adapters.prometheus.recorder import PrometheusRecorder
from router.core.cache_events import (
    CacheEvicted,
    CacheOverBound,
    CopyMended,
    Downloaded,
    LastGoodNotWritten,
    LastGoodRefused,
    OwnCopyNeeded,
    ServingFromCache,
)
from router.core.environment_events import (
    EnvironmentBuilt,
    EnvironmentRebuilt,
    EnvironmentsOverBound,
    EnvironmentsRemoved,
)
from router.core.events import (
    AliasAspired,
    AliasBound,
    AliasUnbound,
    AliasWithoutVersion,
    Answered,
    AnswersCut,
    BreakerClosed,
    BreakerOpened,
    CanaryFaulted,
    ChildRestarted,
    ConfigApplied,
    ConfigRejected,
    DrainCutShort,
    EnvironmentDiffers,
    Event,
    FellBack,
    HeadersRefused,
    LoadRefused,
    LoopRecovered,
    ModelRemoved,
    PinsChanged,
    Polled,
    Predicted,
    ReadinessChanged,
    RegistrySchemaNewer,
    Rejected,
    RollbackReadyLost,
    RoutesChanged,
    ShutdownCutShort,
    SplitInForce,
    TickFailed,
    VersionDraining,
    VersionGone,
    VersionLoaded,
    WorkerEnded,
    WorkerLoadFailed,
    WorkerReplaced,
)
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.lever_events import BreakGlassOff, BreakGlassOn, CapLifted, CapSet, MoveExplained
from router.core.outbound_events import NotificationResult, NotificationTried, PeerFound, PeerLost
from router.core.outcomes import CutReason
from router.core.preflight import PreflightReport, PreflightVerdict
from router.core.preflight_events import PreflightEnded
from router.core.processor_time import PHASES as WORKER_PHASES
from router.core.routing import ModelRoutes
from router.core.score_events import ReadResult, ReadScore, ScoresRead
from router.core.scores import OutputCounts, OutputSpec, ScoreCounts, ScoreSpec
from router.core.shadow_events import ShadowCompared, ShadowDropped, ShadowDropReason
from router.core.split import Split
from router.core.state_events import (
    JournalCut,
    StateDurable,
    StateNotDurable,
    StateSetAside,
    StateWriteFailed,
)
from router.core.version_environment import VersionEnvironment
from router.worker.scores import count_and_locate

SPEC = ScoreSpec(output=0, low=0.0, high=1.0, bins=4)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def recorder_at(clock: Clock) -> PrometheusRecorder:
    return PrometheusRecorder(version="0.1.0", monotonic=clock, wall=clock)


def split(model: str = "m", canary: float = 0.05) -> SplitInForce:
    shares = {PRODUCTION: 1 - canary, CANARY: canary}
    return SplitInForce(model, shares, shares)


def capped(model: str = "m", **shares: int) -> ModelRoutes:
    """Routes with caps of so many buckets; without `shares` of 1 000 for the canary."""
    both = {PRODUCTION: VersionId(model, 7), CANARY: VersionId(model, 8)}
    caps = {Alias(alias): share for alias, share in (shares or {CANARY: 1_000}).items()}
    return ModelRoutes(model, model, Split(5_000), both, frozenset(both), capped=caps)


def bound(
    alias: Alias,
    number: int,
    *,
    old: int | None = None,
    model: str = "m",
    scores: OutputSpec | tuple[OutputSpec, ...] | None = SPEC,
) -> AliasBound:
    """`scores`: one output or several; None: nothing is counted."""
    counted = scores if isinstance(scores, tuple) else () if scores is None else (scores,)
    before = None if old is None else VersionId(model, old)
    new = VersionId(model, number)
    return AliasBound(model, alias, before, new, f"run{number}", "sklearn", counted, registry_name=alias)


def answered(
    alias: Alias,
    number: int,
    *,
    outcome: str = "ok",
    code: int = 200,
    seconds: float = 0.003,
    model: str = "m",
    trace_id: str = "",
) -> Answered:
    version = VersionId(model, number)
    return Answered(model, alias, version, outcome, code, seconds, rows=1, trace_id=trace_id)


def predicted(alias: Alias, number: int, *scores: OutputCounts, model: str = "m", rows: int = 1) -> Predicted:
    version = VersionId(model, number)
    return Predicted(model, alias, version, 0.002, 0.0005, rows=rows, requests=1, scores=scores)


def loaded(
    number: int, *aliases: Alias, model: str = "m", environment: VersionEnvironment | None = None
) -> VersionLoaded:
    """`environment`: its own."""
    phases = {"fetch": 0.5, "load": 2.0, "warmup": 20.0}
    if environment is not None:
        phases["environment"] = 6.0
    return VersionLoaded(VersionId(model, number), aliases, phases, note="", environment=environment)


def environment_of(number: int = 8, **changes: Any) -> VersionEnvironment:
    """The environment of a version's own, of so many digits."""
    about = VersionEnvironment(
        key=f"{number:x}" * 64,
        interpreter="/opt/python3.11/bin/python3.11",
        python="3.11.7",
        pins="3f9c" * 16,
        size_bytes=630_000_000,
        build_seconds=6.25,
        differences=("scikit-learn 1.5.2, the gateway has 1.7.1",),
    )
    return replace(about, **changes)


PREFLIGHT_FAILED = PreflightReport(
    PreflightVerdict.FAIL, "it alone failed 40 of 40 requests, and production alone 0", 7, 2.5, 40, 40
)


def one_of_each(model: str = "m") -> list[Event]:
    """Every kind of fact, in an order in which a gateway could report them."""
    production, canary, broken = VersionId(model, 7), VersionId(model, 8), VersionId(model, 9)
    scores = count_scores_of(0.1, 0.6)
    return [
        ConfigApplied("3f9c", ()),
        split(model),
        Polled(model, 0.02, ""),
        AliasAspired(model, PRODUCTION, None, production),
        AliasAspired(model, CANARY, None, canary),
        loaded(7, PRODUCTION, model=model),
        bound(PRODUCTION, 7, model=model),
        EnvironmentBuilt(canary, environment_of(), 3.0),
        loaded(8, CANARY, model=model, environment=environment_of()),
        EnvironmentDiffers(production, ("numpy==1.26.4 is required and 2.1.0 is installed",)),
        EnvironmentDiffers(canary, ("numpy==1.26.4 is required and 2.1.0 is installed",), own=True),
        bound(CANARY, 8, model=model),
        ReadinessChanged(ready=True),
        predicted(PRODUCTION, 7, scores, model=model),
        answered(PRODUCTION, 7, model=model),
        predicted(CANARY, 8, scores, model=model),
        answered(CANARY, 8, model=model),
        FellBack(model, CANARY, PRODUCTION, "model_error"),
        CanaryFaulted(model, CANARY, canary, "error"),
        answered(CANARY, 8, outcome="fallback", model=model),
        ScoresRead(model, CANARY, canary, ReadResult.READ, 1, (scores,), (ReadScore(7, Split(5_000), 2),)),
        ScoresRead(model, CANARY, canary, ReadResult.BUSY, 3),
        ShadowCompared(CANARY, canary, production, Split(5_000), 90_000, False, True),
        ShadowDropped(CANARY, canary, ShadowDropReason.BUSY),
        Rejected(model, "too_large"),
        BreakerOpened(model, CANARY, canary, "25 of its last 50 requests were faults", 80, 25, 0),
        BreakerClosed(model, CANARY, canary, "the split changed"),
        MoveExplained(model, "ann", "it is as good"),
        CapSet(model, CANARY, canary, 0.01, "ann", "p95 is 2 s"),
        RoutesChanged(capped(model)),
        CapLifted(model, CANARY, None, "ann", "mended"),
        GateNotPassed(model, CANARY, canary, ("no_record",), "it has no tag canary_router.gate", held=True),
        GatePassed(model, CANARY, canary, "passed against v7", override=False, after_all=True),
        PreflightEnded(model, (CANARY,), canary, PREFLIGHT_FAILED, held=True),
        PinsChanged(model, 3, "3f9c"),
        BreakGlassOn("SIGUSR2 came"),
        BreakGlassOff("ann: all is well"),
        WorkerEnded(canary, "signal", "signal 9 (SIGKILL)"),
        WorkerLoadFailed(canary, "ValueError: no such file", 20.0),
        WorkerReplaced(canary, 0.04),
        RollbackReadyLost(model, VersionId(model, 6), "1 of 2 workers are loaded: memory was needed"),
        AliasAspired(model, CANARY, canary, broken),
        LoadRefused(broken, (CANARY,), "load", "ValueError: no such column", 10.0),
        AliasUnbound(model, CANARY, canary),
        VersionDraining(canary, 1),
        AliasWithoutVersion(model, CANARY, canary, broken),
        LoadRefused(broken, (CANARY,), "load", "OSError: address in use", None),
        DrainCutShort(canary, 1, 1, 60.0),
        VersionGone(canary),
        ChildRestarted("agent", "exit code 1"),
        AnswersCut(CutReason.TOO_SLOW, 3),
        HeadersRefused(2, 64),
        ShutdownCutShort(1, 1, 15.0),
        TickFailed("aliases", "KeyError: 'x'"),
        LoopRecovered("aliases"),
        Polled(model, 5.0, "connection refused"),
        RegistrySchemaNewer("f4a9b2c7d1e6", "dc11669786a5", "3.17.2"),
        ServingFromCache(model, {PRODUCTION: production}),
        LastGoodRefused(model, "last-good.json is torn"),
        LastGoodNotWritten(model, "No space left on device"),
        Downloaded(canary, 105_000_000),
        CopyMended(canary, ("artifacts/index.db",)),
        OwnCopyNeeded(canary, "OperationalError: attempt to write a readonly database"),
        CacheEvicted((f"{model} v3",), 19 << 30),
        CacheOverBound(21 << 30, 20 << 30),
        EnvironmentRebuilt(canary, "numpy/core.py had changed, which v7 had used"),
        EnvironmentsRemoved(("7a1e7a1e7a1e", "packages"), 2 << 30, 19 << 30),
        EnvironmentsOverBound(21 << 30, 20 << 30),
        StateNotDurable("the journal can not be written: No space left on device"),
        StateWriteFailed("the journal can not be written: No space left on device"),
        StateDurable(),
        StateSetAside("caps.json.set-aside-1", "format: must be 1, which this version reads"),
        JournalCut(120),
        PeerLost("http://gw-2:8081", "no answer within 2 s"),
        PeerFound("http://gw-2:8081"),
        NotificationTried("slack", NotificationResult.RETRIED, "it answered 500 Internal Server Error"),
        NotificationTried("slack", NotificationResult.DELIVERED, ""),
        ConfigRejected("3f9c", ("router.yaml:9 models.m.splt: unknown key, did you mean `split`?",)),
    ]


def goodbye(model: str = "m") -> list[Event]:
    return [ModelRemoved(model), ReadinessChanged(ready=False)]


def count_scores_of(*values: float, spec: ScoreSpec = SPEC) -> ScoreCounts:
    return count_and_locate(np.array(values, dtype=np.float64), spec, ())[0]


def live_of(*numbers: int, draining: int | None = None, model: str = "m") -> Live:
    spent = dict.fromkeys(WORKER_PHASES, 1.5)
    versions = [
        LiveVersion(VersionId(model, n), 1, n == draining, 50_000_000, 40_000_000, spent) for n in numbers
    ]
    return Live(
        {(model, PRODUCTION): 3},
        versions,
        verdicts={
            (model, CANARY): LiveVerdict("pass", 1.8e9, 1.8e9, cost_ratio=1.02, cost_bounds=(0.97, 1.07))
        },
        gates={(model, CANARY): True},
        preflights={(model, CANARY): True},
        loop_lag_seconds=0.001,
    )


def samples(recorder: PrometheusRecorder) -> dict[str, float]:
    """`name{label=value,…}` (prefix and quotes left out, labels sorted) → value, as a client parses them."""
    parsed = {}
    for family in text_string_to_metric_families(recorder.render()[0].decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            key = sample.name.removeprefix("canary_router_") + (f"{{{labels}}}" if labels else "")
            assert key not in parsed, f"exported twice: {key}"
            parsed[key] = sample.value
    return parsed


def series_of(recorder: PrometheusRecorder, model: str = "m") -> list[str]:
    """The lines that carry this model's name."""
    return [line for line in lines(recorder) if f'model="{model}"' in line]


def lines(recorder: PrometheusRecorder) -> Iterator[str]:
    return (line for line in recorder.render()[0].decode().splitlines() if not line.startswith("#"))
