"""What a caller is told when a version does not answer: by MLflow's protocol, or by the other one."""

from collections.abc import Container

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from msgspec.structs import replace

from router.protocol.messages import MAX_ANSWER_BYTES, Answer, Query, ScoringProtocol
from router.worker.complaints import Complaints
from router.worker.inference.answering import in_v2, refused
from router.worker.inference.tensors import InferenceRefused
from router.worker.preparing import NotEnforced, Prepared, TooManyRows
from router.worker.refusals import refusal


class Failures:
    """Answers in place of those that one version could not give."""

    def __init__(self, complaints: Complaints, names: Container[str]) -> None:
        """`names` of columns that may be told to a caller: those of the signature."""
        self._complaints = complaints
        self._names = names

    def undecodable(self, query: Query, error: Exception) -> Answer:
        """The request could not be decoded, or is not what the signature asks for."""
        if isinstance(error, InferenceRefused):
            return refused(error)
        if isinstance(error, TooManyRows):
            lead = f"Invalid input: {error}"
            return _in(query.protocol, replace(refusal(MlflowException("", BAD_REQUEST), lead), status=413))
        enforced = isinstance(error, NotEnforced)
        cause = error.__cause__ if enforced else error
        if not isinstance(cause, MlflowException):
            # MLflow answers these with a bare 500: deep nesting, endless integers, columns without a hash.
            cause, lead = MlflowException("", BAD_REQUEST), "Invalid input: it cannot be decoded"
        else:
            lead = "Failed to enforce schema" if enforced else "Invalid input"
        return _in(query.protocol, refusal(cause, lead, self._names))

    def raised(self, prepared: Prepared, error: BaseException, seconds: float) -> Answer:
        """The version's predict raised `error`, after `seconds`."""
        if not isinstance(error, MlflowException):
            self._complaints.note("its predict raised", error)
            lead = f"The version raised {type(error).__name__} on this request"
            answer = refusal(MlflowException("", INTERNAL_ERROR), lead, predict_seconds=seconds)
        else:
            if error.get_http_status_code() >= 500:
                self._complaints.note("its predict raised", error)
            answer = refusal(error, "The version refused this request", predict_seconds=seconds)
        if prepared.protocol is ScoringProtocol.V2:
            return in_v2(answer, no_rows=prepared.rows == 0)
        return answer

    def unwritable(self, prepared: Prepared, error: BaseException, seconds: float) -> Answer:
        """What the version answered can not be written."""
        if isinstance(error, InferenceRefused):
            return refused(error, predict_seconds=seconds)
        self._complaints.note("its answer cannot be written as JSON", error)
        lead = "The version's answer cannot be written as JSON"
        answer = refusal(MlflowException("", INTERNAL_ERROR), lead, predict_seconds=seconds)
        return _in(prepared.protocol, answer)

    def too_long(self, prepared: Prepared, seconds: float) -> Answer:
        """The gateway ends whoever sends it more; this version has only answered at length."""
        lead = f"The answer is longer than {MAX_ANSWER_BYTES >> 20} MiB"
        return _in(prepared.protocol, refusal(MlflowException(lead), lead, predict_seconds=seconds))


def _in(protocol: ScoringProtocol, answer: Answer) -> Answer:
    return in_v2(answer) if protocol is ScoringProtocol.V2 else answer
