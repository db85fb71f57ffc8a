"""What is read when a scrape comes, rather than reported as events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

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
    peak_memory_bytes: int | None = None
    """Proportional set size of the largest worker so far; None while not known."""
    processor_seconds: Mapping[str, float] = field(default_factory=dict)
    """Processor time of all its workers so far, by what they did."""


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
class LiveVerdict:
    """What the comparison of one alias with production says."""

    verdict: str
    """One of `VERDICTS`."""
    changed_at: float | None = None
    """Seconds since 1970 at which it became that, or the comparison began; None where nothing is compared."""
    judged_until: float | None = None
    """Seconds since 1970 up to which answers are judged; None as above."""
    cost_ratio: float | None = None
    """Processor time of a predict over production's; None where nothing is compared, NaN while not known."""
    cost_bounds: tuple[float, float] | None = None
    """95 % of that, low and high; None and NaN as above."""


@dataclass(frozen=True, slots=True)
class Live:
    """The gateway at this instant: what is read when a scrape comes, rather than reported as events."""

    in_flight: Mapping[tuple[str, Alias], int] = field(default_factory=dict)
    """HTTP requests being answered, by registered model and the alias they were given; 0 where missing."""
    versions: Sequence[LiveVersion] = ()
    shifts: Sequence[LiveShift] = ()
    rollbacks: Mapping[VersionId, int] = field(default_factory=dict)
    """By the version that a rollback of its model goes back to, how soon it would serve; 0 to 2."""
    gates: Mapping[tuple[str, Alias], bool] = field(default_factory=dict)
    """By registered model, and alias of which the gate is asked, whether what it serves has passed."""
    preflights: Mapping[tuple[str, Alias], bool] = field(default_factory=dict)
    """By registered model and alias, whether what it serves passed its pre-flight."""
    verdicts: Mapping[tuple[str, Alias], LiveVerdict] = field(default_factory=dict)
    """By registered model, and alias but production."""
    loop_lag_seconds: float = 0.0
    """How late the event loop last ran a timer."""
    ready: bool = True
    """Whether some model of the start-up configuration can answer."""
    models_ready: Mapping[str, bool] = field(default_factory=dict)
    """By registered model, whether its production can answer."""
    state_durable: bool = False
    """Whether caps, journal and evidence are on disk."""
    from_cache: bool = False
    """True while some model serves what served last: the registry has not answered since the start."""
    log_lines_dropped: int = 0
    """Lines of the log that were not written, since the start."""
    peers: Mapping[str, int] = field(default_factory=dict)
    """How many other gateways are reachable, and unreachable; 0 where missing."""
    members: Mapping[str, int] = field(default_factory=dict)
    """Gateways, this one included, by one of `MEMBERS`; 0 where missing."""
    receivers: Sequence[str] = ()
    """Names of those that get notifications."""


class LiveReader(Protocol):
    """Reads the gauges of the instant; called at every scrape."""

    def __call__(self) -> Live:
        """The gateway as it is now."""
