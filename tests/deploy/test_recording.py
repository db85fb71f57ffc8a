"""What the recording rules are worth: golden numbers, and no window that blends what must be kept apart."""

import re
from pathlib import Path

from tests.deploy.promtool import Worth, unit_test
from tests.deploy.samples import (
    AGAINST,
    CANARY,
    PRODUCTION,
    A,
    B,
    C,
    durations,
    info,
    requests,
    scores,
    two_scores,
)

OF = ", ".join(f'{name}="{value}"' for name, value in sorted({**AGAINST, "output": "0"}.items()))
OF_ALIAS = ", ".join(
    f'{name}="{value}"' for name, value in {**AGAINST, "output": "0"}.items() if "production" not in name
)
QUARTERS = two_scores(production=(100, 200, 300, 400), canary=(25, 25, 25, 25))
HALVES = two_scores(production=(250, 250, 250, 250), canary=(0, 0, 50, 50))
PSI = "version:canary_router_score_bin_total:psi15m"
NOISE = "version:canary_router_score_bin_total:psi_noise15m"
LINE = "version:canary_router_score_bin_total:psi_line15m"
KS = "version:canary_router_score:ks15m"


def millionths(name: str, series: dict[str, str], record: str, labels: str, value: float) -> Worth:
    """`value` to six places; promtool compares to the last bit."""
    return Worth(name, series, f"round({record} * 1000000)", "16m", {f"{{{labels}}}": round(value * 1e6)})


def test_psi_and_ks_are_the_golden_numbers(tmp_path: Path) -> None:
    """Counts [25, 25, 25, 25] against [100, 200, 300, 400], and [0, 0, 50, 50] against [250] × 4.

    PSI, its mean and its line when nothing differs, and K-S: computed twice by unrelated code.
    """
    reported = unit_test(
        tmp_path,
        millionths("PSI of quarters", QUARTERS, PSI, OF, 0.227161),
        millionths("noise of quarters", QUARTERS, NOISE, OF_ALIAS, 0.033),
        millionths("line of quarters", QUARTERS, LINE, OF_ALIAS, 0.182058),
        millionths("K-S of quarters", QUARTERS, KS, OF, 0.2),
        millionths("PSI of halves", HALVES, PSI, OF, 2.262314),
        millionths("line of halves", HALVES, LINE, OF_ALIAS, 0.182058),
        millionths("K-S of halves", HALVES, KS, OF, 0.5),
        millionths("PSI of equals", two_scores((50,) * 4, (50,) * 4), PSI, OF, 0.0),
    )

    assert not reported, reported


def test_replicas_count_together(tmp_path: Path) -> None:
    """Half of the scores on each: the same PSI."""
    halves = {
        name.replace("a:8080", instance): re.sub(r" (\d+)\+", lambda found: f" {int(found[1]) // 2}+", values)
        for instance in ("a:8080", "b:8080")
        for name, values in two_scores((100, 200, 300, 400), (26, 26, 24, 24)).items()
    }
    whole = two_scores((100, 200, 300, 400), (26, 26, 24, 24))
    expected = 0.261884  # from 26.5, 26.5, 24.5, 24.5 of 102 and 100.5, 200.5, 300.5, 400.5 of 1002

    reported = unit_test(
        tmp_path,
        millionths("whole", whole, PSI, OF, expected),
        millionths("halves", halves, PSI, OF, expected),
    )

    assert not reported, reported


