"""Asks the registry about versions that have not passed the gate yet, and judges them.

Apart from the poll of the aliases, by an agent of its own: whatever the registry says here, or does not,
binds nothing and delays no binding.
"""

import time
from collections.abc import Callable

from router.control.alias_watch import SILENCE_SECONDS, AliasWatch
from router.control.gate_keys import GateKeys
from router.core.gate import GateJudgement, GateRules, judge, not_judged
from router.core.gate_metadata import HOLDOUT, metadata_in
from router.core.gate_record import Objection
from router.core.ids import VersionId
from router.core.redaction import redact_line
from router.errors import RegistryError, RegistryUnavailable
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.ports import GateSource
from router.settings.gate import GateSettings

TICK_SECONDS = 1.0
QUESTION_SECONDS = 5.0
"""For one question."""
_EARLY_SECONDS = 0.1
"""A tick may come a little early."""


class GateWatch:
    """Judges each version that is to pass at once, and then again once per poll, until it passes."""

    def __init__(
        self,
        source: GateSource,
        models: ModelSet,
        alias_watch: AliasWatch,
        poll_seconds: Callable[[], float],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wall` gives seconds since 1970."""
        self._source = source
        self._models = models
        self._alias_watch = alias_watch
        self._poll_seconds = poll_seconds
        self._wall = wall
        self._monotonic = monotonic
        self._keys = GateKeys()
        self._due: dict[VersionId, tuple[float, GateSettings]] = {}
        """When each version that has not passed is to be asked about next; at once by other settings."""
        self._silent: VersionId | None = None
        """The last one over which the registry was silent."""

    def look_again(self) -> None:
        """With the next tick, ask about all of them, however lately that was done."""
        self._due.clear()

    async def tick(self) -> None:
        """Ask about every version that is due. After a silence the rest comes first in the next tick."""
        wanted = self._in_turn()
        versions = {version for _, version in wanted}
        self._due = {version: due for version, due in self._due.items() if version in versions}
        silence: RegistryError | None = None
        for manager, version in wanted:
            gate, now = manager.settings.gate, self._monotonic()
            due, by = self._due.get(version, (now, gate))
            if by == gate and now < due - _EARLY_SECONDS:
                continue
            if silence is None:
                self._due[version] = now + self._poll_seconds(), gate
            try:
                judgement = await self._judged(manager, version, gate, silence)
            except RegistryError as error:
                if isinstance(error, RegistryUnavailable) and self._monotonic() - now > SILENCE_SECONDS:
                    # Of one version it is of all, in this tick: asking each would take N times as long.
                    silence, self._silent = error, version
                judgement = _not_read(version, str(error))
            if self._models.managers.get(manager.model) is manager and manager.settings.gate == gate:
                manager.note_gate(judgement)

    def _in_turn(self) -> list[tuple[ModelManager, VersionId]]:
        """All that have not passed, first the one after the last silence: that may be of one version whose
        run or LoggedModel is slow to read, and must not keep the others from being asked about."""
        wanted = [
            (manager, version)
            for manager in self._models.managers.values()
            for version in sorted(manager.gate_holds.to_judge())
        ]
        versions = [version for _, version in wanted]
        first = versions.index(self._silent) + 1 if self._silent in versions else 0
        return wanted[first:] + wanted[:first]

    async def _judged(
        self, manager: ModelManager, version: VersionId, gate: GateSettings, silence: RegistryError | None
    ) -> GateJudgement:
        """Raises RegistryError."""
        if error := self._alias_watch.errors.get(manager.model):
            return _not_read(version, error)
        if silence is not None:
            raise silence
        ages = manager.gate_holds.ages(version)
        return await judged(self._source, self._keys, version, gate, ages=ages, now=self._wall())


async def judged(
    source: GateSource, keys: GateKeys, version: VersionId, gate: GateSettings, *, ages: bool, now: float
) -> GateJudgement:
    """What `source` has of `version`, judged by `gate` at `now`, in seconds since 1970. `ages`: whether its
    record may be too old. Raises RegistryError."""
    try:
        key = None if gate.key_path is None else await keys.read(gate.key_path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return not_judged(version, Objection.NO_KEY, f"gate.key_file can not be used: {why}")
    required = metadata_in(gate.require)
    evidence = await source.gate_evidence(version, required, deadline_seconds=QUESTION_SECONDS)
    rules = GateRules(gate.max_age_hours * 3600 if ages else None, key, HOLDOUT in gate.require)
    return judge(evidence, rules, now)


def _not_read(version: VersionId, error: str) -> GateJudgement:
    why = f"the registry does not say what it has of it: {redact_line(error)}"
    return not_judged(version, Objection.NOT_READ, why)
