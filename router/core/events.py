"""Facts that code reports. One recorder turns them into metrics, another into log lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from router.core.cache_events import CacheEvent
from router.core.ids import Alias, VersionId
from router.core.outputs import OutputSpec
from router.core.request_events import RequestEvent


@dataclass(frozen=True, slots=True)
class AliasBound:
    """`alias` now serves `new`; reported after it is true."""

    model: str
    alias: Alias
    old: VersionId | None
    new: VersionId
    run_id: str
    flavor: str
    scores: tuple[OutputSpec, ...]
    """What is counted of its answers; empty when nothing is."""
    registry_name: str = ""
    """What the registry calls this alias, such as `champion` or `stage:Production`."""


@dataclass(frozen=True, slots=True)
class AliasUnbound:
    """`alias` serves nothing any more."""

    model: str
    alias: Alias
    old: VersionId


@dataclass(frozen=True, slots=True)
class AliasAspired:
    """What the registry names under `alias` changed (None: it names nothing)."""

    model: str
    alias: Alias
    old: VersionId | None
    new: VersionId | None


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    """A canary did too much wrong: its share goes to production from now on."""

    model: str
    alias: Alias
    version: VersionId
    why: str
    requests: int
    """Requests judged since its breaker was made."""
    faults: int
    """Faults among the last 50 of them."""
    crashes: int


@dataclass(frozen=True, slots=True)
class BreakerClosed:
    """An open breaker was reset; `why` says by what. The alias, if it still is there, has its share back."""

    model: str
    alias: Alias
    version: VersionId
    why: str


@dataclass(frozen=True, slots=True)
class VerdictChanged:
    """The evidence on `version` against `production` says something else than before."""

    model: str
    alias: Alias
    version: VersionId
    production: VersionId
    before: str
    verdict: str
    """pass, fail or not_enough_data, and so is `before`."""
    why: str


@dataclass(frozen=True, slots=True)
class VersionLoaded:
    """A version reached READY."""

    version: VersionId
    aliases: tuple[Alias, ...]
    phase_seconds: Mapping[str, float]
    """Seconds by phase: fetch, load, warmup."""
    note: str


@dataclass(frozen=True, slots=True)
class EnvironmentDiffers:
    """A version was logged in another environment than the one it is loaded in."""

    version: VersionId
    mismatches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadRefused:
    """A version did not reach READY; `retry_seconds` until the next try."""

    version: VersionId
    aliases: tuple[Alias, ...]
    phase: str
    error: str
    retry_seconds: float
    by_rule: bool = False
    """True when it was not even tried: where its files come from, or what they are, is not allowed."""


@dataclass(frozen=True, slots=True)
class VersionDraining:
    """A version takes no new requests; `requests` are still running in it."""

    version: VersionId
    requests: int


@dataclass(frozen=True, slots=True)
class DrainCutShort:
    """A drain's time was over, and what still waited or ran in the version ends with its workers."""

    version: VersionId
    requests: int
    """Those that waited or ran, also of callers who gave up."""
    workers: int
    """Workers that are ended in the middle of a predict."""
    seconds: float
    """Time that the drain had."""


@dataclass(frozen=True, slots=True)
class VersionGone:
    """A version's last worker has ended, and no other one of it was loaded meanwhile."""

    version: VersionId


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker ended without being asked to by an operator, the registry or the configuration's `workers`."""

    version: VersionId
    reason: str
    """exit, signal, out_of_memory, invalid (it sent what no worker sends), predict_timeout or memory."""
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerLoadFailed:
    """A version that has been READY could not be loaded into one more worker, or into a spare."""

    version: VersionId
    error: str
    retry_seconds: float
    """Until the next try, unless a worker ends or the settings change before; 0.0: at once."""


@dataclass(frozen=True, slots=True)
class WorkerReplaced:
    """A version has its full number of workers again, `seconds` after it lost one."""

    version: VersionId
    seconds: float


@dataclass(frozen=True, slots=True)
class Polled:
    """The registry was asked about one model; `error` is empty when it said what serves."""

    model: str
    seconds: float
    error: str
    refused: bool = False
    """True when it answered that it may not, or can not, be read: somebody has to act."""


@dataclass(frozen=True, slots=True)
class ConfigApplied:
    """A configuration is in force; `changes` are dotted paths, empty at start."""

    digest: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRejected:
    """A configuration was refused whole; the one in force stays."""

    digest_in_force: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitInForce:
    """Shares now in force and as configured, as ratios in [0, 1]."""

    model: str
    in_force: Mapping[Alias, float]
    configured: Mapping[Alias, float]


@dataclass(frozen=True, slots=True)
class ModelRemoved:
    """A model left the configuration; its series go."""

    model: str


@dataclass(frozen=True, slots=True)
class ChildRestarted:
    """The template or the agent was started again; `child` names it."""

    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadinessChanged:
    """`/readyz` changed its answer."""

    ready: bool


@dataclass(frozen=True, slots=True)
class TickFailed:
    """A control loop's tick raised; the loop goes on."""

    loop: str
    error: str


@dataclass(frozen=True, slots=True)
class LoopRecovered:
    """A control loop's tick succeeded after one that raised."""

    loop: str


_OfAliases = (
    AliasAspired | AliasBound | AliasUnbound | SplitInForce | BreakerOpened | BreakerClosed | VerdictChanged
)
_OfVersions = (
    VersionLoaded
    | EnvironmentDiffers
    | LoadRefused
    | VersionDraining
    | DrainCutShort
    | VersionGone
    | WorkerEnded
    | WorkerLoadFailed
    | WorkerReplaced
)
_Others = (
    Polled
    | ConfigApplied
    | ConfigRejected
    | ModelRemoved
    | ChildRestarted
    | ReadinessChanged
    | TickFailed
    | LoopRecovered
)
Event = RequestEvent | CacheEvent | _OfAliases | _OfVersions | _Others


class Recorder(Protocol):
    """Takes facts; never raises, never blocks."""

    def record(self, event: Event) -> None:
        """Note one fact."""
