"""Of three canaries everybody says the same: `/v1/compare`, the terminal, the live page, Prometheus.

The canary alias is really moved under traffic. Then the readers rest, so that all figures of a situation are
final: what one source says is laid beside what the others say, to the last digit that each of them shows.
"""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import pytest

from router.core.latency_buckets import REQUEST_SECONDS
from tests.conftest import Figure
from tests.deploy.conftest import Prometheus
from tests.stories.panels import Board
from tests.stories.reports import Rates, Report, Scores, by_interface, by_page, by_terminal
from tests.stories.situation import (
    CANARY_PERCENT,
    HARD_EVERY,
    HEALTHY,
    PRODUCTION,
    SHIFTED,
    SLOW,
    Stage,
)
from tests.support.browser import Browser
from tests.support.comparison import check, command
from tests.support.waiting import wait_until

FAILS_MORE, REGRESSION, DRIFT = (
    f"CanaryRouter{name}" for name in ("CanaryFailsMore", "LatencyRegression", "ScoreDrift")
)
JUDGING = {FAILS_MORE, REGRESSION, DRIFT, "CanaryRouterErrorRateHigh", "CanaryRouterScoresDiffer"}
BUSY = {"CanaryRouterLoopLag"}
"""What a machine may have to say that is busy with other tests."""
WIDE = 160
"""Columns of the terminal that is read: each check on one line, and no name cut."""
LEAST_ASKED = 500
"""Scores of either side from which on the alert on drift, and the gateway's own PSI, have a say."""

Ask = Callable[[], tuple[Report, Board]]


@pytest.fixture
def ask(stage: Stage, prometheus: Prometheus, page: Browser) -> Ask:
    """Asks everybody, and lays what they say side by side."""

    def ask() -> tuple[Report, Board]:
        board = Board(prometheus, stage.began)
        page.look_again()
        # What is still needed is shown in minutes, which go by: each is held against the comparison of then.
        none_left(lambda: of_compare(stage, by_interface(stage.compared())), 15 * stage.slack)
        none_left(lambda: of_status(stage, by_interface(stage.compared())), 15 * stage.slack)
        none_left(lambda: of_page(page, by_interface(stage.compared())), 15 * stage.slack)
        none_left(lambda: of_board(board, by_interface(stage.compared()), stage), 15 * stage.slack)
        return by_interface(stage.compared()), board

    return ask


def none_left(contradictions: Callable[[], list[str]], seconds: float) -> None:
    """Ask again until nobody contradicts: the page asks every two seconds, Prometheus every second."""
    found: list[str] = []

    def agree() -> bool:
        found[:] = contradictions()
        return not found

    wait_until(agree, seconds, lambda: "\n".join(found))


def of_compare(stage: Stage, reported: Report) -> list[str]:
    """What `canary-router compare` says otherwise."""
    code, table = command(stage.gateway, "compare", "sentiment", columns=WIDE)
    assert code == int(reported.verdict == "fail"), table
    return alike(by_terminal(table), reported)


def of_status(stage: Stage, reported: Report) -> list[str]:
    """What `canary-router status` says otherwise of versions, share, verdict and its reason."""
    code, shown = command(stage.gateway, "status", columns=WIDE)
    assert code == 0, shown
    production, canary = reported.versions
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line[:1] == "│"
    ]
    assert [row[1:5] for row in rows] == [
        ["production", f"v{production}", f"v{production}", f"{100 - reported.share:g} %"],
        ["canary", f"v{canary}", f"v{canary}", f"{reported.share:g} %"],
    ]
    sign = {"pass": "✔ pass", "fail": "✘ FAIL", "not_enough_data": "…"}[reported.verdict]
    return [] if f"sentiment canary {sign}: {reported.why}" in shown.splitlines() else [shown, reported.why]


def of_page(page: Browser, reported: Report) -> list[str]:
    """What the live page shows otherwise, its title among it."""
    signs = {"pass": "✓ PASS", "fail": "✕ FAIL", "not_enough_data": "… NOT ENOUGH DATA"}
    title = str(page.run("return document.title"))
    return alike(by_page(page), reported) + ([] if title.startswith(signs[reported.verdict]) else [title])


def alike(shown: Report, reported: Report) -> list[str]:
    """What is shown otherwise than `/v1/compare` says: words and counts exactly, figures as rounded."""
    pairs: list[tuple[str, Any, Any]] = [
        ("verdict", shown.verdict, reported.verdict),
        ("why", shown.why, reported.why),
    ]
    pairs += [("versions", shown.versions, reported.versions), ("split", shown.split, reported.split)]
    for name in ("share", "observed_share", "slow_ms", "faults", "latency", "scores"):
        ours, theirs = getattr(shown, name), getattr(reported, name)
        if isinstance(ours, Rates | Scores):
            pairs += [(name, *pair) for pair in zip(astuple(ours), astuple(theirs), strict=True)]
        else:
            pairs.append((name, ours, theirs))
    return [
        f"{name}: {ours!r} instead of {theirs!r}" for name, ours, theirs in pairs if not same(ours, theirs)
    ]


