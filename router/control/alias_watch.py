"""Asks the registry what each alias should serve, and gives it to the model set."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter

from router.core.cache_events import LastGoodRefused
from router.core.events import Polled, Recorder
from router.core.ids import VersionId
from router.errors import CacheRefused, ModelUnknown, RegistryError, RegistryRefused, RegistryUnavailable
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.ports import Source

TICK_SECONDS = 10.0
"""What the polls of one tick take together, however many models there are."""
_TO_BEGIN = 0.45
"""The part of it in which polls begin: the last has over 5 s left, the agent's own limit for a silence."""
_LEAST_SECONDS = 1.0
"""For a second question about the same model, however long the first one took."""
SILENCE_SECONDS = 1.0
"""A registry that took this long to fail is not asked again in the same tick; one that refuses at once is."""
JITTER = 0.2
"""By which part of the configured time two polls may come closer, or lie further apart."""


def until_next_poll(poll_seconds: float, drawn: float) -> float:
    """Seconds from the start of a poll to that of the next: evenly up to 20 % more or less than configured.

    Gateways that were started together would ask their registry together for ever. `drawn`: a random number
    from 0 to 1, drawn anew for each poll.
    """
    return poll_seconds * (1 - JITTER + 2 * JITTER * drawn)


class AliasWatch:
    """Polls every model; a failed poll changes nothing, but at a start without a registry."""

    def __init__(
        self, source: Source, models: ModelSet, recorder: Recorder, wall_clock: Callable[[], float]
    ) -> None:
        self.errors: dict[str, str] = {}
        """Why the last poll of a model failed; models whose last poll was good are absent."""
        self.last_success: dict[str, float] = {}
        """Unix time in seconds of each model's last good poll."""
        self.unknown: set[str] = set()
        """Models that the registry, when it last answered, did not have."""
        self.refused: set[str] = set()
        """Models about which the registry last answered that it may not, or can not, be read."""
        self.refused_records: dict[str, str] = {}
        """Why what served last cannot be taken from the cache; absent where it can, or need not."""
        self._source = source
        self._models = models
        self._recorder = recorder
        self._wall_clock = wall_clock
        self._last_asked = ""

    async def tick(self) -> None:
        """Poll every model once. When time is over the rest comes first in the next tick."""
        for known in (self.errors, self.last_success, self.refused_records):
            for gone in known.keys() - self._models.managers.keys():
                del known[gone]
        self.unknown &= self._models.managers.keys()
        self.refused &= self._models.managers.keys()
        started = perf_counter()
        silence: RegistryError | None = None
        for manager in self._in_turn():
            began = perf_counter()
            if silence is not None:
                # One model's silence is all models' silence; asking each would take N times as long.
                error: RegistryError | None = silence
                self._failed(manager, silence, 0.0)
            elif began - started < TICK_SECONDS * _TO_BEGIN:
                self._last_asked = manager.model
                error = await self._poll(manager, started + TICK_SECONDS - began)
            else:
                return
            if isinstance(error, RegistryUnavailable) and perf_counter() - began > SILENCE_SECONDS:
                silence = error
            if isinstance(error, RegistryUnavailable | RegistryRefused) and not manager.polled:
                await self._recall(manager)
            manager.first_poll_ended()
            manager.look_for_room()

    def _in_turn(self) -> list[ModelManager]:
        """All managers, first the one after the last that was asked: a slow registry starves none."""
        managers = list(self._models.managers.values())
        names = list(self._models.managers)
        first = names.index(self._last_asked) + 1 if self._last_asked in names else 0
        return managers[first:] + managers[:first]

    async def _poll(self, manager: ModelManager, deadline_seconds: float) -> RegistryError | None:
        """Ask about one model; the error when there was no good answer."""
        if manager.settings.warm_up and not manager.polled:
            # Without the record a version that served before the restart could be held by its warm-up.
            with suppress(CacheRefused):
                names = manager.settings.polled_aliases
                manager.note_served((await self._source.last_known_good(manager.model, names)).values())
        model, started = manager.model, perf_counter()
        try:
            named = await self._source.poll(
                model, manager.settings.polled_aliases, deadline_seconds=deadline_seconds
            )
        except RegistryError as error:
            self._failed(manager, error, perf_counter() - started)
            if isinstance(error, ModelUnknown):
                self.unknown.add(model)
            return error
        seconds = perf_counter() - started
        registrations: Mapping[VersionId, str] = {}
        if new := manager.not_loaded(named):
            # Before any of them is loaded: what changes from here on is seen by the next poll.
            with suppress(RegistryError):  # it named them just now; the next poll asks again
                registrations = await self._source.registrations(
                    new, deadline_seconds=max(deadline_seconds - seconds, _LEAST_SECONDS)
                )
        recovered = self.errors.pop(model, None) is not None
        self.unknown.discard(model)
        self.refused.discard(model)
        self.refused_records.pop(model, None)
        self.last_success[model] = self._wall_clock()
        self._recorder.record(Polled(model, seconds, ""))
        if self._models.managers.get(model) is manager:  # a reload may have removed it meanwhile
            if registrations or not new:
                manager.note_registrations(registrations)
            manager.set_aspired(named)
            if recovered:
                manager.registry_recovered()
        return None

    def _failed(self, manager: ModelManager, error: RegistryError, seconds: float) -> None:
        model, refused = manager.model, isinstance(error, RegistryRefused)
        self.errors[model] = str(error)
        (self.refused.add if refused else self.refused.discard)(model)
        self._recorder.record(Polled(model, seconds, str(error), refused))

    async def _recall(self, manager: ModelManager) -> None:
        """The registry never said what serves of this model: take what served last, if that is recorded."""
        model = manager.model
        try:
            recorded = await self._source.last_known_good(model, manager.settings.polled_aliases)
        except CacheRefused as error:
            if self.refused_records.get(model) != str(error):
                self._recorder.record(LastGoodRefused(model, str(error)))
            self.refused_records[model] = str(error)
            return
        self.refused_records.pop(model, None)
        if self._models.managers.get(model) is manager:
            manager.set_aspired_from_cache(recorded)
