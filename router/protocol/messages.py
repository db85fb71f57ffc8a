"""What travels between the gateway and the process that holds a version, and how each message is read.

A worker's first frame is `load`; it answers `ready` or `failed`. A `predict` frame holds many requests. Each
`answers` frame that follows holds those that came out of one predict, so a frame of requests is over when
each of them was in one. Several frames may be under way at once; each answer names the sequence of its own.

Some shared predicts are repeated, to see that sharing changed no answer. With `repeats` a worker says how
many requests it has kept for that; `repeat` has it predict one of them alone, and `repeats` follows.
`batching` says, either way, whether requests share predicts from now on.

A version's code runs where a worker writes, so what it sends is read with suspicion. msgspec converts it
strictly to the types and ranges declared here, the functions below check what types can not express, and
everything else raises WireRefused. What is constructed in this process is not checked.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from msgspec import Meta, Struct, convert
from msgspec.structs import asdict, replace

from router.core.ids import VersionId
from router.core.scores import OutputCounts, OutputSpec, all_nan
from router.core.traits import COLUMN_CHARACTERS, MOST_COLUMNS, MOST_TRAITS, TraitColumn, TraitsWanted
from router.errors import LoadFailed
from router.protocol.frames import Frame, FrameLimits
from router.protocol.score_fields import chosen_outputs, counted_outputs, counts_of

LOAD, LOADED, READY, FAILED, BATCHING = "load", "loaded", "ready", "failed", "batching"
PREDICT, ANSWERS, HUNG_UP = "predict", "answers", "hung_up"
REPEAT, REPEATS = "repeat", "repeats"

DATATYPES = (
    "BOOL",
    *(f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)),
    *("FP16", "FP32", "FP64", "BYTES"),
)
"""Of tensors; case counts."""
CONTENT_TYPES = ("", "base64", "datetime", "json")
"""What the texts of a BYTES tensor stand for; empty for themselves."""
MAX_TENSORS = 20_000
"""Inputs, or outputs, that a version may describe."""
MAX_DESCRIPTION_BYTES = 1 << 20
"""The longest description of a version's inputs, or of its outputs, as JSON."""
MAX_DIMENSIONS = 32
LARGEST_DIMENSION = 2**63 - 1
MAX_ANSWER_BYTES = 256 << 20
"""The longest body of one answer; a worker refuses to send a longer one, the gateway to read it."""
WORKER_LIMITS = FrameLimits(header_bytes=4 * MAX_DESCRIPTION_BYTES, body_bytes=MAX_ANSWER_BYTES)
"""What a worker may send."""
MOST_MISMATCHES = 20
MISMATCH_CHARACTERS = 200

_PHASES = frozenset({"load", "warmup"})
_NOT_OURS = (KeyError, TypeError, ValueError, OverflowError)
"""What reading a frame of another shape raises; msgspec's errors are ValueErrors."""

if TYPE_CHECKING:
    _Outputs = tuple[OutputSpec, ...]
else:  # two kinds without a tag are no union for msgspec: `chosen_outputs` and `counted_outputs` read them
    _Outputs = tuple[Any, ...]

_Count = Annotated[int, Meta(ge=0)]
_Amount = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
_TraitNumber = Annotated[int, Meta(ge=0, lt=MOST_TRAITS)]
_ProcessorSeconds = Annotated[float, Meta(ge=0, le=1e9)]
"""Sums of them stay finite."""
_Name = Annotated[str, Meta(max_length=256)]
_Text = Annotated[str, Meta(max_length=2000)]
_Line = Annotated[str, Meta(max_length=MISMATCH_CHARACTERS)]


class WireRefused(ValueError):
    """A frame that no worker of ours sends; its text is a noun phrase without the frame's own words."""


class PredictStatus(StrEnum):
    """How the version itself judged one request. Values are `outcome` labels of `requests_total`."""

    OK = "ok"
    CLIENT_ERROR = "client_error"  # the caller's bytes could not be decoded, or broke the signature
    MODEL_ERROR = "model_error"  # the version raised, or answered what cannot be serialised


