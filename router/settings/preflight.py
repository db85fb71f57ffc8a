"""The key `preflight` of a registered model: a canary answers the last requests before it gets users."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from router.core.preflight import LEAST_REQUESTS
from router.core.reservoir import ReservoirLimits
from router.settings.fields import STRICT, Effects, Finite, Seconds, Share

LARGEST_BODY = 256 << 10
"""Bytes of a request, with its Content-Type, that is kept."""


class PreflightSettings(BaseModel):
    """Which requests are kept, in memory only, and when a version fails by them."""

    model_config = STRICT

    requests: Annotated[int, Field(ge=LEAST_REQUESTS, le=10_000)] = 200
    """How many of the last requests are kept, as a random sample, of those up to 256 KiB that production
    answered."""
    memory_mib: Annotated[int, Field(ge=1, le=4096)] = 32
    """MiB that they take at most."""
    max_age_seconds: Seconds = 900.0
    """How long a request is kept at most."""
    on_fail: Literal["hold", "report"] = "hold"
    """hold: a version that fails is bound, and gets no requests before an operator resumes it. report: it has
    its share all the same."""
    max_flips: Share = 0.2
    """Share of the rows, 0 to 1, whose score may lie on the other side of cut_off than production's."""
    cut_off: Finite | None = None
    """Where a score becomes a decision; null: the middle of the range that scores are counted in."""
    min_agreement: Share | None = None
    """Share of the rows, 0 to 1, whose labels have to be production's; null: labels are not judged."""
    effects: Effects = "left_out"
    """left_out: no requests are passed over versions that may act elsewhere when they are asked, agents and
    those with env_vars, for that would repeat what they do, and its bills. allowed: they are."""

    @property
    def limits(self) -> ReservoirLimits:
        """Of what is kept."""
        return ReservoirLimits(self.requests, self.memory_mib << 20, LARGEST_BODY, self.max_age_seconds)
