"""What the frames between the gateway and a worker carry: one function to write each, one to read it.

A worker's frames, in order: `load` → `ready` or `failed`; then any number of `predict` (many requests),
each followed by one `answer` per request, in the order of the requests, with the number of the frame.

A version's code runs where these frames are written, so what a worker sends is read with suspicion: only the
exact types and ranges that a worker of ours writes get through. Everything else raises WireRefused.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from router.core.bins import ScoreCounts, ScoreSpec
from router.core.exact import NAME_CHARACTERS, amount, exactly, line, name, number
from router.core.frames import Frame, FrameLimits
from router.core.ids import VersionId
from router.core.tensors import MAX_DESCRIPTION_BYTES, told_tensors
from router.core.work import Answer, LoadSpec, Query, ScoringProtocol, Verdict, VersionInfo
from router.errors import LoadFailed

LOAD, READY, FAILED, PREDICT, ANSWER = "load", "ready", "failed", "predict", "answer"
MAX_ANSWER_BYTES = 256 << 20
"""The longest body of one answer; a worker refuses to send a longer one, the gateway to read it."""
WORKER_LIMITS = FrameLimits(header_bytes=4 * MAX_DESCRIPTION_BYTES, body_bytes=MAX_ANSWER_BYTES)
"""What a worker may send."""
MAX_BINS = 200
MOST_MISMATCHES = 20
MISMATCH_CHARACTERS = 200
_OUTPUT_CHARACTERS = 128
_OUTPUTS = 1_000_000
_PHASES = ("load", "warmup")
_VERDICTS = {str(verdict): verdict for verdict in Verdict}
_PROTOCOLS = {str(protocol): protocol for protocol in ScoringProtocol}
_NOT_OURS = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""What reading a frame of another shape raises."""


class WireRefused(ValueError):
    """A frame that no worker of ours sends; its text is a noun phrase without the frame's own words."""


def load_header(spec: LoadSpec) -> dict[str, Any]:
    """A worker's first frame."""
    return {"op": LOAD, **asdict(spec)}


def load_spec(header: Mapping[str, Any]) -> LoadSpec:
    """The `LoadSpec` in a `load` frame's header."""
    return LoadSpec(
        version=VersionId(**header["version"]),
        directory=header["directory"],
        scores=_score_spec(header["scores"]),
        blas_threads=header["blas_threads"],
    )


def ready_header(info: VersionInfo) -> dict[str, Any]:
    """The version is loaded and, where it has an example, warm."""
    return {"op": READY, "info": {**asdict(info), "phase_seconds": dict(info.phase_seconds)}}


def version_info(header: Mapping[str, Any], asked: ScoreSpec | None = None) -> VersionInfo:
    """The `VersionInfo` in a `ready` frame's header; `asked`: the scores of the load. Raises WireRefused."""
    try:
        info = header["info"]
        return VersionInfo(
            run_id=name(info["run_id"]),
            flavor=name(info["flavor"]),
            has_signature=exactly(bool, info["has_signature"]),
            has_example=exactly(bool, info["has_example"]),
            phase_seconds=_phase_seconds(info["phase_seconds"]),
            scores=_told_scores(info["scores"], asked),
            note=line(info["note"]),
            mismatches=_mismatches(info["mismatches"]),
            inputs=told_tensors(info["inputs"]),
            outputs=told_tensors(info["outputs"]),
        )
    except _NOT_OURS as error:
        raise WireRefused("a description of itself that is none") from error


def failed_header(phase: str, error: str) -> dict[str, Any]:
    """The version did not become READY; `phase` is load or warmup, `error` one bounded line."""
    return {"op": FAILED, "phase": phase, "error": error}


def failure(header: Mapping[str, Any]) -> LoadFailed:
    """What a `failed` frame's header tells. Raises WireRefused."""
    try:
        if header["phase"] not in _PHASES:
            raise ValueError("a phase that is none")
        return LoadFailed(line(header["error"]), phase=header["phase"])
    except _NOT_OURS as error:
        raise WireRefused("a failure that is none") from error


