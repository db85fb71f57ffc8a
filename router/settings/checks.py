"""The key `checks` of a registered model: by how much a canary has to be worse, and how sure one must be."""

from typing import Annotated

from pydantic import BaseModel, Field

from router.settings.fields import SECTION, STRICT, as_float

Alpha = Annotated[float, Field(allow_inf_nan=False, ge=0.0001, le=0.05), as_float]
Increase = Annotated[float, Field(allow_inf_nan=False, ge=0.0005, le=0.25), as_float]
Ratio = Annotated[float, Field(allow_inf_nan=False, ge=1, le=10), as_float]
CostIncrease = Annotated[float, Field(allow_inf_nan=False, ge=0.2, le=10), as_float]
Difference = Annotated[float, Field(allow_inf_nan=False, ge=0, le=60), as_float]


class FaultLimits(BaseModel):
    """When a canary fails too often."""

    model_config = STRICT

    max_increase: Increase = 0.005
    """Rise of the fault rate, 0.005 for half a point, from which on a proven rise is a FAIL; a PASS says that
    the rise is smaller."""


class LatencyLimits(BaseModel):
    """When a canary is too slow."""

    model_config = STRICT

    max_increase: Increase = 0.05
    """Rise of the share of slow answers, 0.05 for five points, from which on a proven rise is a FAIL; a PASS
    says that the rise is smaller."""
    min_ratio: Ratio = 1.2
    """A slow answer takes longer than production's 95th percentile times this, and by min_seconds longer."""
    min_seconds: Difference = 0.002
    """A slow answer takes by so many seconds longer than production's 95th percentile, and than that times
    min_ratio. What is faster is not slow, however clearly slower than production."""


class CostLimits(BaseModel):
    """When a canary is too dear."""

    model_config = STRICT

    max_increase: CostIncrease | None = None
    """Rise of the processor time of a predict, at production's sizes: 0.5 for half as much again. A FAIL says
    that it is larger, by its 95 % interval, and a PASS that it is not. None: it is reported, and judges
    nothing."""


class CheckSettings(BaseModel):
    """By how much a canary has to be worse, and how sure one must be."""

    model_config = STRICT

    alpha: Alpha = 0.01
    """Chance, from 0.0001 to 0.05, that a canary that behaves as production does ever gets a FAIL: half of it
    for faults, a quarter each for latency and scores; a quarter each and one for pairs with `shadow`."""
    faults: Annotated[FaultLimits, SECTION] = Field(default_factory=FaultLimits)
    """When a canary fails too often."""
    latency: Annotated[LatencyLimits, SECTION] = Field(default_factory=LatencyLimits)
    """When a canary is too slow."""
    cost: Annotated[CostLimits, SECTION] = Field(default_factory=CostLimits)
    """When a canary is too dear."""