def same(shown: Any, reported: Any) -> bool:
    """Equal, where it is a figure as far as three digits, or two decimals, go."""
    return bool(
        shown == (pytest.approx(reported, rel=0.006, abs=0.0051) if isinstance(reported, float) else reported)
    )


def of_board(board: Board, reported: Report, stage: Stage) -> list[str]:
    """What the dashboard shows otherwise than `/v1/compare` says.

    Prometheus looks once a second, and knows nothing of a version's first second; so figures may differ by
    what that second can hold.
    """
    try:
        pairs = side_by_side(board, reported, stage)
    except KeyError as missing:
        return [f"a panel that has nothing of {missing} yet"]
    return [
        f"{name}: {ours!r} instead of {theirs!r}"
        for name, ours, theirs, off in pairs
        if ours is None or (ours != theirs if isinstance(ours, dict) else abs(ours - theirs) > off)
    ]


def side_by_side(board: Board, reported: Report, stage: Stage) -> list[tuple[str, Any, Any, float]]:
    """What the dashboard shows, what is reported, and how far apart they may be. Raises KeyError."""
    production, canary = map(str, reported.versions)
    failed = board.shown("Failed by the version", by="version")
    p95 = board.shown("p95")
    quantiles = check(stage.compared(), "latency")["quantiles_seconds"]
    own_p95 = {alias: quantiles[alias]["p95"] for alias in ("production", "canary")}
    ratio = own_p95["canary"] / own_p95["production"]
    off = {alias: max(0.25, bucket_width(seconds) / seconds) for alias, seconds in own_p95.items()}
    recorded, own = board.shown("Score shift (PSI)"), board.shown("PSI and K-S as the gateways report them")
    return [
        (
            "versions",
            board.versions(),
            {"production": reported.versions[0], "canary": reported.versions[1]},
            0,
        ),
        ("share configured", board.shown("Share of requests", "B")["canary"], reported.share / 100, 0),
        (
            "share of requests",
            board.shown("Share of requests")["canary"],
            reported.observed_share / 100,
            0.03,
        ),
        ("production's failures", failed[production], reported.faults.production / 100, 0.0001),
        ("canary's failures", failed[canary], reported.faults.canary / 100, 0.004),
        (
            "more failures",
            board.shown("Failed requests, canary minus production").get("canary"),
            reported.faults.points / 100,
            0.004,
        ),
        ("p95 of the canary", p95["canary"], own_p95["canary"], off["canary"] * own_p95["canary"]),
        (
            "p95, canary to production",
            p95["canary"] / p95["production"],
            ratio,
            max(0.4, sum(off.values())) * ratio,
        ),
        ("PSI", recorded.get("canary"), reported.scores.psi, 0.05 + 0.2 * reported.scores.psi),
        ("PSI of the gateway", own.get("canary"), reported.scores.psi, 0.05 + 0.2 * reported.scores.psi),
        ("mean score", board.shown("Mean score")["canary"], reported.scores.canary, 0.03),
    ]


def bucket_width(seconds: float) -> float:
    """Of the exported histogram, there: Prometheus knows a quantile no better, and on a busy machine that is
    where they are wide."""
    upper = next((edge for edge in REQUEST_SECONDS if edge >= seconds), seconds)
    return upper - max((edge for edge in REQUEST_SECONDS if edge < seconds), default=0.0)


def in_a_line(reported: Report, board: Board) -> str:
    """For the figures: what page, terminal and comparison say alike, and beside it what Prometheus says."""
    panels = {
        "failures": "Failed requests, canary minus production",
        "p95 ratio": "p95, canary to production",
        "PSI": "Score shift (PSI)",
    }
    shown = ", ".join(f"{name} {board.shown(panel)['canary']:.3f}" for name, panel in panels.items())
    alerts = [
        f"{name.removeprefix('CanaryRouter')} {state}"
        for name, state in board.alerts(reported.versions[1]).items()
    ]
    ours = (
        f"{reported.verdict}; faults {reported.faults.verdict} {reported.faults.points:+.2f} points,"
        f" slow answers {reported.latency.verdict} {reported.latency.points:+.1f} points,"
        f" {reported.scores.size}, PSI {reported.scores.psi:.2f}"
    )
    return f"{ours}. Prometheus: {shown}; alerts: {', '.join(sorted(alerts)) or 'none'}"


def enough_scores(entry: dict[str, Any]) -> bool:
    """Whether everybody has as many scores as it takes to speak of them.

    More than that: Prometheus sees no increase before the first scrape of a series.
    """
    outputs = check(entry, "scores")["outputs"]
    return (
        bool(outputs)
        and min(outputs[0][arm]["scores"] for arm in ("production", "canary")) > LEAST_ASKED + 200
    )


def judged(*wanted: tuple[str, str]) -> Callable[[dict[str, Any]], bool]:
    """Whether these checks have come to these verdicts, and there are scores to speak of."""

    def true(entry: dict[str, Any]) -> bool:
        return (
            bool(entry["checks"])
            and enough_scores(entry)
            and all(check(entry, name)["verdict"] == verdict for name, verdict in wanted)
        )

    return true


