"""One metric on all rows of a hold-out: both versions' values, and the interval of their difference."""

import math
import warnings

import numpy as np

from router.gate.errors import MetricRefused
from router.gate.kept_rows import PairedRows
from router.gate.named_metrics import Metric, Needs
from router.gate.statistics.bootstrap import RESAMPLES, Rows, bootstrap
from router.gate.statistics.delong import delong
from router.gate.statistics.difference import (
    FEW_DIFFER,
    Difference,
    Floats,
    Interval,
    Method,
    widened_for_few,
)
from router.gate.statistics.paired_mean import paired_mean


def compare(metric: Metric, rows: PairedRows) -> Difference:
    """Candidate against production on the same rows. Raises MetricRefused where the metric has no value.

    A metric that is a mean of a value per row has a paired t interval, `roc_auc` DeLong's, any other a
    bootstrap's; each over groups where rows have some.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = _compared(metric, rows)
    # Finite values of rows may have no finite sum, or squares.
    known = np.isfinite([found.candidate, found.production, found.point]).all()
    if not known or np.isnan([found.low, found.high]).any():
        raise MetricRefused(f"{metric.name} has no finite value on these rows: answers are too large")
    return found


def _compared(metric: Metric, rows: PairedRows) -> Difference:
    if metric.method is Method.DELONG:
        if len(np.unique(rows.targets)) < 2:
            raise MetricRefused(
                f"{metric.name} has no value: all rows that both versions answered have one label"
            )
        areas = delong(rows.targets == 1.0, rows.candidate, rows.production, rows.groups)
        return _difference(metric, Method.DELONG, rows, areas.candidate, areas.production, areas.interval)
    candidate = _measured(metric, rows.targets, rows.candidate)
    production = _measured(metric, rows.targets, rows.production)
    if candidate.ndim == 1:
        largest = metric.largest
        if largest is None:
            largest = float(max(candidate.max(), production.max()) - min(candidate.min(), production.min()))
        is_known = metric.largest is not None
        interval = paired_mean(candidate - production, rows.groups, largest, is_known=is_known)
        values = float(candidate.mean()), float(production.mean())
        return _difference(metric, Method.PAIRED_MEAN, rows, *values, interval)
    values = float(candidate), float(production)
    interval = _resampled(metric, rows, *values)
    return _difference(metric, Method.BOOTSTRAP, rows, *values, interval)


def _measured(metric: Metric, targets: Floats, answers: Floats) -> Floats:
    """What the metric's function returns: shape (n,) or (). Raises MetricRefused for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what has no true value a scorer says 0, and warns
            found = np.asarray(metric.function(targets, answers), dtype=np.float64)
    except Exception as error:  # somebody else's code
        raise MetricRefused(f"{metric.name} can not be computed of these rows: {error}") from error
    if found.shape not in ((), targets.shape):
        raise MetricRefused(f"{metric.name} returned shape {found.shape} of {len(targets)} rows")
    if not np.isfinite(found).all():
        raise MetricRefused(f"{metric.name} has no finite value on these rows")
    return found


def _resampled(metric: Metric, rows: PairedRows, candidate: float, production: float) -> Interval:
    def difference(places: Rows) -> float:
        targets = rows.targets[places]
        try:
            return float(metric.function(targets, rows.candidate[places])) - float(
                metric.function(targets, rows.production[places])
            )
        except Exception:  # noqa: BLE001 - of one label only, for instance; of all rows it had a value
            return math.nan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interval = bootstrap(difference, candidate - production, len(rows.targets), rows.groups, RESAMPLES)
    largest = max(abs(candidate), abs(production)) if metric.largest is None else metric.largest
    is_known = metric.largest is not None
    differing, units, unit = _least_seen(metric, rows)
    return widened_for_few(interval, differing, units, largest, unit, is_known=is_known)


def _least_seen(metric: Metric, rows: PairedRows) -> tuple[int, int, str]:
    """On how many the versions differ, of how many rows or groups, and what these are called.

    Of labels, those rows that have the one of which the least is known: the rarest on which the versions
    hardly differ. A metric may rest on each label as much as on all others together, as a mean over labels
    does, so what was seen of the others says nothing of it.
    """
    differ = rows.candidate != rows.production
    unit = "rows" if rows.groups is None else "groups"
    if metric.needs is Needs.NUMBERS:
        labels = np.zeros(len(differ), dtype=np.int64)
    else:
        labels = np.unique(rows.targets, return_inverse=True)[1]
        unit = f"{unit} of one label"
    if rows.groups is not None:  # then a unit is a group's rows of one label
        several = int(rows.groups.max()) + 1
        units, places = np.unique(labels * several + rows.groups, return_inverse=True)
        labels, differ = units // several, np.bincount(places, weights=differ) > 0
    count = np.bincount(labels)
    differing = np.bincount(labels, weights=differ)
    least = int(np.where(differing < FEW_DIFFER, count, len(rows.targets) + 1).argmin())
    return int(differing[least]), int(count[least]), unit


def _difference(
    metric: Metric, method: Method, rows: PairedRows, candidate: float, production: float, interval: Interval
) -> Difference:
    low, high = interval.low, interval.high
    point = candidate - production
    if not metric.greater_is_better:
        point, low, high = -point, -high, -low
    groups = None if rows.groups is None else int(rows.groups.max()) + 1
    return Difference(
        metric.name,
        metric.greater_is_better,
        candidate,
        production,
        point,
        low,
        high,
        len(rows.targets),
        groups,
        method,
        interval.notes,
    )
