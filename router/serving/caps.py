"""The caps that hold in this gateway at this moment."""

from router.core.caps import BreakGlass, Caps
from router.core.ids import Alias


class CapsInForce:
    """Read by each model whenever it publishes its routes.

    Whoever replaces `caps` or `break_glass` has the models publish anew in the same turn of the event loop
    (`ModelSet.caps_changed`); `control.caps.CapControl` is the one that does.
    """

    def __init__(self) -> None:
        self.caps = Caps()
        self.break_glass: BreakGlass | None = None
        """While it is there, every alias but production is capped at 0."""

    def share_of(self, model: str, alias: Alias, version: int) -> int | None:
        """Buckets, of 100 000, that `version` keeps under `alias`, which is not production; None without a
        cap."""
        return 0 if self.break_glass is not None else self.caps.share_of(model, alias, version)