def predict_frame(sequence: int, queries: Sequence[Query]) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of a `predict` frame; its answers repeat `sequence`."""
    types = [query.content_type and _sendable(query.content_type) for query in queries]
    most = [query.max_rows for query in queries]
    protocols = [query.protocol for query in queries]
    header = {
        "op": PREDICT,
        "seq": sequence,
        "content_types": types,
        "max_rows": most,
        "protocols": protocols,
    }
    return header, [query.body for query in queries]


def queries_of(frame: Frame) -> list[Query]:
    """The requests in a `predict` frame."""
    header = frame.header
    parts = zip(frame.bodies, header["content_types"], header["max_rows"], header["protocols"], strict=True)
    return [Query(body, kind, rows, _PROTOCOLS[protocol]) for body, kind, rows, protocol in parts]


def answer_frame(sequence: int, index: int, answer: Answer) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of the `answer` to request `index` of the `predict` frame with that `sequence`."""
    header = {
        "op": ANSWER,
        "seq": sequence,
        "i": index,
        "verdict": answer.verdict,
        "status": answer.status,
        "content_type": answer.content_type,
        "rows": answer.rows,
        "answer_rows": answer.answer_rows,
        "predict_seconds": answer.predict_seconds,
        "scores": answer.scores,  # orjson writes a dataclass itself; asdict costs 20 µs per answer
    }
    return header, [answer.body]


def answer_of(frame: Frame, bins: int | None) -> tuple[int, int, Answer]:
    """Sequence, index and answer in an `answer` frame. Raises WireRefused.

    `bins`: into how many bins the version's scores are counted; None when they are not. Sequence and index
    are integers, and whether it is their turn is for the caller to say.
    """
    header = frame.header
    try:
        sequence, index, status, rows = header["seq"], header["i"], header["status"], header["rows"]
        answer_rows, content_type, scores = header["answer_rows"], header["content_type"], header["scores"]
        (body,) = frame.bodies
        # Comparisons alone would let true pass for 1; they come last, for they want numbers.
        if (
            header["op"] != ANSWER
            or not (type(sequence) is type(index) is type(status) is type(rows) is int)
            or not 200 <= status <= 599
            or rows < 0
            or (answer_rows is not None and (type(answer_rows) is not int or answer_rows < 0))
            or type(content_type) is not str
            or len(content_type) > NAME_CHARACTERS
            or not content_type.isprintable()
        ):
            raise ValueError("a field out of its range")
        return (
            sequence,
            index,
            Answer(
                verdict=_VERDICTS[header["verdict"]],
                status=status,
                body=body,
                content_type=content_type,
                rows=rows,
                predict_seconds=amount(header["predict_seconds"]),
                scores=None if scores is None else _score_counts(scores, bins),
                answer_rows=answer_rows,
            ),
        )
    except _NOT_OURS as error:
        raise WireRefused("an answer that is none") from error


def _score_counts(fields: Mapping[str, Any], bins: int | None) -> ScoreCounts:
    rest = (fields["nan"], fields["inf"], fields["non_numeric"], fields["out_of_range"])
    # The array refuses negative numbers and what is no integer, and makes one of true, all in C: there may be
    # two hundred bins, for every answer.
    counts = tuple(array("Q", fields["bins"]))
    for count in rest:
        if type(count) is not int or count < 0:
            raise ValueError("a count that is none")
    if len(counts) != bins:
        raise ValueError("counts of other bins")
    return ScoreCounts(counts, amount(fields["positive_sum"]), amount(fields["negative_sum"]), *rest)


def _score_spec(fields: Mapping[str, Any] | None) -> ScoreSpec | None:
    return None if fields is None else ScoreSpec(**fields)


def _told_scores(fields: Any, asked: ScoreSpec | None) -> ScoreSpec | None:
    if fields is None:
        return None
    if asked is not None:  # the operator chose them: nothing else can be counted
        if fields != asdict(asked):
            raise ValueError("other scores than were asked for")
        return asked
    output, low, high = fields["output"], number(fields["low"]), number(fields["high"])
    named = type(output) is str
    good = len(output) <= _OUTPUT_CHARACTERS if named else 0 <= exactly(int, output) < _OUTPUTS
    # Checked before a ScoreSpec is made, which computes every edge.
    if not (good and 1 <= exactly(int, fields["bins"]) <= MAX_BINS and low < high):
        raise ValueError("scores that nobody can count")
    return ScoreSpec(output, low, high, fields["bins"])


def _phase_seconds(fields: Any) -> dict[str, float]:
    if not set(exactly(dict, fields)) <= set(_PHASES):
        raise ValueError("a phase that is none")
    return {phase: amount(seconds) for phase, seconds in fields.items()}


def _mismatches(fields: Any) -> tuple[str, ...]:
    told = tuple(line(field) for field in exactly(list, fields)[: MOST_MISMATCHES + 1])
    if len(told) > MOST_MISMATCHES or any(len(one) > MISMATCH_CHARACTERS for one in told):
        raise ValueError("more than anybody reads")
    return told


def _sendable(text: str) -> str:
    # A header's bytes may be no UTF-8; they arrive as lone surrogates, which a frame can not carry. One
    # caller's Content-Type must not cost the worker, and it is no media type anyone could read.
    return text.encode("utf-8", "replace").decode("utf-8")
