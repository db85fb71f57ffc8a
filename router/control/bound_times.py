"""Since when each alias serves its version; for `/v1/state`."""

from collections.abc import Callable

from router.core import events
from router.core.ids import Alias, VersionId


class BoundTimes:
    """Implements `Recorder`: remembers one moment per model and alias."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        self._clock = clock
        self._since: dict[tuple[str, Alias], tuple[VersionId, float]] = {}

    def record(self, event: events.Event) -> None:
        """Note when an alias began to serve another version."""
        match event:
            case events.AliasBound(model=model, alias=alias, new=new):
                # The same version is reported again when it is named anew, which is no beginning.
                if self._since.get((model, alias), (None, 0.0))[0] != new:
                    self._since[model, alias] = new, self._clock()
            case events.AliasUnbound(model=model, alias=alias):
                self._since.pop((model, alias), None)
            case events.ModelRemoved(model):
                self._since = {key: since for key, since in self._since.items() if key[0] != model}

    def of(self, model: str, alias: Alias) -> float | None:
        """Seconds since 1970; None while the alias serves nothing."""
        since = self._since.get((model, alias))
        return since[1] if since else None
