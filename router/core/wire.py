"""What the frames between the gateway and a worker carry: one function to write each, one to read it.

A worker's frames, in order: `load` → `ready` or `failed`; then any number of `predict` (many requests),
each followed by one `answer` per request, in the order of the requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from router.core.bins import ScoreCounts, ScoreSpec
from router.core.frames import Frame
from router.core.ids import VersionId
from router.core.work import Answer, LoadSpec, Query, Verdict, VersionInfo

LOAD, READY, FAILED, PREDICT, ANSWER = "load", "ready", "failed", "predict", "answer"


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


def version_info(header: Mapping[str, Any]) -> VersionInfo:
    """The `VersionInfo` in a `ready` frame's header."""
    info = header["info"]
    return VersionInfo(**{**info, "scores": _score_spec(info["scores"])})


def failed_header(phase: str, error: str) -> dict[str, Any]:
    """The version did not become READY; `phase` is load or warmup, `error` one bounded line."""
    return {"op": FAILED, "phase": phase, "error": error}


def predict_frame(queries: Sequence[Query]) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of a `predict` frame."""
    types = [query.content_type and _sendable(query.content_type) for query in queries]
    most = [query.max_rows for query in queries]
    return {"op": PREDICT, "content_types": types, "max_rows": most}, [query.body for query in queries]


def queries_of(frame: Frame) -> list[Query]:
    """The requests in a `predict` frame."""
    parts = zip(frame.bodies, frame.header["content_types"], frame.header["max_rows"], strict=True)
    return [Query(*part) for part in parts]


def answer_frame(index: int, answer: Answer) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of the `answer` to request `index` of the `predict` frame."""
    header = {
        "op": ANSWER,
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


def answer_of(frame: Frame) -> tuple[int, Answer]:
    """Index and answer in an `answer` frame."""
    header = frame.header
    scores = header["scores"]
    if scores is not None:
        scores = ScoreCounts(**{**scores, "bins": tuple(scores["bins"])})
    return header["i"], Answer(
        verdict=Verdict(header["verdict"]),
        status=header["status"],
        body=frame.bodies[0],
        content_type=header["content_type"],
        rows=header["rows"],
        answer_rows=header["answer_rows"],
        predict_seconds=header["predict_seconds"],
        scores=scores,
    )


def _score_spec(fields: Mapping[str, Any] | None) -> ScoreSpec | None:
    return None if fields is None else ScoreSpec(**fields)


def _sendable(text: str) -> str:
    # A header's bytes may be no UTF-8; they arrive as lone surrogates, which a frame can not carry. One
    # caller's Content-Type must not cost the worker, and it is no media type anyone could read.
    return text.encode("utf-8", "replace").decode("utf-8")
