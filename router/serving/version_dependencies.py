"""What the versions of one gateway share."""

from collections import Counter
from dataclasses import dataclass, field

from router.core.events import Recorder
from router.core.ids import VersionId
from router.serving.caps import CapsInForce
from router.serving.idle_processors import IdleProcessors
from router.serving.load_gate import LoadGate, LoadLimits
from router.serving.ports import Addresses, Environments, Fetcher, Loader


@dataclass(frozen=True, slots=True)
class VersionDependencies:
    """What the versions of one gateway share."""

    fetcher: Fetcher
    loader: Loader
    """Of versions that run in the gateway's own Python environment."""
    environments: Environments
    """Of those with an environment of their own."""
    recorder: Recorder
    limits: LoadLimits
    caps: CapsInForce = field(default_factory=CapsInForce)
    addresses: Addresses | None = None
    """Of versions that run elsewhere; None: there are none."""
    idle: IdleProcessors = field(default_factory=IdleProcessors)
    gate: LoadGate = field(init=False)
    """All loads go through it."""
    live: Counter[VersionId] = field(init=False, default_factory=Counter)
    """Harnesses of each version that are not GONE yet, or whose workers still end. More than one where a
    version is loaded again before its former workers have ended."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "gate", LoadGate(self.loader, self.limits))
