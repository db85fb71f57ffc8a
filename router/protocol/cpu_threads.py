"""The frames about a version's threads for linear algebra: `cpu_threads`, either way.

The gateway's says how many a worker may use at most; the worker's how many it uses, and why.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import asdict

from router.protocol.messages import LoadSpec, WireRefused

CPU_THREADS = "cpu_threads"
MOST_THREADS = 4096
"""More than any machine has processors for."""

_Number = Annotated[int, Meta(ge=1, le=MOST_THREADS)]


class CpuThreads(Struct, frozen=True):
    """How many threads for linear algebra the predicts of one worker get."""

    threads: _Number
    computes: bool
    """Whether its predicts take enough of a processor to be worth more than one."""
    why: Annotated[str, Meta(max_length=200)]
    """A sentence for the operator, without its end."""


def learns_cpu_threads(spec: LoadSpec) -> bool:
    """Whether a worker may give one predict another number of threads than the next.

    Sums in another order have other bits, which a tolerance of zero forbids.
    """
    return spec.cpu_threads is None and not (spec.batches and spec.rtol == 0.0)


def at_first(spec: LoadSpec) -> CpuThreads:
    """What holds in a worker that has just loaded `spec`."""
    if spec.cpu_threads is not None:
        return CpuThreads(spec.cpu_threads, computes=spec.cpu_threads > 1, why="as configured")
    if not learns_cpu_threads(spec):
        return CpuThreads(1, computes=False, why="batching_rtol: 0 asks for the same bits of every predict")
    return CpuThreads(1, computes=False, why="its predicts are yet to be measured")


class _Most(Struct):
    most: _Number


def cpu_threads_header(chosen: CpuThreads) -> dict[str, Any]:
    """A worker's frame."""
    return {"op": CPU_THREADS, **asdict(chosen)}


def cpu_threads_of(header: Mapping[str, Any]) -> CpuThreads:
    """What a worker's frame says. Raises WireRefused."""
    try:
        chosen = convert(header, CpuThreads)
    except ValidationError as error:
        raise WireRefused("a malformed number of threads") from error
    if not chosen.why.isprintable():
        raise WireRefused("a malformed number of threads")
    return chosen


def most_threads_header(most: int) -> dict[str, Any]:
    """The gateway's frame: a worker may use `most` threads, at least 1."""
    return {"op": CPU_THREADS, "most": most}


def most_threads_of(header: Mapping[str, Any]) -> int:
    """What the gateway's frame says."""
    return convert(header, _Most).most
