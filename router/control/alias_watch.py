"""Asks the registry what each alias should serve, and tells the fleet."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from router.core.events import Polled, Recorder
from router.errors import ModelUnknown, RegistryError
from router.serving.fleet import Fleet
from router.serving.manager import ModelManager
from router.serving.ports import Source


class AliasWatch:
    """Polls every model of the fleet; a failed poll changes nothing."""

    def __init__(
        self, source: Source, fleet: Fleet, recorder: Recorder, wall_clock: Callable[[], float]
    ) -> None:
        self.errors: dict[str, str] = {}
        """Why the last poll of a model failed; models whose last poll was good are absent."""
        self.last_success: dict[str, float] = {}
        """Unix time in seconds of each model's last good poll."""
        self.unknown: set[str] = set()
        """Models that the registry, when it last answered, did not have."""
        self._source = source
        self._fleet = fleet
        self._recorder = recorder
        self._wall_clock = wall_clock
        # The agent answers one after the other anyway; waiting for the others is no part of a poll's time.
        self._turn = asyncio.Lock()

    async def tick(self) -> None:
        """Poll every model once."""
        managers = list(self._fleet.managers.values())
        for known in (self.errors, self.last_success):
            for gone in known.keys() - self._fleet.managers.keys():
                del known[gone]
        self.unknown &= self._fleet.managers.keys()
        await asyncio.gather(*(self._poll(manager) for manager in managers))

    async def _poll(self, manager: ModelManager) -> None:
        async with self._turn:
            await self._poll_now(manager)

    async def _poll_now(self, manager: ModelManager) -> None:
        model, started = manager.model, perf_counter()
        try:
            aspired = await self._source.poll(model, manager.settings.aliases)
        except RegistryError as error:
            self.errors[model] = str(error)
            if isinstance(error, ModelUnknown):
                self.unknown.add(model)
            self._recorder.record(Polled(model, perf_counter() - started, str(error)))
            return
        self.errors.pop(model, None)
        self.unknown.discard(model)
        self.last_success[model] = self._wall_clock()
        self._recorder.record(Polled(model, perf_counter() - started, ""))
        if self._fleet.managers.get(model) is manager:  # a reload may have removed it meanwhile
            manager.aspire(aspired)
