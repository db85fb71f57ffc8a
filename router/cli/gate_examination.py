"""One candidate examined: both versions are brought to READY as a gateway would, checked, and asked.

What the candidate does wrong is a finding. What keeps anybody from knowing, such as a production that does
not load, raises.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.app.backends import Backends
from router.cli.ready_version import VersionHere, bring_here, load
from router.core.gate import GateEvidence
from router.core.gate_metadata import HOLDOUT, metadata_in
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.redaction import redact_uri
from router.core.scores import OutputSpec
from router.errors import (
    ChildLost,
    ChildTimeout,
    DiskFull,
    EnvironmentFailed,
    IndexUnreachable,
    LoadFailed,
    NoRoom,
)
from router.gate import example, holdout_answers
from router.gate import signature as signatures
from router.gate.answers import AskedVersion, BatchLimits
from router.gate.comparison import compare
from router.gate.data import Holdout, open_holdout
from router.gate.errors import AnswerRefused, Arm, GateRefused
from router.gate.findings import Finding, Outcome, found, judged, not_checked
from router.gate.holdout_answers import ask_both
from router.gate.kept_rows import PairedRows
from router.gate.model_files import Signature, example_in, signature_in
from router.gate.named_metrics import Metric
from router.gate.report import HoldoutResult
from router.gate.statistics.verdict import judge
from router.promotion.ports import shown
from router.protocol.messages import VersionInfo
from router.serving.pool.admission import MAX_BATCH_REQUESTS
from router.serving.pool.request_queue import MAX_BATCH_BYTES
from router.serving.ports import WorkerHandle
from router.settings import ModelSettings, Settings

METADATA, LOAD, ENVIRONMENT = "metadata", "load", "environment"
_PROGRESS_SECONDS = 10.0
_NO_HOLDOUT = "a hold-out is required, and --data names none"
_OF_THIS_MACHINE = (NoRoom, IndexUnreachable, DiskFull)
"""What keeps a version from READY and says nothing of it."""
_BATCH = BatchLimits(MAX_BATCH_REQUESTS, MAX_BATCH_BYTES)
"""As a gateway's queue makes them."""
_BY_DEFAULT = {Arm.CANDIDATE: (CANARY, "--version"), Arm.PRODUCTION: (PRODUCTION, "--against")}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HoldoutAsked:
    """What the operator asks of the hold-out."""

    path: Path
    """On this machine."""
    source: str
    """As the operator named it."""
    metric: Metric
    target: str
    group: str | None
    positive: str | None
    cut_off: float | None
    max_loss: float
    min_gain: float | None
    rows_each: int
    """Rows of one request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator asks for."""

    model: str
    version: int | None
    """None: what the canary's alias names."""
    against: int | None
    """None: what production's alias names."""
    require: Sequence[str]
    sends: Collection[str]
    """Columns that callers send already, though production does not need them."""
    holdout: HoldoutAsked | None


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found."""

    evidence: GateEvidence
    against: VersionId
    findings: Sequence[Finding]
    holdout: HoldoutResult | None
    rows: PairedRows | None
    """Targets and answers that were compared; None without a result."""


async def named_versions(
    backends: Backends, wanted: ModelSettings, model: str, numbers: Mapping[Arm, int | None]
) -> dict[Arm, VersionId]:
    """By `numbers`, or where there is none by the alias. Raises GateRefused, RegistryError."""
    aspired = await backends.source.poll(model, wanted.aliases)
    versions: dict[Arm, VersionId] = {}
    for arm, number in numbers.items():
        role, option = _BY_DEFAULT[arm]
        version = aspired.get(role) if number is None else VersionId(model, number)
        if version is None:
            name = shown(wanted.aliases[role])
            raise GateRefused(f"{name} names no version of {model}: {option} says which one is meant")
        versions[arm] = version
    return versions


async def examine(
    backends: Backends, settings: Settings, wanted: ModelSettings, asked: Asked, say: Say
) -> Examined:
    """All checks, in their order; what can not be looked at any more is left out. Raises GateRefused,
    RegistryError, and what keeps production's version from READY."""
    if wanted.where is not None:
        raise GateRefused(
            f"versions of {asked.model} run elsewhere, and have to be loaded to be compared: give a"
            " configuration with `where: local`"
        )
    numbers = {Arm.CANDIDATE: asked.version, Arm.PRODUCTION: asked.against}
    versions = await named_versions(backends, wanted, asked.model, numbers)
    candidate, production = versions[Arm.CANDIDATE], versions[Arm.PRODUCTION]
    if candidate == production:
        raise GateRefused(
            f"{candidate} would be compared with itself: name another one by --version or --against"
        )
    required = metadata_in(asked.require)
    evidence = await backends.gate_source.gate_evidence(candidate, required)
    examination = _Examination(backends, settings, wanted, asked, versions, say)
    findings = [metadata_finding(evidence, required)]
    say(f"{candidate} is compared with {production}")
    files = {arm: await examination.fetch(arm) for arm in Arm}
    both = {arm: signature_in(files[arm]) for arm in Arm}
    findings.append(signatures.compare_signatures(both[Arm.PRODUCTION], both[Arm.CANDIDATE], asked.sends))
    holdout = await examination.opened_holdout(both) if asked.holdout else None
    async with examination.loaded(findings) as workers:
        if workers is not None:
            findings += await examination.ask(workers, files, holdout)
    if holdout is None and HOLDOUT in asked.require:
        findings.append(found(HOLDOUT, Outcome.NOT_ENOUGH_DATA, _NO_HOLDOUT))
    return Examined(evidence, production, findings, examination.result, examination.rows)


