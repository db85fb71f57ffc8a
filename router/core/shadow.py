"""Which of production's keys are shadowed, for whom, and which of two versions failed a request. Pure.

A copy of what production was asked goes to another version, whose answer nobody gets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.routing import ModelRoutes


@dataclass(frozen=True, slots=True)
class ShadowRange:
    """Production's buckets whose requests are copied to one version."""

    alias: Alias
    version: VersionId
    """What `alias` is bound to."""
    production: VersionId
    first: int
    """The first bucket of them."""
    end: int
    """The bucket after the last one."""


def shadow_ranges(routes: ModelRoutes, shares: Mapping[Alias, int]) -> tuple[ShadowRange, ...]:
    """Who is shadowed now, where `shares` are the buckets that each alias is to be shadowed by.

    Of each they are the top of production's range, so that a ramp meets them last; what production does not
    have is not shadowed. Nobody who is out of service, serves production's own version, is stopped by its
    breaker, by an operator or an alert (a cap at 0), or by the gate or its pre-flight.
    """
    production = routes.bound.get(PRODUCTION)
    if production is None:
        return ()
    low, end = routes.configured_split.range_of(PRODUCTION)
    ranges = []
    for alias, share in shares.items():
        version, first = routes.bound.get(alias), max(low, end - share)
        stopped = alias in routes.broken or alias in routes.gated or routes.capped.get(alias) == 0
        if version is not None and version != production and not stopped and first < end:
            ranges.append(ShadowRange(alias, version, production, first, end))
    return tuple(ranges)


class Took(Enum):
    """How a version took one request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """It says that the request is at fault: no fault of its own, unless the other one could answer it."""
    FAILED = "failed"
    """It raised, ended, or answered what can not be an answer."""


def faults(production: Took, canary: Took) -> tuple[bool, bool]:
    """Whether production, and whether the canary, is at fault; the rule is the same for both.

    What one could answer, the other one failed. What both refused is nobody's fault; else what neither could
    answer is counted as a fault of both, and says nothing about either.
    """
    if production is canary is Took.REFUSED:
        return False, False
    return production is not Took.ANSWERED, canary is not Took.ANSWERED
