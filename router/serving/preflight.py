"""Before a version gets its first user: it answers the last requests, and so does production."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.core.answer_reading import read_answer
from router.core.events import Recorder
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.memory import MIB
from router.core.policy import State
from router.core.preflight import (
    LEAST_REQUESTS,
    MOST_DEATHS,
    PreflightEvidence,
    PreflightJudgement,
    PreflightLimits,
    PreflightReport,
    PreflightVerdict,
    TakenRequest,
    judge,
)
from router.core.preflight_events import PreflightEnded
from router.core.scores import OutputSpec, middle_of
from router.errors import DeadlineExceeded, RequestRefused
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.caps import CapsInForce
from router.serving.effects import left_out
from router.serving.harness import Harness
from router.serving.kept_requests import KeptRequests
from router.settings import ModelSettings
from router.settings.preflight import PreflightSettings

LONGEST_SECONDS = 30.0
"""After which a version is judged by what it has answered until then."""
PROCESSOR_SHARE = 0.2
"""Part of the time in which one of the two predicts: production serves meanwhile, on the same machine."""
LONGEST_ANSWER_SECONDS = 3.0
"""For which a version is waited for. Production took a second at most."""
LONG_BYTES = 16 << 10
"""Of two answers that are not read in the event loop: others would wait for that."""
IDLE_LOOK_SECONDS = 0.005
"""Between two looks for a worker that has nothing to do."""

_log = logging.getLogger(__name__)


class PreflightModel(Protocol):
    """The model; all of it is read at each use."""

    @property
    def settings(self) -> ModelSettings:
        """In force now."""

    @property
    def aspired(self) -> Mapping[Alias, VersionId]:
        """What shall serve."""

    @property
    def bound(self) -> Mapping[Alias, VersionId]:
        """What serves now."""

    @property
    def harnesses(self) -> Mapping[VersionId, Harness]:
        """Of every version that is here."""

    def reconcile(self) -> None:
        """Bind what is held back no more."""


@dataclass(slots=True)
class _Pass:
    """The requests that are passed over one version, and what came of it so far."""

    version: Harness
    production: Harness
    began_at: float
    output: OutputSpec | None
    limits: PreflightLimits
    evidence: PreflightEvidence = field(default_factory=PreflightEvidence)
    busy_seconds: float = 0.0
    """In which one of the two predicted, or was to."""

    @property
    def ends_at(self) -> float:
        """Loop time at which it is judged by what there is."""
        return self.began_at + LONGEST_SECONDS

    def add(self, version: Answer | RequestRefused, production: Answer | RequestRefused) -> None:
        """Compare how both took one request."""
        taken = (_taken(version, self.output), _taken(production, self.output))
        self.evidence.add(*taken, self.limits.cut_off)


class Preflight:
    """Holds a version back from its aliases while the last requests are passed over it, once in its life.

    Never from production, and never without a production to compare it with: neither a rollback nor a start
    waits. `settle` whenever something that is read here may have changed; `apply_settings` when the settings
    did. What fails is bound all the same, and held (`CapsInForce.holds`) where the settings say so; also
    under an alias that wants it later, by `hold_failed` before anything is bound.
    """

    def __init__(self, name: str, model: PreflightModel, recorder: Recorder, caps: CapsInForce) -> None:
        """`name` of the registered `model`."""
        self.kept: KeptRequests | None = None
        """Of the last requests; None while nothing is kept."""
        self._name = name
        self._model = model
        self._recorder = recorder
        self._caps = caps
        self._loop = asyncio.get_running_loop()
        self._reports: dict[Harness, PreflightReport] = {}
        """Of each version that is here and was passed over, or was not to be."""
        self._under_way: dict[Harness, asyncio.Task[None]] = {}
        self.apply_settings()

    @property
    def held_back(self) -> frozenset[VersionId]:
        """Versions that no alias but production may be bound to yet."""
        if self._settings is None:
            return frozenset()
        return frozenset(version for version in self._model.aspired.values() if self._is_due(version))

    @property
    def held(self) -> frozenset[Alias]:
        """Aliases that get nothing, because what they serve failed, here or at another gateway."""
        bound = self._model.bound
        return frozenset(
            alias
            for alias, version in bound.items()
            if alias != PRODUCTION and version != bound.get(PRODUCTION) and self._caps.is_held(alias, version)
        )

    def apply_settings(self) -> None:
        """Follow changed settings: without the key nothing is kept any more when this returns."""
        settings = self._settings
        if settings is None:
            self._forget()
        elif self.kept is None:
            self.kept = KeptRequests(settings.limits)
        else:
            self.kept.limit(settings.limits)

    def hold_failed(self) -> None:
        """Hold the aliases that now want what failed under another one."""
        model = self._model
        for harness, report in self._reports.items():
            version = harness.version
            if model.harnesses.get(version) is not harness or harness.state is not State.READY:
                continue  # by another load it is looked at anew
            if report.verdict is PreflightVerdict.FAIL and model.aspired.get(PRODUCTION) != version:
                unbound = [one for one in self._aliases_of(version) if model.bound.get(one) != version]
                self._hold(self._to_hold(unbound, version), version, report)

    def settle(self) -> bool:
        """Begin what is due, end what is not; whether a version is held back no more, and may be bound."""
        here = set(self._model.harnesses.values())
        self._reports = {harness: report for harness, report in self._reports.items() if harness in here}
        due = self.held_back
        for harness in [one for one in self._under_way if one not in here or one.version not in due]:
            self._under_way.pop(harness).cancel()
        released = False
        for version in sorted(due):
            ready = self._model.harnesses.get(version)
            if ready is not None and ready.state is State.READY and ready not in self._under_way:
                released |= not self._begin(ready)
        return released

    def to_json(self, version: VersionId) -> dict[str, Any] | None:
        """JSON-ready, of a version that is here; None where no requests were to be passed over it."""
        harness = self._model.harnesses.get(version)
        if harness is None:
            return None
        if harness in self._under_way:
            return {"verdict": "under_way"}
        report = self._reports.get(harness)
        return report.to_json() if report is not None else None

    def passes(self) -> dict[Alias, bool]:
        """Of each alias whose version passed, or failed, which of the two."""
        reports = {
            alias: self._reports.get(harness)
            for alias, version in self._model.bound.items()
            if alias != PRODUCTION and (harness := self._model.harnesses.get(version)) is not None
        }
        return {
            alias: report.verdict is PreflightVerdict.PASS
            for alias, report in reports.items()
            if report is not None and report.verdict in (PreflightVerdict.PASS, PreflightVerdict.FAIL)
        }

    def kept_to_json(self) -> dict[str, Any] | None:
        """JSON-ready: how many requests are kept, and bytes; None while nothing is kept."""
        return {"requests": len(self.kept), "bytes": self.kept.size} if self.kept is not None else None

    def warnings(self) -> list[str]:
        """A sentence for each alias that is held, or whose version failed and is not."""
        sentences, held = [], self.held
        for alias, version in self._model.bound.items():
            harness = self._model.harnesses.get(version)
            report = self._reports.get(harness) if harness is not None else None
            why = f": {report.why}" if report is not None else ""
            if alias in held:
                sentences.append(
                    f"{alias} v{version.number} failed its pre-flight, and production has its share until it"
                    f" is resumed{why}"
                )
            elif alias != PRODUCTION and report is not None and report.verdict is PreflightVerdict.FAIL:
                sentences.append(f"{alias} v{version.number} failed its pre-flight{why}")
        return sentences

    def close(self) -> None:
        """Keep nothing any more, and end what is under way."""
        self._forget()
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()

    @property
    def _settings(self) -> PreflightSettings | None:
        return self._model.settings.preflight

    def _forget(self) -> None:
        if self.kept is not None:
            self.kept.clear()
            self.kept = None

    def _is_due(self, version: VersionId) -> bool:
        """Whether requests are to be passed over it before it is bound."""
        model = self._model
        production = model.bound.get(PRODUCTION)
        if production is None or version in model.bound.values() or model.aspired.get(PRODUCTION) == version:
            return False
        return model.harnesses.get(version) not in self._reports

    def _begin(self, harness: Harness) -> bool:
        """Pass requests over a version, or find at once that none are to be; False: it may be bound."""
        settings, kept = self._settings, self.kept
        assert settings is not None, "nothing is held back without the key"
        assert kept is not None, "nor without a place for requests"
        number = self._model.bound[PRODUCTION]
        production = self._model.harnesses.get(number)
        judgement = None
        if production is None or production.info is None or not production.loaded or harness.info is None:
            judgement = _not_enough("production has no worker now")
        elif why := left_out(settings.effects, harness.info, production.info):
            judgement = PreflightJudgement(PreflightVerdict.LEFT_OUT, why)
        elif len(kept) < LEAST_REQUESTS:
            judgement = _not_enough(f"{len(kept)} of the last requests are kept, {LEAST_REQUESTS} are needed")
        else:
            output = next(iter(production.info.scores), None)
            limits = _limits(settings, self._model.settings, output)
            one = _Pass(harness, production, self._loop.time(), output, limits)
            self._under_way[harness] = self._loop.create_task(
                self._pass_over(one, kept), name=f"preflight {harness.version}"
            )
            return True
        self._end(harness, PreflightReport(judgement.verdict, judgement.why, number.number))
        return False

    async def _pass_over(self, one: _Pass, kept: KeptRequests) -> None:
        try:
            with kept.read() as numbers:
                judgement = await self._ask_all(one, kept, numbers)
        except Exception as error:  # noqa: BLE001 - whatever it is, the version must not wait for ever
            # Without its text, which may quote an answer.
            what = type(error).__name__
            _log.error("the pre-flight of %s could not be carried out: %s", one.version.version, what)
            judgement = _not_enough(f"it could not be carried out ({what})")
        self._under_way.pop(one.version, None)
        seconds = self._loop.time() - one.began_at
        number = one.production.version.number
        self._end(one.version, PreflightReport.of(judgement, one.evidence, number, seconds))
        self._model.reconcile()

    async def _ask_all(self, one: _Pass, kept: KeptRequests, numbers: Sequence[int]) -> PreflightJudgement:
        """As many of them as fit into the time."""
        for number in numbers:
            if (query := kept.get(number)) is None:
                continue  # it has become too old
            before = one.busy_seconds
            version = await self._ask(one, one.version, query, LONGEST_ANSWER_SECONDS)
            production = await self._ask(one, one.production, query, LONGEST_SECONDS)
            if self._model.bound.get(PRODUCTION) != one.production.version:
                return _not_enough("production moved meanwhile")
            if version is None or production is None:
                break
            if _bytes_of(version) + _bytes_of(production) > LONG_BYTES:
                await asyncio.to_thread(one.add, version, production)
            else:
                one.add(version, production)
            if one.limits.growth_bytes is not None and one.version.loaded:
                one.evidence.growth_bytes = max(one.evidence.growth_bytes, one.version.pool.growth())
            pause = (one.busy_seconds - before) * (1 / PROCESSOR_SHARE - 1)
            if one.evidence.deaths_alone == MOST_DEATHS or self._loop.time() + pause >= one.ends_at:
                break  # it has failed, or there is no time for another one
            if isinstance(production, RequestRefused):
                break  # its worker ended by that request, or beside it: callers must not pay for another one
            await asyncio.sleep(pause)
        return judge(one.evidence, one.limits)

    async def _ask(
        self, one: _Pass, harness: Harness, query: Query, longest_seconds: float
    ) -> Answer | RequestRefused | None:
        """The answer of a worker that had nothing to do, or how it failed; None when the time is over."""
        asked = None
        while harness.loaded and (asked := harness.pool.ask_idle(query)) is None:
            if self._loop.time() >= one.ends_at:
                return None
            await asyncio.sleep(IDLE_LOOK_SECONDS)
        if asked is None:
            return None
        began_at = self._loop.time()
        until = min(one.ends_at, began_at + longest_seconds)
        try:
            async with asyncio.timeout_at(until):
                return await asked.answer
        except TimeoutError:
            is_over = until == one.ends_at
            if asked.apart or not is_over:
                asked.end()
            if is_over:
                return None
            return DeadlineExceeded(f"no answer within {longest_seconds:g} s")
        except RequestRefused as refused:
            return refused
        finally:
            one.busy_seconds += self._loop.time() - began_at

    def _end(self, harness: Harness, report: PreflightReport) -> None:
        """It is held back no more."""
        version, aliases = harness.version, self._aliases_of(harness.version)
        self._reports[harness] = report
        failed = report.verdict is PreflightVerdict.FAIL
        held = self._to_hold(aliases, version) if failed else []
        self._recorder.record(PreflightEnded(self._name, aliases, version, report, held=bool(held)))
        self._hold(held, version, report)

    def _aliases_of(self, version: VersionId) -> tuple[Alias, ...]:
        """Those that shall serve it, without production."""
        aspired = self._model.aspired.items()
        return tuple(alias for alias, wanted in aspired if wanted == version and alias != PRODUCTION)

    def _to_hold(self, aliases: Iterable[Alias], version: VersionId) -> list[Alias]:
        """Those of `aliases` under which `version`, which failed, is to be held."""
        if self._settings is None or self._settings.on_fail != "hold":
            return []
        return [alias for alias in aliases if not self._caps.was_resumed(alias, version)]

    def _hold(self, aliases: Iterable[Alias], version: VersionId, report: PreflightReport) -> None:
        for alias in aliases:
            self._caps.hold(alias, version, report.why)


def _not_enough(why: str) -> PreflightJudgement:
    return PreflightJudgement(PreflightVerdict.NOT_ENOUGH_DATA, why)


def _limits(settings: PreflightSettings, model: ModelSettings, output: OutputSpec | None) -> PreflightLimits:
    growth = model.worker_memory_mib
    return PreflightLimits(
        settings.max_flips,
        middle_of(output) if settings.cut_off is None else settings.cut_off,
        settings.min_agreement,
        None if growth is None else growth * MIB,
        model.answer_length,
    )


def _bytes_of(result: Answer | RequestRefused) -> int:
    return len(result.body) if isinstance(result, Answer) else 0


def _taken(result: Answer | RequestRefused, output: OutputSpec | None) -> TakenRequest:
    if isinstance(result, RequestRefused):
        return TakenRequest(fault=True, ended_worker=True)
    if result.predict_status is not PredictStatus.OK or result.all_nan:
        return TakenRequest(fault=True)
    reading = read_answer(result.body, output)
    return TakenRequest(
        fault=False, one_per_row=not result.odd_length, seconds=result.predict_seconds, reading=reading
    )