class ScoringProtocol(StrEnum):
    """The language of a request and of its answer."""

    MLFLOW = "mlflow"  # `/invocations`
    V2 = "v2"  # the Open Inference Protocol, over REST


class Query(Struct, frozen=True, gc=False):
    """One scoring request as the client sent it; every version decodes it by its own signature."""

    body: bytes
    content_type: str | None
    """The request's Content-Type, whole and unparsed; None when the client sent none."""
    max_rows: int | None = None
    """Rows it may have once it is decoded; None: any number."""
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW
    traits: TraitsWanted = TraitsWanted.NEVER
    """Whether its traits are to come with the answer."""
    request_id: str = ""
    """Its X-Request-Id, for a version that runs elsewhere; a worker has no use for it."""


class Answer(Struct, frozen=True, gc=False):
    """One version's complete answer to one `Query`, ready to be written to the client."""

    predict_status: PredictStatus
    status: int
    """HTTP status MLflow's scoring protocol gives this answer."""
    body: bytes
    content_type: str
    rows: int
    """Rows of the request that were predicted; 0 when it was refused."""
    predict_seconds: float
    """Time inside the version's predict, which it may share with others; 0.0 when it was not reached."""
    scores: tuple[OutputCounts, ...] = ()
    """Counts of the predict's scores per counted output, on one answer of those that share it; empty on the
    others, and when none were counted."""
    answer_rows: int | None = None
    """Rows the version answered; None where there are none to count: a text, a mapping, one single value, any
    answer to an LLM's request."""
    nan_only: bool = False
    """True when scores were counted and all of this answer's own are NaN, in every output."""
    bin_index: int | None = None
    """Where the first row's score of the first counted output lies: the index of its bin, or of its class;
    past the last one, the next for a score below the range or another class, and the one after it for a score
    above the range. None where nothing is counted, or it is not finite; SCORED_LATER of a version that runs
    elsewhere, whose scores are read by `score_frames`."""
    keeps_status: bool = False
    """True for an error whose status MLflow's server answers as well. False where it answers 400: the version
    raised what is not an MlflowException."""
    traits: tuple[int, ...] | None = None
    """Numbers of the request's traits, where they were wanted; see `core.traits`."""
    processor_seconds: float = 0.0
    """Of a processor, which the predict that it came out of took; 0.0 when none was reached, or it raised."""
    predict_rows: int | None = None
    """Rows of that predict, where its answers are too long for one frame: all on the first one, which has
    `processor_seconds` alone, and 0 on the others. None: as many as the answers of its frame have."""
    as_is: bool = False
    """True for an error of another server, whose body stays as it came."""

    @property
    def odd_length(self) -> bool:
        """True when the version answered another number of rows than it was asked for."""
        return self.answer_rows is not None and not self.one_per_row

    @property
    def one_per_row(self) -> bool:
        """True when the version answered one item per row it was asked for, or was asked for none."""
        return not self.rows or self.answer_rows == self.rows

    @property
    def all_nan(self) -> bool:
        """True when scores were counted and every one of them is NaN, in every output."""
        return self.nan_only or all_nan(self.scores)


class Batch(Struct, frozen=True):
    """Answers that came out of one predict, with the places of their requests in the frame."""

    sequence: int
    places: tuple[int, ...]
    answers: tuple[Answer, ...]
    """At most one of them carries scores: those of the whole batch."""
    worker_seconds: float = 0.0
    """Of a processor, which the whole process took since its last batch, or since it was READY."""


class Tracking(Struct, frozen=True):
    """The tracking server that a version may trace and log to, and load other models from."""

    uri: str
    experiment: str | None = None
    """Name of the experiment that its traces and runs belong to; None: MLflow's default."""
    username: str | None = None
    password_file: str | None = None
    """Absolute path, as `token_file`: the worker reads them itself, so that no secret travels or is kept."""
    token_file: str | None = None


