"""The gate's result in one run of MLflow, beside what MLflow's own evaluation says of the same answers.

MLflow compares points and no intervals, so its validation decides nothing here: it is a tag of the run.
"""

import logging
import re
from dataclasses import replace
from typing import Any

import pandas as pd

from router.core.redaction import redact_line
from router.gate.errors import Arm, GateRefused
from router.gate.kept_rows import PairedRows
from router.gate.named_metrics import Metric, Needs
from router.gate.report import GateReport, HoldoutResult

VALIDATION_TAG = "canary_router.mlflow_validation"
_REPORT_FILE = "gate.json"
_LONGEST_TAG = 400
_KINDS = {Needs.LABELS: "classifier", Needs.NUMBERS: "regressor", Needs.SCORES: None}
"""MLflow's `model_type`; of scores it has no metrics but the one that it is given."""


def log_run(report: GateReport, rows: PairedRows, metric: Metric) -> GateReport:
    """`report`, which has a hold-out, with the run that it was logged in.

    That is where MLflow's tracking address points. Raises GateRefused where it can not be written.
    """
    # Here, not above: it takes seconds, and few ask for it.
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    version = report.of.version
    try:
        with mlflow.start_run(run_name=f"gate {version} against v{report.against}") as run:
            final = replace(report, mlflow_run=run.info.run_id)
            record = final.to_json()
            mlflow.set_tags(
                {
                    "canary_router.model": version.model,
                    "canary_router.version": version.number,
                    "canary_router.against": report.against,
                    "canary_router.verdict": report.verdict.value,
                    VALIDATION_TAG: _validated(report, rows, metric),
                }
            )
            mlflow.log_dict(record, _REPORT_FILE)
    except Exception as error:  # of MLflow, or of whatever lies below it
        raise GateRefused(f"the run can not be written: {redact_line(str(error) or repr(error))}") from error
    return final


def _validated(report: GateReport, rows: PairedRows, metric: Metric) -> str:
    """What MLflow says of both versions; their metrics are in the run that is active."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import EvaluationResult, MetricThreshold

    result = report.holdout
    assert result is not None
    name = re.sub(r"\W", "_", metric.name)
    found = {
        arm: EvaluationResult(_evaluated(arm, rows, metric, name, result), {})
        for arm in (Arm.PRODUCTION, Arm.CANDIDATE)
    }
    allowed = -result.max_loss if metric.greater_is_better else result.max_loss
    threshold = MetricThreshold(
        threshold=float(result.difference.production + allowed),
        min_absolute_change=result.min_gain if result.min_gain and result.min_gain > 0 else None,
        greater_is_better=metric.greater_is_better,
    )
    try:
        mlflow.validate_evaluation_results({name: threshold}, found[Arm.CANDIDATE], found[Arm.PRODUCTION])
    except MlflowException as failed:
        return redact_line(f"failed: {failed.message}", _LONGEST_TAG)
    return "passed"


def _evaluated(
    arm: Arm, rows: PairedRows, metric: Metric, name: str, result: HoldoutResult
) -> dict[str, float]:
    """MLflow's metrics of one version, by their names without the version's."""
    import mlflow
    from mlflow.metrics import MetricValue, make_metric

    answers = rows.candidate if arm is Arm.CANDIDATE else rows.production
    value = result.difference.candidate if arm is Arm.CANDIDATE else result.difference.production
    prefix = f"{arm}_"

    def known(predictions: Any, targets: Any, metrics: Any) -> Any:
        return MetricValue(aggregate_results={name: value})

    evaluated = mlflow.models.evaluate(
        data=pd.DataFrame({"target": rows.targets, "answer": answers}),
        targets="target",
        predictions="answer",
        model_type=_KINDS[metric.needs],
        extra_metrics=[make_metric(eval_fn=known, greater_is_better=metric.greater_is_better, name=name)],
        evaluator_config={"metric_prefix": prefix},
    )
    return {key.removeprefix(prefix): float(figure) for key, figure in evaluated.metrics.items()}
