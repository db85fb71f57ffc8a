"""Facts about single requests: what every prediction request may report."""

from dataclasses import dataclass

from router.core.ids import Alias, VersionId
from router.core.outputs import OutputCounts
from router.core.routing import Reason

FAULT_KINDS = ("error", "timeout", "crash", "invalid_output")
"""What can be wrong with a version's answer, or with its coming."""
ABANDONED = "abandoned"
"""Outcome of a request whose caller hung up before there was an answer."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A request was given to an alias."""

    model: str
    alias: Alias
    reason: Reason


@dataclass(slots=True)
class Answered:
    """A prediction request was answered, or abandoned; once per request, under what its key was given.

    Nobody changes one. It is not frozen because every request makes one, and freezing costs a microsecond.
    """

    model: str
    alias: Alias
    version: VersionId
    outcome: str
    """ok, fallback, client_error, model_error, timeout, overloaded or abandoned."""
    code: int
    seconds: float
    """Last byte read until the answer was ready, or until the caller hung up."""
    rows: int
    reason: Reason = Reason.HASH
    """Why it was given to `alias`; also of what production answered in its place."""
    bucket: int | None = None
    """None when no key was hashed."""
    fault: str = ""
    """What went wrong with the version its key was given: error, timeout, crash or invalid_output; empty when
    nothing did, and when it was never asked. Production is measured by what is asked of a canary: an answer
    that came after the time a canary has is a timeout, too."""
    excused: bool = False
    """True when a canary's fault is the input's: production failed on the same bytes, or did as oddly."""
    mark: int | None = None
    """Bin, or class, of the first score that the version it was given answered; see `Answer.mark`."""
    call: int | None = None
    """Number of the predict that failed it where others shared that predict, or waited for it."""
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
