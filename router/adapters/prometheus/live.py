"""Values that are asked for when a scrape comes, rather than reported as facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.core.ids import Alias, VersionId


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """One version that has worker processes at this instant."""

    version: VersionId
    workers: int
    """Processes that are ready to predict."""
    draining: bool
    memory_bytes: int
    """Resident bytes of all its workers."""


@dataclass(frozen=True, slots=True)
class LiveShift:
    """How far the scores of one alias are from production's, in the comparison's sliding window."""

    model: str
    output: str
    alias: Alias
    psi: float
    """Population stability index; NaN while either side has too few scores."""
    ks: float
    """Kolmogorov-Smirnov distance at the bin edges, or total variation of classes, 0 to 1; NaN likewise."""


@dataclass(frozen=True, slots=True)
class Live:
    """The gateway at this instant."""

    in_flight: Mapping[tuple[str, Alias], int] = field(default_factory=dict)
    """HTTP requests being answered, by registered model and the alias they were given; 0 where missing."""
    versions: Sequence[LiveVersion] = ()
    shifts: Sequence[LiveShift] = ()
    loop_lag_seconds: float = 0.0
    """How late the event loop last ran a timer."""
    ready: bool = True
    """Whether some model of the start-up configuration can answer."""
    models_ready: Mapping[str, bool] = field(default_factory=dict)
    """By registered model, whether its production can answer."""
    from_cache: bool = False
    """True while some model serves what served last: the registry has not answered since the start."""
