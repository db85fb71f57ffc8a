"""Series of one registered model of the configuration."""

from collections.abc import Callable
from typing import NamedTuple

from router.adapters.prometheus.alias_series import AliasSeries
from router.adapters.prometheus.catalog import Catalog, bounded
from router.adapters.prometheus.series import Scope
from router.core.events import (
    AliasAspired,
    AliasBound,
    AliasUnbound,
    DrainCutShort,
    LoadRefused,
    Polled,
    SplitInForce,
    VersionGone,
    VersionLoaded,
    WorkerEnded,
    WorkerLoadFailed,
)
from router.core.ids import PRODUCTION, Alias
from router.core.request_events import Answered, CanaryFaulted, FellBack, Predicted, Routed

REJECTIONS = ("invalid_body", "unknown_model", "too_large", "overloaded", "not_ready", "no_key")
FALLBACKS = ("model_error", "client_error", "timeout", "crash", "overloaded", "not_ready", "invalid_output")
ENDINGS = ("exit", "signal", "predict_timeout", "memory", "drain")
POLLS = ("success", "failure")
_BY_SIGNAL = ("out_of_memory", "invalid")
"""Kinds of SIGKILL that the log and `/v1/state` tell apart; series of their own are more than they tell."""


class Clocks(NamedTuple):
    """The two clocks, both in seconds."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    """Since 1970."""


class ModelSeries:
    """All series with one value of `model`, except those asked for at a scrape."""

    def __init__(self, catalog: Catalog, model: str, clocks: Clocks) -> None:
        self._catalog = catalog
        self._clocks = clocks
        self._model = model
        self._scope = Scope()
        self._shares = Scope()
        self.aliases: dict[Alias, AliasSeries] = {}
        self._loaded_at: dict[int, float] = {}
        """Wall time at which each version now in memory became ready."""
        self._restarts: dict[int, Scope] = {}
        """By number, of versions that some alias serves or served lately."""
        for reason in REJECTIONS:
            self.rejected(reason, 0)
        self._polls = [self._scope.series(catalog.polls, model, result) for result in POLLS]
        self._poll_seconds = self._scope.series(catalog.poll_seconds, model)
        self._poll_success_at = self._scope.series(catalog.poll_success_at, model)

    def split(self, event: SplitInForce) -> None:
        """Shares changed; aliases named for the first time get their series."""
        self._shares.close()
        for alias in {**event.configured, **event.in_force}:
            self._alias(alias)
        for family, shares in (
            (self._catalog.split, event.in_force),
            (self._catalog.split_configured, event.configured),
        ):
            for alias, share in shares.items():
                self._shares.series(family, self._model, alias).value = share

    def _alias(self, alias: Alias) -> AliasSeries:
        found = self.aliases.get(alias)
        if found is None:
            found = self.aliases[alias] = AliasSeries(self._catalog, self._scope, self._model, alias)
            if alias != PRODUCTION:
                for reason in FALLBACKS:
                    self.fell_back(FellBack(self._model, alias, PRODUCTION, reason), 0)
        return found

    def routed(self, event: Routed) -> None:
        """A request was given to an alias."""
        if (alias := self.aliases.get(event.alias)) is not None:
            alias.decided(event.reason)

    def answered(self, event: Answered) -> None:
        """A request was answered."""
        if (alias := self.aliases.get(event.alias)) is not None:
            alias.answered(event, self._clocks.wall() if event.trace_id else 0.0)

    def predicted(self, event: Predicted) -> None:
        """A batch was predicted."""
        if (alias := self.aliases.get(event.alias)) is not None:
            alias.predicted(event)

    def canary_faulted(self, event: CanaryFaulted) -> None:
        """Production answered what the canary should have."""
        if (alias := self.aliases.get(event.alias)) is not None:
            alias.faulted(event)

    def rejected(self, reason: str, count: int = 1) -> None:
        """A request was refused before a version was chosen."""
        text = bounded(reason, REJECTIONS)
        self._scope.series(self._catalog.rejected, self._model, text).value += count

    def fell_back(self, event: FellBack, count: int = 1) -> None:
        """A request was handed on."""
        if event.from_alias in self.aliases and event.to_alias in (PRODUCTION, *self.aliases):
            labels = (self._model, event.from_alias, event.to_alias, bounded(event.reason, FALLBACKS))
            self._scope.series(self._catalog.fallbacks, *labels).value += count

    def bind(self, event: AliasBound) -> None:
        """An alias serves another version, or the same one with other words."""
        number = event.new.number
        loaded_at = self._loaded_at.get(number, self._clocks.wall())
        self._alias(event.alias).bind(event, loaded_at, self._clocks.monotonic())
        if number not in self._restarts:
            self._restarts[number] = Scope()
            for reason in ENDINGS:
                self._ended(number, reason, 0)
            self._load_failed(number, 0)
        self.forget()

    def unbind(self, event: AliasUnbound) -> None:
        """An alias serves nothing any more."""
        if event.alias in self.aliases:
            self.aliases[event.alias].unbind(self._clocks.monotonic())

    def aspire(self, event: AliasAspired) -> None:
        """The registry names another version under an alias, or none."""
        self._alias(event.alias).aspire(event.new)

    def loaded(self, event: VersionLoaded) -> None:
        """A version became ready."""
        self._loaded_at[event.version.number] = self._clocks.wall()
        for alias in event.aliases:
            self._alias(alias).loaded(event)

    def gone(self, event: VersionGone) -> None:
        """A version's last worker has ended."""
        self._loaded_at.pop(event.version.number, None)

    def worker_ended(self, event: WorkerEnded) -> None:
        """A worker ended without being asked to. Versions that no alias served are not counted."""
        reason = "signal" if event.reason in _BY_SIGNAL else event.reason
        self._ended(event.version.number, reason, 1)

    def drain_cut_short(self, event: DrainCutShort) -> None:
        """Workers were ended in the middle of a predict, because a drain's time was over."""
        self._ended(event.version.number, "drain", event.workers)

    def worker_load_failed(self, event: WorkerLoadFailed) -> None:
        """One more worker could not be loaded. Versions that no alias served are not counted."""
        self._load_failed(event.version.number, 1)

    def _load_failed(self, number: int, count: int) -> None:
        if (scope := self._restarts.get(number)) is not None:
            scope.series(self._catalog.worker_load_failures, self._model, str(number)).value += count

    def _ended(self, number: int, reason: str, count: int) -> None:
        if (scope := self._restarts.get(number)) is not None:
            labels = (self._model, str(number), bounded(reason, ENDINGS))
            scope.series(self._catalog.restarts, *labels).value += count

    def polled(self, event: Polled) -> None:
        """The registry was asked."""
        self._polls[bool(event.error)].value += 1
        self._poll_seconds.observe(event.seconds)
        if not event.error:
            self._poll_success_at.value = self._clocks.wall()

    def refused(self, event: LoadRefused) -> None:
        """A version did not become ready."""
        for alias in event.aliases:
            self._alias(alias).refused("refused" if event.by_rule else "failure")

    def forget(self) -> None:
        """Drop the series of versions whose time is over."""
        now = self._clocks.monotonic()
        for alias in self.aliases.values():
            alias.forget(now)
        kept = {number for alias in self.aliases.values() for number in alias.numbers()}
        for number in [number for number in self._restarts if number not in kept]:
            self._restarts.pop(number).close()

    def close(self) -> None:
        """The model left the configuration: drop everything."""
        for alias in self.aliases.values():
            alias.close()
        for scope in (self._scope, self._shares, *self._restarts.values()):
            scope.close()
