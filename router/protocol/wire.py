"""What the frames that bring a worker up carry: one function to write each, one to read it.

A worker's first frames are `load`, then `ready` or `failed`; those with requests and answers are in
`core.exchange`.

A version's code runs where these frames are written, so what a worker sends is read with suspicion: only the
exact types and ranges that a worker of ours writes get through. Everything else raises WireRefused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from router.core.ids import VersionId
from router.core.outputs import OutputSpec
from router.errors import LoadFailed
from router.protocol.exact import amount, exactly, line, name
from router.protocol.frames import FrameLimits
from router.protocol.messages import Batching, LoadSpec, Tracking, VersionInfo
from router.protocol.score_fields import outputs_of, told_outputs
from router.protocol.tensors import MAX_DESCRIPTION_BYTES, told_tensors

LOAD, READY, FAILED, BATCHING = "load", "ready", "failed", "batching"
MAX_ANSWER_BYTES = 256 << 20
"""The longest body of one answer; a worker refuses to send a longer one, the gateway to read it."""
WORKER_LIMITS = FrameLimits(header_bytes=4 * MAX_DESCRIPTION_BYTES, body_bytes=MAX_ANSWER_BYTES)
"""What a worker may send."""
MOST_MISMATCHES = 20
MISMATCH_CHARACTERS = 200
_PHASES = ("load", "warmup")
NOT_OURS = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""What reading a frame of another shape raises."""


class WireRefused(ValueError):
    """A frame that no worker of ours sends; its text is a noun phrase without the frame's own words."""


def load_header(spec: LoadSpec, working_directory: str | None = None) -> dict[str, Any]:
    """A worker's first frame; without a working directory it stays in that of the gateway."""
    return {"op": LOAD, "working_directory": working_directory, **asdict(spec)}


def load_spec(header: Mapping[str, Any]) -> LoadSpec:
    """The `LoadSpec` in a `load` frame's header."""
    return LoadSpec(
        version=VersionId(**header["version"]),
        directory=header["directory"],
        scores=outputs_of(header["scores"]),
        blas_threads=header["blas_threads"],
        batches=header["batches"],
        rtol=header["rtol"],
        threads=header["threads"],
        warm_up_required=header["warm_up_required"],
        nan_is_null=header["nan_is_null"],
        tracking=Tracking(**header["tracking"]) if header["tracking"] else None,
        model_config=header["model_config"],
    )


def ready_header(info: VersionInfo) -> dict[str, Any]:
    """The version is loaded and, where it has an example, warm."""
    return {"op": READY, "info": {**asdict(info), "phase_seconds": dict(info.phase_seconds)}}


def version_info(header: Mapping[str, Any], asked: Sequence[OutputSpec] | None = None) -> VersionInfo:
    """The `VersionInfo` in a `ready` frame's header; `asked`: `scores` of the load. Raises WireRefused."""
    try:
        info = header["info"]
        return VersionInfo(
            run_id=name(info["run_id"]),
            flavor=name(info["flavor"]),
            has_signature=exactly(bool, info["has_signature"]),
            has_example=exactly(bool, info["has_example"]),
            phase_seconds=_phase_seconds(info["phase_seconds"]),
            scores=told_outputs(info["scores"], asked),
            note=line(info["note"]),
            batching=batching_of(info["batching"]),
            mismatches=_mismatches(info["mismatches"]),
            inputs=told_tensors(info["inputs"]),
            outputs=told_tensors(info["outputs"]),
        )
    except NOT_OURS as error:
        raise WireRefused("a description of itself that is none") from error


def batching_header(batching: Batching) -> dict[str, Any]:
    """A frame that says whether requests share predicts from now on."""
    return {"op": BATCHING, **asdict(batching)}


def batching_of(fields: Mapping[str, Any]) -> Batching:
    """What a `batching` frame's header, or that part of a `ready` frame, says. Raises WireRefused."""
    try:
        return Batching(exactly(bool, fields["merges"]), line(fields["why"]))
    except NOT_OURS as error:
        raise WireRefused("a way of batching that is none") from error


def failed_header(phase: str, error: str) -> dict[str, Any]:
    """The version did not become READY; `phase` is load or warmup, `error` one bounded line."""
    return {"op": FAILED, "phase": phase, "error": error}


def failure(header: Mapping[str, Any]) -> LoadFailed:
    """What a `failed` frame's header tells. Raises WireRefused."""
    try:
        if header["phase"] not in _PHASES:
            raise ValueError("a phase that is none")
        return LoadFailed(line(header["error"]), phase=header["phase"])
    except NOT_OURS as error:
        raise WireRefused("a failure that is none") from error


def _phase_seconds(fields: Any) -> dict[str, float]:
    if not set(exactly(dict, fields)) <= set(_PHASES):
        raise ValueError("a phase that is none")
    return {phase: amount(seconds) for phase, seconds in fields.items()}


def _mismatches(fields: Any) -> tuple[str, ...]:
    told = tuple(line(field) for field in exactly(list, fields)[: MOST_MISMATCHES + 1])
    if len(told) > MOST_MISMATCHES or any(len(one) > MISMATCH_CHARACTERS for one in told):
        raise ValueError("more than anybody reads")
    return told
