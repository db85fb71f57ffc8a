"""What of one registered model has passed the gate, and which aliases are held because theirs has not."""

from collections.abc import Mapping
from typing import Any, Protocol

from router.core.events import Recorder
from router.core.gate import GateJudgement
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.gate_record import Objection
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.redaction import redact
from router.serving.caps import CapsInForce
from router.settings import ModelSettings
from router.settings.gate import GateSettings

NOT_JUDGED = "what the registry says of it was not read yet"
_PASSES = ("passed", "overridden")
_NOT_KNOWN = frozenset({Objection.NOT_READ, Objection.NO_KEY})
_EXCUSED = _NOT_KNOWN | {Objection.TOO_OLD, Objection.AHEAD, Objection.NO_HOLDOUT, Objection.METADATA}
"""What does not speak against a version that is recorded to have passed, where it is all that is found of one
of its two tags: time, another rule, and what is not known. Tags that are gone, or are not its own, do:
another version may have come under its number."""
_LONGEST_WORD = 500
"""Characters of what a record keeps of why a version passed."""


class GatedModel(Protocol):
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


class GateHolds:
    """Keeps what was found of each version, and says which aliases get nothing.

    A version passes once: from then on, and as long as an alias serves it, neither the age of its record nor
    another production takes that away. What passed is recorded (`CapsInForce.passages`), so that it stays
    after a restart, and at other gateways that begin to serve it later: the record stands for a tag that has
    become too old, for an override that has ended, and for what can not be read, and not for tags that are
    gone. Production is never held.
    """

    def __init__(self, name: str, model: GatedModel, recorder: Recorder, caps: CapsInForce) -> None:
        """`name` of the registered `model`."""
        self._name = name
        self._model = model
        self._recorder = recorder
        self._caps = caps
        self._judged: dict[VersionId, GateJudgement] = {}
        """What was last found of each version that shall serve, or serves."""
        self._passed: dict[VersionId, GateJudgement | None] = {}
        """Versions that serve and have passed, and by what; None: before this process, or elsewhere."""
        self._reported: dict[Alias, tuple[VersionId, tuple[str, ...]]] = {}
        """What was last reported to have not passed, and what speaks against it."""

    @property
    def held(self) -> frozenset[Alias]:
        """Aliases that get nothing."""
        bound, gate = self._model.bound, self._gate
        if gate.canary != "required":
            return frozenset()
        return frozenset(
            alias
            for alias, version in bound.items()
            if alias != PRODUCTION and version != bound.get(PRODUCTION) and version not in self._passed
        )

    def to_judge(self) -> set[VersionId]:
        """Versions that shall serve, or serve, and of which the registry is to be asked: those that have not
        passed and, once, those of which it is only recorded that they did."""
        wanted = {
            version
            for wish in (self._model.aspired, self._model.bound)
            for alias, version in wish.items()
            if self._gate.asks_for(alias)
        }
        return {version for version in wanted if not self._is_known(version)}

    def ages(self, version: VersionId) -> bool:
        """Whether a record of `version` may be too old: that of production is as old as it serves."""
        productions = (self._model.bound.get(PRODUCTION), self._model.aspired.get(PRODUCTION))
        return self._gate.canary == "required" and version not in productions

    def note(self, judgement: GateJudgement) -> None:
        """What was found of a version that was `to_judge`; it counts once routes are published."""
        self._judged[judgement.version] = judgement

    def settle(self) -> None:
        """Let through what serves and has passed, and report what changed. To be called whenever something
        that is read here may have changed, before routes are published."""
        aspired, bound = self._model.aspired, self._model.bound
        serving, wanted = set(bound.values()), {*aspired.values(), *bound.values()}
        self._judged = {version: one for version, one in self._judged.items() if version in wanted}
        self._passed = {
            version: by
            for version, by in self._passed.items()
            if version in serving and (by is not None or self._is_excused(version))
        }
        for version in sorted({one for alias, one in bound.items() if self._gate.asks_for(alias)}):
            self._let_through(version)
        self._reported = {
            alias: reported
            for alias, reported in self._reported.items()
            if bound.get(alias) == reported[0] and self._gate.asks_for(alias)
        }
        for alias, version in bound.items():
            if self._gate.asks_for(alias) and not self._is_productions(alias, version):
                self._report(alias, version)

    def forget_what_left(self) -> None:
        """A good poll was followed: what passed, and shall serve no more, has to pass anew to return."""
        if (passages := self._caps.passages) is not None:
            here = {*self._model.aspired.values(), *self._model.bound.values()}
            for target in list(self._caps.caps.passages(self._name)):
                assert target.version is not None, "it is one version that passes"
                if (version := VersionId(self._name, target.version)) not in here:
                    passages.serves_no_more(version)

    def to_json(self, alias: Alias) -> dict[str, Any] | None:
        """JSON-ready, of what `alias` serves; None where it serves nothing, or nothing is asked of it.

        `state` is passed, overridden, held, not_passed (and served all the same) or not_judged.
        """
        version = self._model.bound.get(alias)
        if version is None or not self._gate.asks_for(alias) or self._is_productions(alias, version):
            return None
        judged = self._judged.get(version)
        if version in self._passed:
            return {
                "state": "overridden" if self._is_overridden(version) else "passed",
                "why": redact(self._by_what(version)),
                "objections": [],
            }
        state = "held" if alias in self.held else "not_judged" if judged is None else "not_passed"
        return {
            "state": state,
            "why": redact(judged.why_not) if judged is not None else NOT_JUDGED,
            "objections": list(judged.objections) if judged is not None else [],
        }

    def passes(self) -> dict[Alias, bool]:
        """Of each alias of which the gate is asked, whether what it serves has passed, as far as is known."""
        shown = {alias: self.to_json(alias) for alias in self._model.bound}
        return {
            alias: one["state"] in _PASSES
            for alias, one in shown.items()
            if one is not None and one["state"] != "not_judged"
        }

    def warnings(self) -> list[str]:
        """A sentence for each alias that is held, for production that did not pass, and for each override."""
        sentences = []
        for alias, version in self._model.bound.items():
            what = f"{alias} v{version.number}"
            match self.to_json(alias):
                case {"state": "held", "why": why}:
                    sentences.append(f"the gate holds {what}, and production has its share: {why}")
                case {"state": "not_passed", "why": why} if alias == PRODUCTION:
                    sentences.append(f"{what} has not passed the gate: {why}")
                case {"state": "overridden", "why": why}:
                    sentences.append(f"{what} has not passed the gate: {why}")
        return sentences

    @property
    def _gate(self) -> GateSettings:
        return self._model.settings.gate

    def _is_productions(self, alias: Alias, version: VersionId) -> bool:
        """Whether another alias than production serves production's version: there is nothing to hold."""
        return alias != PRODUCTION and version == self._model.bound.get(PRODUCTION)

    def _is_known(self, version: VersionId) -> bool:
        """Whether it has passed, by what was read of it since; or by a record, and that was looked at."""
        if version not in self._passed:
            return False
        judged = self._judged.get(version)
        looked = judged is not None and not judged.objections.keys() <= _NOT_KNOWN
        return self._passed[version] is not None or looked

    def _is_excused(self, version: VersionId) -> bool:
        """Whether nothing is known that speaks against what is only recorded."""
        judged = self._judged.get(version)
        return judged is None or judged.counts_but_for(_EXCUSED)

    def _let_through(self, version: VersionId) -> None:
        judged = self._judged.get(version)
        if self._passed.get(version) is not None:
            return
        if judged is not None and judged.passes:
            self._passed[version] = judged
            if self._caps.passages is not None:
                why, override = judged.by_what()[:_LONGEST_WORD], judged.override is not None
                self._caps.passages.passed(version, why, override=override)
        elif self._caps.passage(version) is not None and self._is_excused(version):
            self._passed[version] = None

    def _is_overridden(self, version: VersionId) -> bool:
        """Whether what let it through was an override, which may have ended since."""
        by = self._passed[version]
        if by is not None:
            return by.override is not None
        record = self._caps.passage(version)
        return record is not None and record.overrides

    def _by_what(self, version: VersionId) -> str:
        by, production = self._passed[version], self._model.bound.get(PRODUCTION)
        if by is not None:
            return by.by_what(production.number if production is not None else None)
        judged, record = self._judged.get(version), self._caps.passage(version)
        since = f", and would not now: {judged.why_not}" if judged is not None else ""
        # Who let it through, until when and why, stays to be seen; what it passed by is in the registry.
        before = record.reason if record is not None and record.overrides else "it was let through before"
        return f"{before}{since}"

    def _report(self, alias: Alias, version: VersionId) -> None:
        """Say once that it passed, or what speaks against it; of what is neither held nor production nothing,
        for that may go on as it is."""
        if alias != PRODUCTION and self._gate.canary != "required":
            return
        judged, before = self._judged.get(version), self._reported.get(alias)
        if version in self._passed:
            now: tuple[str, ...] = ()
        elif judged is not None:
            now = tuple(judged.objections)
        else:
            return
        # A registry that is away for a moment is no news of a version that is known not to have passed.
        unread = now == (Objection.NOT_READ,) and before is not None and before[0] == version and before[1]
        if before == (version, now) or unread:
            return
        self._reported[alias] = version, now
        if now:
            assert judged is not None  # or there were no objections
            self._recorder.record(
                GateNotPassed(self._name, alias, version, now, judged.why_not, held=alias != PRODUCTION)
            )
            return
        self._recorder.record(
            GatePassed(
                self._name,
                alias,
                version,
                self._by_what(version),
                override=self._is_overridden(version),
                after_all=before is not None,
            )
        )
