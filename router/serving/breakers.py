"""The breakers of one registered model: one for each alias but production."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.core.breaker import Breaker, BreakerView
from router.core.events import BreakerClosed, BreakerOpened, Recorder
from router.core.ids import PRODUCTION, Alias, VersionId
from router.serving.caps import CapsInForce


@dataclass(frozen=True, slots=True)
class Watched:
    """One breaker and whom it judges."""

    alias: Alias
    version: VersionId
    breaker: Breaker


class Breakers:
    """Keeps a breaker per (alias, version) in service, and says which aliases are out of the split.

    One that opens is recorded (`CapsInForce.breakers`), and one that is made is open where the records say
    so: a version that was stopped before a restart gets no request after it, and one that comes back to its
    alias none either.
    """

    def __init__(
        self,
        model: str,
        recorder: Recorder,
        caps: CapsInForce,
        on_open: Callable[[], None],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`on_open` is called after a breaker opened; `wall` gives seconds since 1970."""
        self._model = model
        self._recorder = recorder
        self._caps = caps
        self._on_open = on_open
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._production: VersionId | None = None
        self._watched: dict[Alias, Watched] = {}
        self._opened_at: dict[Alias, float] = {}

    @property
    def broken(self) -> frozenset[Alias]:
        """Aliases whose breaker is open."""
        return frozenset(alias for alias, watched in self._watched.items() if watched.breaker.is_open)

    def follow_bound(self, bound: Mapping[Alias, VersionId], why: str) -> None:
        """These serve from now on, `why` says what changed. A breaker goes on where its version does.

        Unless production moved: then all are made anew, for they judge by comparison with it, and those of
        versions that serve nowhere now are closed.
        """
        moved = self._production not in (None, bound.get(PRODUCTION))
        self._replace(bound, why, kept={} if moved else self._watched)
        if moved:
            self._close_away(why)

    def reset(self, bound: Mapping[Alias, VersionId], why: str) -> None:
        """Start anew with what is `bound`; `why` is reported for each breaker that was open."""
        self._replace(bound, why, kept={})

    def follow_records(self) -> None:
        """Open and close what other gateways opened and closed, by the caps in force."""
        for alias, watched in list(self._watched.items()):
            record = self._caps.breaker_record(alias, watched.version)
            if record is None or (record.share is not None) == watched.breaker.is_open:
                continue
            if record.share is not None:
                watched.breaker.open(record.reason)
            else:
                self._recorder.record(BreakerClosed(self._model, alias, watched.version, record.reason))
                self._opened_at.pop(alias, None)
                self._watched[alias] = self._watch(alias, watched.version)

    def of(self, alias: Alias, version: VersionId) -> Breaker | None:
        """The breaker that judges `version` under `alias`; a request keeps it until it has its answer."""
        watched = self._watched.get(alias)
        return watched.breaker if watched is not None and watched.version == version else None

    def crash(self, version: VersionId) -> None:
        """A worker of `version` ended by itself."""
        for watched in list(self._watched.values()):
            if watched.version == version:
                watched.breaker.crash(self._loop.time())

    def views(self, version: VersionId) -> list[tuple[Alias, BreakerView, float | None]]:
        """Of each alias on `version`: its breaker, and when it opened, in seconds since 1970."""
        return [
            (watched.alias, watched.breaker.view(), self._opened_at.get(watched.alias))
            for watched in self._watched.values()
            if watched.version == version
        ]

    def _replace(self, bound: Mapping[Alias, VersionId], why: str, kept: Mapping[Alias, Watched]) -> None:
        """One breaker for each of `bound` that is judged: that of `kept`, or a new one.

        Production has none. Nor has an alias on production's version: there is nobody to compare it with.
        """
        production = self._production = bound.get(PRODUCTION)
        judged = {
            alias: version
            for alias, version in bound.items()
            if alias != PRODUCTION and version != production
        }
        kept = {alias: one for alias, one in kept.items() if judged.get(alias) == one.version}
        for alias, watched in self._watched.items():
            if alias not in kept and watched.breaker.is_open:
                self._recorder.record(BreakerClosed(self._model, alias, watched.version, why))
                if bound.get(alias) == watched.version and self._caps.breakers is not None:
                    self._caps.breakers.breaker_closed(alias, watched.version, why)
        self._opened_at = {alias: at for alias, at in self._opened_at.items() if alias in kept}
        self._watched = {
            alias: kept.get(alias) or self._watch(alias, version) for alias, version in judged.items()
        }

    def _close_away(self, why: str) -> None:
        """Of versions that serve nowhere now: they would come back with a breaker that is open."""
        for target in list(self._caps.caps.open_breakers(self._model)):
            assert target.version is not None, "a breaker is that of one version"
            version = VersionId(self._model, target.version)
            if self.of(target.alias, version) is None and self._caps.breakers is not None:
                self._caps.breakers.breaker_closed(target.alias, version, why)

    def _watch(self, alias: Alias, version: VersionId) -> Watched:
        """A new breaker; open where a record says so, which was reported when it opened."""
        record = self._caps.breaker_record(alias, version)
        why = ""
        if record is not None and record.share is not None:
            why, self._opened_at[alias] = record.reason, record.at
        watched = Watched(alias, version, Breaker(lambda: self._opened(watched), open_because=why))
        return watched

    def _opened(self, watched: Watched) -> None:
        if self._watched.get(watched.alias) is not watched:
            return  # it was reset while its last requests ran
        view = watched.breaker.view()
        self._recorder.record(
            BreakerOpened(
                self._model,
                watched.alias,
                watched.version,
                view.why,
                view.requests,
                view.faults,
                view.crashes,
            )
        )
        if self._caps.breakers is not None:
            self._caps.breakers.breaker_opened(watched.alias, watched.version, view.why)
        record = self._caps.breaker_record(watched.alias, watched.version)
        self._opened_at[watched.alias] = record.at if record is not None else self._wall()
        self._on_open()
