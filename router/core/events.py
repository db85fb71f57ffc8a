"""Facts that code reports. One recorder turns them into metrics, another into log lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from router.core.cache_events import OfCache
from router.core.environment_events import OfEnvironments
from router.core.gate_events import OfGate
from router.core.ids import Alias, VersionId
from router.core.lever_events import OfLevers
from router.core.outbound_events import OfOutbound
from router.core.outcomes import CutReason, FallbackReason, Fault, FaultKind, Outcome, RefusalReason
from router.core.preflight_events import OfPreflight
from router.core.routing import ModelRoutes, Reason
from router.core.score_events import OfScores
from router.core.scores import OutputCounts, OutputSpec
from router.core.shadow_events import OfShadow
from router.core.split import Split
from router.core.state_events import OfState
from router.core.traits import TraitsSeen
from router.core.version_environment import VersionEnvironment

# ---- single requests


@dataclass(slots=True)
class Answered:
    """A prediction request that was given to an alias was answered, or abandoned; once for each of them.

    Nobody changes one. It is not frozen because every request makes one, and freezing costs a microsecond.
    """

    model: str
    alias: Alias
    version: VersionId
    outcome: Outcome
    code: int
    seconds: float
    """Last byte read until the answer was ready, or until the caller hung up."""
    rows: int
    reason: Reason = Reason.HASH
    """Why it was given to `alias`; also of what production answered in its place."""
    bucket: int | None = None
    """None when no key was hashed."""
    fault: Fault = ""
    """What went wrong with the version its key was given. Production is measured by what is asked of a
    canary: an answer that came after the time a canary has is a timeout, too."""
    excused: bool = False
    """True when a canary's fault is the input's: production failed on the same bytes, or did as oddly."""
    bin_index: int | None = None
    """Bin, or class, of the first score that the version it was given answered; see `Answer.bin_index`."""
    blamed_batch: int | None = None
    """Number of the batch that failed it, where others were in that batch or waited for it; else None.
    Faults that name the same batch count as one."""
    trace_id: str = ""
    """32 hexadecimal digits when the request belongs to a trace that its caller keeps."""
    by_split: bool = True
    """As `Assignment.by_split`: whether the split decided, of a key that the caller sent."""
    split: Split | None = None
    """As `Assignment.split`: by which configured split it was routed, whatever is configured when it ends."""


@dataclass(slots=True)
class AnsweredTogether:
    """Requests that were answered one after the other, all given to `version` under `alias`: so each recorder
    looks up once where to count them."""

    model: str
    alias: Alias
    version: VersionId
    each: list[Answered]
    """In the order of their answers; at least one."""
    collected_at: float | None = field(default=None, compare=False)
    """When the first of them was answered, in seconds of a monotonic clock; None: just now. They are handed
    on a little later, and the loop may be held up meanwhile."""

    @classmethod
    def of(cls, first: Answered, collected_at: float | None = None) -> "AnsweredTogether":
        """Of one answer; more may be appended."""
        return cls(first.model, first.alias, first.version, [first], collected_at)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request was refused before a version was chosen."""

    model: str
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class FellBack:
    """Production was asked because the canary failed."""

    model: str
    from_alias: Alias
    to_alias: Alias
    reason: FallbackReason


@dataclass(frozen=True, slots=True)
class CanaryFaulted:
    """A canary, which is any alias but production, failed a request that production could answer."""

    model: str
    alias: Alias
    version: VersionId
    kind: FaultKind


@dataclass(frozen=True, slots=True)
class Predicted:
    """A version's predict returned, for a request asked under `alias`."""

    model: str
    alias: Alias
    version: VersionId
    predict_seconds: float
    queue_seconds: float
    rows: int
    requests: int
    scores: tuple[OutputCounts, ...]
    """Per counted output, in the order of `AliasBound.scores`; empty when none were counted."""
    processor_seconds: float = 0.0
    """Which the predict took of a processor, as the worker says; 0.0 where it raised, or was not reached."""


@dataclass(frozen=True, slots=True)
class RequestSample:
    """One request, drawn to be logged: for people, so nothing counts it."""

    request_id: str
    model: str
    given: Alias | None
    """Whom its key was given; None where it was refused before that, as for the next two."""
    answered: Alias | None
    version: VersionId | None
    """The one that answered."""
    reason: str
    """Of the routing, or of the refusal."""
    outcome: str
    """As in `Answered`, or rejected."""
    code: int
    seconds: float | None
    """Last byte read until the answer was ready; None where it was refused before."""
    rows: int


# ---- aliases and versions


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
    elsewhere: bool = False
    """Whether it runs behind an address."""


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
    """An open breaker was reset; `why` says by what. An alias that serves that version has its share back."""

    model: str
    alias: Alias
    version: VersionId
    why: str


@dataclass(frozen=True, slots=True)
class RoutesChanged:
    """What decides to whom a key of this model goes is another from now on."""

    routes: ModelRoutes


