"""What is measured rather than reported: memory of workers, requests in flight, lag of the event loop."""

import asyncio
from math import nan
from time import perf_counter

import psutil

from router.adapters.log.writer import STDERR
from router.adapters.prometheus.live import Live, LiveShift, LiveVerdict, LiveVersion
from router.adapters.state.state_directory import StateDirectory
from router.analysis.comparison_status import ComparisonStatus
from router.analysis.recorder import AnalysisRecorder
from router.app.outbound import Outbound
from router.control.rollback import RollbackWatch
from router.core.policy import State
from router.serving.dispatch import Dispatcher
from router.serving.harness import Harness
from router.serving.models import ModelSet


class Gauges:
    """Looks at the gateway when a scrape asks."""

    period_seconds = 0.5
    """Between two measurements of the event loop's lag."""

    def __init__(
        self,
        models: ModelSet,
        dispatcher: Dispatcher,
        analysis: AnalysisRecorder,
        rollback: RollbackWatch,
        outbound: Outbound,
        state_directory: StateDirectory,
    ) -> None:
        self._models = models
        self._outbound = outbound
        self._dispatcher = dispatcher
        self._analysis = analysis
        self._rollback = rollback
        self._state_directory = state_directory
        self._lag_seconds = 0.0

    async def tick(self) -> None:
        """Measure how late a timer of 10 ms fires."""
        # Not the loop's own clock: uvloop's stands still between its turns, and counts in milliseconds.
        due = perf_counter() + 0.01
        await asyncio.sleep(0.01)
        self._lag_seconds = max(0.0, perf_counter() - due)

    def _members(self) -> dict[str, int]:
        view = self._analysis.gateways()
        return {
            "counted": len(view.counted),
            "waiting": len(view.waiting),
            "left_out": len(view.left_out),
        }

    def _version(self, harness: Harness) -> LiveVersion:
        workers, spare = harness.pool.workers, harness.pool.supply.spare
        return LiveVersion(
            harness.version,
            workers=len(workers),
            draining=harness.state is State.DRAINING,
            memory_bytes=sum(_resident_bytes(held.pid) for held in (*workers, *([spare] if spare else []))),
            peak_memory_bytes=self._analysis.costs.memory.peak(harness.version),
            processor_seconds=harness.pool.processor_time.by_phase(),
        )

    def live(self) -> Live:
        """The gateway at this instant."""
        managers = self._models.managers.values()
        harnesses = [h for manager in managers for h in manager.harnesses.values()]
        rollbacks = [self._rollback.of(manager) for manager in managers]
        return Live(
            in_flight=self._dispatcher.in_flight,
            versions=[self._version(harness) for harness in harnesses if harness.loaded],
            shifts=[
                LiveShift(model, shift.output, alias, shift.psi, shift.ks)
                for model, alias, run in self._analysis.runs()
                for shift in run.shifts()
            ],
            rollbacks={one.version: int(one.ready) for one in rollbacks if one.version is not None},
            gates={
                (manager.model, alias): passes
                for manager in managers
                for alias, passes in manager.gate_holds.passes().items()
            },
            preflights={
                (manager.model, alias): passed
                for manager in managers
                for alias, passed in manager.preflight.passes().items()
            },
            verdicts={
                (model, alias): _verdict(status)
                for model, statuses in self._analysis.statuses.items()
                for alias, status in statuses.items()
            },
            members=self._members(),
            loop_lag_seconds=self._lag_seconds,
            ready=self._models.ready,
            models_ready={name: m.can_answer for name, m in self._models.managers.items()},
            log_lines_dropped=STDERR.dropped,
            state_durable=self._state_directory.durable,
            peers=self._outbound.peers(),
            receivers=self._outbound.receivers,
            from_cache=any(m.from_cache and m.bound for m in self._models.managers.values()),
        )


def _verdict(status: ComparisonStatus) -> LiveVerdict:
    if (run := status.run) is None:
        return LiveVerdict(status.verdict)
    horizon = run.horizon_timestamp if run.has_horizon else None
    cost = run.report.cost
    ratio = nan if cost is None or cost.ratio is None else cost.ratio
    bounds = (nan, nan) if cost is None or cost.interval is None else cost.interval
    return LiveVerdict(status.verdict, run.verdict_changed_timestamp, horizon, ratio, bounds)


def _resident_bytes(pid: int | None) -> int:
    if pid is None:
        return 0  # it runs elsewhere
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0  # it ended between the look and the reading