def metadata_finding(evidence: GateEvidence, required: Sequence[str]) -> Finding:
    """Whether the registry has all that is required of the candidate."""
    if not required:
        return not_checked(METADATA, "nothing is required: --require, or gate.require, names it")
    faults = [f"the registry has no {', no '.join(evidence.missing)} of it"] if evidence.missing else []
    return judged(METADATA, faults, f"the registry has {', '.join(required)} of it")


def environment_finding(here: VersionHere, info: VersionInfo) -> Finding:
    """What its Python environment is, and how that differs from the one in which it was logged."""
    if (own := here.environment) is not None:
        size = f"Python {own.about.python}, {own.about.size_bytes / (1 << 20):.0f} MiB"
        notes = [*own.about.differences, *([own.note] if own.note else ()), *info.mismatches]
        return judged(ENVIRONMENT, [], f"what it requires is built: {size}", notes)
    well = "it is loaded in an environment like that in which it was logged"
    if info.mismatches:
        well = "it is loaded in this machine's environment, which differs from that in which it was logged"
    return judged(ENVIRONMENT, [], well, info.mismatches)


class _Examination:
    def __init__(
        self,
        backends: Backends,
        settings: Settings,
        wanted: ModelSettings,
        asked: Asked,
        versions: Mapping[Arm, VersionId],
        say: Say,
    ) -> None:
        self._backends = backends
        self._settings = settings
        self._wanted = wanted
        self._asked = asked
        self._versions = versions
        self._say = say
        self.result: HoldoutResult | None = None
        """Of the hold-out, once both answered it and the answers were compared."""
        self.rows: PairedRows | None = None

    async def fetch(self, arm: Arm) -> Path:
        limit = self._settings.registry.download_timeout_seconds
        return Path(await self._backends.fetcher.fetch(self._versions[arm], deadline_seconds=limit))

    async def opened_holdout(self, both: Mapping[Arm, Signature | None]) -> Holdout:
        """Read once before any version is loaded: what is wrong with it is known after seconds.

        Raises DataRefused, also where it lacks a column that a version requires: that is no fault of it.
        """
        asked = self._holdout
        holdout = await asyncio.to_thread(
            open_holdout,
            asked.path,
            asked.metric,
            asked.target,
            group=asked.group,
            positive=asked.positive,
            cut_off=asked.cut_off,
            text_columns=_columns(both.values(), lambda field: field.get("type") == "string"),
        )
        for arm, signature in both.items():
            required = _columns([signature], lambda field: bool(field.get("required", True)))
            holdout.require(required, str(self._versions[arm]))
        return holdout

    @asynccontextmanager
    async def loaded(self, findings: list[Finding]) -> AsyncIterator[dict[Arm, WorkerHandle] | None]:
        """Both versions READY until the block ends; None where the candidate does not become so, which is
        added to `findings`, as is its environment."""
        async with AsyncExitStack() as stack:
            try:
                here = await self._here(Arm.PRODUCTION)
                production = await self._load(here, None)
            except _OF_THIS_MACHINE:
                raise
            except (LoadFailed, ChildLost, ChildTimeout, EnvironmentFailed) as error:
                which = self._versions[Arm.PRODUCTION]
                raise GateRefused(f"{which}, to compare with, does not become READY: {error}") from error
            stack.push_async_callback(production.close)
            step = ENVIRONMENT
            try:
                here = await self._here(Arm.CANDIDATE)
                step = LOAD
                candidate = await self._load(here, production.info.suggested_scores)
            except _OF_THIS_MACHINE:
                raise
            except (LoadFailed, ChildLost, ChildTimeout, EnvironmentFailed) as error:
                findings.append(judged(step, [f"it does not become READY: {error}"], ""))
                yield None
                return
            stack.push_async_callback(candidate.close)
            findings.append(environment_finding(here, candidate.info))
            yield {Arm.PRODUCTION: production, Arm.CANDIDATE: candidate}

    async def ask(
        self, workers: Mapping[Arm, WorkerHandle], files: Mapping[Arm, Path], holdout: Holdout | None
    ) -> list[Finding]:
        """The examples, then the hold-out."""
        seconds = self._wanted.predict_timeout_seconds
        versions = {arm: AskedVersion(arm, worker, _BATCH, seconds) for arm, worker in workers.items()}
        examples = example.Examples(*(example_in(files[arm]) for arm in (Arm.PRODUCTION, Arm.CANDIDATE)))
        findings: list[Finding] = []
        check = example.CHECK
        try:
            findings.append(await example.check_examples(versions, examples, self._asked.sends))
            if holdout is None:
                return findings
            check = holdout_answers.CHECK
            output = self._output(workers[Arm.PRODUCTION].info)
            answers = await ask_both(
                holdout, versions, output, self._holdout.rows_each, self._progress(holdout.rows)
            )
            findings.append(answers.finding)
            if answers.finding.outcome is Outcome.FAIL and not answers.kept.rows:
                return findings
            check = HOLDOUT
            findings.append(await self._compared(holdout, answers, output))
        except AnswerRefused as refused:
            if refused.arm is Arm.PRODUCTION:
                raise
            findings.append(judged(check, [f"it {refused.what}"], ""))
        return findings

    async def _compared(
        self, holdout: Holdout, answers: holdout_answers.HoldoutAnswers, output: int | str
    ) -> Finding:
        try:
            return await asyncio.to_thread(self._judged, holdout, answers, output)
        except AnswerRefused:
            raise
        except GateRefused as refused:
            if answers.finding.outcome is not Outcome.FAIL:
                raise
            # Too few are left where the candidate failed rows: it has failed in any case.
            return not_checked(HOLDOUT, str(refused))

    def _judged(
        self, holdout: Holdout, answers: holdout_answers.HoldoutAnswers, output: int | str
    ) -> Finding:
        asked = self._holdout
        self.rows = answers.kept.paired()
        difference = compare(asked.metric, self.rows)
        judgement = judge(difference, asked.max_loss, asked.min_gain)
        self.result = HoldoutResult(
            redact_uri(asked.source),
            holdout.digest(),
            asked.target,
            asked.group,
            output,
            answers.asked,
            difference,
            asked.max_loss,
            asked.min_gain,
            judgement,
        )
        return found(HOLDOUT, Outcome(judgement.verdict.value), judgement.sentence, difference.notes)

    @property
    def _holdout(self) -> HoldoutAsked:
        assert self._asked.holdout is not None
        return self._asked.holdout

    async def _here(self, arm: Arm) -> VersionHere:
        return await bring_here(self._backends, self._settings, self._wanted, self._versions[arm])

    async def _load(self, here: VersionHere, scores: tuple[OutputSpec, ...] | None) -> WorkerHandle:
        return await load(self._backends, self._settings, self._wanted, here, scores)

    def _output(self, production: VersionInfo) -> int | str:
        """Which part of an answer is compared: what a gateway counts of production's. Raises GateRefused."""
        if not production.scores:
            raise GateRefused(
                "which part of an answer is to be compared is not known:"
                f" models.{self._asked.model}.scores names it as output"
            )
        return production.scores[0].output

    def _progress(self, rows: int) -> Callable[[int], None]:
        said_at = time.monotonic()

        def progress(asked: int) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= _PROGRESS_SECONDS:
                said_at = time.monotonic()
                self._say(f"both versions answered {asked:,} of {rows:,} rows")

        return progress


def _columns(
    signatures: Collection[Signature | None], wanted: Callable[[Mapping[str, Any]], bool]
) -> list[str]:
    """Names of the inputs that are `wanted`, by the signatures that there are."""
    inputs = (field for signature in signatures if signature is not None for field in signature.inputs)
    return [str(field["name"]) for field in inputs if "name" in field and wanted(field)]
