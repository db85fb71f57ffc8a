"""What travels between the gateway and the process that holds a version."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from router.core.ids import VersionId
from router.core.outputs import OutputCounts, OutputSpec, all_nan
from router.protocol.tensors import TensorInfo


class PredictStatus(StrEnum):
    """How the version itself judged one request. Values are `outcome` labels of `requests_total`."""

    OK = "ok"
    CLIENT_ERROR = "client_error"  # the caller's bytes could not be decoded, or broke the signature
    MODEL_ERROR = "model_error"  # the version raised, or answered what cannot be serialised


class ScoringProtocol(StrEnum):
    """The language of a request and of its answer."""

    MLFLOW = "mlflow"  # `/invocations`
    V2 = "v2"  # the Open Inference Protocol, over REST


@dataclass(frozen=True, slots=True)
class Query:
    """One scoring request as the client sent it; every version decodes it by its own signature."""

    body: bytes
    content_type: str | None
    """The request's Content-Type, whole and unparsed; None when the client sent none."""
    max_rows: int | None = None
    """Rows it may have once it is decoded; None: any number."""
    protocol: ScoringProtocol = ScoringProtocol.MLFLOW


@dataclass(frozen=True, slots=True)
class Answer:
    """One version's complete answer to one `Query`, ready to be written to the client."""

    verdict: PredictStatus
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
    mark: int | None = None
    """Where the first row's score of the first counted output lies: the index of its bin, or of its class,
    one past the last where it is another one. None where nothing is counted, or it is not finite."""
    keeps_status: bool = False
    """True for an error whose status MLflow's server answers as well. False where it answers 400: the version
    raised what is not an MlflowException."""

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


@dataclass(frozen=True, slots=True)
class Tracking:
    """The tracking server that a version may trace and log to, and load other models from."""

    uri: str
    experiment: str | None = None
    """Name of the experiment that its traces and runs belong to; None: MLflow's default."""
    username: str | None = None
    password_file: str | None = None
    """Absolute path, as `token_file`: the worker reads them itself, so that no secret travels or is kept."""
    token_file: str | None = None


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """All a worker needs to bring one version to READY."""

    version: VersionId
    directory: str
    """Absolute path of a complete local copy of the version's files, owned by us."""
    scores: tuple[OutputSpec, ...] | None
    """Which outputs to count and how; None: what the warm-up's answers suggest."""
    blas_threads: int = 1
    batches: bool = True
    """Whether requests may share one predict, where the version is seen to treat rows independently."""
    rtol: float = 1e-9
    """How far a float may be, relatively, from that of a predict of its own; 0.0 demands the same bits."""
    threads: int = 1
    """Predicts side by side while requests do not share them."""
    warm_up_required: bool = False
    """Whether the load fails when the version can not predict its input example."""
    nan_is_null: bool = False
    """Whether NaN and infinities in answers are null, and not MLflow's literals, which JSON lacks."""
    tracking: Tracking | None = None
    """None: what it traces is dropped, and other calls of MLflow's tracking or registry raise."""
    model_config: Mapping[str, Any] | None = None
    """Over what it was logged with, key by key: JSON values. None: as it was logged."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Whether a version's requests share predicts."""

    merges: bool
    why: str
    """A sentence for the operator, without its end."""


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What a version told about itself when it became READY."""

    run_id: str
    """Run that logged it; empty when the version has none."""
    flavor: str
    """MLflow flavor that loads it, such as `sklearn` or `python_function`."""
    has_signature: bool
    has_example: bool
    phase_seconds: Mapping[str, float]
    """Seconds spent in `load` and `warmup`; `fetch` is added by the parent."""
    scores: tuple[OutputSpec, ...]
    """What is counted of its answers; empty when nothing is."""
    note: str = ""
    """One sentence for the operator, such as which key to set; empty when there is nothing to say."""
    batching: Batching = Batching(merges=False, why="not looked at yet")
    """As it was when the version became READY."""
    mismatches: tuple[str, ...] = ()
    """Where this environment is another than the one it was logged in; at most 20 short lines."""
    inputs: tuple[TensorInfo, ...] = ()
    """What its signature takes; empty without a signature."""
    outputs: tuple[TensorInfo, ...] = ()
    """What it answers, by its signature or else by its warm-up; empty when neither tells."""
