"""Why a comparison on a hold-out can not be made. Each message is one sentence for an operator.

GateRefused
├─ DataRefused      the data can not be read, or is no hold-out for this metric
├─ MetricRefused    no such metric, or it has no value on these rows
└─ AnswerRefused    a version answered what the metric can not take
"""

from enum import StrEnum

from router.errors import RouterError


class Arm(StrEnum):
    """Which of the two versions."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"


class GateRefused(RouterError):
    """The comparison can not be made; nothing is known about either version by it."""


class DataRefused(GateRefused):
    """The data can not be read, or is no hold-out for this metric."""


class MetricRefused(GateRefused):
    """There is no such metric, or it has no value on these rows."""


class AnswerRefused(GateRefused):
    """A version answered what the metric can not take: of the candidate, that is bad news about it."""

    def __init__(self, arm: Arm, what: str) -> None:
        """`what` the version did, as a sentence goes on after its name."""
        super().__init__(f"the {arm} {what}")
        self.arm = arm
        self.what = what