def as_seen_by_readers(stage: Stage, reported: Report) -> None:
    """The readers count as the gateway does, but for those asked while the alias moved."""
    assert [one for one in stage.seen if one.status != 200] == []
    of_canary = sum(one.route_alias == "canary" and one.reason != "same_version" for one in stage.seen)
    assert reported.faults.canary_requests == pytest.approx(of_canary, rel=0.05, abs=80)
    fell_back = sum(one.reason == "fallback" for one in stage.seen)
    assert reported.faults.canary / 100 * reported.faults.canary_requests == pytest.approx(fell_back, abs=8)


@pytest.mark.slow  # a minute with what it needs to start
@pytest.mark.timeout(600)
def test_a_healthy_canary_passes_and_nobody_complains(stage: Stage, ask: Ask, figure: Figure) -> None:
    stage.play(HEALTHY, 150.0, judged(("faults", "pass"), ("latency", "pass")), 90)

    reported, board = ask()

    figure(in_a_line(reported, board))
    figure(f"PASS after {stage.seconds:.0f} s and {reported.faults.canary_requests} canary requests")
    assert (reported.verdict, reported.versions, reported.share) == (
        "pass",
        (PRODUCTION, HEALTHY),
        CANARY_PERCENT,
    )
    assert (reported.faults.verdict, reported.latency.verdict, reported.scores.size) == (
        "pass",
        "pass",
        "no shift",
    )
    assert reported.split != "split skew"
    assert board.shown("Score shift (PSI)")["canary"] < board.shown("Score shift (PSI)", "B")["canary"] + 0.02
    assert set(board.alerts(HEALTHY)) & JUDGING == set()
    assert board.others() <= BUSY
    as_seen_by_readers(stage, reported)


@pytest.mark.slow  # the proof of slowness needs twelve blocks of half a minute
@pytest.mark.timeout(1200)
def test_a_slow_canary_fails_for_its_slowness_alone(stage: Stage, ask: Ask, figure: Figure) -> None:
    """Until the blocks are there, everybody says that it is not proven, and when it will be."""
    stage.play(SLOW, 50.0, judged(("faults", "pass")), 120)
    reported, board = ask()
    first = stage.seconds
    due = check(stage.compared(), "latency")["seconds_until_fail"]
    assert (reported.verdict, reported.latency.verdict) == ("not_enough_data", "not_enough_data")
    assert "not proven so far" in reported.why
    assert "If it goes on like this, it fails in about " in reported.why
    assert 120 < due < 400
    figure(in_a_line(reported, board))
    figure(f"after {first:.0f} s: {reported.why}")

    stage.play(SLOW, 50.0, judged(("latency", "fail")), due + 60)

    reported, board = ask()
    figure(in_a_line(reported, board))
    figure(f"FAIL after {stage.seconds:.0f} s; {due:.0f} s were said to be left after {first:.0f} s")
    assert (reported.verdict, reported.versions) == ("fail", (PRODUCTION, SLOW))
    assert (reported.faults.verdict, reported.latency.verdict, reported.scores.size) == (
        "pass",
        "fail",
        "no shift",
    )
    assert "of its requests in over" in reported.why
    assert reported.latency.points > 50
    assert board.shown("p95, canary to production")["canary"] > 1.5
    found = board.alerts(SLOW)
    assert set(found) & JUDGING == {REGRESSION}
    assert found[REGRESSION] == "firing", "it has been so for more than its two minutes"
    assert board.others() <= BUSY
    as_seen_by_readers(stage, reported)


def test_a_canary_that_scores_higher_and_fails_three_in_a_hundred_fails_for_its_faults(
    stage: Stage, ask: Ask, figure: Figure
) -> None:
    """Its scores are reported, as proven and large, and fail nobody."""
    stage.play(SHIFTED, 150.0, judged(("faults", "fail")), 60)

    reported, board = ask()

    figure(in_a_line(reported, board))
    figure(
        f"FAIL after {stage.seconds:.0f} s and {reported.faults.canary_requests} canary requests:"
        f" {reported.why}"
    )
    assert (reported.verdict, reported.versions, reported.share) == (
        "fail",
        (PRODUCTION, SHIFTED),
        CANARY_PERCENT,
    )
    assert (reported.faults.verdict, reported.scores.size) == ("fail", "large shift")
    assert reported.latency.verdict != "fail"
    assert reported.faults.points == pytest.approx(100 / HARD_EVERY, abs=0.3)
    assert reported.why.startswith("The canary fails ")
    scores = check(stage.compared(), "scores")
    assert (scores["judges"], scores["outputs"][0]["proven"]) == (False, True)
    assert scores["why"].endswith(", proven.")
    assert reported.scores.canary > reported.scores.production + 0.1
    assert reported.split != "split skew"
    assert {FAILS_MORE, DRIFT} <= set(board.alerts(SHIFTED)) <= {*JUDGING, "CanaryRouterFallbackInUse"}
    assert board.others() <= BUSY
    as_seen_by_readers(stage, reported)
