"""Alerts on what they answer."""

from tests.deploy.promtool import Case
from tests.deploy.samples import AGAINST, FIRES, LITTLE, OF_CANARY, SILENT, invalid, two_scores

CASES = [
    # Shares 0.25 each against 200.5, 400.5, 600.5 and 800.5 of 2002: 0.2277.
    Case(
        "CanaryRouterScoreDrift",
        FIRES,
        two_scores((200, 400, 600, 800), (250, 250, 250, 250)),
        interval="1m",
        at="21m",
        not_yet="20m",
        fires={**AGAINST, "output": "0"},
        summary="m@canary v2: PSI of output 0 is 0.228 against production v1",
    ),
    Case(
        "CanaryRouterScoreDrift",
        SILENT,
        two_scores((500, 500, 500, 500), (240, 250, 260, 250)),
        interval="1m",
        at="25m",
    ),
    # -0.05 ln 0.8 + 0.05 ln 1.2 = 0.02.
    Case(
        "CanaryRouterScoreDrift",
        "stays silent about a small shift",
        two_scores((500, 500, 500, 500), (200, 250, 250, 300)),
        interval="1m",
        at="25m",
    ),
    Case(
        "CanaryRouterScoreDrift",
        "waits for enough traffic at production",
        two_scores((40, 80, 120, 160), (250, 250, 250, 250)),
        interval="1m",
        at="25m",
    ),
    # PSI 0.2272, of 100 scores.
    Case(
        "CanaryRouterScoreDrift",
        LITTLE,
        two_scores((100, 200, 300, 400), (25, 25, 25, 25)),
        interval="1m",
        at="25m",
    ),
    # 0.1, 0.3, 0.6 against 0.25, 0.5, 0.75: at most 0.2 apart; chance gives 1.95 √(1/1000 + 1/2000) = 0.0755.
    Case(
        "CanaryRouterScoresDiffer",
        FIRES,
        two_scores((200, 400, 600, 800), (250, 250, 250, 250)),
        interval="1m",
        at="21m",
        not_yet="20m",
        fires={**AGAINST, "output": "0"},
        summary="m@canary v2: K-S of output 0 is 0.200 against production v1",
    ),
    # 0.225, 0.475, 0.725 against 0.25, 0.5, 0.75.
    Case(
        "CanaryRouterScoresDiffer",
        SILENT,
        two_scores((450, 500, 500, 550), (250, 250, 250, 250)),
        interval="1m",
        at="25m",
    ),
    # 0.2, 0.45, 0.7 against 0.25, 0.5, 0.75; chance gives 1.95 √(1/10 000 + 1/20 000) = 0.024.
    Case(
        "CanaryRouterScoresDiffer",
        "stays silent about a little, however sure",
        two_scores((4000, 5000, 5000, 6000), (2500, 2500, 2500, 2500)),
        interval="1m",
        at="25m",
    ),
    # 0.36 against 0.25; chance gives 1.95 √(1/500 + 1/500) = 0.123.
    Case(
        "CanaryRouterScoresDiffer",
        "stays silent about what chance can do",
        two_scores((125, 125, 125, 125), (180, 107, 107, 106)),
        interval="1m",
        at="25m",
    ),
    Case(
        "CanaryRouterScoresDiffer",
        "waits for enough traffic at production",
        two_scores((0, 0, 200, 200), (500, 500, 500, 500)),
        interval="1m",
        at="25m",
    ),
    # 0.5 apart, of 400.
    Case(
        "CanaryRouterScoresDiffer",
        LITTLE,
        two_scores((500, 500, 500, 500), (0, 0, 200, 200)),
        interval="1m",
        at="25m",
    ),
    # 20 of 420.
    Case(
        "CanaryRouterInvalidScores",
        FIRES,
        invalid(100, 20),
        interval="1m",
        at="17m",
        not_yet="16m",
        fires={**OF_CANARY, "output": "0"},
        summary="m@canary v2: 4.762% of output 0 are no number or outside the range",
    ),
    # 5 of 1005.
    Case("CanaryRouterInvalidScores", SILENT, invalid(250, 5), interval="1m", at="20m"),
    # 40 of 80.
    Case("CanaryRouterInvalidScores", LITTLE, invalid(10, 40), interval="1m", at="20m"),
]
