"""What is shown without a terminal."""

import io

import pytest
from rich.console import Console

from router.demo.dataset import Dataset
from router.demo.probe import Checker, Timeline
from router.demo.screen import (
    LATELY_SECONDS,
    PLAIN_LINES_EVERY_SECONDS,
    DemoTotals,
    Line,
    LiveScreen,
    Screen,
    View,
    choose_screen,
    picture,
)
from router.demo.traffic import Answer

VIEW = View(
    "5 s, 600 requests, 0 wrong, 3 refused",
    [Line("sentiment", "canary", 2, 30, 5.2, 5.0, 1.5, 3.25, 0.5)],
    [{"timestamp": 0.0, "event": "AliasBound", "model": "sentiment", "new": 2}],
)


def test_plain_lines_come_every_five_seconds_and_hold_no_control_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 100.0
    with Screen(lambda: now) as screen:
        screen.say("gateway ready")
        for _ in range(12):
            screen.refresh(VIEW)
            now += PLAIN_LINES_EVERY_SECONDS / 5

    shown = capsys.readouterr().out
    numbers = "30 requests, share 5.2 % (configured 5 %), p50 1.5 ms, p95 3.2 ms, mean score 0.500"
    report = ["5 s, 600 requests, 0 wrong, 3 refused", f"  sentiment @canary v2: {numbers}"]
    assert shown.splitlines() == ["gateway ready", *report, *report]
    assert all(character.isprintable() for line in shown.splitlines() for character in line)


def test_a_pipe_gets_the_plain_screen_even_when_the_environment_asks_for_colour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    assert not isinstance(choose_screen(), LiveScreen)


def test_a_terminal_shows_the_table_and_the_last_events() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(picture(VIEW))

    shown = console.export_text()
    for text in ("600 requests", "@canary", "5.2 %", "3.2 ms", "AliasBound"):
        assert text in shown


def test_the_table_shows_shares_and_times_of_the_last_ten_seconds() -> None:
    """Shares are of what keys were given, latency and score of who answered."""
    split = Timeline(20.0)
    totals = DemoTotals(Checker({"sentiment": Dataset("sentiment", [], {})}, {"sentiment": split}, {}))
    old = Answer("sentiment", 0, "user-1", 0.0, 0.5, 200, "", "production", 1, "production", "hash", 1, [0.9])
    totals.count(old)
    for number in range(4):
        alias, score = ("canary", 0.4) if number == 0 else ("production", 0.6)
        sent = 20.0 + number
        totals.count(
            Answer("sentiment", 0, "k", sent, sent + 0.01, 200, "", alias, 1, alias, "hash", 1, [score])
        )

    production, canary = totals.lines(0.6 + 2 * LATELY_SECONDS)
    assert (production.alias, production.requests, production.share) == ("production", 4, 75.0)
    assert production.configured == 80.0
    assert production.p95_ms == pytest.approx(10.0)
    assert production.mean_score == pytest.approx(0.6)
    assert (canary.alias, canary.requests, canary.share, canary.configured) == ("canary", 1, 25.0, 20.0)

    split.ask(5.0, not_before=20.5)
    split.explanation(20.9, 21.0, lambda percent: percent == 5.0)
    assert [line.share for line in totals.lines(24.0)] == [100.0, 0.0], "at the new split"
    assert [line.configured for line in totals.lines(24.0)] == [95.0, 5.0]