class LoadSpec(Struct, frozen=True):
    """All a worker needs to bring one version to READY."""

    version: VersionId
    directory: str
    """Absolute path of a complete local copy of the version's files, owned by us."""
    scores: _Outputs | None
    """Which outputs to count and how; None: what the warm-up's answers suggest."""
    cpu_threads: int | None = None
    """Threads for linear algebra; None: 1, until the worker finds that more help."""
    batches: bool = True
    """Whether requests may share one predict, where the version is seen to treat rows independently."""
    rtol: float = 1e-9
    """How far a float may be, relatively, from that of a predict of its own, and a float32 by its rounding at
    least; 0.0 demands the same bits."""
    threads: int = 1
    """Predicts side by side while requests do not share them."""
    warm_up_required: bool = False
    """Whether the load fails when the version can not predict its input example."""
    warm_up_seconds: float | None = None
    """How long predicting its input example may take; 0.0: it is left out. None: as long as the load may."""
    nan_is_null: bool = False
    """Whether NaN and infinities in answers are null, and not MLflow's literals, which JSON lacks."""
    tracking: Tracking | None = None
    """None: what it traces is dropped, and other calls of MLflow's tracking or registry raise."""
    model_config: Mapping[str, Any] | None = None
    """Over what it was logged with, key by key: JSON values. None: as it was logged."""
    production_scores: _Outputs | None = None
    """Without `scores`: what production counts, to be counted here too where the warm-up's answers have it.
    None: it is production itself, or production's choice is not known."""
    writable: bool = False
    """Whether the worker has a copy of the files for itself, which the version may write to."""
    environment_variables: tuple[str, ...] = ()
    """Names of variables that it gets although they are withheld. Their values are in no LoadSpec, which is
    kept and compared: they travel beside it."""
    own_environment: bool = False
    """Whether it is loaded in an environment that was built for it, and not in the gateway's."""


class TensorInfo(Struct, frozen=True):
    """One input or output of a version, as the Open Inference Protocol describes tensors."""

    name: Annotated[str, Meta(max_length=1024)]
    """May hold any character: it is shown in JSON only, which escapes what could do harm."""
    datatype: str
    """One of `DATATYPES`."""
    shape: Annotated[
        tuple[Annotated[int, Meta(ge=-1, le=LARGEST_DIMENSION)], ...], Meta(max_length=MAX_DIMENSIONS)
    ]
    """Dimensions; -1 for one of any size."""
    content_type: str = ""
    """One of `CONTENT_TYPES`."""


_Tensors = Annotated[tuple[TensorInfo, ...], Meta(max_length=MAX_TENSORS)]


class Batching(Struct, frozen=True):
    """Whether a version's requests share predicts."""

    merges: bool
    why: _Text
    """A sentence for the operator, without its end."""
    differs: bool = False
    """True when sharing was seen to change an answer: no worker of the version is to share any more."""
    threads: Annotated[int, Meta(ge=1)] | None = None
    """How many predicts run side by side, while that is known to be fewer than the load asked for."""


class VersionInfo(Struct, frozen=True):
    """What a version reported about itself when it became READY."""

    run_id: _Name
    """Run that logged it; empty when the version has none."""
    flavor: _Name
    """MLflow flavor that loads it, such as `sklearn` or `python_function`."""
    has_signature: bool
    has_example: bool
    phase_seconds: Mapping[str, _Amount]
    """Seconds spent in `load` and `warmup`; `fetch` is added by the parent."""
    scores: _Outputs
    """What is counted of its answers; empty when nothing is."""
    note: _Text = ""
    """One sentence for the operator, such as which key to set; empty when there is nothing to say."""
    batching: Batching = Batching(merges=False, why="not looked at yet")
    """As it was when the version became READY."""
    mismatches: Annotated[tuple[_Line, ...], Meta(max_length=MOST_MISMATCHES)] = ()
    """Where this environment is another than the one it was logged in; at most 20 short lines."""
    inputs: _Tensors = ()
    """What its signature takes; empty without a signature."""
    outputs: _Tensors = ()
    """What it answers, by its signature or else by its warm-up; empty when neither says."""
    suggested_scores: _Outputs = ()
    """What its own warm-up suggests to count, whatever is counted; empty when nothing."""
    trait_columns: Annotated[tuple[TraitColumn, ...], Meta(max_length=MOST_COLUMNS)] = ()
    """The columns of its signature that traits are read of, in the order of the table."""
    columns_left_out: _Count = 0
    """How many further columns it has."""
    processor_seconds: Mapping[str, _ProcessorSeconds] = {}
    """Of a processor, in `load` and `warmup`."""
    effects: _Text = ""
    """Why a request may have effects elsewhere, so that none is to be repeated by the gateway; empty when
    nothing says so."""


