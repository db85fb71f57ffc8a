"""The page `docs/metrics.md`, made from the catalogue: `python -m tests.support.metrics_reference`.

A family that is added to the catalogue appears by itself; a label that is new must be explained here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from router.adapters.prometheus.catalog import (
    BOUNDS,
    CODES,
    CUTS,
    DECISIONS,
    ENDINGS,
    FAILED,
    FALLBACKS,
    FAULTS,
    INVALID,
    LOOPS,
    MEMBERS,
    NOTIFICATIONS,
    OTHER,
    PEERS,
    PHASES,
    POLLS,
    PREFIX,
    REJECTIONS,
    SCORE_READS,
    SHADOW_RESULTS,
    SIGNS,
    SWAPS,
    VERDICTS,
    Catalog,
)
from router.adapters.prometheus.recorder import KEPT_RETIRED, KEPT_SECONDS
from router.adapters.prometheus.store import Family, number
from router.core.outcomes import Outcome
from router.core.processor_time import PHASES as WORKER_PHASES

_HEAD = f"""\
# Metrics

Made from the code by `python -m tests.support.metrics_reference > docs/metrics.md`; a test compares.
What to make of them is in [operating.md](operating.md#metrics).

Each name has the prefix `{PREFIX}`. `/metrics` speaks the plain text format 0.0.4 and OpenMetrics
1.0.0, whichever the scraper prefers; `?name[]=` picks families or samples. There are no `_created` series.
Beside these are `process_*` and `python_*`, of the gateway's own process.

In OpenMetrics each bucket of `request_duration_seconds` names the last request in it whose `traceparent`
said that its trace is kept, as an exemplar: its `trace_id`, its seconds and when. Prometheus stores them
with `--enable-feature=exemplar-storage`.
"""

_ALWAYS = "always"
_OF_MODEL = "with the model"
_OF_ALIAS = "with the alias"
_OF_VERSION = "with the version"
_BOUND = "while it is bound"
_WORKING = "while it has workers"

_SPAN = (
    f"{KEPT_SECONDS / 60:g} minutes after it was retired, or as soon as {KEPT_RETIRED} more versions of the "
    "alias are; it goes on where it stopped when it comes back sooner"
)
_LIFETIMES = f"""\
| when it is there | from | to |
|---|---|---|
| {_ALWAYS} | the start | the end |
| {_OF_MODEL} | the model is in the configuration | it leaves it |
| {_OF_ALIAS} | the alias is named by the split, or bound | its model leaves the configuration |
| {_OF_VERSION} | the version is bound to the alias, at 0 | {_SPAN} |
| {_BOUND} | the version is bound to the alias | another is |
| {_WORKING} | it has its first worker | its last one ended |
"""

_EXCEPTIONS = {
    "request_duration_seconds": f"{_OF_VERSION}; all but ok {_BOUND}, and failures from the first",
    "shadow_comparisons_total": "with the first copy, each result at 0",
    "split_ratio": f"{_OF_MODEL}, for each alias of the split",
    "split_configured_ratio": f"{_OF_MODEL}, for each alias of the split",
    "verdict": "while the comparison runs, for each alias but production",
    "verdict_changed_timestamp_seconds": "while two versions are compared",
    "evidence_horizon_timestamp_seconds": "while two versions are compared",
    "split_cap_ratio": "while what the alias serves is capped",
    "gate_passed": "while the gate is asked of the alias, and it serves",
    "preflight_passed": "while the alias serves a version that passed or failed",
    "score": f"{_OF_VERSION}, where scores are counted; no sum and no count if a range begins below zero",
    "score_bin_total": f"{_OF_VERSION}, where scores are counted",
    "score_magnitude_total": f"{_OF_VERSION}, where scores are counted",
    "score_invalid_total": f"{_OF_VERSION}, where scores are counted",
    "score_reads_total": f"{_OF_VERSION}, where scores are counted of one that runs elsewhere",
    "score_psi": "while two versions are compared that count the output alike",
    "score_ks": "while two versions are compared that count the output alike",
    "predicted_classes_total": f"{_OF_VERSION}, where classes are counted",
    "model_info": _BOUND,
    "environment_info": f"{_BOUND}, of a version with an environment of its own",
    "model_loaded_timestamp_seconds": _BOUND,
    "versions_draining": _WORKING,
    "workers": _WORKING,
    "worker_memory_bytes": _WORKING,
    "worker_peak_memory_bytes": f"{_WORKING}, from the first look on, within 30 s",
    "worker_cpu_seconds_total": _WORKING,
    "cost_ratio": "while two versions are compared",
    "cost_ratio_bound": "while two versions are compared",
    "worker_restarts_total": f"{_OF_VERSION}, of whatever alias",
    "rollback_ready": "while a rollback would go back to the version",
    "config_info": "from the first configuration on",
}
_BINS_OF = {"score": "the bins of `scores`"}

LISTED: Mapping[tuple[str, str], Sequence[str]] = {
    ("outcome", "requests_total"): tuple(CODES),
    ("outcome", "request_duration_seconds"): (Outcome.OK, Outcome.FALLBACK, Outcome.CLIENT_ERROR, FAILED),
    ("code", "requests_total"): sorted({*chain.from_iterable(CODES.values())}),
    ("reason", "requests_rejected_total"): REJECTIONS,
    ("reason", "answers_cut_total"): CUTS,
    ("reason", "routing_decisions_total"): DECISIONS,
    ("reason", "fallbacks_total"): FALLBACKS,
    ("reason", "worker_restarts_total"): ENDINGS,
    ("kind", "canary_faults_total"): FAULTS,
    ("kind", "score_invalid_total"): INVALID,
    ("sign", "score_magnitude_total"): SIGNS,
    ("phase", "model_load_duration_seconds"): PHASES,
    ("phase", "worker_cpu_seconds_total"): WORKER_PHASES,
    ("result", "model_swaps_total"): SWAPS,
    ("result", "registry_polls_total"): POLLS,
    ("result", "notifications_total"): NOTIFICATIONS,
    ("result", "shadow_comparisons_total"): SHADOW_RESULTS,
    ("result", "score_reads_total"): SCORE_READS,
    ("state", "fleet_peers"): PEERS,
    ("state", "fleet_members"): MEMBERS,
    ("verdict", "verdict"): VERDICTS,
    ("bound", "cost_ratio_bound"): BOUNDS,
    ("loop", "loop_failures_total"): LOOPS,
}
"""Values by label and family, where they are on a list."""
_OTHER_LABELS = {
    "model": "registered models of the configuration; in `requests_rejected_total` also `__other__`",
    "alias": "production, canary and whatever alias the split has besides, by what the key was given",
    "version": "the number in the registry; in `build_info` the gateway's own",
    "from_alias": "the alias that the key was given, which is never production",
    "to_alias": "production",
    "output": "as `scores` names it: a column's position or name",
    "bin": "the upper edge, spelled as in `le`",
    "class": "the classes of `scores`",
    "run_id": "of the run that logged the version, 128 characters at most",
    "flavor": "of the version as MLflow names it, 128 characters at most",
    "registry_alias": "the registry's own name for the alias, such as `champion`",
    "receiver": "of the configuration's `notify`: its address without path and query, or its format where "
    "the address is in a file; numbered where two would be equal",
    "python": "of the environment, such as `3.11.7`",
    "pins": "SHA-256 of its pinned requirements, in hexadecimal",
    "sha256": "of the configuration file in force; one value at a time",
}
"""What values the other labels have, in all families."""
_OPEN = ("outcome", "code", "reason", "kind", "class", "loop")
"""Labels that count what is on no list under `__other__`."""


def page() -> str:
    """The whole page, ending in a newline."""
    families = Catalog().families
    return "\n".join([_HEAD, *_metrics(families), "", _LIFETIMES, *_labels(families), ""])


def _metrics(families: Iterable[Family[Any]]) -> Iterator[str]:
    yield "| metric | type | labels | meaning | bins | when it is there |"
    yield "|---|---|---|---|---|---|"
    for family in families:
        name = family.name.removeprefix(PREFIX)
        labels = ", ".join(family.labels) or "–"
        there = _EXCEPTIONS.get(name) or _by_labels(family.labels)
        yield f"| `{name}` | {family.kind} | {labels} | {family.text} | {_bins(family)} | {there} |"


def _by_labels(labels: tuple[str, ...]) -> str:
    for label, there in (("version", _OF_VERSION), ("alias", _OF_ALIAS), ("model", _OF_MODEL)):
        if label in labels and "model" in labels:
            return there
    return _ALWAYS


def _bins(family: Family[Any]) -> str:
    if family.kind != "histogram":
        return "–"
    edges = " ".join(number(bound).removesuffix(".0") for bound in family.bounds)
    return edges or _BINS_OF.get(family.name.removeprefix(PREFIX), "its own")


def _labels(families: Iterable[Family[Any]]) -> Iterator[str]:
    used = [(label, family.name.removeprefix(PREFIX)) for family in families for label in family.labels]
    if unknown := [
        (label, name) for label, name in used if label not in _OTHER_LABELS and (label, name) not in LISTED
    ]:
        raise ValueError(f"labels without an explanation: {unknown}")
    yield f"Values of labels. What is on no list counts as `{OTHER}` under {', '.join(_OPEN)}."
    yield ""
    yield "| label | of | values |"
    yield "|---|---|---|"
    for label, reported in _OTHER_LABELS.items():
        if any(label == one for one, _ in used):
            yield f"| `{label}` | all | {reported} |"
    for (label, name), values in LISTED.items():
        if (label, name) in used:
            yield f"| `{label}` | `{name}` | {', '.join(values)} |"


if __name__ == "__main__":
    print(page(), end="")
