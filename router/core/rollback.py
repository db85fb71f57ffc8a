"""What a rollback of production goes back to, which version stays loaded for it, and how soon it would serve.

Pure. A rollback is any move of production to what it served before, whoever makes it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from router.core.ids import VersionId
from router.core.redaction import redact

_MOST_PRODUCTIONS = 100
"""That are remembered; beyond it the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Productions:
    """Versions that production served, the present one last, without those that it went back from."""

    versions: tuple[VersionId, ...] = ()

    def moved(self, version: VersionId) -> "Productions":
        """Production serves `version`. Where it did so before, all that came after that was rolled back: that
        is what somebody wanted to get rid of."""
        if version in self.versions:
            return Productions(self.versions[: self.versions.index(version) + 1])
        return Productions((*self.versions, version)[-_MOST_PRODUCTIONS:])

    @property
    def former(self) -> VersionId | None:
        """What production served before the present one; None where that is not known."""
        return self.versions[-2] if len(self.versions) > 1 else None


def rollback_version(
    production: VersionId | None, named: VersionId | None, former: VersionId | None
) -> VersionId | None:
    """What a rollback goes back to; None: to nothing.

    `named` is the version that `@previous` names: it is chosen before the `former` production. Where
    production serves it already there is nothing to go back to, for that was a rollback.
    """
    if production is None:
        return None
    chosen = named if named is not None else former
    return None if chosen == production else chosen


def kept_version(
    production: VersionId | None,
    named: VersionId | None,
    former: VersionId | None,
    *,
    loaded: Collection[VersionId],
    wanted: Collection[VersionId],
) -> VersionId | None:
    """Which version stays loaded for a rollback, though no alias asks for it; never more than one.

    That of `@previous` where it is `loaded`, else the `former` production: with an alias that nobody moves
    along, nothing would be kept. None where that one is `wanted` under any alias, and so needs no keeping. No
    version is ever loaded in order to be kept.
    """
    for version in (named, former):
        if version is not None and version != production and version in loaded:
            return None if version in wanted else version
    return None


class Readiness(IntEnum):
    """How soon a version would serve after a rollback; values of `rollback_ready`."""

    NOT_READY = 0
    """Its files have to be fetched, its own Python environment has to be built, or it did not load."""
    SLOWER = 1
    """After a load, or with fewer workers than production has."""
    AT_ONCE = 2
    """It is loaded as production is."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """What is known of a rollback at one instant."""

    version: VersionId | None = None
    """What it goes back to; None: to nothing."""
    ready: Readiness = Readiness.NOT_READY
    reason: str = ""
    """Why it would not serve at once; empty when it would."""
    until: float | None = None
    """How long its workers stay, in seconds since 1970; None where none are kept for it."""

    def to_json(self) -> dict[str, Any]:
        """As `/v1/state` shows it."""
        return {
            "version": self.version.number if self.version is not None else None,
            "ready": int(self.ready),
            "reason": redact(self.reason),
            "until": self.until,
        }

    def is_lost_since(self, before: "Rollback", *, expired: bool) -> bool:
        """Whether a rollback takes longer than it did `before`, and that is news.

        It is no news of a version that serves under another alias, which comes back by itself; nor, while
        its files are here, when the time for which it was kept is over, as `expired` says.
        """
        if self.version is None or self.version != before.version or self.ready >= before.ready:
            return False
        return self.ready is Readiness.NOT_READY or (before.until is not None and not expired)


@dataclass(frozen=True, slots=True)
class LoadedWorkers:
    """A version that has workers, as a rollback would find it."""

    alive: int
    """Workers, 1 or more."""
    wanted: int
    """As many as production has by its settings."""
    outdated: bool = False
    """Whether they were loaded with other settings than those in force."""


def readiness(
    loaded: LoadedWorkers | None,
    *,
    has_copy: bool | None,
    has_environment: bool = True,
    is_there: bool = True,
    error: str,
    lost_because: str,
) -> tuple[Readiness, str]:
    """How soon a version would serve, and why not at once.

    `has_copy`: whether its files are in the cache, whole; None: not known yet. `has_environment`: whether the
    Python environment is here that it runs in. `is_there`: whether it answers where it runs, if that is
    elsewhere. `error`: why it does not load, where that was tried;
    `lost_because`: why workers of it are gone that were kept.
    """
    why = f": {lost_because}" if lost_because else ""
    if loaded is not None:
        if loaded.alive < loaded.wanted:
            return Readiness.SLOWER, f"{loaded.alive} of {loaded.wanted} workers are loaded{why}"
        if loaded.outdated:
            return Readiness.SLOWER, "its workers were loaded with other settings"
        return Readiness.AT_ONCE, ""
    if error:
        return Readiness.NOT_READY, f"it does not load: {error}"
    if not is_there:
        return Readiness.NOT_READY, f"it does not answer at its address{why}"
    if has_copy and not has_environment:
        return Readiness.NOT_READY, f"its Python environment has to be built{why}"
    if has_copy:
        return Readiness.SLOWER, f"it has to be loaded from the cache{why}"
    if has_copy is None:
        return Readiness.NOT_READY, "whether its files are in the cache is not known yet"
    return Readiness.NOT_READY, f"its files are not in the cache{why}"