@dataclass(frozen=True, slots=True)
class PinsChanged:
    """Other keys are pinned from now on; which ones, nobody is shown."""

    model: str
    count: int
    digest: str
    """SHA-256 of the set, in hexadecimal; empty without pins."""


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
    run: str = ""
    """What names the comparison at all gateways of the fleet."""
    at: float | None = None
    """When it changed, by the cells of the fleet, in seconds since 1970; None where nobody counts them."""
    notifies: bool = True
    """Whether notifications go out from here: of a fleet, the oldest gateway sends them."""


@dataclass(frozen=True, slots=True)
class VersionLoaded:
    """A version reached READY."""

    version: VersionId
    aliases: tuple[Alias, ...]
    phase_seconds: Mapping[str, float]
    """Seconds by phase: fetch, environment (where it has its own), load, warmup."""
    note: str
    environment: VersionEnvironment | None = None
    """Its own Python environment; None where it runs in the gateway's."""


@dataclass(frozen=True, slots=True)
class EnvironmentDiffers:
    """A version was logged in another environment than the one it is loaded in."""

    version: VersionId
    mismatches: tuple[str, ...]
    own: bool = False
    """Whether that is one of its own, and not the gateway's."""


@dataclass(frozen=True, slots=True)
class LoadRefused:
    """A version did not reach READY; `retry_seconds` until the next try, None where there is none."""

    version: VersionId
    aliases: tuple[Alias, ...]
    phase: str
    error: str
    retry_seconds: float | None
    by_rule: bool = False
    """True when it was not even tried: its files, or the environment that it needs, are not allowed."""


@dataclass(frozen=True, slots=True)
class VersionDraining:
    """A version takes no new requests; `requests` are still running in it."""

    version: VersionId
    requests: int


@dataclass(frozen=True, slots=True)
class AliasWithoutVersion:
    """`alias` serves nothing until `successor` is loaded, for which its `version` ends first."""

    model: str
    alias: Alias
    version: VersionId
    successor: VersionId


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
class RollbackReadyLost:
    """A rollback of production would take longer than it did; once each time."""

    model: str
    version: VersionId
    """What it would go back to."""
    why: str


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker ended without being asked to by an operator, the registry or the configuration's `workers`."""

    version: VersionId
    reason: str
    """exit, signal, out_of_memory, invalid (it sent what no worker sends), predict_timeout or memory."""
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerLoadFailed:
    """A version that has been READY could not be loaded into one more worker, or into a spare; or any
    version's warm-up hung or ended its worker, and it is loaded again without one."""

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
class RegistrySchemaNewer:
    """A newer MLflow migrated the registry's database to `found`; what is read of it did not change."""

    found: str
    known: str
    """The newest schema revision that the gateway's MLflow knows."""
    mlflow: str


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
class AnswersCut:
    """Connections were closed before their clients had taken all of an answer; once a minute at most."""

    reason: CutReason
    answers: int


@dataclass(frozen=True, slots=True)
class HeadersRefused:
    """Requests were refused for the size of their headers; once a minute at most."""

    requests: int
    limit_kib: int


@dataclass(frozen=True, slots=True)
class ShutdownCutShort:
    """The gateway stops, the time for it is over or was cut short, and somebody still waited."""

    requests: int
    """Requests under way: those get 503 now."""
    unread: int
    """Connections whose client has not taken its whole answer."""
    seconds: float
    """From the signal until now."""


@dataclass(frozen=True, slots=True)
class TickFailed:
    """A control loop's tick raised; the loop goes on."""

    loop: str
    error: str


@dataclass(frozen=True, slots=True)
class LoopRecovered:
    """A control loop's tick succeeded after one that raised."""

    loop: str


_OfRequests = Answered | AnsweredTogether | Rejected | FellBack | CanaryFaulted | Predicted | TraitsSeen
_OfAliases = (
    AliasAspired
    | AliasBound
    | AliasUnbound
    | SplitInForce
    | BreakerOpened
    | BreakerClosed
    | RoutesChanged
    | PinsChanged
    | VerdictChanged
)
_OfVersions = (
    VersionLoaded
    | EnvironmentDiffers
    | LoadRefused
    | VersionDraining
    | AliasWithoutVersion
    | DrainCutShort
    | VersionGone
    | RollbackReadyLost
    | WorkerEnded
    | WorkerLoadFailed
    | WorkerReplaced
)
_Others = (
    Polled
    | RegistrySchemaNewer
    | ConfigApplied
    | ConfigRejected
    | ModelRemoved
    | ChildRestarted
    | ReadinessChanged
    | AnswersCut
    | HeadersRefused
    | ShutdownCutShort
    | TickFailed
    | LoopRecovered
)
_Elsewhere = (
    OfCache | OfEnvironments | OfGate | OfLevers | OfOutbound | OfPreflight | OfScores | OfShadow | OfState
)
Event = _OfRequests | _OfAliases | _OfVersions | _Others | _Elsewhere


class Recorder(Protocol):
    """Takes facts; never raises, never blocks."""

    def record(self, event: Event) -> None:
        """Note one fact."""