def test_when_production_moves_its_former_versions_scores_are_in_no_window(tmp_path: Path) -> None:
    """Version 1 scored otherwise until minute 20, then version 3 came and scored as the canary does."""
    moved = 'model="m",alias="production",version="3"'
    new = {
        name: values.replace("0+0x15", "_x20 0+0x2")
        for name, values in scores(moved, (50, 50, 50, 50)).items()
    }
    steady = {
        name: values.replace("0+0x15", "0+0x22")
        for name, values in two_scores((900, 50, 25, 25), (50, 50, 50, 50)).items()
    }
    series = {
        **steady,
        **scores(PRODUCTION, (900, 50, 25, 25)),
        **info(PRODUCTION, "1+0x20 stale"),
        **info(moved, "_x20 1+0x60"),
        **new,
    }
    labels = OF.replace('production_version="1"', 'production_version="3"')

    reported = unit_test(
        tmp_path, Worth("moved", series, f"round({PSI} * 1000)", "25m", {f"{{{labels}}}": 0})
    )

    assert not reported, reported


def test_an_outcome_that_never_came_is_a_rate_of_nought(tmp_path: Path) -> None:
    """Its series is absent, and the panel and the comparison need a number."""
    record = "version:canary_router_requests_total:failed_ratio5m"
    series = {**info(PRODUCTION), **requests(PRODUCTION, "ok", "0+10x20")}
    labels = f'{record}{{job="gateways", {PRODUCTION.replace(",", ", ")}}}'

    reported = unit_test(tmp_path, Worth("nought", series, record, "10m", {labels: 0}))

    assert not reported, reported


def everything(labels: str, instance: str, counts: tuple[int, ...]) -> dict[str, str]:
    """What a version that serves makes: requests, durations and scores, all of which begin at minute 16."""
    reported = {
        **info(labels),
        **requests(labels, "ok", "0+0x15 100+0x30"),
        **durations(labels, {"0.01": "0+0x15 100+0x30"}, "0+0x15 100+0x30", "0+0x15 0.5+0x30"),
        **scores(labels, counts),
    }
    return {name.replace(A, instance): values for name, values in reported.items()}


def test_a_version_without_requests_has_no_quantile(tmp_path: Path) -> None:
    """NaN would be drawn as a gap in the best case, and compared with in the worst."""
    idle = durations(PRODUCTION, {"0.01": "0+0x30"}, "0+0x30", "0+0x30")
    quantile = "version:canary_router_request_duration_seconds:p95_10m"

    reported = unit_test(tmp_path, Worth("idle", {**info(PRODUCTION), **idle}, quantile, "16m", {}))

    assert not reported, reported


def test_a_rule_that_meets_half_swapped_replicas_takes_the_version_that_most_serve(tmp_path: Path) -> None:
    """Two versions of one alias would make each comparison fail as a whole, and its alerts with it."""
    new = 'model="m",alias="production",version="3"'
    series = {
        **everything(PRODUCTION, A, (900, 50, 25, 25)),
        **everything(new, B, (50, 100, 150, 200)),
        **everything(new, C, (50, 100, 150, 200)),
        **everything(CANARY, A, (25, 25, 25, 25)),
    }
    labels = OF.replace('production_version="1"', 'production_version="3"')

    reported = unit_test(tmp_path, millionths("skew", series, PSI, labels, 0.227161))

    assert not reported, reported


def test_jobs_models_and_further_aliases_are_compared_each_by_itself(tmp_path: Path) -> None:
    series = {}
    for job in ("gateways", "others"):
        for model in ("m", "n"):
            for labels, counts in (
                (PRODUCTION, (100, 200, 300, 400)),
                (CANARY, (25, 25, 25, 25)),
                (CANARY.replace("canary", "third"), (100, 200, 300, 400)),
            ):
                series |= everything(labels.replace('"m"', f'"{model}"'), A.replace("gateways", job), counts)
    expected = {
        OF.replace("gateways", job).replace('"m"', f'"{model}"').replace("canary", alias): psi
        for job in ("gateways", "others")
        for model in ("m", "n")
        for alias, psi in (("canary", 227161), ("third", 0))
    }

    by_labels = {f"{{{labels}}}": float(psi) for labels, psi in expected.items()}

    reported = unit_test(
        tmp_path, Worth("each by itself", series, f"round({PSI} * 1000000)", "16m", by_labels)
    )

    assert not reported, reported