# Loading


def load_header(
    spec: LoadSpec,
    working_directory: str | None = None,
    temporary_directory: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    own_copy: str | None = None,
) -> dict[str, Any]:
    """A worker's first frame; without directories of its own it uses those of the gateway.

    `own_copy`: where it is to make a copy of the files for itself. Of `environment` it carries what `spec`
    names: credentials, so it is never shown.
    """
    ours = environment or {}
    return {
        "op": LOAD,
        "working_directory": working_directory,
        "temporary_directory": temporary_directory,
        "environment": {name: ours[name] for name in spec.environment_variables if name in ours},
        "own_copy": own_copy,
        **asdict(spec),
    }


def load_spec(header: Mapping[str, Any]) -> LoadSpec:
    """The `LoadSpec` in a `load` frame's header, which the gateway writes."""
    chosen = {
        key: None if header[key] is None else chosen_outputs(header[key])
        for key in ("scores", "production_scores")
    }
    return convert({**header, **chosen}, LoadSpec)


def loaded_header() -> dict[str, Any]:
    """The version is loaded; its warm-up, if there is one, begins."""
    return {"op": LOADED}


def ready_header(info: VersionInfo) -> dict[str, Any]:
    """The version is loaded and, where it has an example, warm."""
    return {"op": READY, "info": asdict(info)}


def version_info(header: Mapping[str, Any], asked: Sequence[OutputSpec] | None = None) -> VersionInfo:
    """The `VersionInfo` in a `ready` frame's header; `asked`: `scores` of the load. Raises WireRefused."""
    try:
        fields = convert(header["info"], dict[str, Any])
        outputs = {
            "scores": counted_outputs(fields["scores"], asked),
            "suggested_scores": counted_outputs(fields["suggested_scores"], None),
        }
        info = convert({**fields, **outputs}, VersionInfo)
        if not (
            info.run_id.isprintable()
            and info.flavor.isprintable()
            and info.phase_seconds.keys() | info.processor_seconds.keys() <= _PHASES
        ):
            raise ValueError("not a name, or not a phase")
        _check_tensors(info.inputs)
        _check_tensors(info.outputs)
        return replace(
            info,
            note=printable(info.note),
            effects=printable(info.effects),
            batching=replace(info.batching, why=printable(info.batching.why)),
            mismatches=tuple(map(printable, info.mismatches)),
            trait_columns=tuple(
                TraitColumn(printable(one.name)[:COLUMN_CHARACTERS], one.example)
                for one in info.trait_columns
            ),
        )
    except _NOT_OURS as error:
        raise WireRefused("a malformed description of itself") from error


def batching_header(batching: Batching) -> dict[str, Any]:
    """A frame that says whether requests share predicts from now on."""
    return {"op": BATCHING, **asdict(batching)}


def batching_of(header: Mapping[str, Any]) -> Batching:
    """What a `batching` frame's header says. Raises WireRefused."""
    try:
        batching = convert(header, Batching)
    except _NOT_OURS as error:
        raise WireRefused("a malformed way of batching") from error
    return replace(batching, why=printable(batching.why))


def repeat_header() -> dict[str, Any]:
    """A frame that has an idle worker repeat one request of a shared predict."""
    return {"op": REPEAT}


def repeats_header(left: int) -> dict[str, Any]:
    """A frame that says how many requests a worker has yet to repeat."""
    return {"op": REPEATS, "left": left}


