"""Facts about single requests: what every prediction request may report."""

from dataclasses import dataclass

from router.core.ids import Alias, VersionId
from router.core.outputs import OutputCounts
from router.core.routing import Reason


@dataclass(frozen=True, slots=True)
class Routed:
    """A request was given to an alias."""

    model: str
    alias: Alias
    reason: Reason


@dataclass(frozen=True, slots=True)
class Answered:
    """A prediction request was answered; once per request, under what its key was given."""

    model: str
    alias: Alias
    version: VersionId
    outcome: str
    """ok, fallback, client_error, model_error, timeout or overloaded."""
    code: int
    seconds: float
    """Last byte read until the answer was ready."""
    rows: int
    trace_id: str = ""
    """32 hexadecimal digits when the request belongs to a trace that its caller keeps."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request was refused before a version was chosen; `reason` as in `requests_rejected_total`."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class FellBack:
    """Production was asked because the canary failed."""

    model: str
    from_alias: Alias
    to_alias: Alias
    reason: str


@dataclass(frozen=True, slots=True)
class CanaryFaulted:
    """The canary failed a request that production could answer."""

    model: str
    alias: Alias
    version: VersionId
    kind: str
    """error, timeout, crash or invalid_output."""


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


@dataclass(frozen=True, slots=True)
class Sampled:
    """One request as the log tells it, where it was drawn to be told: for people, so nothing counts it."""

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


RequestEvent = Routed | Answered | Rejected | FellBack | CanaryFaulted | Predicted
