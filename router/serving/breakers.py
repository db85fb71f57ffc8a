"""The breakers of one registered model: one for each alias but production, made anew with every change."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.core.breaker import Breaker, BreakerView
from router.core.events import BreakerClosed, BreakerOpened, Recorder
from router.core.ids import PRODUCTION, Alias, VersionId


@dataclass(frozen=True, slots=True)
class Watched:
    """One breaker and whom it judges."""

    alias: Alias
    version: VersionId
    breaker: Breaker


class Breakers:
    """Keeps a breaker per (alias, version) in service, and says which aliases are out of the split."""

    def __init__(
        self,
        model: str,
        recorder: Recorder,
        on_open: Callable[[], None],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`on_open` is called after a breaker opened; `wall` gives seconds since 1970."""
        self._model = model
        self._recorder = recorder
        self._on_open = on_open
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._watched: dict[Alias, Watched] = {}
        self._opened_at: dict[Alias, float] = {}

    @property
    def broken(self) -> frozenset[Alias]:
        """Aliases whose breaker is open."""
        return frozenset(alias for alias, watched in self._watched.items() if watched.breaker.is_open)

    def reset(self, bound: Mapping[Alias, VersionId], why: str) -> None:
        """Start anew with what is `bound`; `why` is reported for each breaker that was open.

        Production has none. Nor has an alias on production's version: there is nobody to compare it with.
        """
        for watched in self._watched.values():
            if watched.breaker.is_open:
                self._recorder.record(BreakerClosed(self._model, watched.alias, watched.version, why))
        production = bound.get(PRODUCTION)
        self._opened_at = {}
        self._watched = {
            alias: self._watch(alias, version)
            for alias, version in bound.items()
            if alias != PRODUCTION and version != production
        }

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

    def _watch(self, alias: Alias, version: VersionId) -> Watched:
        watched = Watched(alias, version, Breaker(lambda: self._opened(watched)))
        return watched

    def _opened(self, watched: Watched) -> None:
        if self._watched.get(watched.alias) is not watched:
            return  # it was reset while its last requests ran
        self._opened_at[watched.alias] = self._wall()
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
        self._on_open()