class _Repeats(Struct):
    left: _Count


def repeats_of(header: Mapping[str, Any]) -> int:
    """What a `repeats` frame's header says. Raises WireRefused."""
    try:
        return convert(header, _Repeats).left
    except _NOT_OURS as error:
        raise WireRefused("a malformed number of repeats") from error


def failed_header(failure: LoadFailed) -> dict[str, Any]:
    """The version did not become READY; its phase is load or warmup, its text one bounded line."""
    fields = {"phase": failure.phase, "error": str(failure), "write_refused": failure.write_refused}
    return {"op": FAILED, **fields}


class _Failed(Struct):
    phase: Literal["load", "warmup"]
    error: _Text
    write_refused: bool = False


def failure(header: Mapping[str, Any]) -> LoadFailed:
    """The failure in a `failed` frame's header. Raises WireRefused."""
    try:
        failed = convert(header, _Failed)
    except _NOT_OURS as error:
        raise WireRefused("a malformed failure") from error
    return LoadFailed(printable(failed.error), phase=failed.phase, write_refused=failed.write_refused)


def describable(tensors: Sequence[TensorInfo]) -> bool:
    """Whether `read_tensors` will take them: they are neither too many nor too long."""
    try:
        described = orjson.dumps(tensors, default=asdict)
        read_tensors(orjson.loads(described))
    except _NOT_OURS:  # a name without UTF-8 too
        return False
    return len(described) <= MAX_DESCRIPTION_BYTES


def read_tensors(fields: Any) -> tuple[TensorInfo, ...]:
    """The descriptions in a frame of a worker. Raises TypeError or ValueError."""
    tensors = convert(fields, _Tensors)
    _check_tensors(tensors)
    return tensors


def _check_tensors(tensors: Sequence[TensorInfo]) -> None:
    for tensor in tensors:
        if tensor.datatype not in DATATYPES or tensor.content_type not in CONTENT_TYPES:
            raise ValueError("a datatype or content type that no tensor has")


def printable(text: str) -> str:
    """Spaces for what could be a control sequence on an operator's terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


# Requests and answers


class _Predict(Struct):
    content_types: list[str | None]
    max_rows: list[int | None]
    protocols: list[ScoringProtocol]
    traits: list[TraitsWanted] | None = None
    """None: of no request."""


class _Answers(Struct):
    """Per answer, as the fields of `Answer`; `verdict` is its `predict_status`, `i` its place."""

    op: Literal["answers"]
    seq: int
    i: Annotated[tuple[int, ...], Meta(min_length=1)]
    verdict: list[PredictStatus]
    status: list[Annotated[int, Meta(ge=200, le=599)]]
    content_type: list[_Name]
    rows: list[_Count]
    answer_rows: list[_Count | None]
    nan_only: list[bool]
    predict_seconds: _Amount
    processor_seconds: _ProcessorSeconds
    worker_seconds: _ProcessorSeconds
    bin_indexes: list[_Count | None] | None
    scores: list[Any]
    keep_status: list[bool] | None = None
    """None: no answer keeps its status."""
    traits: list[Annotated[tuple[_TraitNumber, ...], Meta(max_length=MOST_TRAITS)] | None] | None = None
    """None: no answer has any."""
    predict_rows: _Count | None = None


def predict_frame(sequence: int, queries: Sequence[Query]) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of a `predict` frame; its answers repeat `sequence`."""
    header = {
        "op": PREDICT,
        "seq": sequence,
        "content_types": [query.content_type and _sendable(query.content_type) for query in queries],
        "max_rows": [query.max_rows for query in queries],
        "protocols": [query.protocol for query in queries],
    }
    if any(query.traits for query in queries):
        header["traits"] = [query.traits for query in queries]
    return header, [query.body for query in queries]


def hung_up_header(sequence: int, place: int) -> dict[str, Any]:
    """The caller of a request in the `predict` frame `sequence` hung up; it is answered as ever."""
    return {"op": HUNG_UP, "seq": sequence, "place": place}


