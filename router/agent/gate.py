"""What a registry says of a version that has to pass the gate: its tags, and what metadata it has."""

from collections.abc import Sequence
from typing import Any

from mlflow.exceptions import MlflowException

from router.agent.errors import UNKNOWN
from router.agent.source import fingerprint_of, read_version
from router.core.gate import GateEvidence
from router.core.gate_metadata import Metadata
from router.core.gate_record import GATE_TAG, MOST_BYTES, OVERRIDE_TAG, Registered
from router.core.ids import VersionId

_NOTE = "mlflow.note.content"
"""Where MLflow keeps the description of a run."""


def read_evidence(registry: Any, model: str, number: int, required: Sequence[str] = ()) -> GateEvidence:
    """Of one version in `registry`, a `store.Registry`; `required` as in `core.gate_metadata`.

    One read; where that does not have all that is required, one of its run and one of its LoggedModel.
    Raises MLflow's errors, also for a version that there is not, and ConnectionError.
    """
    version = read_version(registry, model, number)
    tags = dict(version.tags)
    metadata = Metadata(tags=tags, description=version.description or "")
    missing = metadata.missing(required)
    for source in (_of_run, _of_logged_model):
        # Each for itself: a run may have the hash of the data, and the version the name of who approved it.
        missing = source(registry, version).missing(missing) if missing else ()
    return GateEvidence(
        Registered(
            VersionId(model, number),
            version.run_id or None,
            version.model_id or None,
            fingerprint_of(version),
        ),
        _bounded(tags.get(GATE_TAG)),
        _bounded(tags.get(OVERRIDE_TAG)),
        missing,
    )


def _of_run(registry: Any, version: Any) -> Metadata:
    if not version.run_id:
        return Metadata()
    try:
        data = registry.tracking().get_run(version.run_id).data
    except MlflowException as error:
        return _absent(error)
    return Metadata(data.params, data.tags, data.metrics, data.tags.get(_NOTE, ""))


def _of_logged_model(registry: Any, version: Any) -> Metadata:
    if not version.model_id:
        return Metadata()
    try:
        logged = registry.tracking().get_logged_model(version.model_id)
    except MlflowException as error:
        return _absent(error)
    metrics = {metric.key: float(metric.value) for metric in logged.metrics or ()}
    return Metadata(logged.params or {}, logged.tags or {}, metrics, (logged.tags or {}).get(_NOTE, ""))


def _absent(error: MlflowException) -> Metadata:
    """Nothing, of what was deleted; whatever else went wrong is no answer."""
    if error.error_code != UNKNOWN:
        raise error
    return Metadata()


def _bounded(tag: str | None) -> str | None:
    # A registry may keep 100 000 characters; what is longer than a record is refused for its length.
    return None if tag is None else tag[: MOST_BYTES + 1]