def queries_of(frame: Frame) -> list[Query]:
    """The requests in a `predict` frame."""
    sent = convert(frame.header, _Predict)
    columns: list[Sequence[Any]] = [frame.bodies, sent.content_types, sent.max_rows, sent.protocols]
    if sent.traits is not None:
        columns.append(sent.traits)
    return list(starmap(Query, zip(*columns, strict=True)))


def wants_traits(frame: Frame) -> bool:
    """Whether the traits of some requests in a `predict` frame are wanted."""
    return frame.header.get("traits") is not None


def answers_frame(batch: Batch) -> tuple[dict[str, Any], list[bytes]]:
    """Header and bodies of an `answers` frame. All answers of a batch took the same time, its predict's."""
    answers = batch.answers
    first, number = answers[0], len(answers)
    bin_indexes = [answer.bin_index for answer in answers]
    keep_status = [answer.keeps_status for answer in answers]
    traits = [answer.traits for answer in answers]
    header = {
        "op": ANSWERS,
        "seq": batch.sequence,
        "i": batch.places,
        "verdict": [answer.predict_status for answer in answers],
        "status": [answer.status for answer in answers],
        "content_type": [answer.content_type for answer in answers],
        "rows": [answer.rows for answer in answers],
        "answer_rows": [answer.answer_rows for answer in answers],
        "nan_only": [answer.nan_only for answer in answers],
        "predict_seconds": first.predict_seconds,
        "processor_seconds": first.processor_seconds,
        "worker_seconds": batch.worker_seconds,
        "keep_status": keep_status if True in keep_status else None,
        "bin_indexes": None if bin_indexes.count(None) == number else bin_indexes,
        # orjson writes a dataclass itself
        "scores": first.scores or next((answer.scores for answer in answers if answer.scores), ()),
    }
    if traits.count(None) < number:
        header["traits"] = traits
    if first.predict_rows is not None:
        header["predict_rows"] = first.predict_rows
    return header, [answer.body for answer in answers]


def batch_of(frame: Frame, counted: Sequence[OutputSpec]) -> Batch:
    """The batch in an `answers` frame. Raises WireRefused.

    `counted`: what is counted of the version's answers, empty when nothing is. Sequence and places
    are integers, no place twice; whether they were asked for is for the caller to say.
    """
    try:
        sent = convert(frame.header, _Answers)
        number = len(sent.i)
        if len(set(sent.i)) != number or not all(map(str.isprintable, set(sent.content_type))):
            raise ValueError("a place twice, or not a media type")
        scores = [counts_of(sent.scores, counted), *[()] * (number - 1)]
        fields = zip(
            *(sent.verdict, sent.status, frame.bodies, sent.content_type, sent.rows),
            *([sent.predict_seconds] * number, scores, sent.answer_rows, sent.nan_only),
            _bin_indexes_of(sent.bin_indexes, counted, number),
            [False] * number if sent.keep_status is None else sent.keep_status,
            [None] * number if sent.traits is None else sent.traits,
            *([sent.processor_seconds] * number, [sent.predict_rows] * number),
            strict=True,
        )
        return Batch(sent.seq, sent.i, tuple(starmap(Answer, fields)), sent.worker_seconds)
    except _NOT_OURS as error:
        raise WireRefused("a malformed answer") from error


def _bin_indexes_of(
    bin_indexes: Sequence[int | None] | None, counted: Sequence[OutputSpec], answers: int
) -> Sequence[int | None]:
    """Of so many answers, each within the bins of the first counted output. Raises ValueError."""
    if bin_indexes is None:
        return [None] * answers
    known = [index for index in bin_indexes if index is not None]
    if not known or not counted or max(known) >= counted[0].index_count:
        raise ValueError("bins of nothing that is counted")
    return bin_indexes


def _sendable(text: str) -> str:
    # A header's bytes may be no UTF-8; they arrive as lone surrogates, which a frame can not carry. One
    # caller's Content-Type must not cost the worker, and it is no media type anyone could read.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
